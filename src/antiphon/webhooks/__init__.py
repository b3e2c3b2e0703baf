"""Telling others how a response ended: endpoints, what is to be sent, and sending it."""
