"""Webhooks: tokens, limits, queueing, and what a delivery's key does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
from gateway_questions import agent, eventually, root_requests, status
from gateways import GATEWAY_TOKEN, HOOK, HOOK_TOKEN, OPERATOR, Model

pytest_plugins = ["gateway_fixture"]


def test_hook_token(client: httpx.Client) -> None:
    wake = {"text": f"token {uuid4()}", "mode": "next-heartbeat"}
    good = [HOOK, {"x-openclaw-token": HOOK_TOKEN}]
    bad = [{}, OPERATOR, {"x-openclaw-token": GATEWAY_TOKEN}, {"Authorization": "Bearer wrong"}]
    assert [client.post("/hooks/wake", headers=headers, json=wake).status_code for headers in good] == [200, 200]
    assert [client.post("/hooks/wake", headers=headers, json=wake).status_code for headers in bad] == [401] * 4
    in_query = client.post(f"/hooks/wake?token={HOOK_TOKEN}", headers=HOOK, json=wake)
    assert in_query.status_code == 400


def test_hook_methods_and_paths(client: httpx.Client) -> None:
    got = client.get("/hooks/wake", headers=HOOK)
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert client.post("/hooks", headers=HOOK, json={}).status_code == 404
    assert client.post("/hooks/unknown", headers=HOOK, json={}).status_code == 404


def test_hook_payload_mistakes(client: httpx.Client) -> None:
    for path, body, error in (
        ("/hooks/wake", b"{}", "text required"),
        ("/hooks/agent", b"{}", "message required"),
        ("/hooks/wake", b"{", None),
    ):
        answer = client.post(path, headers=HOOK, content=body)
        assert answer.status_code == 400
        assert answer.json()["ok"] is False
        assert error is None or answer.json()["error"] == error


def test_body_limit(client: httpx.Client) -> None:
    fits = client.post("/hooks/wake", headers=HOOK, content=b" " * 262_144)
    over = client.post("/hooks/wake", headers=HOOK, content=b" " * 262_145)
    assert fits.status_code == 400
    assert (over.status_code, over.json()) == (413, {"ok": False, "error": "payload too large"})


def test_bad_tokens_are_throttled(client: httpx.Client) -> None:
    headers = {"X-Forwarded-For": "203.0.113.77", "x-openclaw-token": "wrong"}
    attempts = [client.post("/hooks/wake", headers=headers, json={}) for _ in range(22)]
    assert [answer.status_code for answer in attempts] == [401] * 20 + [429] * 2
    assert 0 < int(attempts[-1].headers["retry-after"]) <= 60
    other = client.post("/hooks/wake", headers=headers | {"X-Forwarded-For": "203.0.113.78"}, json={})
    assert other.status_code == 401, "the limit is per client"
    right = client.post("/hooks/wake", headers=headers | {"x-openclaw-token": HOOK_TOKEN}, json={})
    assert right.status_code == 400, "the right token is never throttled"
    assert client.post("/hooks/wake", headers=headers, json={}).status_code == 401, "and starts the count again"


def test_wakes_queue_coalesce_and_fall_out(client: httpx.Client) -> None:
    def wake(text: str) -> dict[str, Any]:
        answer = client.post("/hooks/wake", headers=HOOK, json={"text": text, "mode": "next-heartbeat"})
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body

    run = uuid4()
    texts = [f"wake {run} {i}" for i in range(25)]
    answers = [wake(text) for text in texts]
    assert answers[0] == {"ok": True, "mode": "next-heartbeat", "eventOutcome": "queued"}
    assert wake(texts[-1])["eventOutcome"] == "coalesced"
    assert status(client)["queuedSystemEvents"] == texts[-20:], "the last 20 are kept, silently"


def test_idempotency(client: httpx.Client, model: Model) -> None:
    key, message = str(uuid4()), f"message {uuid4()}"
    first = agent(client, message, {"Idempotency-Key": key}).json()
    again = [
        agent(client, message, {"Idempotency-Key": key}).json(),
        agent(client, message, {"X-OpenClaw-Idempotency-Key": key}).json(),
        agent(client, message, idempotencyKey=key).json(),
    ]
    assert set(first) == {"ok", "runId"} and first["ok"] is True
    assert again == [first] * 3
    waited = agent(client, message, idempotencyKey=key, waitForCompletion=True).json()
    assert waited["runId"] == first["runId"] and waited["completion"]["status"] == "ok"
    assert model.times_asked(message) == 1, "five deliveries, one execution"
    assert agent(client, f"{message} 2", idempotencyKey=key).json()["runId"] != first["runId"]
    assert agent(client, message).json()["runId"] != first["runId"]


def test_held_until_done(client: httpx.Client, model: Model) -> None:
    message = f"held {uuid4()}"
    with model.holding(message) as released, ThreadPoolExecutor() as pool:
        waiting = pool.submit(agent, client, message, waitForCompletion=True)
        eventually(lambda: model.times_asked(message) == 1)
        assert not waiting.done()
        assert root_requests(client) >= 1
        released.set()
        answer = waiting.result()
    assert answer.status_code == 200
    assert answer.json()["completion"] == {
        "status": "ok", "replyDisposition": "visible", "delivered": False, "deliveryAttempted": False,
    }  # fmt: skip


def test_mapped_webhooks(client: httpx.Client, model: Model) -> None:
    name = f"repository-{uuid4()}"
    event = {"action": "opened", "repository": {"name": name}}
    headers = HOOK | {"X-GitHub-Event": "issues", "Idempotency-Key": name}
    first = client.post("/hooks/github", headers=headers, json=event)
    assert first.status_code == 200 and set(first.json()) == {"ok", "runId"}
    again = client.post("/hooks/github", headers=headers, json=event | {"not_in_the_template": 1})
    assert again.json() == first.json(), "what counts is the message that was made of the payload"
    eventually(lambda: model.times_asked(f"issues opened {name}") == 1)

    stripe = client.post("/hooks/stripe", headers=HOOK, json={"type": "charge.succeeded", "id": name})
    assert stripe.json() == {"ok": True, "mode": "next-heartbeat", "eventOutcome": "queued"}
    assert status(client)["queuedSystemEvents"][-1] == f"stripe charge.succeeded {name}"


def test_providers_do_not_authenticate(client: httpx.Client) -> None:
    """OpenClaw knows no provider signature: a wrong one passes with the token, a right one does not without."""
    event = {"action": "opened", "repository": {"name": str(uuid4())}}
    wrong = {"X-Hub-Signature-256": "sha256=00", "Stripe-Signature": "t=1,v1=00"}
    assert client.post("/hooks/github", headers=HOOK | wrong, json=event).status_code == 200
    assert client.post("/hooks/github", headers=wrong, json=event).status_code == 401
