"""Access logs to counts, a block at a time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from runbook_lib.accesslog.blocks import rows_of
from runbook_lib.accesslog.counting import parts_of
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.cursor import Cursor, LogFile, head_bytes_wanted, head_hash, plan_fetch
from runbook_lib.accesslog.detection import SLIM, fields_of, format_of
from runbook_lib.accesslog.formats import LOG_FIELDS, LogFormat
from runbook_lib.accesslog.names import Names
from runbook_lib.accesslog.rows import Rows, Singles
from runbook_lib.accesslog.stream import Source, Stream, opened

SHOWN_BYTES = 200
TOGETHER_COUNT = 50_000
"""Lines counted together: what is counted by window, gateway and metric costs the same for few."""


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
    log: LogFormat = SLIM
    waiting: list[Rows] = []
    for number, block in enumerate(stream.blocks(leave)):
        log = log if number else format_of(block)
        rows, singles = rows_of(block, log, fields_of, names)
        _note(counts, singles, log)
        waiting.append(rows)
        if sum(len(part.at_ms) for part in waiting) >= TOGETHER_COUNT:
            _add(counts, waiting, names)
            waiting = []
    if waiting:
        _add(counts, waiting, names)


def _add(counts: LogCounts, rows: list[Rows], names: Names) -> None:
    for table, group, values, how_often in parts_of(Rows.joined(rows), names, counts.window_s):
        getattr(counts, table).add(group, values, how_often)


def _note(counts: LogCounts, singles: Singles, log: LogFormat) -> None:
    if singles.regular_count:
        singles.formats[log.name] += singles.regular_count
        singles.missing |= set(LOG_FIELDS) - log.names
    for name, count in singles.formats.items():
        counts.formats[name] = counts.formats.get(name, 0) + count
    counts.missing |= singles.missing
    counts.unparsed_count += len(singles.unparsed)
    counts.lines_count += singles.formats.total() + len(singles.unparsed)
    counts.remember(line[:SHOWN_BYTES].decode("ascii", "backslashreplace") for line in singles.unparsed)
