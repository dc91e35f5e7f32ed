"""The host lock: one operator at a time changes a Mac. Every change takes it, in its own round trip."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import sh
from runbook_lib.onmac import script
from runbook_lib.plan.models import Plan
from runbook_lib.records.ledger import operator
from runbook_lib.ssh.host import Completed

HELD_BY_ANOTHER = 75  # sysexits.h: EX_TEMPFAIL


def own_id() -> str:
    """This process, as no other on any machine is called."""
    return f"{_machine()}.{os.getpid()}"


@dataclass(frozen=True)
class Holder:
    """Who holds a Mac, since when and why; `until` is when anybody may take it over."""

    until: datetime
    id: str
    who: str
    since: str
    why: str

    @classmethod
    def parse(cls, line: str) -> Holder | None:
        """A lock's line; None for anything else."""
        parts = line.strip("\n").split("\t")
        if len(parts) != 5 or not parts[0].isdigit():
            return None
        return cls(datetime.fromtimestamp(int(parts[0]), UTC), *parts[1:])

    def __str__(self) -> str:
        return f"{self.who} since {self.since} ({self.why}), until {self.until:%Y-%m-%dT%H:%M:%SZ}"

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that no longer runs; of another machine nobody can tell."""
        machine, _, pid = self.id.rpartition(".")
        if machine != _machine() or not pid.isdigit():
            return False
        with suppress(PermissionError):  # somebody else's process, and it runs
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                return True
        return False


def guarded(plan: Plan, title: str, change: str, why: str, gone: str = "") -> str:
    """A change that runs only where this process holds the Mac; else it ends with HELD_BY_ANOTHER and says who does."""
    words = [plan.folder.lock, own_id(), f"{plan.lease.attended_s:.0f}", operator(), why or title, gone]
    return (
        f"# {title}\n{script('hold_lock.sh')}"
        f"if ! hold {sh(*words)}; then\n"
        f"    printf 'held\\n'; cat {sh(words[0])}; return {HELD_BY_ANOTHER}\nfi\n{change}"
    )


def holder_of(done: Completed) -> Holder | None:
    """Who refused a guarded change; None where it was not refused, or the holder let go meanwhile."""
    head, _, line = done.stdout.partition("\n")
    return Holder.parse(line) if head == "held" else None


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def probe_lock(mac: Mac) -> Holder | None:
    """Who holds this Mac now."""
    done = mac.host.run(script("ask_lock.sh"), mac.plan.folder.lock)
    return Holder.parse(done.stdout)
