"""Our log format, and where its fields are in a block of log bytes.

A format finds the fields of all regular lines of a block at once (`locate`), and those of a single
line (`fields`), which is slow, reads the lines that are not like the others, and is the rule of what a
good line is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runbook_lib.accesslog.fields import PAD, Block, Bytes, Ints, Span, read_epoch_ms

LOG_FIELDS = (
    "msec",
    "openclaw_target",
    "openclaw_revision",
    "status",
    "upstream_addr",
    "upstream_status",
    "upstream_connect_time",
    "upstream_header_time",
    "upstream_response_time",
    "request_time",
    "connection",
    "connection_requests",
    "pid",
    "request_id",
    "request_method",
    "uri",
)
"""One line of the judge's log, in order."""

LOG_FORMAT = "escape=default '" + r"\t".join("$" + name for name in LOG_FIELDS) + "'"
"""Goes between `log_format NAME` and `;`: nginx reads the two characters \\t as a tab."""

CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f]")
Fields = dict[str, bytes]


@dataclass(frozen=True)
class Located:
    """Spans of the fields of the regular lines, of these lines, and of the lines to read one by one."""

    columns: dict[str, Span]
    lines: Span
    odd: Span


class LogFormat(Protocol):
    name: str
    names: frozenset[str]
    """The fields that this log has, by our names."""

    def locate(self, block: Block) -> Located: ...

    def fields(self, line: bytes) -> Fields | None: ...

    def read_at(self, block: Block, span: Span) -> Ints: ...


class Slim:
    """The judge's own log: LOG_FIELDS between tabs, no other control character in a line."""

    name = "slim"
    names = frozenset(LOG_FIELDS)

    def locate(self, block: Block) -> Located:
        text, width = block.text, len(LOG_FIELDS)
        marks = np.flatnonzero(text[PAD:-PAD] < 32) + PAD
        ends = marks[width - 1 :: width]
        if len(ends) * width != len(marks) or not _all_tabs_but_last(text, marks, ends):
            return _sort_out(text, marks)
        starts = line_starts(ends)
        return Located(_between(starts, marks.reshape(-1, width)), (starts, ends), (ends[:0], ends[:0]))

    def fields(self, line: bytes) -> Fields | None:
        parts = line.split(b"\t")
        if len(parts) != len(LOG_FIELDS) or CONTROL.search(line):
            return None
        return dict(zip(LOG_FIELDS, parts, strict=True))

    def read_at(self, block: Block, span: Span) -> Ints:
        return read_epoch_ms(block, span)


def line_starts(ends: Ints) -> Ints:
    """Where each line of a block starts, given its newlines."""
    return np.concatenate((np.array([PAD], np.int64), ends[:-1] + 1))[: len(ends)]


def _all_tabs_but_last(text: Bytes, marks: Ints, ends: Ints) -> bool:
    tabs_count = int(np.count_nonzero(text[PAD:-PAD] == 9))
    return tabs_count == len(marks) - len(ends) and bool((text[ends] == 10).all())


def _sort_out(text: Bytes, marks: Ints) -> Located:
    """The same for a block in which some line has more or fewer marks than it should."""
    width = len(LOG_FIELDS)
    newline = np.flatnonzero(text[marks] == 10)
    ends = marks[newline]
    starts = line_starts(ends)
    full = np.flatnonzero(np.diff(newline, prepend=-1) == width)
    grid = marks[newline[full][:, None] + np.arange(1 - width, 1)]
    tabs = (text[grid[:, :-1]] == 9).all(axis=1)
    good = full[tabs]
    odd = np.ones(len(ends), bool)
    odd[good] = False
    return Located(_between(starts[good], grid[tabs]), (starts[good], ends[good]), (starts[odd], ends[odd]))


def _between(starts: Ints, grid: Ints) -> dict[str, Span]:
    edges = [starts - 1, *(np.ascontiguousarray(column) for column in grid.T)]
    return {name: (edges[i] + 1, edges[i + 1]) for i, name in enumerate(LOG_FIELDS)}
