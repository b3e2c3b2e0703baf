"""The engine in the client's own process."""
