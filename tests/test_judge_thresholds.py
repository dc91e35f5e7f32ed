"""The article's numbers are the defaults, and a wrong one is answered with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runbook_lib.plan.thresholds import Thresholds


def test_the_defaults_are_the_articles() -> None:
    found = Thresholds()
    assert (found.connect_p95_ms, found.error_ratio_pct, found.error_window_s) == (120, 0.5, 900)
    assert (found.backlog_jobs, found.reload_p95_rise_pct, found.rss_gap_pct) == (200, 35, 18)
    assert found.plain_rules == ()


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("connect_p95_ms", -120, "whole milliseconds, 120 for 120 ms"),
        ("connect_p95_ms", 0.12, "whole milliseconds, 120 for 120 ms"),
        ("error_ratio_pct", 0.005, "0.5 for half a percent"),
        ("error_ratio_pct", -0.5, "0.5 for half a percent"),
        ("error_window_s", 0, "whole seconds, 900 for 15 minutes"),
        ("backlog_jobs", 0, "whole numbers"),
        ("reload_p95_rise_pct", 1.35, "35 for 35 %"),
        ("rss_gap_pct", 0.18, "35 for 35 %"),
        ("confidence_pct", 0.99, "99 for 99 %"),
        ("error_ratio_pct", 0.1, "healthy_error_ratio_pct under error_ratio_pct"),
        ("plain_rules", ["errors"], "error_ratio"),
        ("no_such_key", 1, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_value_is_answered_with_what_to_write(name: str, value: Any, instead: str) -> None:
    with pytest.raises(ValidationError, match=instead):
        Thresholds.model_validate({name: value})
