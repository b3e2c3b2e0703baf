"""The official client, extended."""
