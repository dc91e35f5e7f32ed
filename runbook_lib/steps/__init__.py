"""What each step of the checklist asks, proposes, and makes of the answer."""
