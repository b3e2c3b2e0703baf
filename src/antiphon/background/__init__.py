"""Responses that outlive their client: the queue, the workers, and what is done after a crash."""
