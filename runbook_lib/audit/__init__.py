"""A run read again afterwards: verified, judged again, told."""
