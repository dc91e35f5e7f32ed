"""Lines of a log as columns: one row a request, and one row an attempt at a gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from runbook_lib.accesslog.fields import Ints

LATEST_MS = 2**32 * 1000  # a tick must fit into 32 bits: until the year 2106
TIMES = ("upstream_connect_time", "upstream_header_time", "upstream_response_time")


@dataclass
class Rows:
    """Columns of int64; times in whole milliseconds, NOTHING where the log has `-`, ABSENT where it has no such field.

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
    notes: Counter[str] = field(default_factory=Counter)
    """What was not read of these lines, and why."""
    unparsed: list[bytes] = field(default_factory=list)
