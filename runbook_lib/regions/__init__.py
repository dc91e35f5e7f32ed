"""Regions: one region's rollout, several in waves, and what is shown of them."""
