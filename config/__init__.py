"""Environment in, Django out."""
