"""HTTP whose connections leave from the Mac: each one a channel of the SSH connection.

What fails behind that connection is httpx's own error. That the connection itself is gone says nothing of a gateway:
it is ConnectionLost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import httpcore
import httpx
import paramiko

from runbook_lib.errors import ConnectionLost, HostUnreachable
from runbook_lib.ssh.login import LOST
from runbook_lib.ssh.route import AGAIN, hang_up

FORBIDDEN = 1  # RFC 4254, 5.1: SSH_OPEN_ADMINISTRATIVELY_PROHIBITED


class Tunnel(httpcore.NetworkBackend):
    """Connections from the Mac. `answers` says whether its SSH connection still does."""

    def __init__(self, transport: paramiko.Transport, host: str, answers: Callable[[], bool]) -> None:
        self._transport, self._host, self._answers = transport, host, answers

    def client(self, base_url: str, timeout_s: float) -> httpx.Client:
        """A client of `base_url` as the Mac sees it; what cannot be reached from there is httpx.ConnectError.

        Requests raise ConnectionLost, and HostUnreachable where the Mac's sshd forwards nothing.
        """
        through = httpx.HTTPTransport()
        through._pool = httpcore.ConnectionPool(network_backend=self, max_connections=8)
        return httpx.Client(base_url=base_url, transport=through, timeout=timeout_s, trust_env=False)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            channel = self._transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout)
        except LOST as error:
            if not isinstance(error, paramiko.ChannelException):  # which is an answer
                self.check(error)
            elif error.code == FORBIDDEN:
                raise HostUnreachable(
                    self._host,
                    f"its sshd forwards nothing to {host}:{port} ({error.text})",
                    "allow it for this user in its sshd_config: AllowTcpForwarding local",
                ) from None
            raise httpcore.ConnectError(f"from {self._host} to {host}:{port}: {error}") from error
        return _Stream(self, channel)

    def check(self, error: Exception | None = None) -> None:
        """Raises ConnectionLost where it is the SSH connection that ended, and not what it led to."""
        if not self._answers():
            raise ConnectionLost(self._host, "the connection was lost while HTTP went through it", AGAIN) from error


class _Stream(httpcore.NetworkStream):
    def __init__(self, tunnel: Tunnel, channel: paramiko.Channel) -> None:
        self._tunnel, self._channel = tunnel, channel

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._channel.settimeout(timeout)
        try:
            data = self._channel.recv(max_bytes)
        except LOST as error:  # what was read is acknowledged, and that may not be sent any more
            self._tunnel.check(error)
            raise _as(httpcore.ReadTimeout, httpcore.ReadError, error) from error
        if not data and not self._channel.eof_received:
            self._tunnel.check()
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._channel.settimeout(timeout)
        try:
            self._channel.sendall(buffer)
        except LOST as error:
            self._tunnel.check(error)
            raise _as(httpcore.WriteTimeout, httpcore.WriteError, error) from error

    def close(self) -> None:
        hang_up(self._channel)

    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable":
            return None
        return self._channel.recv_ready() or self._channel.eof_received or self._channel.closed


def _as(late: type[Exception], broken: type[Exception], error: Exception) -> Exception:
    return (late if isinstance(error, TimeoutError) else broken)(str(error))
