"""What the server costs: Antiphon beside a proxy that only copies bytes, built from the same HTTP parts."""
