"""Line by line: the rule of what a good line is and what it means, and the reader of lines unlike the others.

nginx writes an attempt into five fields at once (address, status, connect, header and response time),
as lists when there were several: `, ` between the attempts in one group and ` : ` after an internal
redirect. An attempt belongs to the address at its own position, not to the gateway that answered last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

import numpy as np

from runbook_lib.accesslog.fields import ABSENT, NOTHING, Ints
from runbook_lib.accesslog.formats import COUNTED, Fields
from runbook_lib.accesslog.learning import NO_REQUEST
from runbook_lib.accesslog.names import NONE, OTHER, TARGETS, Names
from runbook_lib.accesslog.rows import LATEST_MS, TIMES, Rows, Singles

ATTEMPT = ("upstream_addr", "upstream_status", *TIMES)
SECONDS = re.compile(rb"\d{1,6}\.\d{3}")
STATUS = re.compile(rb"\d{3}")
MSEC = re.compile(rb"\d{10}\.\d{3}")
PID = re.compile(rb"\d{1,8}|-")
MARK = b"\xef\xbb\xbf"  # some editors put it before a text in UTF-8
LineReader = Callable[[bytes], tuple[str, Fields, Collection[str]]]
"""The name of a line's format, its fields (none where it cannot be read), and what is to be said of it."""


def rows_of_lines(lines: Sequence[bytes], reader: LineReader, names: Names) -> tuple[Rows, Singles]:
    """The rows of some lines, and how they fared."""
    requests: list[tuple[int, ...]] = []
    attempts: list[tuple[int, ...]] = []
    singles = Singles()
    for line in lines:
        if not (line := line.removeprefix(MARK).removesuffix(b"\r")):
            continue
        name, fields, notes = reader(line)
        row = _row(fields, names)
        singles.notes.update(notes)
        if row is None:
            if name in NO_REQUEST:
                singles.formats[name] += 1
            else:
                singles.unparsed.append(line)
            continue
        requests.append(row[0])
        attempts.extend(row[1])
        singles.formats[name] += 1
        singles.missing |= COUNTED - set(fields)
    return Rows(*_columns(requests, 6), *_columns(attempts, 9)), singles


def _columns(rows: list[tuple[int, ...]], width: int) -> list[Ints]:
    return list(np.array(rows, np.int64).reshape(-1, width).T)


def _row(fields: Fields, names: Names) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
    at, status, pid = fields.get("msec", b""), fields.get("status", b""), fields.get("pid", b"-")
    request_ms = ms_of(fields.get("request_time", b"-"))
    if not (MSEC.fullmatch(at) and STATUS.fullmatch(status) and PID.fullmatch(pid)) or request_ms is None:
        return None
    at_ms = int(at.replace(b".", b""))
    tried = _attempts(fields, names)
    if tried is None or at_ms >= LATEST_MS:
        return None
    revision = names.revision(fields.get("openclaw_revision", b"-"))
    served = tried[-1][0] if tried else NONE if "upstream_addr" in fields else ABSENT
    target = tried[0][0] if tried else NONE
    if "openclaw_target" in fields:
        target = TARGETS.get(fields["openclaw_target"], OTHER)
    pid_number = NOTHING if pid == b"-" else int(pid)
    request = (at_ms, target, served, revision, int(status), request_ms)
    return request, [(at_ms, revision, pid_number, *attempt) for attempt in tried]


def _attempts(fields: Fields, names: Names) -> list[tuple[int, ...]] | None:
    """(gateway, group, status, connect_ms, header_ms, response_ms) of each attempt; None if it is rubbish."""
    addresses = fields.get("upstream_addr", b"-")
    if addresses in (b"-", b""):
        return []
    lists = [_listed(fields[name]) if name in fields else None for name in ATTEMPT]
    if len({len(values) for values in lists if values is not None}) != 1:
        return None
    columns = [
        [ABSENT] * len(lists[0] or ()) if values is None else [*map(read, values)]
        for values, read in zip(lists[1:], (_status_of, ms_of, ms_of, ms_of), strict=True)
    ]
    tried = []
    for address, *numbers in zip(lists[0] or (), *columns, strict=True):
        if None in numbers:
            return None
        if (gateway := names.gateway(address)) == OTHER:
            names.meet(address, 1)
        tried.append((gateway, int(names.is_group(address)), *numbers))
    return tried


def _listed(text: bytes) -> list[bytes]:
    return text.replace(b" : ", b", ").split(b", ")


@lru_cache(maxsize=4096)
def _status_of(text: bytes) -> int | None:
    if text in (b"-", b""):
        return NOTHING
    return int(text) if STATUS.fullmatch(text) else None


@lru_cache(maxsize=4096)
def ms_of(text: bytes) -> int | None:
    if text in (b"-", b""):
        return NOTHING
    return int(text.replace(b".", b"")) if SECONDS.fullmatch(text) else None
