"""A connected Mac: its plan, its connection, the run's ledger and the secrets resolved so far."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from runbook_lib.mac.vault import Vault
from runbook_lib.plan.models import HostSection, Plan
from runbook_lib.records.ledger import Ledger
from runbook_lib.ssh.host import Host


@dataclass(frozen=True)
class Mac:
    plan: Plan
    host: Host
    ledger: Ledger
    vault: Vault
    dry_run: bool = False

    @classmethod
    def connect(cls, plan: Plan, ledger: Ledger, dry_run: bool = False) -> Self:
        """Connect to the plan's host. Raises RouteRefused, HostUnreachable or HostKeyRefused."""
        host = Host(plan.host)
        vault = Vault(host)
        ledger.redact = vault.redact
        return cls(plan, host, ledger, vault, dry_run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.host.__exit__(kind, error, trace)


def connect_to_ask(section: HostSection) -> Host:
    """A connection for questions alone: no plan, no ledger, nothing that could change the Mac.

    Raises HostUnreachable or HostKeyRefused.
    """
    return Host(section)
