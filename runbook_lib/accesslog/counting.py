"""Rows to counts: which request or attempt counts as what, in which window and tick.

Times are those of attempts at a gateway, and of whole requests by the gateway they were meant for:

    connect      only connects of at least 1 ms: a reused connection logs 0 and is counted apart
    header       until the first byte of an answer
    response     until the last byte, where there was a header, or the log does not say
    waited       how long an attempt went without a header after it had connected, until somebody gave up
    request      all that nginx knows of the request
    long_lived   requests with status 101, or of over ten minutes: neither in response nor in request
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from runbook_lib.accesslog.fields import ABSENT, NOTHING, Ints
from runbook_lib.accesslog.names import GATEWAYS, NONE, Names
from runbook_lib.accesslog.rows import Rows
from runbook_lib.accesslog.tally import Cells, Group

TOTALS = (
    "requests",  # meant for this gateway
    "started",  # the same, in the tick in which they began
    "answers_5xx",  # what the client saw, by the gateway it was meant for
    "aborted_499",
    "upgraded_101",
    "taken_over",  # meant for this gateway, the last attempt was at another one
    "own_5xx",  # nginx answered by itself and asked no gateway
    "attempts",  # at this gateway
    "attempts_5xx",
    "failed_connects",
    "no_live",  # nginx found no live upstream in the group
    "unanswered",  # connected, but the client gave up before a header came
    "zero_connects",  # logged as 0 ms: a reused connection, or a connect under half a millisecond
)
LONG_LIVED_MS = 600_000


def tick_of(window_s: int) -> int:
    """The longest tick that divides a window into 60 parts or more, at least one second."""
    return next(s for s in range(max(1, window_s // 60), 0, -1) if window_s % s == 0)


Part = tuple[str, Group, Ints, Ints]


def parts_of(rows: Rows, names: Names, window_s: int) -> Iterator[Part]:
    """(table, group, values, counts) of some rows: what a LogCounts is made of."""
    revisions = [name.decode("ascii", "backslashreplace") or "-" for name in names.revisions]
    window, a_window = rows.at_ms // (window_s * 1000), rows.a_at_ms // (window_s * 1000)
    by_request = Cells.of((window, rows.revision, rows.target))
    by_attempt = Cells.of((a_window, rows.a_revision, rows.a_gateway))
    by_worker = Cells.of((a_window, rows.a_revision, rows.a_pid, rows.a_gateway))
    answered, unanswered, connected = rows.a_header_ms >= 0, rows.a_header_ms == NOTHING, rows.a_connect_ms >= 0
    lasting = (rows.status == 101) | (rows.request_ms > LONG_LIVED_MS)
    responded = answered | ((rows.a_header_ms == ABSENT) & (rows.a_connect_ms != NOTHING))
    responded &= (rows.a_response_ms >= 0) & (rows.a_status != 101) & (rows.a_response_ms <= LONG_LIVED_MS)
    measured = (
        ("connect", by_attempt, rows.a_connect_ms, rows.a_connect_ms > 0),
        ("header", by_attempt, rows.a_header_ms, answered),
        ("response", by_attempt, rows.a_response_ms, responded),
        ("waited", by_attempt, rows.a_response_ms, unanswered & connected & (rows.a_response_ms >= 0)),
        ("request", by_request, rows.request_ms, ~lasting & (rows.request_ms >= 0)),
        ("long_lived", by_request, rows.request_ms, lasting & (rows.request_ms >= 0)),
    )
    for metric, cells, ms, mask in measured:
        for (start, revision, gateway), values, counts in cells.histograms(ms, mask):
            yield "times", (start * window_s, revisions[revision], GATEWAYS[gateway], metric), values, counts
    for (start, revision, pid, gateway), values, counts in by_worker.histograms(
        two_digits(rows.a_response_ms), responded & (rows.a_pid >= 0)
    ):
        yield "workers", (start * window_s, revisions[revision], pid, GATEWAYS[gateway]), values, counts
    yield from _ticks(rows, revisions, tick_of(window_s) * 1000)


def _ticks(rows: Rows, revisions: list[str], tick_ms: int) -> Iterator[Part]:
    alone, asked = rows.served == NONE, rows.a_group == 0
    connected, unanswered = rows.a_connect_ms >= 0, rows.a_header_ms == NOTHING
    requests = Cells.of((rows.revision, rows.target, rows.at_ms // tick_ms))
    starts = Cells.of((rows.revision, rows.target, (rows.at_ms - np.maximum(rows.request_ms, 0)) // tick_ms))
    attempts = Cells.of((rows.a_revision, rows.a_gateway, rows.a_at_ms // tick_ms))
    counted = (
        (requests, "requests", None),
        (starts, "started", None),
        (requests, "answers_5xx", rows.status >= 500),
        (requests, "aborted_499", rows.status == 499),
        (requests, "upgraded_101", rows.status == 101),
        (requests, "taken_over", (rows.served != rows.target) & (rows.served >= 0) & ~alone & (rows.target != NONE)),
        (requests, "own_5xx", alone & (rows.status >= 500)),
        (attempts, "attempts", None),
        (attempts, "attempts_5xx", rows.a_status >= 500),
        (attempts, "failed_connects", asked & (rows.a_connect_ms == NOTHING) & (rows.a_status >= 0)),
        (attempts, "no_live", ~asked),
        (attempts, "unanswered", connected & unanswered & (rows.a_status == NOTHING)),
        (attempts, "zero_connects", rows.a_connect_ms == 0),
    )
    groups = {id(cells): cells.groups() for cells, _, _ in counted}
    for cells, what, mask in counted:
        if mask is not None and not mask.any():
            continue
        every = cells.count(mask)
        for (revision, gateway), place in groups[id(cells)]:
            found = np.flatnonzero(every[place])
            if len(found):
                group = (revisions[revision], GATEWAYS[gateway], what)
                yield "ticks", group, cells.table[-1][place][found], every[place][found]


TWO_DIGITS = np.array([n if n < 100 else n // 10 * 10 if n < 1000 else n // 100 * 100 for n in range(10_000)])


def two_digits(ms: Ints) -> Ints:
    """Cut to the two leading digits: 0 to 99 as they are, 1234 becomes 1200."""
    cut = TWO_DIGITS[np.clip(ms, 0, len(TWO_DIGITS) - 1)]
    large = np.flatnonzero(ms >= len(TWO_DIGITS))
    if len(large):
        step = 10 ** np.floor(np.log10(ms[large]) - 1).astype(np.int64)
        cut[large] = ms[large] // step * step
    return cut
