"""What a log calls the gateways, and the numbers that stand for these names in columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from runbook_lib.accesslog.fields import NOTHING, Block, Ints, Span

PRIMARY, CANARY, OTHER, NONE = range(4)
GATEWAYS = ("primary", "canary", "other", "none")
"""`other` is an upstream that the caller did not name; `none` is a request that reached no gateway."""

TARGETS = {b"primary": PRIMARY, b"canary": CANARY, b"openclaw_primary": PRIMARY, b"openclaw_canary": CANARY}
TARGETS |= {b"-": NONE, b"": NONE}
LEARNED_COUNT = 64


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
