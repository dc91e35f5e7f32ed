"""HTTP whose connections leave from the Mac: each one a channel of the SSH connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpcore
import httpx
import paramiko

from runbook_lib.ssh.route import LOST, hang_up


def client(transport: paramiko.Transport, host: str, base_url: str, timeout_s: float) -> httpx.Client:
    """A client of `base_url` as `host` sees it; what cannot be reached from there is httpx.ConnectError."""
    through = httpx.HTTPTransport()
    through._pool = httpcore.ConnectionPool(network_backend=_ThroughSSH(transport, host), max_connections=8)
    return httpx.Client(base_url=base_url, transport=through, timeout=timeout_s, trust_env=False)


class _ThroughSSH(httpcore.NetworkBackend):
    def __init__(self, transport: paramiko.Transport, host: str) -> None:
        self._transport, self._host = transport, host

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
            raise httpcore.ConnectError(f"from {self._host} to {host}:{port}: {error}") from error
        return _ChannelStream(channel)


class _ChannelStream(httpcore.NetworkStream):
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._channel.settimeout(timeout)
        try:
            return self._channel.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except LOST as error:  # what was read is acknowledged, and that is sent
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._channel.settimeout(timeout)
        try:
            self._channel.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except LOST as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        hang_up(self._channel)

    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable":
            return None
        return self._channel.recv_ready() or self._channel.eof_received or self._channel.closed
