"""What a server says about itself: logs, metrics, traces. None of them holds a word of a prompt or an answer."""
