"""A Mac asked what it is: `rollout discover` writes its parameters, `rollout doctor` says what stands in the way."""
