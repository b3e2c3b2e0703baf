"""What a turn costs, the longer its chain is: see bench/README.md."""
