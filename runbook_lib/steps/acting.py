"""An open step as the functions see it that act in several turns, or wait with traffic on the canary."""

from __future__ import annotations

from typing import Any, Protocol

import pandas as pd

from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, Sending
from runbook_lib.records.evidence import Run


class Acting(Protocol):
    """What step.Step offers them: the run, the Mac to ask, and the one door to change it."""

    run: Run
    mac: Mac

    def apply(self, *proposals: Proposal) -> list[dict[str, Any]]:
        """Carry proposals out. Raises StepNotReady once the step is judged."""

    def send(self, sending: Sending) -> pd.DataFrame:
        """Send requests that a gateway executes. Raises StepNotReady once the step is judged."""

    def stay(self) -> None:
        """Keep the operator's lease."""
