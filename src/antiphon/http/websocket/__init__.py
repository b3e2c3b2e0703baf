"""Responses over one WebSocket: the connection, and which frame is answered when."""
