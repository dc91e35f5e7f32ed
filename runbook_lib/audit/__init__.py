"""A run sealed, and read again afterwards: verified, judged again, told."""
