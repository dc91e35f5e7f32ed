"""A region's parameters: what they may say, and what is wrong with them."""
