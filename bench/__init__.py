"""Benchmarks: figures side by side, taken in one run on one machine."""
