"""paramiko's connection, taught three things that ssh does.

It asks for exactly the algorithms that it is told. It asks whether a key is wanted before an agent has to sign, since
an agent may ask its owner. And its waits end where the connection does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.transport import ServiceRequestingTransport

from runbook_lib.ssh.settings import Settings

SERVICE_REQUEST, USERAUTH_REQUEST, PK_OK = 5, 50, 60  # RFC 4250, 4.1; RFC 4252, 7
_Base: Any = ServiceRequestingTransport  # what is used of these two is not in paramiko's types
_BaseLogin: Any = AuthOnlyHandler
ABLE: list[str] = [*_Base._key_info]
RSA = ("rsa-sha2-512", "rsa-sha2-256")
CHOSEN = {  # ssh_config's name, and what paramiko calls it and can do
    "Ciphers": ("ciphers", _Base._cipher_info),
    "MACs": ("macs", _Base._mac_info),
    "KexAlgorithms": ("kex", _Base._kex_info),
}


class Transport(_Base):  # type: ignore[misc]
    """One SSH connection."""

    def __init__(self, sock: Any, host_keys: list[str], limit_s: float) -> None:
        super().__init__(sock)
        self._host_keys, self._limit_s = tuple(host_keys), limit_s
        self._accepted = threading.Event()
        self.banner_timeout = self.handshake_timeout = self.auth_timeout = limit_s

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        return self._host_keys

    def choose(self, hop: Settings) -> list[str]:
        """Take ssh_config's algorithms, as many as there are here; returns the settings of which there are none."""
        lacking = []
        for name, (kind, able) in CHOSEN.items():
            wanted = hop.algorithms(name.lower())
            setattr(self, f"_preferred_{kind}", tuple(found := [one for one in wanted if one in able]))
            if not found:
                lacking.append(f"{name} {','.join(wanted)} (here: {', '.join(able)})")
        self._accepted_keys = hop.algorithms("pubkeyacceptedalgorithms")
        self.disabled_algorithms = {"pubkeys": [name for name in ABLE if name not in self._accepted_keys]}
        self.use_compression(hop.says("compression"))
        return lacking

    def negotiate(self) -> paramiko.PKey:
        """The handshake; returns the host's key, which nobody has checked yet. Raises SSHException, EOFError."""
        self.start_client(timeout=self._limit_s)
        if not self.initial_kex_done:
            raise paramiko.SSHException("it does not answer")
        key: paramiko.PKey = self.get_remote_server_key()
        return key

    def ensure_session(self) -> None:
        if self._accepted.is_set():
            return
        message = paramiko.Message()
        message.add_byte(bytes([SERVICE_REQUEST]))
        message.add_string("ssh-userauth")
        self._send_message(message)
        for _ in range(int(self._limit_s * 10) + 1):
            if self._accepted.wait(0.1):
                break
            if not self.is_active():
                raise self.get_exception() or EOFError()
        else:
            raise paramiko.SSHException("it answers no login")
        self.auth_handler = _Login(self)

    def _parse_service_accept(self, message: paramiko.Message) -> None:
        self._accepted.set()

    def may_offer(self, key: paramiko.PKey) -> bool:
        """Whether ssh_config's PubkeyAcceptedAlgorithms has one for this key."""
        kind = key.public_blob.key_type if key.public_blob is not None else key.get_name()
        rsa = [kind.replace("ssh-rsa", name) for name in RSA]
        return any(name in self._accepted_keys for name in (rsa if kind.startswith("ssh-rsa") else [kind]))

    def wants(self, user: str, key: paramiko.PKey) -> bool:
        """Whether the host would let the user in with this key; nothing is signed."""
        self.ensure_session()
        login: _Login = self.auth_handler
        return login.wants(user, key)


class _Login(_BaseLogin):  # type: ignore[misc]
    wanted = False

    @property
    def _client_handler_table(self) -> dict[int, Callable[..., None]]:
        return {**super()._client_handler_table, PK_OK: self._is_wanted}

    def _is_wanted(self, message: paramiko.Message) -> None:
        self.wanted = True
        self.auth_event.set()

    def wants(self, user: str, key: paramiko.PKey) -> bool:
        kind, bits = self._get_key_type_and_bits(key)
        algorithm = self._finalize_pubkey_algorithm(kind)

        def finish(message: paramiko.Message) -> None:
            message.add_boolean(False)
            message.add_string(algorithm)
            message.add_string(bits)

        self.wanted = False
        try:
            self.send_auth_request(user, "publickey", finish)
        except paramiko.AuthenticationException:
            if not self.wanted:
                raise
        return self.wanted

    def send_auth_request(
        self, username: str, method: str, finish_message: Callable[[paramiko.Message], None] | None = None
    ) -> list[str]:
        """As paramiko's, but it listens before it speaks, and a request may be without more words."""
        self.auth_method, self.username = method, username
        self.transport.saved_exception = None
        message = paramiko.Message()
        message.add_byte(bytes([USERAUTH_REQUEST]))
        for word in (username, "ssh-connection", method):
            message.add_string(word)
        if finish_message is not None:
            finish_message(message)
        self.auth_event = threading.Event()
        with self.transport.lock:
            self.transport._send_message(message)
        answer: list[str] = self.wait_for_response(self.auth_event)
        return answer
