"""A block of log lines as columns: one row a request, and one row an attempt at a gateway.

nginx writes an attempt into five fields at once (address, status, connect, header and response time),
as lists when there were several: `, ` between the attempts in one group and ` : ` after an internal
redirect. An attempt belongs to the address at its own position, not to the gateway that answered last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from runbook_lib.logfields import (
    NOTHING,
    ODD,
    Block,
    Ints,
    Mask,
    Span,
    read_int,
    read_ms,
    read_name,
    read_names,
)
from runbook_lib.logformats import LOG_FIELDS, Fields, LogFormat

PRIMARY, CANARY, OTHER, NONE = range(4)
GATEWAYS = ("primary", "canary", "other", "none")
"""`other` is an upstream that the caller did not name; `none` is a request that reached no gateway."""

TARGETS = {b"primary": PRIMARY, b"canary": CANARY, b"openclaw_primary": PRIMARY, b"openclaw_canary": CANARY}
TARGETS |= {b"-": NONE, b"": NONE}
LEARNED_COUNT = 64
LATEST_MS = 2**32 * 1000  # a tick must fit into 32 bits: until the year 2106
TIMES = ("upstream_connect_time", "upstream_header_time", "upstream_response_time")
SEPARATOR = re.compile(rb", | : ")
SECONDS = re.compile(rb"\d{1,6}\.\d{3}")
STATUS = re.compile(rb"\d{3}")
MSEC = re.compile(rb"\d{10}\.\d{3}")
PID = re.compile(rb"\d{1,8}|-")
LineReader = Callable[[bytes], tuple[str, Fields]]
"""The format of a line and its fields; no fields where it is of no known format."""


@dataclass
class Rows:
    """Columns of int64; times in whole milliseconds, NOTHING where the log has `-`.

    A request: at_ms since 1970 (when it ended), target (the intended gateway), served (who was asked
    last), revision and pid, status, request_ms. An attempt: its request's at_ms, revision and pid,
    gateway, status, connect_ms, header_ms, response_ms, and group, 1 where nginx wrote the name of the
    group because no upstream was live.
    """

    at_ms: Ints
    target: Ints
    served: Ints
    revision: Ints
    status: Ints
    request_ms: Ints
    a_at_ms: Ints
    a_revision: Ints
    a_pid: Ints
    a_gateway: Ints
    a_group: Ints
    a_status: Ints
    a_connect_ms: Ints
    a_header_ms: Ints
    a_response_ms: Ints

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass
class Singles:
    """How the lines fared: in whole blocks, and one by one."""

    regular_count: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    missing: set[str] = field(default_factory=set)
    unparsed: list[bytes] = field(default_factory=list)


class Names:
    """What a reader knows by name: the address of each gateway, and the revisions met so far."""

    def __init__(self, upstreams: Mapping[str, str]) -> None:
        self._group_of = {f"openclaw_{name}".encode(): name for name in GATEWAYS[:2]}
        known = {address.encode(): name for address, name in upstreams.items()}
        self._gateway_of = {a: _code(name) for a, name in (self._group_of | known).items()}
        self.addresses = [*known, b"-", b"", *self._group_of]  # the likely ones first
        self.revisions: list[bytes] = []

    def gateway(self, address: bytes) -> int:
        return NONE if address in (b"-", b"") else self._gateway_of.get(address, OTHER)

    def is_group(self, address: bytes) -> bool:
        return address in self._group_of

    def revision(self, name: bytes) -> int:
        if name not in self.revisions:
            self.revisions.append(name)
        return self.revisions.index(name)

    def learn_addresses(self, block: Block, span: Span, code: Ints) -> bool:
        """Take note of addresses the caller did not name, so that their lines are read at once too."""
        rows = np.flatnonzero(code == NOTHING)[:100]
        met = {block.text[span[0][row] : span[1][row]].tobytes() for row in rows}
        fresh = [a for a in sorted(met) if b" " not in a and len(self.addresses) < LEARNED_COUNT]
        self.addresses.extend(fresh)
        return bool(fresh)


def _code(gateway: str) -> int:
    return GATEWAYS.index(gateway) if gateway in GATEWAYS else OTHER


def rows_of(blocks: Sequence[Block], log: LogFormat, reader: LineReader, names: Names) -> tuple[Rows, Singles]:
    """The rows of all lines of some blocks, and how their lines fared."""
    parts: list[Rows] = []
    lines: list[bytes] = []
    regular_count = 0
    for block in blocks:
        located = log.locate(block)
        rows, slow = _regular(block, log, located.columns, names)
        lines += _lines(block, (located.lines[0][slow], located.lines[1][slow])) + _lines(block, located.odd)
        regular_count += len(slow) - int(slow.sum())
        parts.append(rows)
    singles = Singles()
    if lines:
        single, singles = rows_of_lines(lines, reader, names)
        parts.append(single)
    singles.regular_count = regular_count
    return Rows.joined(parts), singles


def _lines(block: Block, span: Span) -> list[bytes]:
    return [block.text[a:b].tobytes() for a, b in zip(span[0].tolist(), span[1].tolist(), strict=True)]


def _regular(block: Block, log: LogFormat, columns: Mapping[str, Span], names: Names) -> tuple[Rows, Mask]:
    """The rows of the regular lines with at most one attempt, and which lines must be read one by one."""
    at_ms = log.read_at(block, columns["msec"])
    count = len(at_ms)
    nothing = np.full(count, NOTHING)

    def ints(name: str) -> Ints:
        return read_int(block, columns[name]) if name in columns else nothing

    def statuses(name: str) -> Ints:
        value = ints(name)
        if name in columns:
            value[(value >= 0) & (columns[name][1] - columns[name][0] != 3)] = ODD
        return value

    def times(name: str) -> Ints:
        return read_ms(block, columns[name]) if name in columns else nothing

    status, request_ms, pid = statuses("status"), times("request_time"), ints("pid")
    gateway, group, alone, unknown = _addresses(block, columns, names, count)
    a_status, (connect_ms, header_ms, response_ms) = statuses("upstream_status"), map(times, TIMES)
    revision = nothing
    if "openclaw_revision" in columns:
        revision = read_names(block, columns["openclaw_revision"], names.revisions, LEARNED_COUNT)
    else:
        revision = np.full(count, names.revision(b"-"))
    target = gateway
    if "openclaw_target" in columns:
        code = read_name(block, columns["openclaw_target"], list(TARGETS))
        target = np.array([*TARGETS.values(), OTHER])[code]
    slow = (
        (at_ms < 0)
        | (at_ms >= LATEST_MS)
        | (status < 0)
        | (request_ms == ODD)
        | (pid == ODD)
        | (revision < 0)
        | unknown
    )
    for column in (a_status, connect_ms, header_ms, response_ms):
        slow |= alone & (column == ODD)
    keep, asked = ~slow, ~slow & alone
    requests = (at_ms, target, gateway, revision, status, request_ms)
    attempts = (at_ms, revision, pid, gateway, group, a_status, connect_ms, header_ms, response_ms)
    return Rows(*_picked(requests, keep), *_picked(attempts, asked)), slow


def _picked(columns: Sequence[Ints], mask: Mask) -> Sequence[Ints]:
    return columns if mask.all() else [column[mask] for column in columns]


def _addresses(block: Block, columns: Mapping[str, Span], names: Names, count: int) -> tuple[Ints, Ints, Mask, Mask]:
    """Gateway and group of each line's only address, whether it has one, and which need a closer look."""
    if "upstream_addr" not in columns:
        none = np.zeros(count, bool)
        return np.full(count, NONE), np.zeros(count, np.int64), none, none
    span = columns["upstream_addr"]
    code = read_name(block, span, names.addresses)
    if (code == NOTHING).any() and names.learn_addresses(block, span, code):
        code = read_name(block, span, names.addresses)
    gateways = np.array([names.gateway(a) for a in names.addresses])
    groups = np.array([int(names.is_group(a)) for a in names.addresses])
    unknown = code == NOTHING
    gateway = gateways[code]
    return gateway, groups[code], ~unknown & (gateway != NONE), unknown


def rows_of_lines(lines: Sequence[bytes], reader: LineReader, names: Names) -> tuple[Rows, Singles]:
    """The same, line by line: the rule of what a good line is and what it means."""
    requests: list[tuple[int, ...]] = []
    attempts: list[tuple[int, ...]] = []
    singles = Singles()
    for line in lines:
        name, fields = reader(line)
        row = _row(fields, names)
        if row is None:
            singles.unparsed.append(line)
            continue
        requests.append(row[0])
        attempts.extend(row[1])
        singles.formats[name] += 1
        singles.missing |= set(LOG_FIELDS) - set(fields)
    return Rows(*_columns(requests, 6), *_columns(attempts, 9)), singles


def _columns(rows: list[tuple[int, ...]], width: int) -> list[Ints]:
    return list(np.array(rows, np.int64).reshape(-1, width).T)


def _row(fields: Fields, names: Names) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
    at, status, pid = fields.get("msec", b""), fields.get("status", b""), fields.get("pid", b"-")
    request_ms = _ms(fields.get("request_time", b"-"))
    if not (MSEC.fullmatch(at) and STATUS.fullmatch(status) and PID.fullmatch(pid)) or request_ms is None:
        return None
    at_ms = int(at.replace(b".", b""))
    tried = _attempts(fields, names)
    if tried is None or at_ms >= LATEST_MS:
        return None
    revision = names.revision(fields.get("openclaw_revision", b"-"))
    served = tried[-1][0] if tried else NONE
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
    lists = [SEPARATOR.split(addresses)]
    for name in ("upstream_status", *TIMES):
        lists.append(SEPARATOR.split(fields[name]) if name in fields else [b"-"] * len(lists[0]))
    if len({len(values) for values in lists}) != 1:
        return None
    tried = []
    for address, status, *times in zip(*lists, strict=True):
        numbers = [_ms(value) for value in times]
        if not (STATUS.fullmatch(status) or status in (b"-", b"")) or None in numbers:
            return None
        code = int(status) if status.isdigit() else NOTHING
        tried.append(
            (
                names.gateway(address),
                int(names.is_group(address)),
                code,
                *(n for n in numbers if n is not None),
            )
        )
    return tried


def _ms(text: bytes) -> int | None:
    if text in (b"-", b""):
        return NOTHING
    return int(text.replace(b".", b"")) if SECONDS.fullmatch(text) else None


def slow_lines(block: Block, log: LogFormat, reader: LineReader, field: str, over_ms: int) -> list[tuple[int, bytes]]:
    """(milliseconds of `field`, line) of the good lines over `over_ms`; of several attempts the longest."""
    located = log.locate(block)
    if field in located.columns:
        ms = read_ms(block, located.columns[field])
        fast, odd = np.flatnonzero(ms > over_ms), np.flatnonzero(ms == ODD)
    else:
        ms, fast, odd = np.zeros(0, np.int64), np.zeros(0, np.int64), np.arange(len(located.lines[0]))
    start, end = located.lines
    found = list(zip(ms[fast].tolist(), _lines(block, (start[fast], end[fast])), strict=True))
    for line in _lines(block, (start[odd], end[odd])) + _lines(block, located.odd):
        values = [_ms(text) or NOTHING for text in SEPARATOR.split(reader(line)[1].get(field, b"-"))]
        if max(values) > over_ms:
            found.append((max(values), line))
    return found
