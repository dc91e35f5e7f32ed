"""The gates of steps 6 and 7 before a dealt log: what fails where nothing is wrong, and how soon where something is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.analysis.injections import Injection
from runbook_lib.analysis.split_log import Dealt
from runbook_lib.judging.actions import act
from runbook_lib.judging.judge import judge_reload, judge_windows
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import Answer, Check, Verdict

LOOKS_COUNT = 48
"""How often a healthy observation is looked at; most rules decide once for all."""
PLACES_COUNT = 3
"""How often each fault is injected into an observation, between a quarter and three quarters of it."""
Alarm = tuple[str, pd.Timestamp, str, str, str]


@dataclass(frozen=True)
class Stage:
    """One observation: `dealt` begins `settle_s` before `start_s`, when the slice is set by a reload."""

    dealt: Dealt
    start_s: int
    settle_s: int
    window_s: int
    slice_pct: float
    thresholds: Thresholds
    seed: int

    @property
    def length_s(self) -> int:
        return self.dealt.end_s - self.start_s

    def observed(self, counts: LogCounts) -> list[Check]:
        """What fails at step 7; whether the log can be judged at all is asked once, of the log itself."""
        checks = act(judge_windows(counts, self.thresholds, asked_pct=self.slice_pct).checks, self.thresholds).checks
        return [check for check in checks if check.answer is Answer.FAIL]

    def reloaded(self, dealt: Dealt) -> list[Check]:
        """What fails at step 6: the last minutes before the reload against the first after it."""
        before = dealt.counts(self.window_s, self.start_s - self.settle_s, self.start_s, by_worker=True)
        after = dealt.counts(self.window_s, self.start_s, self.start_s + self.settle_s, by_worker=True)
        checks = act(judge_reload(before, after, self.thresholds), self.thresholds).checks
        return [check for check in checks if check.answer is Answer.FAIL]

    @property
    def looks(self) -> range:
        """When a healthy observation is looked at."""
        step_s = -(-self.length_s // self.window_s // LOOKS_COUNT) * self.window_s
        return range(self.start_s + step_s, self.dealt.end_s + 1, step_s)

    def alarms(self) -> Iterator[Alarm]:
        """Each rule that fails on the healthy split: gate, at, check, action, reason, at the first look it does."""
        for check in self.reloaded(self.dealt):
            yield "6 raise weight", _at(self.start_s + self.settle_s), check.name, action([check]), check.reason
        whole, seen = self.dealt.counts(self.window_s, self.start_s, self.dealt.end_s), set[str]()
        for until_s in self.looks:
            for check in self.observed(whole.select(end_s=until_s)):
                if check.name not in seen:
                    seen.add(check.name)
                    yield "7 observe", _at(until_s), check.name, action([check]), check.reason

    def places(self, fault: Injection) -> list[int]:
        """From when on a fault is there: from the reload on, or from somewhere in the middle of the observation."""
        if fault.gate == "reload":
            return [self.start_s]
        rng, looks_count = np.random.default_rng([self.seed, self.start_s]), self.length_s // self.dealt.look_s
        drawn = np.unique(rng.integers(looks_count // 4, 3 * looks_count // 4, PLACES_COUNT))
        return [self.start_s + int(look) * self.dealt.look_s for look in drawn]

    def caught(self, fault: Injection, from_s: int) -> tuple[float, list[Check]]:
        """Seconds until the gate fails for the fault, and the checks that do then; NaN and none if it never does."""
        dealt, look_s = self.dealt.copy(), self.dealt.look_s
        edge_s = from_s // self.window_s * self.window_s
        fault.inject(dealt, from_s, np.random.default_rng([self.seed, from_s]))
        if fault.gate == "reload":
            failed = self.reloaded(dealt)
            return (float(self.settle_s) if failed else np.nan), failed
        base = dealt.counts(self.window_s, self.start_s, edge_s)

        def look(number: int) -> list[Check]:
            return self.observed(base.select().merge(dealt.counts(self.window_s, edge_s, from_s + number * look_s)))

        already = {check.name for check in look(0)}
        found: dict[int, list[Check]] = {}

        def holds(number: int) -> bool:
            found[number] = [check for check in look(number) if check.name not in already]
            return bool(found[number])

        number = first_true(holds, (dealt.end_s - from_s) // look_s)
        return (np.nan, []) if number is None else (float(number * look_s), found[number])


def first_true(holds: Callable[[int], bool], largest: int) -> int | None:
    """The number from 1 to `largest` from which on it holds, in few tries; None if it does not at the last.

    >>> first_true(lambda n: n >= 13, 100)
    13
    """
    low, high = 0, 1
    while not holds(high):
        if high == largest:
            return None
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def action(failed: Sequence[Check]) -> str:
    """What these failures ask for: drain or pause; nothing where there is none."""
    return str(Verdict.of(failed).action) if failed else ""


def _at(seconds: int) -> pd.Timestamp:
    return pd.Timestamp(seconds, unit="s", tz="UTC")
