"""What is stored, kept within its bounds: the sweep and the purge."""
