"""Models behind any chat-completions server."""
