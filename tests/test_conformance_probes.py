"""Starting, what the probes say and to whom, and WebSockets."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess

import httpx
import pytest
from gateway_questions import status
from gateways import OPERATOR, Gateway, Kind

pytest_plugins = ["gateway_fixture"]

ATTRIBUTION = "proxy_attribution_required"
STRANGER = {"X-Forwarded-For": "203.0.113.9"}


def test_clone_runs_beside_its_original(clone: Gateway, client: httpx.Client) -> None:
    assert client.get("/readyz").status_code == 200
    with httpx.Client(base_url=clone.url, trust_env=False) as other:
        assert other.get("/readyz").status_code == 200
        assert status(other)["pid"] != status(client)["pid"]


def test_live_before_ready(primary: Gateway) -> None:
    assert primary.boot.live == {'{"ok":true,"status":"live"}'}
    assert any(code == 503 for code, _ in primary.boot.ready), "it was never seen starting"
    for code, body in primary.boot.ready[:-1]:
        assert (code, body["ready"], body["failing"]) == (503, False, ["startup-sidecars"])
    code, body = primary.boot.started[0]
    assert (code, body["ok"], body["status"], body["pendingReason"]) == (503, False, "starting", "startup-sidecars")


def test_started_says_its_version(client: httpx.Client, kind: Kind) -> None:
    package = json.loads((kind.entry.parent / "package.json").read_text())
    for path in ("/startup", "/startupz"):
        answer = client.get(path)
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == {"ok", "status", "version", "uptimeMs"}
        assert (body["ok"], body["status"], body["version"]) == (True, "started", package["version"])


def test_ready_bodies(client: httpx.Client) -> None:
    for path in ("/ready", "/readyz"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/json")
        body = answer.json()
        assert {"ready", "failing", "uptimeMs", "eventLoop"} == set(body)
        assert body["ready"] is True and body["failing"] == []


def test_strangers_learn_no_details(client: httpx.Client) -> None:
    assert client.get("/readyz", headers=STRANGER).json() == {"ready": True}
    assert client.get("/startupz", headers=STRANGER).json() == {"ok": True, "status": "started"}
    assert "version" in client.get("/startupz", headers=STRANGER | OPERATOR).json()


def test_probes_are_read_only(client: httpx.Client) -> None:
    for path in ("/health", "/healthz", "/readyz", "/startupz"):
        answer = client.post(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert client.head(path).status_code == 200


def test_unknown_path(client: httpx.Client) -> None:
    for answer in (client.get("/nope"), client.post("/nope", json={})):
        assert (answer.status_code, answer.text) == (404, "Not Found")


def test_both_address_families(primary: Gateway, client: httpx.Client) -> None:
    assert httpx.get(f"http://[::1]:{primary.port}/healthz", trust_env=False).json() == {"ok": True, "status": "live"}
    assert client.get("/healthz").json() == {"ok": True, "status": "live"}


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({"X-Forwarded-For": "203.0.113.9"}, True),
        ({"X-Forwarded-For": "10.0.0.3"}, True),
        ({"X-Forwarded-For": "203.0.113.9, 127.0.0.1"}, True),
        ({"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "X-Forwarded-Proto": "https"}, True),
        ({"X-Forwarded-For": "127.0.0.1"}, False),
        ({"X-Forwarded-For": "::1"}, False),
        ({"X-Forwarded-For": "junk"}, False),
        ({"X-Real-IP": "203.0.113.9"}, False),
        ({"Forwarded": "for=203.0.113.9"}, False),
        ({"X-Forwarded-Proto": "https"}, False),
        ({"X-Forwarded-Host": "example.org"}, False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value),
)
def test_attribution(client: httpx.Client, headers: dict[str, str], known: bool) -> None:
    assert client.get("/healthz", headers=headers).status_code == 200, "liveness is for everybody"
    for path, expected in (("/readyz", 200), ("/nope", 404), ("/hooks/wake", 405)):
        answer = client.get(path, headers=headers)
        assert answer.status_code == (expected if known else 403), path
        if not known:
            assert answer.json()["error"]["type"] == ATTRIBUTION


def test_a_proxy_that_is_not_trusted(primary: Gateway) -> None:
    answer = httpx.get(f"http://[::1]:{primary.port}/readyz", headers=STRANGER, trust_env=False)
    assert answer.status_code == 403 and answer.json()["error"]["type"] == ATTRIBUTION


def upgrade(port: int, header: str = "") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET / HTTP/1.1\r\nHost: gateway\r\n{header}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return connection


def read_until(connection: socket.socket, marker: bytes) -> bytes:
    got = b""
    while marker not in got:
        part = connection.recv(4096)
        assert part, f"closed after {got!r}"
        got += part
    return got


def test_websocket(client: httpx.Client, primary: Gateway) -> None:
    with upgrade(primary.port) as connection:
        got = read_until(connection, b"}}")
        assert got.startswith(b"HTTP/1.1 101 Switching Protocols")
        frame = got.split(b"\r\n\r\n", 1)[1]
        assert frame[0] == 0x81, "one whole text frame"
        challenge = json.loads(frame[frame.index(b"{") :])
        assert (challenge["type"], challenge["event"]) == ("event", "connect.challenge")
        assert challenge["payload"]["nonce"]
        connection.sendall(b"\x89\x82\x00\x00\x00\x00hi")
        assert read_until(connection, b"hi") == b"\x8a\x02hi"
        connection.sendall(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
        assert read_until(connection, b"\x03\xe8") == b"\x88\x02\x03\xe8"
    with upgrade(primary.port, "X-Real-IP: 203.0.113.9\r\n") as connection:
        assert read_until(connection, ATTRIBUTION.encode()).startswith(b"HTTP/1.1 403")


def test_process_title(client: httpx.Client, primary: Gateway) -> None:
    assert primary.process is not None
    title = subprocess.run(["ps", "-o", "args=", "-p", str(primary.process.pid)], capture_output=True, text=True)
    assert title.stdout.strip() == "openclaw-gateway"
