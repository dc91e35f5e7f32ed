"""A Mac asked what it is: `rollout discover` writes its parameters."""
