"""`rollout watch`: what each Mac recorded last, beside what its ledger says. It changes and keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from rich.console import Group
from rich.live import Live

from runbook_lib import accesslog
from runbook_lib.checklist.order import OBSERVED, RAISED, has_passed
from runbook_lib.clock import in_words
from runbook_lib.errors import HostError
from runbook_lib.mac.mac import Mac
from runbook_lib.onmac import script
from runbook_lib.plan import reading
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.regions.status import status
from runbook_lib.show.console import table_of, text_table
from runbook_lib.steps import sentinel
from runbook_lib.steps.observation import Observation

SAMPLES_BYTES = 16_000  # about 100 samples of each gateway
LOG_BYTES = 100_000  # about 1,800 requests
LINES = {
    "rss_mb": "memory, MB",
    "cpu_pct": "CPU, %",
    "in_flight_count": "in flight",
    "failed_connects_count": "failed connects",
}
BARS = "▁▂▃▄▅▆▇█"
SHOWN_COUNT = 24


@dataclass(frozen=True)
class Frame:
    """One look at one region. recent: at, gateway and the columns of LINES, as Observation.four_lines has them.

    The observation counts from the last change of weight; its seconds are NaN where none is on.
    """

    region: str
    step: str = ""
    verdict: str = ""
    weight_pct: float = 0.0
    drained: bool = False
    observed_s: float = float("nan")
    left_s: float = float("nan")
    recent: pd.DataFrame = field(default_factory=pd.DataFrame)
    problem: str = ""

    def table(self) -> pd.DataFrame:
        """line, primary, canary: the last value of each line, and its course."""
        columns = {gateway: [self._line(gateway, name) for name in LINES] for gateway in ("primary", "canary")}
        return pd.DataFrame({"line": LINES.values(), **columns})

    def title(self) -> str:
        """Everything but the lines, as one sentence."""
        weight = "drained" if self.drained else f"weight {self.weight_pct:g} %"
        parts = [f"{self.region}: {self.step or 'no step yet'} {self.verdict}".rstrip(), weight]
        if self.left_s == self.left_s:
            parts.append(f"observed {in_words(self.observed_s)}, {in_words(self.left_s)} left")
        if not self.recent.empty:
            age_s = (pd.Timestamp.now("UTC") - self.recent["at"].max()).total_seconds()
            parts.append(f"sampled {max(0.0, age_s):.0f} s ago")
        return ", ".join([*parts, self.problem] if self.problem else parts)

    def as_json(self) -> dict[str, Any]:
        last = self.recent.groupby("gateway").last() if not self.recent.empty else pd.DataFrame()
        plain = {name: value for name, value in vars(self).items() if name != "recent"}
        lines = last[list(LINES)].astype(object).where(last[list(LINES)].notna(), None) if len(last) else last
        nothing = {name: None if value != value else value for name, value in plain.items()}
        return nothing | {"gateways": lines.to_dict("index")}

    def _line(self, gateway: str, name: str) -> str:
        own = self.recent[self.recent["gateway"] == gateway][name].dropna() if len(self.recent) else pd.Series()
        return f"{own.iloc[-1]:>7.4g}  {course(own.tail(SHOWN_COUNT).tolist())}" if len(own) else ""


class Watcher:
    """Looks at one region as often as asked, over one connection that is made again when it is lost."""

    def __init__(self, region: str) -> None:
        self.region, self.plan = region, reading.load(region)
        self._mac: Mac | None = None

    def look(self) -> Frame:
        """A frame; what could not be asked is said in its `problem`."""
        run = Run.current(self.region)
        if run is None:
            return Frame(self.region, problem=f"nothing to watch yet: rollout run {self.region}")
        (row,) = status([self.region]).to_dict("records")
        known: dict[str, Any] = {name: row[name] for name in ("step", "verdict", "weight_pct", "drained")}
        try:
            self._mac = self._mac or Mac.connect(self.plan, run.ledger())
            recent = self._mac.host.run(
                script("ask_recent.sh"),
                self.plan.folder.samples,
                str(SAMPLES_BYTES),
                self.plan.nginx.slim_log,
                str(LOG_BYTES),
                self.plan.folder.drain,
            ).stdout
        except HostError as error:
            self.close()
            return Frame(self.region, **known, problem=str(error))
        seen = self._observation(run, recent)
        known["drained"] = "\ndrain_file\tthere" in f"\n{recent}"
        observed_s = (seen.until - seen.since).total_seconds() if _is_observed(run) else float("nan")
        left_s = max(0.0, self.plan.observation.observe_s - observed_s) if observed_s == observed_s else observed_s
        known |= {"observed_s": observed_s, "left_s": left_s, "recent": seen.four_lines()}
        if seen.samples.empty:
            known["problem"] = "the sentinel has no samples yet: it starts with step 4"
        return Frame(self.region, **known)

    def close(self) -> None:
        if self._mac:
            self._mac.host.__exit__(None, None, None)
            self._mac = None

    def _observation(self, run: Run, recent: str) -> Observation:
        """What was recorded last, since the weight that the ledger has."""
        plan = self.plan
        log = _lines(recent, "log", LOG_BYTES)
        counts = accesslog.read([log], upstreams=plan.upstreams, window_s=int(plan.observation.window_s))
        weight = run.ledger().last(Kind.WEIGHT)
        since = pd.Timestamp(weight["at"] if weight else datetime.now(UTC))
        samples = sentinel.parse_samples(_lines(recent, "sample", SAMPLES_BYTES))
        return Observation(since, 0.0, counts, samples, plan.observation.observe_s, plan.observation.sample_every_s)


def looks(regions: Sequence[str]) -> Iterator[list[Frame]]:
    """A frame of each region, as often as asked for. Raises PlanError before the first look."""
    with ExitStack() as stack:
        watchers = [stack.enter_context(closing(Watcher(region))) for region in regions]
        threads = stack.enter_context(ThreadPoolExecutor(max(1, len(watchers))))
        while True:
            yield list(threads.map(Watcher.look, watchers))


def draw(frames: Iterator[list[Frame]], every_s: float) -> None:
    """Draw them in place on the terminal until interrupted."""
    with Live(auto_refresh=False, screen=True) as live:
        for several in frames:
            live.update(Group(*(part for frame in several for part in _parts(frame, table_of))), refresh=True)
            time.sleep(every_s)


def text_of(frames: Sequence[Frame]) -> str:
    """Frames for a log."""
    return "\n".join("\n".join(_parts(frame, text_table)) for frame in frames)


def _parts(frame: Frame, draw_table: Callable[[pd.DataFrame], Any]) -> list[Any]:
    return [frame.title(), draw_table(frame.table())] if len(frame.recent) else [frame.title()]


def course(values: list[float]) -> str:
    """A line of bars from the lowest to the highest of these values.

    >>> course([1, 2, 3])
    '▁▄█'
    """
    low, span = min(values, default=0), max(values, default=0) - min(values, default=0)
    steps = len(BARS) - 1
    return "".join(BARS[int((value - low) / span * steps) if span else 0] for value in values)


def _lines(recent: str, kind: str, limit_bytes: int) -> bytes:
    """The lines of one kind, without the first where the limit has torn it."""
    found = "".join(line.partition("\t")[2] for line in recent.splitlines(keepends=True) if line.startswith(kind))
    return (found if len(found) < limit_bytes else found.partition("\n")[2]).encode()


def _is_observed(run: Run) -> bool:
    """Whether the slice is set and the observation has not passed yet."""
    return has_passed(run, RAISED) and not has_passed(run, OBSERVED)
