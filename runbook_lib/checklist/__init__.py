"""The order of the steps, whose turn it is, and who approves."""
