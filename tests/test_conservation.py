"""Nothing is lost and nothing runs twice while the weight changes: counted by the gateways themselves."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab_fixture import secret, start_canary
from mac_fixture import connected, plan_of

from runbook_lib.accesslog import LOG_FIELDS
from runbook_lib.lab.deliveries import Provider
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.lab.wire import Connection, CutError
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.nginx.change import propose_weight
from runbook_lib.statistics import interval

pytest_plugins = ["lab_fixture", "mac_fixture"]

RATE = 60.0  # a second, with new connections and with kept ones each
KEPT_CONNECTIONS = 10
WEIGHTS = (5, 12, 40, 90, 22, 8, 60)
LEAST_CUTS_RATIO = 0.2  # of idle connections times reloads; clients without a pause lose 0.6 (353 of 20 x 30)


@dataclass
class Sent:
    """What became of every delivery: its key, and a status or how its connection ended."""

    outcomes: dict[str, str] = field(default_factory=dict)
    kept_count: int = 0

    def keys(self, outcome: str) -> set[str]:
        return {key for key, became in self.outcomes.items() if became == outcome}


@contextmanager
def load(lab: PracticeMac) -> Iterator[Sent]:
    """Deliveries with keys of their own, none of them sent again, until the block ends and all are answered."""
    token = secret(lab.layout.staging / "canary.env", "OPENCLAW_HOOKS_TOKEN")
    provider = Provider(f"localhost:{lab.ports.https}", token, "", "")
    tls = ssl.create_default_context(cafile=lab.layout.nginx_etc / "tls/ca.pem")
    tls.check_hostname = False
    sent, ended = Sent(), threading.Event()

    async def deliver(connection: Connection, close: bool) -> None:
        request = provider.request("wake", close)
        key = request.partition(b"Idempotency-Key: ")[2][:36].decode()
        is_reused = connection.used > 0
        try:
            sent.outcomes[key] = str(await asyncio.wait_for(connection.send(request), 15))
        except CutError as cut:
            sent.outcomes[key] = "idle connection cut" if cut.early and is_reused else "lost"
            connection.close()
        except TimeoutError:
            sent.outcomes[key] = "unanswered"

    async def new_connection() -> None:
        connection = await Connection.open("127.0.0.1", lab.ports.https, tls)
        await deliver(connection, close=True)
        connection.close()

    async def kept_connection(number: int) -> None:
        connection = await Connection.open("127.0.0.1", lab.ports.https, tls)
        due_s = time.monotonic() + number / RATE
        while not ended.is_set():
            await asyncio.sleep(max(0, due_s - time.monotonic()))
            due_s += KEPT_CONNECTIONS / RATE
            if not connection.is_usable:  # as every client looks before it uses one again
                connection.close()
                connection = await Connection.open("127.0.0.1", lab.ports.https, tls)
            sent.kept_count += connection.used > 0
            await deliver(connection, close=False)
        connection.close()

    async def send() -> None:
        tasks = [asyncio.create_task(kept_connection(number)) for number in range(KEPT_CONNECTIONS)]
        began_s, due = time.monotonic(), 0
        while not ended.is_set():
            while due < (time.monotonic() - began_s) * RATE:
                tasks.append(asyncio.create_task(new_connection()))
                due += 1
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*tasks)

    sender = threading.Thread(target=lambda: asyncio.run(send()))
    sender.start()
    try:
        yield sent
    finally:
        ended.set()
        sender.join()


@pytest.fixture
def own_mac(own_lab: PracticeMac, tmp_path: Path) -> Iterator[Mac]:
    with connected(plan_of(own_lab), tmp_path) as mac:
        yield mac


@pytest.mark.parametrize("changes_count", [7, pytest.param(105, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_weight_changes_lose_nothing_and_run_nothing_twice(
    own_lab: PracticeMac, own_mac: Mac, changes_count: int
) -> None:
    start_canary(own_lab)
    apply(own_mac, propose_weight(own_mac, 0))
    began_s = time.monotonic()
    with load(own_lab) as sent:
        for number in range(changes_count):
            apply(own_mac, propose_weight(own_mac, WEIGHTS[number % len(WEIGHTS)]))
    took_s = time.monotonic() - began_s
    outcomes = Counter(sent.outcomes.values())
    print(f"{changes_count} changes in {took_s:.0f} s: {dict(outcomes)}, {sent.kept_count} on kept connections")
    assert set(outcomes) <= {"200", "idle connection cut"}, outcomes
    assert len(sent.outcomes) / took_s > 100, "a hundred requests a second"

    arrived = Counter(key for name in ("primary", "canary") for key in delivered(own_lab, name))
    assert {key: arrived[key] for key in sent.keys("200") if arrived[key] != 1} == {}, "each ran once, on one gateway"
    assert not sent.keys("idle connection cut") & arrived.keys(), "what nginx cut, no gateway has seen"
    assert outcomes["idle connection cut"] <= max(2, LEAST_CUTS_RATIO * KEPT_CONNECTIONS * changes_count)

    shares = share_by_weight(own_lab)
    for weight_pct in WEIGHTS:
        canary, total = shares[weight_pct]["canary"], shares[weight_pct].total()
        low, high = interval(canary, total, 1 - 0.001 / len(WEIGHTS))  # 99.9 % for all weights together
        assert 100 * low <= weight_pct <= 100 * high, f"{weight_pct} %: {canary} of {total}"


def delivered(lab: PracticeMac, name: str) -> list[str]:
    """The keys of all deliveries that a gateway has taken, as it has kept them."""
    with sqlite3.connect(lab.layout.state_dir(name) / "state/openclaw.sqlite") as database:
        rows = database.execute("select key from deliveries where key is not null").fetchall()
    database.close()
    return [key for (key,) in rows]


def share_by_weight(lab: PracticeMac) -> dict[float, Counter[str]]:
    """Requests of each gateway by the weight under which they came, from the judge's log."""
    shares: dict[float, Counter[str]] = {}
    for line in (lab.layout.nginx_log / "openclaw-rollout.tsv").read_text().splitlines():
        request = dict(zip(LOG_FIELDS, line.split("\t"), strict=True))
        target = "canary" if request["openclaw_target"] == "canary" else "primary"
        shares.setdefault(float(request["openclaw_revision"][1:7]), Counter())[target] += 1
    return shares
