"""One login: the host's key checked, the user's keys offered, and why nobody was let in."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import Any

import paramiko

from runbook_lib.errors import HostUnreachable
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh import agent, cannot
from runbook_lib.ssh.host_keys import HostKeys, is_loopback
from runbook_lib.ssh.identities import Identities, Identity
from runbook_lib.ssh.proxy_command import ProxyCommand
from runbook_lib.ssh.settings import USUAL_CONFIG, Settings, by_hand
from runbook_lib.ssh.transport import ABLE, Transport

KEEPALIVE_S = 15
LOST = (paramiko.SSHException, EOFError, OSError)  # what paramiko raises where a connection is gone
HUNG_UP = "it hung up"  # paramiko's EOFError has no words
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


def log_in(section: HostSection, hop: Settings, through: Any, closing: ExitStack, notes: list[str]) -> Transport:
    """A connection to one host, through the one before it if there is one; `closing` gets it, `notes` what to say.

    Raises HostUnreachable and HostKeyRefused.
    """
    with ExitStack() as undone:
        sock = through or _reached(section, hop, undone)
        known = HostKeys(section, hop, loopback=isinstance(sock, socket.socket) and is_loopback(sock.getpeername()[0]))
        limit_s = section.connect_timeout_s
        try:
            transport = Transport(sock, known.algorithms(ABLE), limit_s)
            undone.callback(transport.close)
            if lacking := transport.choose(hop):
                raise HostUnreachable(
                    section.alias,
                    f"{hop.alias} allows nothing that can be used here: {'; '.join(lacking)}",
                    "allow one",
                )
            key = transport.negotiate()
        except LOST as error:
            raise _no_connection(section, hop, sock, error) from None
        known.check(key)
        notes += known.notes
        _let_in(section, hop, transport)
        transport.set_keepalive(KEEPALIVE_S)
        closing.push(undone.pop_all())
    return transport


def _reached(section: HostSection, hop: Settings, closing: ExitStack) -> socket.socket | ProxyCommand:
    """A socket to the host: its ProxyCommand, or TCP."""
    if hop.one("proxycommand"):
        if said := [limit for limit in cannot.in_the_way(hop, "connection") if "Fdpass" in limit]:
            raise HostUnreachable(section.alias, f"{hop.alias}: {said[0]}", "change it in ssh_config")
        command = ProxyCommand(hop)
        closing.callback(command.close)
        return command
    family = FAMILIES.get(hop.one("addressfamily"), socket.AF_UNSPEC)
    try:
        found = socket.getaddrinfo(hop.hostname, hop.port, family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise HostUnreachable(section.alias, *_nameless(section, hop, error)) from None
    refused: OSError = OSError(f"{hop.hostname} has no address")
    for kind, _, _, _, address in found:
        sock = socket.socket(kind, socket.SOCK_STREAM)
        try:
            sock.settimeout(section.connect_timeout_s)
            if source := hop.one("bindaddress"):
                sock.bind((source, 0))
            sock.connect(address)
        except OSError as error:
            sock.close()
            refused = error
        else:
            closing.callback(sock.close)
            return sock
    raise _no_connection(section, hop, None, refused)


def _nameless(section: HostSection, hop: Settings, error: Exception) -> tuple[str, str]:
    """What is said of a name that has no address: most often an alias that no Host of the ssh_config has."""
    why = f"no SSH connection to {hop.place}: {getattr(error, 'strerror', None) or error}"
    if hop.hostname != hop.alias.lower():
        return why, f"look at HostName of {hop.alias} in {section.ssh_config}, and at this machine's own network"
    where = "host.alias" if hop.alias == section.alias else "ProxyJump"
    files = section.ssh_config if section.ssh_config != USUAL_CONFIG else f"{USUAL_CONFIG} and /etc/ssh/ssh_config"
    return f"{why}; {files} has no HostName for {where} {hop.alias}", f"write Host {hop.alias} with a HostName there"


def _no_connection(section: HostSection, hop: Settings, sock: Any, error: Exception) -> HostUnreachable:
    why, way = str(error) or HUNG_UP, ""
    if isinstance(sock, ProxyCommand):
        why, way = sock.last_words or why, f" through its ProxyCommand {sock.command!r}"
    others = "".join(f"; {one}" for one in cannot.in_the_way(hop, "connection"))
    return HostUnreachable(
        section.alias,
        f"no SSH connection to {hop.place}{way} within {section.connect_timeout_s:g} s ({why}){others}",
        f"try: {by_hand(section, host=hop.address)}",
    )


def _let_in(section: HostSection, hop: Settings, transport: Transport) -> None:
    """Offer key after key until the host has enough. Raises HostUnreachable with all that was tried."""
    with ExitStack() as asking:
        held, said = agent.keys_of(hop, section.connect_timeout_s, asking)
        identities = Identities(hop, held)
        offered: list[str] = []
        needed: list[str] = []
        why = ""
        try:
            for identity in identities.in_order() if hop.says("pubkeyauthentication") else ():
                if not transport.may_offer(identity.key):
                    kind = identity.key.get_name()
                    identities.unusable.append(f"{identity.name} is {kind}, which PubkeyAcceptedAlgorithms leaves out")
                    continue
                offered.append(identity.name)
                try:
                    needed = _offer(transport, hop.user, identity)
                except paramiko.BadAuthenticationType as error:
                    needed = error.allowed_types
                    break
                except paramiko.AuthenticationException:
                    if not transport.is_active():
                        raise
                except LOST as error:
                    if not transport.is_active():
                        raise
                    identities.unusable.append(f"{identity.name} did not sign ({error or HUNG_UP})")
                if transport.is_authenticated():
                    return
                if needed and "publickey" not in needed:
                    break
            transport.auth_none(hop.user)  # some let in whoever comes by their own network; it says what is wanted
            return
        except paramiko.BadAuthenticationType as error:
            needed = needed or error.allowed_types
        except LOST as error:
            why = f"; {error or HUNG_UP}" if str(error) != "Authentication failed." else ""
        raise HostUnreachable(
            section.alias,
            f"{hop.place} refused user {hop.user!r}: it was offered {', '.join(offered) or 'no key'}"
            + (f", and wants {' or '.join(needed)}" if needed and "publickey" not in needed else "")
            + why
            + "".join(f"; {one}" for one in [*([said] if said else []), *identities.unusable]),
            _advice(section, hop, offered),
        )


def _offer(transport: Transport, user: str, identity: Identity) -> list[str]:
    """Log in with one key; returns what else the host wants. Raises AuthenticationException where it is refused."""
    if identity.is_held and not transport.wants(user, identity.key):
        raise paramiko.AuthenticationException
    return list(transport.auth_publickey(user, identity.key))


def _advice(section: HostSection, hop: Settings, offered: list[str]) -> str:
    typed = by_hand(section, "true", host=hop.address, options=("-o", "BatchMode=yes"))
    others = cannot.in_the_way(hop, "login")
    if "SSH_AUTH_SOCK" not in os.environ and not offered:
        others.append("SSH_AUTH_SOCK is not set where this runs")
    beside = f" ({'; '.join(others)})" if others else ""
    return f"check the key or agent; {typed} says what ssh makes of it{beside}"
