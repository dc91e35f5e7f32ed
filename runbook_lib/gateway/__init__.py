"""What is OpenClaw's own, its launchd job, and the webhooks it is sent."""
