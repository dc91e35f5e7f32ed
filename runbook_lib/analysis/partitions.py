"""One log in partitions that anybody can read, and the counts of all of them: exactly those of a single read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runbook_lib import accesslog
from runbook_lib.accesslog import Hints, LogCounts, list_files, plan_fetch
from runbook_lib.accesslog.reader import NO_HINTS
from runbook_lib.accesslog.stream import Slice, is_packed

COUNT = 64


@dataclass(frozen=True)
class Partition:
    """Whole lines of one file, from `start` up to `end`; a packed one is one partition."""

    path: str
    start: int
    end: int


def partitions(paths: Sequence[Path], count: int = COUNT) -> list[Partition]:
    """About `count` partitions of these files, each cut after a line, each file once. Raises OSError."""
    paths = [
        Path(fetch.file.path) for fetch in plan_fetch(list_files([path.resolve() for path in paths]), None).fetches
    ]
    sizes = {path: path.stat().st_size for path in paths}
    a_part = max(1, sum(sizes.values()) // count)
    return [part for path, size in sizes.items() for part in _cut(path, size, a_part)]


def read_partitions(
    executor: Executor,
    paths: Sequence[Path],
    upstreams: Mapping[str, str],
    window_s: int,
    count: int = COUNT,
    hints: Hints = NO_HINTS,
) -> LogCounts:
    """Counts of a log that is no longer growing, each partition read by whoever the executor gives it to.

    Files are read where they are: their paths are sent, not their lines. Raises OSError.
    """
    how: dict[str, Any] = {"upstreams": dict(upstreams), "window_s": window_s, "hints": hints}
    counts = LogCounts(window_s)
    for future in [executor.submit(partial(count_bytes, **how), part) for part in partitions(paths, count)]:
        counts.merge(LogCounts.from_bytes(future.result()))
    return counts


def count_bytes(part: Partition, **how: Any) -> bytes:
    """The same as bytes, which are small: what goes from one process to another."""
    return count_partition(part, **how).to_bytes()


def count_partition(part: Partition, **how: Any) -> LogCounts:
    """The counts of one partition; `how` is as for accesslog.read."""
    path = Path(part.path)
    source = path if is_packed(path) else Slice(path, part.start, part.end)
    return accesslog.read([source], growing=False, **how)


def _cut(path: Path, size: int, a_part: int) -> list[Partition]:
    if is_packed(path):
        return [Partition(str(path), 0, size)]
    cuts = [0]
    with path.open("rb") as file:
        while cuts[-1] < size:
            file.seek(min(cuts[-1] + a_part, size) - 1)
            file.readline()
            cuts.append(file.tell())
    return [Partition(str(path), start, end) for start, end in zip(cuts, cuts[1:], strict=False)]
