"""Pass, fail or inconclusive: one check, and the verdict of many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd


class Answer(StrEnum):
    PASS = "pass"
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"


class Action(StrEnum):
    """What is done about an answer that is not a pass, the mildest first; see judging/actions.py."""

    HOLD = "hold"
    PAUSE = "pause"
    DRAIN = "drain"


class Hop(StrEnum):
    """Where a request can go wrong, from the outside in."""

    PATH = "path"
    HOST = "host"
    NGINX = "nginx"
    PRIMARY = "gateway primary"
    CANARY = "gateway canary"
    RUNBOOK = "runbook"


GATEWAY_HOP = {"primary": Hop.PRIMARY, "canary": Hop.CANARY}
ALONE = "only this gateway is bad"
"""What the reason of a failed check ends with where the other gateway is well in the same minutes."""


class CheckName(StrEnum):
    """A check that something else goes by: its action, what it is set beside, a table that looks for it."""

    CANARY_ERRORS = "canary 5xx"
    PRIMARY_ERRORS = "primary 5xx"
    NGINX_ERRORS = "nginx 5xx"
    CANARY_CONNECT = "canary connect p95"
    PRIMARY_CONNECT = "primary connect p95"
    CANARY_HEADER = "canary header p95"
    CANARY_RELOAD = "canary after reload"
    PRIMARY_RELOAD = "primary after reload"
    WORKERS = "workers"
    CANARY_MEMORY = "canary RSS"
    CANARY_BACKLOG = "canary backlog"
    PRIMARY_BACKLOG = "primary backlog"
    CANARY_READY = "canary ready"
    PRIMARY_READY = "primary ready"
    CANARY_SHARE = "canary share"
    OBSERVED = "observed long enough"


CONNECT = {"canary": CheckName.CANARY_CONNECT, "primary": CheckName.PRIMARY_CONNECT}
RELOAD = {"canary": CheckName.CANARY_RELOAD, "primary": CheckName.PRIMARY_RELOAD}
BACKLOG = {"canary": CheckName.CANARY_BACKLOG, "primary": CheckName.PRIMARY_BACKLOG}
READY = {"canary": CheckName.CANARY_READY, "primary": CheckName.PRIMARY_READY}
PLAIN = "(plain rule, no confidence)"
"""What the reason of a plain check ends with."""
COLUMNS = ["name", "answer", "hop", "reason", "measured", "threshold", "unit", "samples_count", "remedy", "action"]
SEVERITY = (Answer.PASS, Answer.INCONCLUSIVE, Answer.FAIL)


@dataclass(frozen=True)
class Check:
    """One question with its answer.

    `reason` is one sentence with the measured number, the threshold and n, ready to be read aloud.
    `remedy` says what to do when the answer is not pass, `action` what is done about it (judging/actions.py).
    `is_plain` where its number alone decides, as Thresholds.plain_rules asks.
    """

    name: str
    answer: Answer
    reason: str
    hop: Hop
    measured: float | None = None
    threshold: float | None = None
    unit: str = ""
    samples_count: int | None = None
    remedy: str = ""
    action: Action | None = None
    is_plain: bool = False

    @property
    def word(self) -> str:
        """The answer as people read it, with what is done about it."""
        return f"{self.answer} ({self.action})" if self.action else str(self.answer)

    def row(self) -> dict[str, Any]:
        """The check as a verdict's table and the ledger have it: COLUMNS."""
        return {column: getattr(self, column) for column in COLUMNS}


def passed_if(condition: bool, name: str, reason: str, hop: Hop, remedy: str = "") -> Check:
    """A check whose answer is plainly yes or no."""
    return Check(name, Answer.PASS if condition else Answer.FAIL, reason, hop, remedy=remedy)


@dataclass(frozen=True)
class Verdict:
    """The worst answer of its checks; no check at all is inconclusive, never a pass."""

    checks: tuple[Check, ...] = field(default_factory=tuple)

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Verdict:
        return cls(tuple(checks))

    @property
    def answer(self) -> Answer:
        if not self.checks:
            return Answer.INCONCLUSIVE
        return max((check.answer for check in self.checks), key=SEVERITY.index)

    @property
    def action(self) -> Action | None:
        """The strongest of its checks' actions; a failure that says none drains, no check at all holds."""
        given = [check.action or _usual(check.answer) for check in self.checks if check.answer is not Answer.PASS]
        return max(given, key=list(Action).index, default=None if self.checks else Action.HOLD)

    @property
    def word(self) -> str:
        """The answer as people read it, with what is done about it."""
        return f"{self.answer} ({self.action})" if self.action else str(self.answer)

    @property
    def worst(self) -> list[Check]:
        """The checks that made the verdict what it is; empty on a pass."""
        return [] if self.answer is Answer.PASS else [c for c in self.checks if c.answer is self.answer]

    @property
    def reasons(self) -> list[str]:
        return [check.reason for check in self.worst] or ["no check was made"] * (not self.checks)

    @property
    def plain(self) -> list[str]:
        """The checks that a number alone decided."""
        return [check.name for check in self.checks if check.is_plain]

    @property
    def hops(self) -> list[Hop]:
        """The hops at fault, in the order found, each once."""
        return list(dict.fromkeys(check.hop for check in self.worst))

    def table(self) -> pd.DataFrame:
        """One row a check, with COLUMNS."""
        return pd.DataFrame([check.row() for check in self.checks], columns=COLUMNS)


def _usual(answer: Answer) -> Action:
    return Action.DRAIN if answer is Answer.FAIL else Action.HOLD
