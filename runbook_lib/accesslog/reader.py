"""Access logs to counts: whole blocks in a few threads, added up in their order."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from runbook_lib.accesslog.blocks import rows_of
from runbook_lib.accesslog.counting import Part, parts_of
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.cursor import Cursor, LogFile, head_bytes_wanted, head_hash, plan_fetch
from runbook_lib.accesslog.detection import SLIM, fields_of, format_of
from runbook_lib.accesslog.fields import Block
from runbook_lib.accesslog.formats import LOG_FIELDS, LogFormat
from runbook_lib.accesslog.names import Names
from runbook_lib.accesslog.rows import Singles
from runbook_lib.accesslog.stream import Source, Stream, opened

SHOWN_BYTES = 200
THREADS_COUNT = min(4, os.cpu_count() or 1)


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
    streams = [Stream(io.BytesIO(piece)) for piece in pieces]
    streams += [Stream(opened(Path(f.file.path)), f) for f in plan.fetches]
    for position, stream in enumerate(streams):
        last = position == len(streams) - 1
        with closing(stream.content):
            _count(counts, stream, names, leave=last and growing)
        counts.left_bytes = stream.left_bytes
        if stream.fetch is not None and (stream.read_bytes or counts.cursor is None):
            counts.cursor = stream.fetch.cursor(stream.read_bytes)
    return counts


def list_files(paths: Iterable[Path], cursor: Cursor | None = None) -> list[LogFile]:
    """The files as plan_fetch wants them; one that is not there is an OSError."""
    found = []
    for path in paths:
        stat = path.stat()
        with closing(opened(path)) as content:
            head = content.read(head_bytes_wanted(cursor))
        where = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime)
        found.append(LogFile(str(path), *where, head_hash(head), len(head)))
    return found


def _count(counts: LogCounts, stream: Stream, names: Names, leave: bool) -> None:
    """Batches are counted side by side and added up in their order; a single one needs no threads."""
    batches = stream.batches(leave)
    begun = list(islice(batches, 2))
    log = format_of(begun[0][0]) if begun else SLIM
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
