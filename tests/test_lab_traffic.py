"""The practice traffic: what it counts is what nginx saw, it is light, bounded, and signed as providers sign."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
from collections import Counter
from pathlib import Path

import psutil
import pytest
from lab_fixture import until

from runbook_lib.lab import processes, traffic
from runbook_lib.lab.deliveries import Provider
from runbook_lib.lab.kinds import KINDS, Kind
from runbook_lib.lab.mac import PracticeMac

pytest_plugins = ["lab_fixture"]


def hooks_seen(lab: PracticeMac) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in (lab.layout.nginx_log / "access.log").read_text().splitlines()]
    return [line for line in lines if line["client"].startswith("203.0.113.") and not line["client"].endswith(".9")]


def test_counts_conserve_and_agree_with_nginx(lab: PracticeMac) -> None:
    before = len(hooks_seen(lab))
    out = traffic.start(lab.layout, rate=100, for_s=60)
    until(lambda: traffic.counts(lab.layout).get("second") == 4)
    running = psutil.Process(processes.find(lab.layout.run, "traffic").pid)  # type: ignore[union-attr]
    used = running.cpu_times()
    until(lambda: traffic.counts(lab.layout).get("second") == 6)
    now = running.cpu_times()
    assert now.user + now.system - used.user - used.system < 0.25 * 2, "under a quarter of a core"
    last = traffic.stop(lab.layout)
    assert processes.find(lab.layout.run, "traffic") is None
    assert last["done"] and last["in_flight"] == 0
    assert 95 < last["sent"] / last["second"] < 105 or last["sent"] > 550
    assert last["sent"] == last["ok"] == last["statuses"]["200"]
    for line in map(json.loads, out.read_text().splitlines()):
        assert line["sent"] == sum(line["statuses"].values()) + line["in_flight"]
    until(lambda: len(hooks_seen(lab)) - before == last["sent"])
    seen = hooks_seen(lab)[before:]
    assert len({line["client"] for line in seen}) > 100
    paths = Counter(line["request"].split()[1] for line in seen)
    assert set(paths) == {"/hooks/wake", "/hooks/agent", "/hooks/github", "/hooks/stripe"}
    assert 0.02 < paths["/hooks/stripe"] / len(seen) < 0.09


def test_what_nobody_answers_is_counted_too(tmp_path: Path) -> None:
    provider = Provider("localhost", "t", "g", "s", dice=random.Random(1))
    with socket.socket() as closed:  # bound, so that nobody else takes the port, and not listening
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        nobody = traffic.Traffic(provider, port, ssl.create_default_context(), tmp_path / "counts")
        asyncio.run(nobody.run(rate=50, for_s=0.5))
    assert nobody.statuses == {"refused": nobody.sent}
    assert 20 <= nobody.sent <= 25, "a stall of the machine costs a few, and never doubles them"


def test_it_ends_by_itself(lab: PracticeMac) -> None:
    assert traffic.main(["--root", str(lab.layout.root), "--rate", "20", "--for-s", "1"]) == 0
    assert traffic.counts(lab.layout)["sent"] == 20


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_mix_is_what_is_said(kind: Kind) -> None:
    provider = Provider("localhost", "t", "g", "s", kind.mix, random.Random(7))
    sent = [provider.next() for _ in range(2000)]
    shares = Counter(name for name, _ in sent)
    assert {name: round(count / 20) for name, count in shares.items()} == pytest.approx(kind.mix, abs=4)
    ids = [request for name, request in sent if name in ("agent", "wake")]
    assert all(b"Idempotency-Key: " in request for request in ids)
    assert not any(b"Idempotency-Key" in request for name, request in sent if name in ("anonymous", "stripe"))
    assert len({request.partition(b"Idempotency-Key: ")[2][:36] for request in ids}) == len(ids)
