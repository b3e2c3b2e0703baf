"""What a turn of a long chain reads again: see bench/README.md."""
