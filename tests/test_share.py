"""The canary's share at its bounds, and while somebody has not answered yet."""

from __future__ import annotations

import numpy as np
import pytest

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.judging.share import PATIENCE_S, bounds_pct, judge_share
from runbook_lib.show.plots import plot_share
from runbook_lib.steps.promotion import Raised
from runbook_lib.verdict import Answer

PASS, FAIL, INCONCLUSIVE = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE


@pytest.mark.parametrize(
    ("canary", "total", "asked", "answer"),
    [
        (50, 1000, 5, PASS), (0, 1000, 5, FAIL), (120, 1000, 5, FAIL), (0, 100, 5, INCONCLUSIVE),
        (0, 1000, 0, PASS), (1, 1000, 0, FAIL), (0, 0, 5, INCONCLUSIVE),
        (1000, 1000, 100, PASS), (999, 1000, 100, FAIL),
    ],
)  # fmt: skip
def test_share(canary: int, total: int, asked: float, answer: Answer) -> None:
    check = judge_share(requests(canary, total, 60), asked)
    assert check.answer is answer, check.reason
    assert f"{canary} of {total}" in check.reason


def requests(canary: int, total: int, seconds_count: int) -> LogCounts:
    """Both gateways' requests, as many in each second, the rest in the last."""
    counts = LogCounts(5)
    ticks = 1_778_025_600 // counts.tick_s + np.arange(seconds_count // counts.tick_s)
    for gateway, count in (("canary", canary), ("primary", total - canary)):
        each = np.full(len(ticks), count // len(ticks))
        each[-1] += count % len(ticks)
        counts.ticks.add(("r1", gateway, "requests"), ticks, each)
    return counts


@pytest.mark.parametrize(("seconds_count", "answer"), [(PATIENCE_S - 1, INCONCLUSIVE), (PATIENCE_S, FAIL)])
@pytest.mark.parametrize("canary", [21, 50], ids=["the canary stalls", "primary stalls"])
def test_a_moments_stall_is_no_wrong_split(seconds_count: int, answer: Answer, canary: int) -> None:
    """What is not answered yet is in no log."""
    assert judge_share(requests(canary, 50, seconds_count), 70).answer is answer
    assert judge_share(requests(35, 50, seconds_count), 70).answer is PASS


def test_without_a_request_nothing_is_known_and_the_plot_can_still_be_drawn() -> None:
    nothing = requests(0, 0, 60)
    assert bounds_pct(nothing) == (0, 100)
    raised = Raised(10.0, nothing, nothing)
    assert plot_share(**raised.share()).get_title(loc="left") == "Arrived 0.00 %, asked 10 %"
    assert judge_share(nothing, 10).answer is Answer.INCONCLUSIVE
