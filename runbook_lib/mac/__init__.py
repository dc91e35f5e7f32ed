"""A connected Mac, and the only way to change it."""
