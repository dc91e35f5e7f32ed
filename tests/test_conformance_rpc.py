"""The operator's RPC."""

from __future__ import annotations

import json

import httpx
import pytest
from gateway_questions import status
from gateways import GATEWAY_TOKEN, HOOK, OPERATOR, Gateway, Kind

pytest_plugins = ["gateway_fixture"]


def test_admin_is_for_the_gateway_token(client: httpx.Client) -> None:
    for headers in ({}, HOOK, {"x-openclaw-token": GATEWAY_TOKEN}):
        answer = client.post("/api/v1/admin/rpc", headers=headers, json={"method": "status"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "unauthorized")
    answer = client.get("/api/v1/admin/rpc", headers=OPERATOR)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_admin_status(client: httpx.Client, primary: Gateway, kind: Kind) -> None:
    package = json.loads((kind.entry.parent / "package.json").read_text())
    assert primary.process is not None
    payload = status(client)
    assert payload["pid"] == primary.process.pid
    assert payload["runtimeVersion"] == package["version"]
    assert set(payload["tasks"]["byStatus"]) >= {"queued", "running", "succeeded", "failed"}
    assert payload["processMemory"]["rssBytes"] > 10_000_000
    assert isinstance(payload["queuedSystemEvents"], list)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", {"type": "invalid_request", "message": "request body must be valid JSON"}),
        (b"{}", {"type": "invalid_request", "message": "method must be a non-empty string"}),
        (
            b'{"method": "nope"}',
            {"code": "INVALID_REQUEST", "message": "admin HTTP RPC method is not supported: nope"},
        ),
        (
            b'{"method": "gateway.suspend.prepare"}',
            {"code": "INVALID_REQUEST", "message": "invalid gateway.suspend.prepare params"},
        ),
    ],
)
def test_admin_mistakes(client: httpx.Client, body: bytes, error: dict[str, str]) -> None:
    answer = client.post("/api/v1/admin/rpc", headers=OPERATOR, content=body)
    assert answer.status_code == 400
    assert answer.json()["ok"] is False and answer.json()["error"] == error
