"""Who may ask for what, and how much: keys, limits, and what a request may cost."""
