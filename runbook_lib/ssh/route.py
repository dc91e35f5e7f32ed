"""The way to the Mac as ssh_config has it: jump hosts first, one connection through the other, host keys pinned."""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import paramiko

from runbook_lib.errors import ConnectionLost, HostKeyRefused, HostUnreachable
from runbook_lib.plan.models import HostSection

KEEPALIVE_S = 15
LOST = (paramiko.SSHException, EOFError, OSError)  # what paramiko raises where a connection is gone
AGAIN = "run the step again: it asks the Mac first what was done"
HUNG_UP = "it hung up"  # paramiko's EOFError has no words

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it would print is raised, in our words


@dataclass(frozen=True)
class _Hop:
    """One host on the way, the Mac included, with what the ssh_config says of it."""

    alias: str
    address: str
    port: int
    user: str | None
    options: Any

    @property
    def known_hosts(self) -> list[str]:
        return str(self.options.get("userknownhostsfile", "~/.ssh/known_hosts")).split()


def connect(section: HostSection, closing: ExitStack) -> paramiko.Transport:
    """The connection to the Mac; `closing` gets it and those it goes through.

    Raises HostUnreachable, HostKeyRefused and ConnectionLost, each with the hop that is to blame.
    """
    config_file = Path(section.ssh_config).expanduser()
    config = paramiko.SSHConfig.from_path(str(config_file)) if config_file.is_file() else paramiko.SSHConfig()
    hops = _route(config, section.alias)
    transport = _log_in(section, hops[0], None, closing)
    for previous, hop in pairwise(hops):
        transport = _log_in(section, hop, _tunnel(section, transport, previous, hop), closing)
    return transport


def hang_up(channel: paramiko.Channel) -> None:
    """Close a channel; over a connection that is gone there is nobody to tell."""
    with suppress(*LOST):
        channel.close()


def _log_in(
    section: HostSection, hop: _Hop, through: paramiko.Channel | None, closing: ExitStack
) -> paramiko.Transport:
    options, address, port = hop.options, hop.address, hop.port
    if "proxycommand" in options:
        raise HostUnreachable(
            section.alias, f"{hop.alias} has a ProxyCommand, which is not read here", "write a ProxyJump instead"
        )
    client = paramiko.SSHClient()
    closing.callback(client.close)
    for file in (Path(name).expanduser() for name in hop.known_hosts):
        if file.is_file():
            client.load_host_keys(str(file))
    keys: Any = [file for file in options.get("identityfile", []) if Path(file).is_file()]
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.connect(
            address,
            port=port,
            username=hop.user,
            key_filename=keys,
            sock=through,
            timeout=section.connect_timeout_s,
            banner_timeout=section.connect_timeout_s,
            auth_timeout=section.connect_timeout_s,
            allow_agent=options.get("identitiesonly", "no") != "yes",
            look_for_keys="identityfile" not in options,  # as ssh does: ~/.ssh/id_*
        )
    except paramiko.BadHostKeyException as error:
        raise HostKeyRefused(
            section.alias,
            f"{address}:{port} shows another host key ({error.key.fingerprint}) than {' '.join(hop.known_hosts)} holds "
            f"({error.expected_key.fingerprint})",
            "ask the hoster whether the Mac was reinstalled before you replace the key",
        ) from None
    except paramiko.AuthenticationException as error:
        raise HostUnreachable(
            section.alias, f"{address}:{port} refused user {hop.user!r}: {error}", "check the key or agent"
        ) from None
    except LOST as error:
        if "not found in known_hosts" in (why := str(error) or HUNG_UP):
            raise HostKeyRefused(
                section.alias,
                f"the host key of {address}:{port} is not in {' '.join(hop.known_hosts)}",
                "compare its fingerprint with the hoster's, then: "
                f"ssh-keyscan -p {port} {address} >> {hop.known_hosts[0]}",
            ) from None
        raise HostUnreachable(
            section.alias,
            f"no SSH connection to {address}:{port} within {section.connect_timeout_s:g} s ({why})",
            f"try: ssh -F {section.ssh_config} {hop.alias}",
        ) from None
    if (transport := client.get_transport()) is None:
        raise ConnectionLost(section.alias, f"{hop.alias} closed the connection at once", "try again")
    transport.set_keepalive(KEEPALIVE_S)
    return transport


def _tunnel(section: HostSection, transport: paramiko.Transport, previous: _Hop, hop: _Hop) -> paramiko.Channel:
    """A TCP connection to a hop from the one before it."""
    try:
        return transport.open_channel(
            "direct-tcpip", (hop.address, hop.port), ("127.0.0.1", 0), timeout=section.connect_timeout_s
        )
    except LOST as error:
        why = str(error) or HUNG_UP
        raise HostUnreachable(
            section.alias,
            f"{previous.alias} cannot reach {hop.address}:{hop.port} within {section.connect_timeout_s:g} s ({why})",
            f"try: ssh -F {section.ssh_config} {section.alias}",
        ) from None


def _hop(config: paramiko.SSHConfig, spec: str) -> _Hop:
    """`[user@]host[:port]`, as in ProxyJump, with what the ssh_config says of that host."""
    user, _, rest = spec.strip().removeprefix("ssh://").rpartition("@")
    alias, _, port = rest.partition(":")
    options = config.lookup(alias)
    return _Hop(
        alias, options["hostname"], int(port or options.get("port", "22")), user or options.get("user"), options
    )


def _route(config: paramiko.SSHConfig, spec: str, seen: tuple[str, ...] = ()) -> list[_Hop]:
    """Every host on the way, in the order in which they are connected; the last is the Mac."""
    hop = _hop(config, spec)
    jumps = [jump for jump in hop.options.get("proxyjump", "none").split(",") if jump.strip().lower() != "none"]
    if not jumps or hop.alias in seen:
        return [hop]
    first, *others = jumps
    if _hop(config, first).alias in (*seen, hop.alias):  # `Host *` with a ProxyJump means all but the jump host
        return [hop]
    return [*_route(config, first, (*seen, hop.alias)), *(_hop(config, other) for other in others), hop]
