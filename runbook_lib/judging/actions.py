"""What a check that is not a pass asks for: hold, pause or drain. The article gives each signal its own.

hold     too little to say; wait, nothing goes on
pause    the weight stays where it is, nothing is raised, the step does not pass, people are told
drain    the canary's weight to zero at once; what was said of its slice is void
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runbook_lib.plan.thresholds import Signal, Thresholds
from runbook_lib.verdict import Action, Answer, Check, CheckName, Verdict

SIGNALS: dict[str, Signal] = {
    CheckName.CANARY_CONNECT: "connect_p95",
    CheckName.PRIMARY_CONNECT: "connect_p95",
    CheckName.CANARY_HEADER: "header_p95",
    CheckName.CANARY_RELOAD: "reload_p95",
    CheckName.PRIMARY_RELOAD: "reload_p95",
    CheckName.WORKERS: "reload_p95",
    CheckName.CANARY_MEMORY: "memory",
    CheckName.CANARY_BACKLOG: "backlog",
    CheckName.PRIMARY_BACKLOG: "backlog",
    CheckName.PRIMARY_ERRORS: "primary",
    CheckName.PRIMARY_READY: "primary",
    CheckName.NGINX_ERRORS: "nginx_5xx",
}
"""The signals that may pause, by the names of their checks. Whatever is not here drains where it fails."""


def act(checks: Iterable[Check], thresholds: Thresholds) -> Verdict:
    """The verdict of these checks, each with what it asks for."""
    return Verdict.of(replace(check, action=action_of(check, thresholds)) for check in checks)


def action_of(check: Check, thresholds: Thresholds) -> Action | None:
    if check.answer is Answer.PASS:
        return None
    if check.answer is Answer.INCONCLUSIVE:
        return Action.HOLD
    return Action.PAUSE if SIGNALS.get(check.name) in thresholds.pause_on else Action.DRAIN
