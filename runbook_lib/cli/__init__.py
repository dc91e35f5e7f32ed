"""What people type: `rollout VERB`. The verbs stand in the order in which they are imported here."""

from runbook_lib.cli import discovery, acting, looking, logs, evidence, lab  # noqa: F401, I001
from runbook_lib.cli.app import main

__all__ = ["main"]
