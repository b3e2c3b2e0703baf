"""``client.run``: work with tools until there is an answer."""
