"""One log in partitions that anybody can read, and the counts of all of them: exactly those of a single read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from runbook_lib import accesslog
from runbook_lib.accesslog import LogCounts

COUNT = 64


@dataclass(frozen=True)
class Partition:
    """Whole lines of one file, from `start` up to `end`; a .gz is one partition."""

    path: str
    start: int
    end: int


def partitions(paths: Sequence[Path], count: int = COUNT) -> list[Partition]:
    """About `count` partitions of these files, each cut after a line. Raises OSError."""
    sizes = {path: path.stat().st_size for path in paths}
    a_part = max(1, sum(sizes.values()) // count)
    return [part for path, size in sizes.items() for part in _cut(path, size, a_part)]


def read_partitions(
    executor: Executor, paths: Sequence[Path], upstreams: Mapping[str, str], window_s: int, count: int = COUNT
) -> LogCounts:
    """Counts of a log that is no longer growing, each partition read by whoever the executor gives it to.

    Files are read where they are: their paths are sent, not their lines. Raises OSError.
    """
    found = [path.resolve() for path in paths]
    futures = [executor.submit(count_partition, part, dict(upstreams), window_s) for part in partitions(found, count)]
    counts = LogCounts(window_s)
    for future in futures:
        counts.merge(LogCounts.from_bytes(future.result()))
    return counts


def count_partition(part: Partition, upstreams: Mapping[str, str], window_s: int) -> bytes:
    """LogCounts.to_bytes of one partition."""
    path = Path(part.path)
    if path.suffix == ".gz":
        return accesslog.read([path], upstreams=upstreams, window_s=window_s, growing=False).to_bytes()
    with path.open("rb") as file:
        file.seek(part.start)
        lines = file.read(part.end - part.start)
    return accesslog.read([lines], upstreams=upstreams, window_s=window_s, growing=False).to_bytes()


def _cut(path: Path, size: int, a_part: int) -> list[Partition]:
    if path.suffix == ".gz":
        return [Partition(str(path), 0, size)]
    cuts = [0]
    with path.open("rb") as file:
        while cuts[-1] < size:
            file.seek(min(cuts[-1] + a_part, size) - 1)
            file.readline()
            cuts.append(file.tell())
    return [Partition(str(path), start, end) for start, end in zip(cuts, cuts[1:], strict=False)]
