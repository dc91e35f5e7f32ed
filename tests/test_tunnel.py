"""HTTP through the SSH connection: it leaves from the Mac, and each way it can fail is httpx's own error."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from lab_fixture import until
from ssh_ways import black_hole, cut_unnoticed, hangs_up_after, own_connection

from runbook_lib.lab.mac import PracticeMac
from runbook_lib.ssh.host import Host

pytest_plugins = ["lab_fixture", "mac_fixture"]

ONCE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000  # ten times SSH's window


def test_http_leaves_from_the_mac(lab: PracticeMac, host: Host) -> None:
    with host.http(f"http://127.0.0.1:{lab.ports.primary}") as client:
        assert client.get("/healthz").json() == {"ok": True, "status": "live"}
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: client.get("/readyz").status_code, range(24))) == [200] * 24


def test_http_refused_is_a_connect_error(host: Host) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with host.http(f"http://127.0.0.1:{unused.getsockname()[1]}") as client, pytest.raises(httpx.ConnectError):
            client.get("/")


def test_http_that_never_answers_is_a_read_timeout(host: Host) -> None:
    with black_hole(accepts=True) as port, host.http(f"http://127.0.0.1:{port}", timeout_s=0.5) as client:
        pytest.raises(httpx.ReadTimeout, client.get, "/")


def test_http_over_a_cut_connection_is_an_http_error(lab: PracticeMac, host: Host) -> None:
    with host.http(f"http://127.0.0.1:{lab.ports.primary}", timeout_s=3) as client:
        assert client.get("/healthz").status_code == 200
        own_connection(lab, host).kill()
        with pytest.raises(httpx.HTTPError):
            client.get("/healthz")


def test_a_request_over_a_connection_that_is_gone_is_an_http_error(lab: PracticeMac, host: Host) -> None:
    with host.http(f"http://127.0.0.1:{lab.ports.primary}", timeout_s=0.5) as client:
        assert client.get("/healthz").status_code == 200
        with cut_unnoticed(lab, host):
            pytest.raises(httpx.HTTPError, client.get, "/healthz")


def test_an_answer_over_a_connection_that_is_gone_is_a_read_error(lab: PracticeMac, host: Host) -> None:
    """What was read of a window is acknowledged, and that cannot be sent any more."""
    with (
        hangs_up_after(LONG) as port,
        host.http(f"http://127.0.0.1:{port}", timeout_s=3) as client,
        client.stream("GET", "/") as answer,
        cut_unnoticed(lab, host),
    ):
        pytest.raises(httpx.ReadError, answer.read)


def test_a_connection_that_the_server_closed_while_idle_is_not_used_again(host: Host) -> None:
    with hangs_up_after(ONCE) as port, host.http(f"http://127.0.0.1:{port}", timeout_s=3) as client:
        for _ in range(3):
            assert client.get("/").text == "once"
            until(lambda: all(connection.has_expired() for connection in client._transport._pool.connections))  # type: ignore[attr-defined]
