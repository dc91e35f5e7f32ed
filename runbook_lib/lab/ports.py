"""The ports of a practice Mac: a block of its own, claimed by a socket that stays bound while it is up."""

from __future__ import annotations

import errno
import random
import socket
from dataclasses import dataclass

from runbook_lib.lab.layout import LabError

BLOCK = 200  # OpenClaw's docs ask for 120 between the base ports of two gateways
LOWEST, HIGHEST = 20_000, 32_000  # below 32768, where Linux takes the ports of outgoing connections from
TRIES = 60
UNAVAILABLE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # no IPv6 here, as in many containers


@dataclass(frozen=True)
class Ports:
    """base+0 channel, registry | +1 ssh | +2 nginx | +3 probe | +4 another site | +10 primary | +150 canary"""

    base: int

    @property
    def outside(self) -> int:
        return self.base

    @property
    def ssh(self) -> int:
        return self.base + 1

    @property
    def https(self) -> int:
        return self.base + 2

    @property
    def probe(self) -> int:
        return self.base + 3

    @property
    def neighbour(self) -> int:
        return self.base + 4

    @property
    def primary(self) -> int:
        return self.base + 10

    @property
    def canary(self) -> int:
        return self.base + 150

    def all(self) -> tuple[int, ...]:
        return (self.outside, self.ssh, self.https, self.probe, self.neighbour, self.primary, self.canary)


def claim(base: int | None = None) -> tuple[Ports, socket.socket]:
    """A free block and the listening socket that claims it: two labs that start at once get two blocks.

    Free ports found by binding to 0 come from the range of outgoing connections: the canary's, which
    nobody listens on until step 4, would be taken by the lab's own traffic now and then.
    """
    for _ in range(1 if base else TRIES):
        ports = Ports(base or random.randrange(LOWEST, HIGHEST, BLOCK))
        listener = _listener(ports.outside)
        if listener is None:
            continue
        if base or all(_is_free(port) for port in ports.all()[1:]):
            return ports, listener
        listener.close()
    raise LabError(
        f"port {base} is taken" if base else f"no block of {BLOCK} free ports between {LOWEST} and {HIGHEST}"
    )


def _listener(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
    except OSError:
        listener.close()
        return None
    return listener


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if not (family == socket.AF_INET6 and error.errno in UNAVAILABLE):
                    return False
    return True
