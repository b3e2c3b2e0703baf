"""Antiphon: a self-hosted Responses API for models of your own."""

__version__ = "0.1.0"
