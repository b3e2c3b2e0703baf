"""How fast vector stores are filled and searched, and how good and how exact what is found is."""
