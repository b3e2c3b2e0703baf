"""What a call costs with the engine in the client's process, and what it costs over HTTP."""
