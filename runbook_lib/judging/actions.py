"""What a check that is not a pass asks for: hold, pause or drain. The article gives each signal its own.

hold     too little to say; wait, nothing goes on
pause    the weight stays where it is, nothing is raised, the step does not pass, people are told
drain    the canary's weight to zero at once; what was said of its slice is void
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runbook_lib.plan.thresholds import Signal, Thresholds
from runbook_lib.verdict import Action, Answer, Check, Verdict

SIGNALS: dict[str, Signal] = {
    "canary connect p95": "connect_p95",
    "primary connect p95": "connect_p95",
    "canary header p95": "header_p95",
    "canary after reload": "reload_p95",
    "primary after reload": "reload_p95",
    "workers": "reload_p95",
    "canary RSS": "memory",
    "canary backlog": "backlog",
    "primary backlog": "backlog",
    "primary 5xx": "primary",
    "primary ready": "primary",
    "nginx 5xx": "nginx_5xx",
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
