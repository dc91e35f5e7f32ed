"""Work in flight, and suspension."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
from gateway_questions import Crowd, agent, eventually, root_requests, rpc
from gateways import HOOK, Gateway, Model

pytest_plugins = ["gateway_fixture"]


def is_idle(client: httpx.Client) -> Callable[[], bool]:
    return lambda: root_requests(client) == 0


def test_busy_is_refused_and_nothing_is_fenced(crowd: Crowd, clone: Gateway, model: Model) -> None:
    with httpx.Client(base_url=clone.url, trust_env=False, timeout=60) as client:
        eventually(lambda: model.times_asked(crowd.word) == 8)
        assert root_requests(client) >= 8
        code, busy = rpc(client, "gateway.suspend.prepare", requestId="busy")
        assert (code, busy["payload"]["status"], busy["payload"]["reason"]) == (200, "busy", "active-work")
        blockers = {blocker["kind"]: blocker["count"] for blocker in busy["payload"]["blockers"]}
        assert blockers["embedded-run"] == 8 and blockers["root-request"] >= 8
        done = clone.cli("gateway", "suspend", "--request-id", "busy-cli", "--wait", "1", "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["status"], told["requestId"]) == (1, "busy", "busy-cli")
        assert client.get("/readyz").status_code == 200
        assert client.post("/hooks/wake", headers=HOOK, json={"text": "still taken"}).status_code == 200


def test_eight_at_a_time(crowd: Crowd, clone: Gateway, model: Model) -> None:
    answers = [answer.result() for answer in crowd.answers]
    assert sorted(answer.status_code for answer, _ in answers) == [200] * 8 + [503]
    ((late, answered_at),) = [pair for pair in answers if pair[0].status_code == 503]
    assert 14.5 < answered_at - crowd.asked_at < 25
    assert late.json()["ok"] is False and late.json()["runId"]
    assert "admission timeout" in late.json()["error"]
    assert model.times_asked(crowd.word) == 8, "what waited too long is never run"
    with httpx.Client(base_url=clone.url, trust_env=False, timeout=60) as client:
        model.held[crowd.word].set()
        eventually(is_idle(client))


def test_suspension_of_an_idle_gateway(client: httpx.Client, primary: Gateway) -> None:
    eventually(is_idle(client))
    done = primary.cli(
        "gateway", "suspend", "--port", str(primary.port), "--request-id", "idle", "--wait", "5", "--json"
    )
    prepared = json.loads(done.stdout)
    assert done.returncode == 0
    assert (prepared["status"], prepared["requestId"], prepared["blockers"]) == ("ready", "idle", [])
    assert 110 < prepared["expiresAtMs"] / 1000 - time.time() < 125
    lease = {"suspensionId": prepared["suspensionId"]}
    try:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["failing"]) == (503, ["gateway-draining"])
        assert client.get("/startupz").json()["status"] == "draining"
        assert client.get("/healthz").status_code == 200
        refused = client.post("/hooks/wake", headers=HOOK, json={"text": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "gateway_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        code, fenced = rpc(client, "status")
        assert (code, fenced["error"]["code"]) == (503, "UNAVAILABLE"), "the backlog cannot be read now"
        assert rpc(client, "gateway.suspend.status", **lease)[1]["payload"]["status"] == "ready"
        renewed = rpc(client, "gateway.suspend.prepare", requestId="idle")[1]["payload"]
        assert renewed["suspensionId"] == lease["suspensionId"]
        assert renewed["expiresAtMs"] > prepared["expiresAtMs"]
        code, conflict = rpc(client, "gateway.suspend.prepare", requestId="other")
        assert (code, conflict["error"]["details"]["reason"]) == (503, "gateway-suspension-conflict")
        assert rpc(client, "gateway.suspend.resume", suspensionId="other")[0] == 400
    finally:
        resumed = rpc(client, "gateway.suspend.resume", **lease)
    assert resumed[1]["payload"] == {"ok": True, "status": "running", "resumed": True}
    assert rpc(client, "gateway.suspend.resume", **lease)[1]["payload"]["resumed"] is False
    assert rpc(client, "gateway.suspend.status", **lease)[1]["payload"] == {"status": "running"}
    assert client.get("/readyz").status_code == 200


def test_suspension_that_drains(client: httpx.Client, model: Model) -> None:
    eventually(is_idle(client))
    message = f"draining {uuid4()}"
    with model.holding(message) as released, ThreadPoolExecutor() as pool:
        waiting = pool.submit(agent, client, message, waitForCompletion=True)
        eventually(lambda: model.times_asked(message) == 1)
        draining = rpc(client, "gateway.suspend.prepare", requestId="drain", drain=True)[1]["payload"]
        lease = {"suspensionId": draining["suspensionId"]}
        try:
            assert draining["status"] == "draining" and draining["activeCount"] > 0
            assert client.get("/readyz").status_code == 503, "with drain, new work is refused at once"
            again = rpc(client, "gateway.suspend.prepare", requestId="drain", drain=True)[1]["payload"]
            assert (again["status"], again["suspensionId"]) == ("draining", lease["suspensionId"])
            assert again["expiresAtMs"] > draining["expiresAtMs"], "asking again renews the lease"
            assert all(blocker["message"] for blocker in again["blockers"]), "each blocker says what it is"
            assert rpc(client, "gateway.suspend.status", **lease)[1]["payload"]["status"] == "draining"
            released.set()
            assert waiting.result().json()["completion"]["status"] == "ok", "what was held finishes"
            eventually(lambda: rpc(client, "gateway.suspend.status", **lease)[1]["payload"]["status"] == "ready")
        finally:
            rpc(client, "gateway.suspend.resume", **lease)
    assert client.get("/readyz").status_code == 200
