"""The edge: HTTP and WebSocket in, the engine out."""
