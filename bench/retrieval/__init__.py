"""How fast vector stores are filled and searched, and how exact."""
