"""The numbers a verdict is measured against, with the article's as defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

LONGEST_S = 7 * 86_400
Rule = Literal["connect_p95", "error_ratio", "slower_than_primary", "reload_p95"]
Signal = Literal["connect_p95", "header_p95", "reload_p95", "memory", "backlog", "primary", "nginx_5xx"]
PAUSING: tuple[Signal, ...] = (
    *("connect_p95", "header_p95", "reload_p95", "memory", "backlog", "primary", "nginx_5xx"),
)


def _percentage(value: float) -> float:
    if not 0.01 <= value < 100:
        raise ValueError(f"write a percentage, 0.5 for half a percent (0.01 up to 100), instead of {value:g}")
    return value


def _rise(value: float) -> float:
    if not 2 <= value <= 1000:
        raise ValueError(f"write the allowed difference in percent, 35 for 35 % (2 to 1000), instead of {value:g}")
    return value


def _whole(unit: str, example: str, largest: int) -> BeforeValidator:
    """A whole number from 1 to `largest`; anything else is answered with the unit and an example."""

    def check(value: object) -> object:
        if isinstance(value, int | float) and (value != int(value) or not 1 <= value <= largest):
            raise ValueError(f"write whole {unit}, {example} (1 to {largest}), instead of {value:g}")
        return value

    return BeforeValidator(check)


Percentage = Annotated[float, AfterValidator(_percentage)]
Rise = Annotated[float, AfterValidator(_rise)]
Seconds = Annotated[int, _whole("seconds", "900 for 15 minutes", LONGEST_S)]
Milliseconds = Annotated[int, _whole("milliseconds", "120 for 120 ms", 3_600_000)]
Count = Annotated[int, _whole("numbers", "200 for 200", 1_000_000_000)]


class Thresholds(BaseModel):
    """What is still healthy; a value exactly at its threshold is not over it.

    The numbers with no other source are the rollout article's (6 May 2026). Rules named in
    `plain_rules` compare the point estimate alone, as the article words them; all others wait until
    the bound at `confidence_pct` is over the threshold. Raises pydantic's ValidationError with a
    sentence that says what to write instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_p95_ms: Milliseconds = 120
    error_ratio_pct: Percentage = 0.5
    error_window_s: Seconds = 900
    backlog_jobs: Count = 200
    reload_p95_rise_pct: Rise = 35.0
    rss_gap_pct: Rise = 18.0
    slower_than_primary_pct: Rise = 35.0
    """Header time p95 of the canary over primary's in the same windows; borrowed from the reload rule."""
    smallest_rise_ms: Milliseconds = 5
    """A p95 that is higher by no more than this is not slower, whatever the percentage: nginx measures whole
    milliseconds, and 3 instead of 2 would be 50 %."""
    min_requests_count: Count = 100
    """Fewer canary requests than this are inconclusive, never a pass."""
    unparsed_pct: Percentage = 0.1
    missing_windows_pct: Percentage = 5.0
    """Of the windows of an observation, those without samples or log lines; more is inconclusive."""
    confidence_pct: Percentage = 99.0
    healthy_error_ratio_pct: Percentage = 0.1
    """What a healthy canary has: at it, at most 100 - confidence_pct of whole runs drain falsely."""
    observation_s: Seconds = 172_800
    """How long one run looks: the budget of false drains is for this long. A plan takes it from
    `observation.observe_s`, and refuses another one."""
    plain_rules: tuple[Rule, ...] = ()
    pause_on: tuple[Signal, ...] = PAUSING
    """Signals that pause the rollout where they fail, by the article's table; one that is left out drains. All
    others drain: none can be ignored."""

    @model_validator(mode="after")
    def _consistent(self) -> Thresholds:
        if self.healthy_error_ratio_pct >= self.error_ratio_pct:
            raise ValueError(
                f"write a healthy_error_ratio_pct under error_ratio_pct ({self.error_ratio_pct:g}) "
                f"instead of {self.healthy_error_ratio_pct:g}"
            )
        if self.confidence_pct < 50:
            raise ValueError(f"write a confidence_pct of 50 or more, 99 for 99 %, instead of {self.confidence_pct:g}")
        return self
