"""From counts and samples to checks: the rules, and what stands beside them."""
