"""A block of lines to rows, a column at a time; what is not like the others goes to lines.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runbook_lib.accesslog.fields import (
    ABSENT,
    NOTHING,
    ODD,
    PAD,
    Block,
    Ints,
    Mask,
    Span,
    read_int,
    read_ms,
    read_name,
    read_names,
    read_status,
)
from runbook_lib.accesslog.lines import LineReader, rows_of_lines
from runbook_lib.accesslog.names import LEARNED_COUNT, NONE, OTHER, TARGETS, Names
from runbook_lib.accesslog.rows import LATEST_MS, TIMES, Rows, Singles
from runbook_lib.accesslog.scan import Scanner
from runbook_lib.accesslog.times import read_times


def rows_of(block: Block, scanner: Scanner | None, reader: LineReader, names: Names) -> tuple[Rows, Singles]:
    """The rows of all lines of a block, and how its lines fared; without a scanner one by one."""
    if scanner is None:
        return rows_of_lines(block.text[PAD:-PAD].tobytes().split(b"\n"), reader, names)
    located = scanner.locate(block)
    rows, slow = _regular(block, located.columns, names)
    lines = lines_in(block, (located.lines[0][slow], located.lines[1][slow])) + lines_in(block, located.odd)
    singles = Singles()
    if lines:
        single, singles = rows_of_lines(lines, reader, names)
        rows = Rows.joined([rows, single])
    singles.regular_count = len(slow) - int(slow.sum())
    return rows, singles


def lines_in(block: Block, span: Span) -> list[bytes]:
    return [block.text[a:b].tobytes() for a, b in zip(span[0].tolist(), span[1].tolist(), strict=True)]


def _regular(block: Block, columns: Mapping[str, Span], names: Names) -> tuple[Rows, Mask]:
    """The rows of the regular lines with at most one attempt, and which lines must be read one by one."""
    at_ms = read_times(block, columns["msec"])
    count = len(at_ms)
    absent = np.full(count, ABSENT)

    def statuses(name: str) -> Ints:
        return read_status(block, columns[name]) if name in columns else absent

    def times(name: str) -> Ints:
        return read_ms(block, columns[name]) if name in columns else absent

    status, request_ms = statuses("status"), times("request_time")
    pid = read_int(block, columns["pid"]) if "pid" in columns else np.full(count, NOTHING)
    address, gateway, group, alone, unknown = _addresses(block, columns, names, count)
    a_status, (connect_ms, header_ms, response_ms) = statuses("upstream_status"), map(times, TIMES)
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
    for code in np.unique(address[asked & (gateway == OTHER)]).tolist():
        names.meet(names.addresses[code], int(np.count_nonzero(address[asked] == code)))
    served = gateway if "upstream_addr" in columns else absent
    requests = (at_ms, target, served, revision, status, request_ms)
    attempts = (at_ms, revision, pid, gateway, group, a_status, connect_ms, header_ms, response_ms)
    return Rows(*_picked(requests, keep), *_picked(attempts, asked)), slow


def _picked(columns: Sequence[Ints], mask: Mask) -> Sequence[Ints]:
    rows = np.flatnonzero(mask)
    return columns if len(rows) == len(mask) else [column.take(rows) for column in columns]


def _addresses(
    block: Block, columns: Mapping[str, Span], names: Names, count: int
) -> tuple[Ints, Ints, Ints, Mask, Mask]:
    """Each line's only address, its gateway and group, whether it has one, and which need a closer look."""
    if "upstream_addr" not in columns:
        none = np.zeros(count, bool)
        return np.full(count, NOTHING), np.full(count, NONE), np.zeros(count, np.int64), none, none
    span = columns["upstream_addr"]
    code = read_name(block, span, names.addresses)
    if (code == NOTHING).any() and names.learn_addresses(block, span, code):
        code = read_name(block, span, names.addresses)
    gateways = np.array([names.gateway(a) for a in names.addresses])
    groups = np.array([int(names.is_group(a)) for a in names.addresses])
    unknown = code == NOTHING
    gateway = gateways[code]
    return code, gateway, groups[code], ~unknown & (gateway != NONE), unknown
