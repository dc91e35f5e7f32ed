"""Read access logs into counts: plain or gz, rotated or growing, from files or from bytes already fetched.

Whole blocks go through numpy in a few threads (it lets go of Python's lock), so memory does not grow with
the log. Lines that cannot be parsed are counted, never guessed.

Why numpy: `make bench`, 5 million requests of two days, two cores that had other work. Our log: 6.0 s of cpu and
151 MB, where DuckDB 2.0 needs 9.2 s and 858 MB for the same table, and GoAccess 1.7 50 s for one panel of the
combined format without any quantile. JSON: 15 s, DuckDB 12 s. What limits JSON is that most of its bytes are keys,
and each must be looked at to know that it is the same as before. DuckDB drops lines that are not UTF-8 without
counting them.
"""

from __future__ import annotations

import gzip
import io
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runbook_lib.counts import LogCounts, Part, parts_of
from runbook_lib.logcursor import Cursor, Fetch, LogFile, Plan, head_bytes_wanted, head_hash, plan_fetch
from runbook_lib.logfields import PAD, Block
from runbook_lib.logforeign import Combined, Json, json_fields, record_of
from runbook_lib.logformats import LOG_FIELDS, LOG_FORMAT, Fields, LogFormat, Slim
from runbook_lib.logrows import Names, Singles, rows_of, slow_lines

__all__ = [
    "LOG_FIELDS",
    "LOG_FORMAT",
    "Cursor",
    "LogCounts",
    "LogFile",
    "Plan",
    "list_files",
    "plan_fetch",
    "read",
    "slowest",
]

if TYPE_CHECKING:  # pandas takes longer to import than 20,000 lines take to read
    import pandas as pd

BATCH_BYTES = 4 << 20
"""Read at once and counted together: what is counted by window, gateway and metric costs the same for few lines."""
BLOCK_BYTES = 1 << 20
"""Parsed at once: it has to stay in a core's cache. 1 MB measured twice as fast as 4 MB."""
SAMPLE_BYTES = 65_536
SHOWN_BYTES = 200
TORN = b"\0 \0"
"""Put before what cannot be a line: no format begins like this."""
THREADS_COUNT = min(4, os.cpu_count() or 1)
Source = Path | str | bytes


def read(
    sources: Iterable[Source] | Source,
    *,
    upstreams: Mapping[str, str],
    window_s: int,
    cursor: Cursor | None = None,
    growing: bool = True,
) -> LogCounts:
    """The counts of one log: its rotated set of files in any order, or pieces of it as bytes in order.

    `upstreams` says which address is which gateway, {"127.0.0.1:18789": "primary", ...}. With `cursor`,
    only what was written since. If the log is still growing, a last line without its newline is left for
    the next read; otherwise it is a line that cannot be parsed. The result's `cursor` is where to go on
    (files only), `left_bytes` the length of what was left, `lost` whether a rotated file was missed.
    """
    wanted = [sources] if isinstance(sources, Path | str | bytes) else list(sources)
    counts = LogCounts(window_s)
    names = Names(upstreams)
    pieces = [s for s in wanted if isinstance(s, bytes)]
    plan = plan_fetch(list_files([Path(s) for s in wanted if not isinstance(s, bytes)], cursor), cursor)
    counts.lost, counts.cursor = plan.lost, cursor
    streams = [_Stream(io.BytesIO(piece)) for piece in pieces]
    streams += [_Stream(_open(Path(f.file.path)), f) for f in plan.fetches]
    for position, stream in enumerate(streams):
        last = position == len(streams) - 1
        with closing(stream.content):
            _count(counts, stream, names, leave=last and growing)
        counts.left_bytes = stream.left_bytes
        if stream.fetch is not None and (stream.read_bytes or counts.cursor is None):
            counts.cursor = stream.fetch.cursor(stream.read_bytes)
    return counts


def slowest(
    sources: Iterable[Source] | Source, *, field: str = "request_time", over_ms: int = 0, limit_count: int = 1000
) -> pd.DataFrame:
    """The slowest requests themselves: what makes a p95 jump.

    One row a request, the slowest first, at most `limit_count`: at (datetime64[UTC]), ms (int64, of `field`),
    and as text the other LOG_FIELDS as far as the log has them. `field` is request_time, or one of the upstream
    times; of several attempts the longest counts. Only requests over `over_ms` are looked at.
    """
    import pandas as pd

    wanted = [sources] if isinstance(sources, Path | str | bytes) else list(sources)
    found: list[tuple[int, bytes]] = []
    for source in wanted:
        stream = _Stream(io.BytesIO(source) if isinstance(source, bytes) else _open(Path(source)))
        log: LogFormat | None = None
        with closing(stream.content):
            for batch in stream.batches(leave=False):
                log = log or _format_of(batch[0])
                for block in batch:
                    found += slow_lines(block, log, fields_of, field, over_ms)
                found = sorted(found, reverse=True)[:limit_count]
    rows = []
    for ms, line in found:
        fields = {name: text.decode("utf-8", "replace") for name, text in fields_of(line)[1].items()}
        if not fields.get("msec", "").replace(".", "").isdigit():
            continue
        rows.append({"at": pd.Timestamp(round(float(fields["msec"]) * 1000), unit="ms", tz="UTC"), "ms": ms} | fields)
    return pd.DataFrame(rows, columns=["at", "ms", *LOG_FIELDS[1:]])


def list_files(paths: Iterable[Path], cursor: Cursor | None = None) -> list[LogFile]:
    """The files as plan_fetch wants them; one that is not there is an OSError."""
    found = []
    for path in paths:
        stat = path.stat()
        with closing(_open(path)) as content:
            head = content.read(head_bytes_wanted(cursor))
        where = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime)
        found.append(LogFile(str(path), *where, head_hash(head), len(head)))
    return found


def _open(path: Path) -> gzip.GzipFile | io.FileIO:
    if path.suffix == ".gz":
        return gzip.open(path)
    return io.FileIO(path)


class _Stream:
    """One file or piece: blocks of whole lines, and how far it was read."""

    def __init__(self, content: gzip.GzipFile | io.RawIOBase | io.BytesIO, fetch: Fetch | None = None) -> None:
        self.content, self.fetch = content, fetch
        self.read_bytes, self.left_bytes = 0, 0
        if fetch and fetch.start:
            content.seek(fetch.start)

    def batches(self, leave: bool) -> Iterator[list[Block]]:
        """A few blocks of whole lines at a time."""
        carried, swallowed_count = b"", 0
        while True:
            room = bytearray(PAD + len(carried) + BATCH_BYTES + PAD)
            room[PAD : PAD + len(carried)] = carried
            filled = PAD + len(carried)
            filled += (count := self._fill(memoryview(room)[filled:-PAD]))
            if not count:
                break
            end = room.rfind(b"\n", PAD, filled) + 1
            if end:
                self.read_bytes += end - PAD + swallowed_count
                yield _cut(room, end)
                carried, swallowed_count = bytes(room[end:filled]), 0
            elif count < BATCH_BYTES:
                carried = bytes(room[PAD:filled])
            else:  # no line is that long: only its length is of interest
                carried, swallowed_count = TORN, swallowed_count + filled - PAD - len(TORN)
        self.left_bytes = len(carried) + swallowed_count
        if carried and not leave:
            self.read_bytes, self.left_bytes = self.read_bytes + self.left_bytes, 0
            yield [Block.copy(TORN + carried + b"\n")]

    def _fill(self, room: memoryview) -> int:
        filled = 0
        while filled < len(room) and (count := self.content.readinto(room[filled:])):
            filled += count
        return filled


def _cut(room: bytearray, end: int) -> list[Block]:
    """The text from PAD to `end` in blocks of whole lines, without a copy."""
    text, start, blocks = np.frombuffer(room, np.uint8), PAD, []
    while start < end:
        stop = room.rfind(b"\n", start, min(start + BLOCK_BYTES, end)) + 1 or room.find(b"\n", start) + 1
        blocks.append(Block.of(text[start - PAD : stop + PAD]))
        start = stop
    return blocks


def _count(counts: LogCounts, stream: _Stream, names: Names, leave: bool) -> None:
    """Batches are counted side by side and added up in their order; a single one needs no threads."""
    batches = stream.batches(leave)
    begun = list(islice(batches, 2))
    log = _format_of(begun[0][0]) if begun else SLIM
    if len(begun) < 2:
        for batch in begun:
            _add(counts, _counted(batch, log, names, counts.window_s))
        return
    from concurrent.futures import Future, ThreadPoolExecutor  # 20 ms that 20,000 new lines do not need

    waiting: deque[Future[_Counted]] = deque()
    with ThreadPoolExecutor(THREADS_COUNT) as threads:
        for batch in chain(begun, batches):
            waiting.append(threads.submit(_counted, batch, log, names, counts.window_s))
            if len(waiting) > THREADS_COUNT:
                _add(counts, waiting.popleft().result())
        for future in waiting:
            _add(counts, future.result())


@dataclass(frozen=True)
class _Counted:
    parts: list[Part]
    singles: Singles
    log: LogFormat


def _counted(batch: list[Block], log: LogFormat, names: Names, window_s: int) -> _Counted:
    rows, singles = rows_of(batch, log, fields_of, names)
    return _Counted(list(parts_of(rows, names, window_s)), singles, log)


def _add(counts: LogCounts, batch: _Counted) -> None:
    for table, group, values, how_often in batch.parts:
        getattr(counts, table).add(group, values, how_often)
    singles = batch.singles
    if singles.regular_count:
        singles.formats[batch.log.name] += singles.regular_count
        singles.missing |= set(LOG_FIELDS) - batch.log.names
    for name, count in singles.formats.items():
        counts.formats[name] = counts.formats.get(name, 0) + count
    counts.missing |= singles.missing
    counts.unparsed_count += len(singles.unparsed)
    counts.lines_count += singles.formats.total() + len(singles.unparsed)
    counts.remember(line[:SHOWN_BYTES].decode("ascii", "backslashreplace") for line in singles.unparsed)


SLIM, COMBINED = Slim(), Combined()


def fields_of(line: bytes) -> tuple[str, Fields]:
    """The format of one line and its fields; no fields if it is of no format that we know.

    Each line is looked at by itself, so that a log whose format changed half-way is read, and so that it
    does not matter where the log was cut.
    """
    if line.startswith(b"{"):
        return Json.name, json_fields(line) or {}
    log = SLIM if b"\t" in line else COMBINED
    return log.name, log.fields(line) or {}


def _format_of(block: Block) -> LogFormat:
    """What most of the first lines are: only a matter of speed."""
    lines = block.text[PAD:-PAD][:SAMPLE_BYTES].tobytes().split(b"\n")[:-1]
    names = Counter(name for name, fields in map(fields_of, lines) if fields)
    if not names or names.most_common(1)[0][0] != Json.name:
        return COMBINED if names[COMBINED.name] > names[SLIM.name] else SLIM
    objects = [line for line in lines if line.startswith(b"{") and record_of(line)]
    usual = Counter(line.count(b'"') for line in objects).most_common(1)[0][0]
    return Json(next(line for line in objects if line.count(b'"') == usual))
