"""HTTP through the SSH connection: it leaves from the Mac; what fails is told apart, there and on the way."""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from lab_fixture import until
from ssh_ways import black_hole, cut_unnoticed, hangs_up_after, own_connection, section, ssh_config

from runbook_lib.errors import ConnectionLost, HostUnreachable
from runbook_lib.gateway import delivery
from runbook_lib.lab.keys import make_ssh_key
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import send
from runbook_lib.mac.mac import Mac
from runbook_lib.ssh.host import Host
from runbook_lib.steps import smoke

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


def test_a_connection_that_the_server_closed_while_idle_is_not_used_again(host: Host) -> None:
    with hangs_up_after(ONCE) as port, host.http(f"http://127.0.0.1:{port}", timeout_s=3) as client:
        for _ in range(3):
            assert client.get("/").text == "once"
            until(lambda: all(connection.has_expired() for connection in client._transport._pool.connections))  # type: ignore[attr-defined]


def test_an_sshd_that_forwards_nothing_is_named(lab: PracticeMac, tmp_path: Path) -> None:
    allowed = lab.layout.run / "authorized_keys"
    before = allowed.read_text()
    config = ssh_config(lab, tmp_path)
    config.write_text(re.sub(r"IdentityFile .*", f"IdentityFile {tmp_path}/key", config.read_text()))
    allowed.write_text(f"{before}no-port-forwarding {make_ssh_key(tmp_path / 'key')}\n")
    try:
        with Host(section(lab, config)) as host, host.http(f"http://127.0.0.1:{lab.ports.primary}") as client:
            said = "forwards nothing to 127.0.0.1.*AllowTcpForwarding"
            with pytest.raises(HostUnreachable, match=said):
                client.get("/healthz")
    finally:
        allowed.write_text(before)


# -- the SSH connection itself ends: nothing is said of the gateway behind it ---------------------------------------


def test_http_over_a_cut_connection(lab: PracticeMac, host: Host) -> None:
    with host.http(f"http://127.0.0.1:{lab.ports.primary}", timeout_s=3) as client:
        assert client.get("/healthz").status_code == 200
        own_connection(lab, host).kill()
        for _ in range(2):
            pytest.raises(ConnectionLost, client.get, "/healthz")


def test_a_request_over_a_connection_that_is_gone_unnoticed(lab: PracticeMac, host: Host) -> None:
    with host.http(f"http://127.0.0.1:{lab.ports.primary}", timeout_s=3) as client:
        assert client.get("/healthz").status_code == 200
        with cut_unnoticed(lab, host):
            pytest.raises(ConnectionLost, client.get, "/healthz")


def test_an_answer_over_a_connection_that_is_gone_unnoticed(lab: PracticeMac, host: Host) -> None:
    """What was read of a window is acknowledged, and that cannot be sent any more."""
    with (
        hangs_up_after(LONG) as port,
        host.http(f"http://127.0.0.1:{port}", timeout_s=3) as client,
        client.stream("GET", "/") as answer,
        cut_unnoticed(lab, host),
    ):
        pytest.raises(ConnectionLost, answer.read)


def test_http_over_a_connection_that_went_silent(lab: PracticeMac) -> None:
    with Host(section(lab, connect_timeout_s=1)) as host:
        served = own_connection(lab, host)
        with host.http(f"http://127.0.0.1:{lab.ports.primary}", timeout_s=0.5) as client:
            assert client.get("/healthz").status_code == 200
            served.suspend()
            try:
                pytest.raises(ConnectionLost, client.get, "/healthz")
            finally:
                served.resume()


def test_webhooks_over_a_cut_connection_blame_no_gateway(lab: PracticeMac, mac: Mac) -> None:
    own_connection(lab, mac.host).kill()
    sending = smoke.propose_replay(mac, delivery.forged("20260506-0210", "a-token", ["github"]), "primary")
    pytest.raises(ConnectionLost, send, mac, sending)
