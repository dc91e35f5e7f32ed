"""The way to the Mac as ssh_config has it: jump hosts first, one connection through the other, host keys pinned.

Each hop has its own `ssh -G`, as `ssh -J` has it: the first is reached by its own ProxyJump or ProxyCommand, the others
through the one before.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from itertools import pairwise

import paramiko

from runbook_lib.errors import HostUnreachable, RouteRefused
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.login import HUNG_UP, LOST, log_in
from runbook_lib.ssh.settings import EXCEPT_IT, Address, Settings, ask, by_hand
from runbook_lib.ssh.transport import Transport

AGAIN = "run the step again: it asks the Mac first what was done"

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it would print is raised, in our words


def connect(section: HostSection, closing: ExitStack) -> tuple[paramiko.Transport, list[str]]:
    """The connection to the Mac, and what is to be said of the way there; `closing` gets all connections.

    Raises RouteRefused where ssh refuses its configuration, HostUnreachable and HostKeyRefused with the hop to blame.
    """
    hops = _way(section, Address(section.alias))
    notes: list[str] = []
    transport = log_in(section, hops[0], None, closing, notes)
    for previous, hop in pairwise(hops):
        transport = log_in(section, hop, _tunnel(section, transport, previous, hop), closing, notes)
    return transport, notes


def hang_up(channel: paramiko.Channel) -> None:
    """Close a channel; over a connection that is gone there is nobody to tell."""
    with suppress(*LOST):
        channel.close()


def _tunnel(section: HostSection, transport: Transport, previous: Settings, hop: Settings) -> paramiko.Channel:
    """A TCP connection to a hop from the one before it."""
    try:
        channel: paramiko.Channel = transport.open_channel(
            "direct-tcpip", (hop.hostname, hop.port), ("127.0.0.1", 0), timeout=section.connect_timeout_s
        )
        return channel
    except LOST as error:
        why = str(error) or HUNG_UP
        raise HostUnreachable(
            section.alias,
            f"{previous.alias} cannot reach {hop.place} within {section.connect_timeout_s:g} s ({why})",
            f"try: {by_hand(section)}",
        ) from None


def _way(section: HostSection, address: Address, seen: tuple[Address, ...] = ()) -> list[Settings]:
    """Every host on the way, in the order in which they are connected; the last is the Mac."""
    if address in seen:
        names = " to ".join(one.host for one in (*seen, address))
        raise RouteRefused(section.alias, f"host.ssh_config: its ProxyJump goes in a circle, {names}", EXCEPT_IT)
    hop = ask(section, address)
    jumps = [Address.parse(jump) for jump in hop.one("proxyjump").split(",") if jump]
    if not jumps:
        return [hop]
    first, *others = jumps
    return [*_way(section, first, (*seen, address)), *(ask(section, other) for other in others), hop]
