"""Logs that are not ours: nginx's combined format, and JSON with the usual names."""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from runbook_lib.logfields import FIRST_BYTES, LAST_BYTES, ODD, PAD, Block, Bytes, Ints, Mask, Span, read_epoch_ms
from runbook_lib.logformats import Fields, Located, line_starts

ALIASES = {
    "msec": ("msec", "time_msec", "time_iso8601", "@timestamp", "timestamp", "time_local", "time", "ts", "date"),
    "openclaw_target": ("openclaw_target", "openclaw_gateway", "target", "gateway"),
    "openclaw_revision": ("openclaw_revision", "revision"),
    "status": ("status", "response_status"),
    "upstream_addr": ("upstream_addr", "upstream_address", "upstream", "ua"),
    "upstream_status": ("upstream_status", "us"),
    "upstream_connect_time": ("upstream_connect_time", "uct"),
    "upstream_header_time": ("upstream_header_time", "uht"),
    "upstream_response_time": ("upstream_response_time", "urt"),
    "request_time": ("request_time", "duration", "rt"),
    "connection": ("connection",),
    "connection_requests": ("connection_requests",),
    "pid": ("pid", "worker_pid"),
    "request_id": ("request_id", "req_id"),
    "request_method": ("request_method", "method"),
    "uri": ("uri", "request_uri", "path", "url", "request"),
}
"""Our name of a field, and what a JSON log may call it, the best first."""

EPOCH_S = re.compile(rb"\d{10}(\.\d{3})?")
UNQUOTED = re.compile(rb'":\s*(-|0\d+)(?=\s*[,}])')
COMBINED = re.compile(rb'[^"]*\[([^]"]{26})\] "([^"]*)" (\d{3}) .*')
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@lru_cache(maxsize=4096)
def epoch_ms(text: bytes) -> int:
    """$msec, $time_iso8601 or $time_local as milliseconds since 1970; ODD if it is none of them."""
    try:
        if EPOCH_S.fullmatch(text):
            return int(text.replace(b".", b"")) * (1 if b"." in text else 1000)
        known = "%d/%b/%Y:%H:%M:%S %z" if text[2:3] == b"/" else None
        at = dt.datetime.strptime(text.decode(), known) if known else dt.datetime.fromisoformat(text.decode())
        return (at - EPOCH) // dt.timedelta(milliseconds=1)
    except (ValueError, TypeError):  # TypeError: a time without its zone says nothing
        return ODD


def _read_times(block: Block, span: Span) -> Ints:
    """Like read_epoch_ms, for any of these. Neighbours mostly share their second: few texts are looked at."""
    start, end = span
    if not len(start) or (len(start) and bool((end - start == 14).all())):
        return read_epoch_ms(block, span)
    length = end - start
    same = (length[1:] == length[:-1]) & (length[1:] <= 32)
    for offset in range(0, 32, 8):
        word = block.words[start + np.minimum(offset, length)] & FIRST_BYTES[np.clip(length - offset, 0, 8)]
        same &= word[1:] == word[:-1]
    first = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(~same) + 1))
    texts = [block.text[a:b].tobytes() for a, b in zip(start[first].tolist(), end[first].tolist(), strict=True)]
    return np.repeat(np.array([epoch_ms(text) for text in texts], np.int64), np.diff(first, append=len(start)))


def _msec(text: bytes) -> bytes:
    at_ms = epoch_ms(text)
    return b"%010d.%03d" % divmod(at_ms, 1000) if at_ms >= 0 else b""


def _quoted_lines(block: Block) -> tuple[Ints, Ints, Ints, Ints]:
    """All quotes and newlines; the positions of the newlines among them; where lines start and end."""
    inner = block.text[PAD:-PAD]
    marks = np.flatnonzero((inner == 34) | (inner == 10)) + PAD
    newline = np.flatnonzero(block.text[marks] == 10)
    ends = marks[newline]
    return marks, newline, line_starts(ends), ends


def _located(columns: dict[str, Span], starts: Ints, ends: Ints, good: Ints) -> Located:
    odd = np.ones(len(ends), bool)
    odd[good] = False
    return Located(columns, (starts[good], ends[good]), (starts[odd], ends[odd]))


class Combined:
    """nginx's default, with or without more behind it: whole seconds, status and request line only."""

    name = "combined"
    names = frozenset({"msec", "status", "request_method", "uri"})

    def locate(self, block: Block) -> Located:
        text = block.text
        marks, newline, starts, ends = _quoted_lines(block)
        quotes_count = np.diff(newline, prepend=-1) - 1
        rows = np.flatnonzero(quotes_count >= 2)
        opening, closing = (marks[newline[rows] - quotes_count[rows] + i] for i in (0, 1))
        good = (opening - starts[rows] >= 29) & (ends[rows] - closing >= 6)
        for at, expected in ((opening - 29, b"["), (opening - 2, b"]"), (opening - 1, b" "), (closing + 1, b" ")):
            good &= text[at] == expected[0]
        good &= text[np.minimum(closing + 5, len(text) - 1)] == 32
        opening, closing, rows = opening[good], closing[good], rows[good]
        columns = {"msec": (opening - 28, opening - 2), "status": (closing + 2, closing + 5)}
        return _located(columns, starts, ends, rows)

    def read_at(self, block: Block, span: Span) -> Ints:
        return _read_times(block, span)

    def fields(self, line: bytes) -> Fields | None:
        found = COMBINED.fullmatch(line)
        if not found:
            return None
        method, _, rest = found[2].partition(b" ")
        uri = rest.partition(b" ")[0]
        return {"msec": _msec(found[1]), "status": found[3], "request_method": method, "uri": uri}


class Json:
    """JSON lines. nginx writes the same keys in the same order, so one line is the template of all.

    A line whose quotes, keys and glue lie as in the template is read in whole blocks, any other one by the
    json module.
    """

    name = "json"

    def __init__(self, template: bytes) -> None:
        record = record_of(template) or {}
        self._key_of = _keys(record)
        self.names = frozenset(self._key_of)
        quotes = [i for i, byte in enumerate(template) if byte == 34]
        gaps = [template[a + 1 : b] for a, b in pairwise([*quotes, len(template)])]
        self._places, fixed = _learn(gaps, {key.encode(): name for name, key in self._key_of.items()})
        self._fixed = np.array(fixed, np.int64)
        self._lengths = np.array([len(gaps[i]) + 1 for i in fixed], np.int64)
        self._first_quote = quotes[0] if quotes else 0
        self._width = len(quotes) + 1 if fixed else -1  # nothing learned: no line is like it
        self._words = {place[0]: _last_word(gaps[place[0]]) for place in self._places.values()}

    def locate(self, block: Block) -> Located:
        text = block.text
        marks, newline, starts, ends = _quoted_lines(block)
        rows = np.flatnonzero(np.diff(newline, prepend=-1) == self._width)
        grid = marks[newline[rows][:, None] + np.arange(1 - max(self._width, 1), 1)]
        good = (text[starts[rows]] == 123) & (text[ends[rows] - 1] == 125)
        good &= ~_with_backslash(text, ends)[rows] & (grid[:, 0] - starts[rows] == self._first_quote)
        good &= (np.diff(grid, axis=1)[:, self._fixed] == self._lengths).all(axis=1)
        for key, (mask, word) in self._words.items():
            good &= block.words[grid[:, key + 1] - 8] & mask == word
        grid, columns = grid[good], {}
        for name, (_, first, after, last, before) in self._places.items():
            columns[name] = (grid[:, first] + after, grid[:, last] - before)
        return _located(columns, starts, ends, rows[good])

    def read_at(self, block: Block, span: Span) -> Ints:
        return _read_times(block, span)

    def fields(self, line: bytes) -> Fields | None:
        return json_fields(line)


def json_fields(line: bytes) -> Fields | None:
    """The fields of one JSON line by our names."""
    record = record_of(line)
    if record is None:
        return None
    values = {name: _plain(name, record[key]) for name, key in _keys(record).items()}
    return values | {"msec": _msec(values.get("msec", b""))}


def record_of(line: bytes) -> dict[str, Any] | None:
    """The object of a line. What nginx writes without quotes and JSON does not know (000, -) is let pass."""
    for text in (line, UNQUOTED.sub(rb'":"\1"', line)):
        try:
            record = json.loads(text.decode("utf-8", "replace"), strict=False)
        except (ValueError, RecursionError):
            continue
        return record if isinstance(record, dict) else None
    return None


def _keys(record: dict[str, Any]) -> dict[str, str]:
    found = {ours: next((name for name in names if name in record), "") for ours, names in ALIASES.items()}
    return {ours: key for ours, key in found.items() if key}


def _plain(name: str, value: object) -> bytes:
    if isinstance(value, float) or (isinstance(value, int) and name.endswith("_time")):
        return f"{value:.3f}".encode()
    return b"-" if value is None else str(value).encode("utf-8", "replace")


def _last_word(key: bytes) -> tuple[np.uint64, np.uint64]:
    length = min(len(key), 8)
    return LAST_BYTES[length], np.uint64(int.from_bytes(key[-length:].rjust(8, b"\0"), "little"))


def _with_backslash(text: Bytes, ends: Ints) -> Mask:
    """Which lines have an escape anywhere: their values are not what their bytes say."""
    found = np.zeros(len(ends) + 1, bool)
    found[np.searchsorted(ends, np.flatnonzero(text[PAD:-PAD] == 92) + PAD)] = True
    return found[:-1]


Place = tuple[int, int, int, int, int]
"""Of a value: its key's gap, the mark before it and the bytes between, the mark after it and the bytes between."""


def _learn(gaps: list[bytes], wanted: dict[bytes, str]) -> tuple[dict[str, Place], list[int]]:
    """Where the wanted values lie among the gaps between quotes, and the gaps that never change in length."""
    places: dict[str, Place] = {}
    fixed: list[int] = []
    i = 0
    while i + 1 < len(gaps):
        name, glue = wanted.get(gaps[i]), gaps[i + 1]
        if glue.strip() == b":":  # "key":"value","next"
            fixed += [i, i + 1, i + 3]
            if name:
                places[name] = (i, i + 2, 1, i + 3, 0)
            i += 4
            continue
        value = glue.strip(b":, }")  # "key":200,"next"
        if not value or set(value) & set(b"{[]"):
            return {}, []
        fixed.append(i)
        if name:
            before = glue.index(value)
            places[name] = (i, i + 1, before + 1, i + 2, len(glue) - before - len(value))
        i += 2
    return places, fixed
