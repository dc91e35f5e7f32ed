"""What people ask of logs, apart from a rollout."""
