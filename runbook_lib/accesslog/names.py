"""What a log calls the gateways, and the numbers that stand for these names in columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from runbook_lib.accesslog.fields import NOTHING, Block, Ints, Span

PRIMARY, CANARY, OTHER, NONE = range(4)
GATEWAYS = ("primary", "canary", "other", "none")
"""`other` is an upstream that the caller did not name; `none` is a request that reached no gateway."""

TARGETS = {b"primary": PRIMARY, b"canary": CANARY, b"openclaw_primary": PRIMARY, b"openclaw_canary": CANARY}
TARGETS |= {b"-": NONE, b"": NONE}
LEARNED_COUNT = 64
LISTED_COUNT = 1000
LOOPBACK = re.compile(rb"(?:127\.0\.0\.1|\[::1\]|localhost|\[::ffff:127\.0\.0\.1\])(:\d+)")
ADDRESS = rb"(?:unix:/[^\s,]*|(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5})"
ADDRESSES = re.compile(rb"(?:-|" + ADDRESS + rb")(?:(?:, | : )(?:[\w.-]+|" + ADDRESS + rb"))*")
"""What nginx writes as $upstream_addr; in a list also the name of a group, where no server was live."""


class Names:
    """What a reader knows by name: the address of each gateway, and the revisions met so far."""

    def __init__(self, upstreams: Mapping[str, str]) -> None:
        self._group_of = {f"openclaw_{name}".encode(): name for name in GATEWAYS[:2]}
        known = {address.encode(): name for address, name in upstreams.items()}
        self._loopback = {_loopback(address): name for address, name in reversed(known.items())}
        self._gateway_of = {a: _code(name) for a, name in (self._group_of | known).items()}
        self.addresses = [*known, b"-", b"", *self._group_of]  # the likely ones first
        self.revisions: list[bytes] = []
        self.met: Counter[bytes] = Counter()
        """Attempts by address, where nobody named it."""

    def gateway(self, address: bytes) -> int:
        """The same port of this machine is the same gateway, however its address is written."""
        if address not in self._gateway_of:
            name = self._loopback.get(_loopback(address), "other")
            self._gateway_of[address] = NONE if address in (b"-", b"") else _code(name)
        return self._gateway_of[address]

    def meet(self, address: bytes, count: int) -> None:
        """Count attempts at an address that nobody named."""
        kept = address if address in self.met or len(self.met) < LISTED_COUNT else b"(others)"
        self.met[kept] += count

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
        fresh = [a for a in sorted(met) if ADDRESSES.fullmatch(a) and b" " not in a]
        self.addresses.extend(fresh := fresh[: max(LEARNED_COUNT - len(self.addresses), 0)])
        return bool(fresh)


def _loopback(address: bytes) -> bytes:
    return LOOPBACK.sub(rb"127.0.0.1\1", address)


def _code(gateway: str) -> int:
    return GATEWAYS.index(gateway) if gateway in GATEWAYS else OTHER
