"""Access logs to counts, a block at a time."""

from __future__ import annotations

import errno
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from stat import S_ISREG

from runbook_lib.accesslog.blocks import rows_of
from runbook_lib.accesslog.counting import parts_of
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.cursor import Cursor, LogFile, head_bytes_wanted, head_hash, plan_fetch
from runbook_lib.accesslog.detection import Hints, line_reader, scanner_of
from runbook_lib.accesslog.fields import Block
from runbook_lib.accesslog.formats import COUNTED, TABLE, LogFormat
from runbook_lib.accesslog.lines import LineReader
from runbook_lib.accesslog.names import Names
from runbook_lib.accesslog.rows import Rows, Singles
from runbook_lib.accesslog.stream import Source, Stream, opened

NO_HINTS = Hints()
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
    hints: Hints = NO_HINTS,
) -> LogCounts:
    """The counts of one log: its rotated set of files in any order, or pieces of it (bytes, open files) in order.

    `upstreams` says which address is which gateway, {"127.0.0.1:18789": "primary", ...}. With `cursor`,
    only what was written since. If the log is still growing, a last line without its newline is left for
    the next read; otherwise it is a line as any other. The result's `cursor` is where to go on
    (files only), `left_bytes` the length of what was left, `lost` whether a rotated file was missed.
    """
    wanted = [sources] if isinstance(sources, Path | str | bytes | io.FileIO) else list(sources)
    counts = LogCounts(window_s)
    names, formats = Names(upstreams), [*hints.formats, *TABLE]
    pieces = [io.BytesIO(s) if isinstance(s, bytes) else s for s in wanted if isinstance(s, bytes | io.FileIO)]
    plan = plan_fetch(list_files([Path(s) for s in wanted if isinstance(s, Path | str)], cursor), cursor)
    counts.lost, counts.cursor = plan.lost, cursor
    streams = [Stream(piece) for piece in pieces]
    streams += [Stream(opened(Path(f.file.path)), f) for f in plan.fetches]
    for position, stream in enumerate(streams):
        last = position == len(streams) - 1
        with closing(stream.content):
            _count(counts, stream.blocks(leave=last and growing), names, line_reader(formats, hints.unit), formats)
        counts.left_bytes = stream.left_bytes
        if stream.fetch is not None and (stream.read_bytes or counts.cursor is None):
            counts.cursor = stream.fetch.cursor(stream.read_bytes)
    return counts


def list_files(paths: Iterable[Path], cursor: Cursor | None = None) -> list[LogFile]:
    """The files as plan_fetch wants them; one that is not there is an OSError."""
    found = []
    for path in paths:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, "not a file; write what it gives to one", str(path))
        with closing(opened(path)) as content:
            head = content.read(head_bytes_wanted(cursor))
        where = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime)
        found.append(LogFile(str(path), *where, head_hash(head), len(head)))
    return found


def _count(
    counts: LogCounts, blocks: Iterator[Block], names: Names, reader: LineReader, formats: Sequence[LogFormat]
) -> None:
    scanner = None
    waiting: list[Rows] = []
    for block in blocks:
        scanner = scanner or scanner_of(block, formats)
        rows, singles = rows_of(block, scanner, reader, names)
        _note(counts, singles, scanner.log if scanner else None)
        if singles.regular_count < sum(singles.formats.values()) / 2:
            scanner = None  # another format begins here, perhaps
        waiting.append(rows)
        if sum(len(part.at_ms) for part in waiting) >= TOGETHER_COUNT:
            _add(counts, waiting, names)
            waiting = []
    if waiting:
        _add(counts, waiting, names)
    counts.met += Counter({_shown(address): count for address, count in names.met.items()})
    names.met.clear()


def _shown(text: bytes) -> str:
    return text.decode("latin-1").encode("unicode_escape").decode("ascii")


def _add(counts: LogCounts, rows: list[Rows], names: Names) -> None:
    for table, group, values, how_often in parts_of(Rows.joined(rows), names, counts.window_s):
        getattr(counts, table).add(group, values, how_often)


def _note(counts: LogCounts, singles: Singles, log: LogFormat | None) -> None:
    if log and singles.regular_count:
        singles.formats[log.name] += singles.regular_count
        singles.missing |= COUNTED - log.names
    for name, count in singles.formats.items():
        counts.formats[name] = counts.formats.get(name, 0) + count
    counts.missing |= singles.missing
    counts.notes += singles.notes
    counts.unparsed_count += len(singles.unparsed)
    counts.lines_count += singles.formats.total() + len(singles.unparsed)
    counts.remember(line[:SHOWN_BYTES].decode("ascii", "backslashreplace") for line in singles.unparsed)
