"""What a compaction keeps of the facts of a conversation: see bench/README.md."""
