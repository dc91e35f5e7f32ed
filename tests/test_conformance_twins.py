"""A second gateway on a clone of the first one's state, killed and stopped at last."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
from gateway_questions import agent, edited, eventually, rpc
from gateways import HOOK, Gateway, Model

pytest_plugins = ["gateway_fixture"]


def test_the_same_key_on_both_gateways_runs_twice(clone: Gateway, client: httpx.Client, model: Model) -> None:
    key, message = {"Idempotency-Key": str(uuid4())}, f"twice {uuid4()}"
    with httpx.Client(base_url=clone.url, trust_env=False, timeout=60) as other:
        runs = {agent(each, message, key, waitForCompletion=True).json()["runId"] for each in (client, other)}
    assert len(runs) == 2 and model.times_asked(message) == 2


def test_killed_and_started_again(clone: Gateway, model: Model) -> None:
    key, message = {"Idempotency-Key": str(uuid4())}, f"killed {uuid4()}"
    with httpx.Client(base_url=clone.url, trust_env=False, timeout=60) as client:
        before = agent(client, message, key, waitForCompletion=True).json()
        assert agent(client, message, key).json()["runId"] == before["runId"]
    clone.signal(signal.SIGKILL)
    clone.wait(5)
    # Nothing names the port now but the configuration.
    clone.extra_env.pop("OPENCLAW_GATEWAY_PORT", None)
    edited(clone, lambda config: config["gateway"].update(port=clone.port))
    clone.start()
    with httpx.Client(base_url=clone.url, trust_env=False, timeout=60) as client:
        after = agent(client, message, key, waitForCompletion=True).json()
    assert after["runId"] != before["runId"], "the memory of keys is the process's"
    assert model.times_asked(message) == 2


def test_stopping_lets_held_work_finish(clone: Gateway, model: Model) -> None:
    message = f"stopping {uuid4()}"
    with (
        httpx.Client(base_url=clone.url, trust_env=False, timeout=60) as client,
        model.holding(message) as released,
        ThreadPoolExecutor() as pool,
    ):
        waiting = pool.submit(agent, client, message, waitForCompletion=True)
        eventually(lambda: model.times_asked(message) == 1)
        clone.signal(signal.SIGTERM)
        eventually(lambda: client.get("/readyz").status_code == 503, within_s=5)
        assert client.get("/readyz").json()["failing"] == ["gateway-draining"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/startupz").json()["status"] == "draining"
        refused = client.post("/hooks/wake", headers=HOOK, json={"text": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "gateway_unavailable")
        assert rpc(client, "status")[0] == 503
        assert not waiting.done()
        released.set()
        assert waiting.result().json()["completion"]["status"] == "ok"
    assert clone.wait(30) == 0


def test_idle_connections_are_closed(idle_connection: threading.Thread) -> None:
    idle_connection.join(20)
    # Five seconds are promised to the client; Node allows itself one more.
    assert 4.9 < float(idle_connection.name) < 7
