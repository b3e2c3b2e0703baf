"""The network as callers may use it: which addresses are never reached."""
