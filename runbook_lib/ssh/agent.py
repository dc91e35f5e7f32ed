"""The keys of an ssh-agent: the one that ssh_config's IdentityAgent names, or SSH_AUTH_SOCK's."""

from __future__ import annotations

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from runbook_lib.ssh.settings import Settings

APPROVAL_S = 60  # an agent may ask its owner before each signature: 1Password, Secretive


def keys_of(hop: Settings, limit_s: float, closing: ExitStack) -> tuple[list[AgentKey], str]:
    """The agent's keys, and what is to be said where a named agent gives none."""
    path, named = _socket_of(hop)
    if not path:
        return [], ""
    try:
        connection = closing.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(limit_s)
        connection.connect(path)
        agent: Any = AgentSSH()  # paramiko's own asks only SSH_AUTH_SOCK
        agent._connect(connection)
        keys: list[AgentKey] = [*agent.get_keys()]
        connection.settimeout(APPROVAL_S)
    except FileNotFoundError:
        return [], f"{named}: there is no agent at {path}"
    except (paramiko.SSHException, OSError) as error:
        return [], f"{named}: the agent at {path} does not answer ({_why(path, error)})"
    return keys, "" if keys else f"{named}: the agent at {path} holds no key; unlock it, or ssh-add KEY"


def _socket_of(hop: Settings) -> tuple[str, str]:
    """The agent's socket, empty where none is to be asked, and where its name stands."""
    asked = hop.values.get("identityagent", ["SSH_AUTH_SOCK"])[0]
    if asked.lower() == "none":
        return "", ""
    if asked == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", ""), asked
    if variable := re.fullmatch(r"\$(\w+)", asked):
        return os.environ.get(variable[1], ""), f"IdentityAgent {asked}"
    return hop.filled(asked), "IdentityAgent"


def _why(path: str, error: Exception) -> str:
    if Path(path).exists() and not Path(path).is_socket():
        return "it is no socket"
    return getattr(error, "strerror", None) or str(error) or "it hung up"
