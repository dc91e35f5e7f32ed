"""Logs that are not ours: nginx's combined format, and JSON with the usual names."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from runbook_lib.accesslog.fields import (
    FIRST_BYTES,
    ODD,
    PAD,
    Block,
    Ints,
    Mask,
    Span,
    first_byte,
    read_epoch_ms,
    word_of,
)
from runbook_lib.accesslog.formats import Fields, Located, line_starts

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

NOT_COUNTED = frozenset({"connection", "connection_requests", "request_id", "request_method", "uri"})
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


@dataclass(frozen=True)
class _Step:
    """One value of the template: its length there, our name for it, and the constant text behind it."""

    length: int
    name: str
    behind: bytes


class Json:
    """JSON lines. nginx writes the same keys in the same order, so one line is the template of all.

    All lines of a block are walked side by side, from value to value up to the last one that is counted. A
    value is taken to be as long as in the template if the text behind it is where it should be then; else
    its end is looked for. A line that is not made like the template, or that looks torn (a second brace, no
    brace at its end, a control character), is read by the json module.
    """

    name = "json"

    def __init__(self, template: bytes) -> None:
        key_of = _keys(tuple(record_of(template) or ()))
        self.names = frozenset(key_of)
        counted = {key.encode(): name for name, key in key_of.items() if name not in NOT_COUNTED}
        self._before, self._steps = _learn(template, counted)

    def locate(self, block: Block) -> Located:
        marks = np.flatnonzero(block.text[PAD:-PAD] < 32) + PAD
        ends = marks[block.text[marks] == 10]
        starts = line_starts(ends)
        good = _has(block, starts, self._before) & bool(self._steps) & ~_looks_torn(block, starts, ends, marks)
        at, behind = starts + len(self._before), self._before
        columns: dict[str, Span] = {}
        for step in self._steps:
            end = at + step.length
            wrong = np.flatnonzero(~_has(block, end, step.behind))
            if len(wrong):
                end[wrong] = _end_of_value(block, at[wrong], step.behind[0], ends[wrong])
                good[wrong] &= _has(block, end[wrong], step.behind)
            if step.name:
                good &= block.words[np.minimum(at - len(behind), len(block.words) - 1)] == word_of(behind[:8])
                columns[step.name] = (at, end)
            at, behind = end + len(step.behind), step.behind
        good &= at <= ends
        if not good.all():
            columns = {name: (start[good], end[good]) for name, (start, end) in columns.items()}
        return _located(columns, starts, ends, np.flatnonzero(good))

    def read_at(self, block: Block, span: Span) -> Ints:
        return _read_times(block, span)

    def fields(self, line: bytes) -> Fields | None:
        return json_fields(line)


def _looks_torn(block: Block, starts: Ints, ends: Ints, controls: Ints) -> Mask:
    """Lines with anything by which the text behind the last counted value might not be what it seems."""
    torn: Mask = (block.text[starts] != 123) | (block.text[ends - 1] != 125)
    braces = block.text[PAD:-PAD] >= 123  # {|}~ and all that is not ASCII
    if np.count_nonzero(braces) > 2 * len(ends) or len(controls) > len(ends):
        lines = np.searchsorted(ends, np.concatenate((np.flatnonzero(braces) + PAD, controls)))
        torn |= np.bincount(lines, minlength=len(ends))[: len(ends)] > 3
    return torn


def _has(block: Block, at: Ints, literal: bytes) -> Mask:
    """Whether the text from `at` on ends like `literal`, by its last eight bytes."""
    last = len(block.words) - 1
    if len(literal) >= 8:
        same: Mask = block.words[np.minimum(at + (len(literal) - 8), last)] == word_of(literal[-8:])
    else:
        same = block.words[np.minimum(at, last)] & FIRST_BYTES[len(literal)] == word_of(literal)
    return same


def _end_of_value(block: Block, at: Ints, delimiter: int, ends: Ints) -> Ints:
    """Where the delimiter is, or the end of the line, for a few lines."""
    end, rest = np.minimum(at, ends), np.arange(len(at))
    while len(rest):
        found = first_byte(block.words[end[rest]], delimiter)
        end[rest] = np.minimum(end[rest] + found, ends[rest])
        rest = rest[(found == 8) & (end[rest] < ends[rest])]
    return end


VALUE = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\[\]\s]+))')


def _learn(line: bytes, wanted: dict[bytes, str]) -> tuple[bytes, list[_Step]]:
    """What is before the first value, and the steps through a line; none if it is not a flat object of ours."""
    found = list(VALUE.finditer(line))
    spans = [match.span(2) if match[2] is not None else match.span(3) for match in found]
    texts = [
        line[a:b] for a, b in zip([0, *(end for _, end in spans)], [*(start for start, _ in spans), None], strict=True)
    ]
    names = [wanted.get(match[1], "") for match in found]
    steps = [_Step(b - a, name, text) for (a, b), name, text in zip(spans, names, texts[1:], strict=True)]
    flat = line[:1] == b"{" and not set(b"{[]") & set(b"".join(texts)[1:]) and b"\\" not in line
    named = [name for name in names if name]
    whole = len(named) == len(set(named)) == len(wanted)
    # a key before a value we want is at least eight bytes with its quotes, or it could not be told by them
    long_enough = all(len(text) >= 8 for text, name in zip(texts[:-1], names, strict=True) if name)
    last = max((i for i, name in enumerate(names) if name), default=-1)
    return texts[0], steps[: last + 1] if flat and whole and long_enough else []


def json_fields(line: bytes) -> Fields | None:
    """The fields of one JSON line by our names."""
    record = record_of(line)
    if record is None:
        return None
    values = {name: _plain(name, record[key]) for name, key in _keys(tuple(record)).items()}
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


@lru_cache(maxsize=256)
def _keys(names_there: tuple[str, ...]) -> dict[str, str]:
    """Our names, and what the log calls them."""
    there = set(names_there)
    found = {ours: next((name for name in names if name in there), "") for ours, names in ALIASES.items()}
    return {ours: key for ours, key in found.items() if key}


def _plain(name: str, value: object) -> bytes:
    if isinstance(value, float) or (isinstance(value, int) and name.endswith("_time")):
        return f"{value:.3f}".encode()
    return b"-" if value is None else str(value).encode("utf-8", "replace")
