"""Each fault really bites, at what it says, and clearing it mends it."""

from __future__ import annotations

import json
import ssl
import statistics
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from lab_fixture import hook, secret, start_canary, status, until

from runbook_lib.lab import faults, processes
from runbook_lib.lab.layout import CANARY_LABEL, LabError, launchd_domain
from runbook_lib.lab.mac import PracticeMac

pytest_plugins = ["lab_fixture"]

TARGET = f"{launchd_domain()}/{CANARY_LABEL}"


@pytest.fixture(scope="module")
def canary(lab: PracticeMac) -> Iterator[str]:
    """The canary's URL."""
    yield start_canary(lab)
    lab.launchctl("kill", "SIGKILL", TARGET)
    lab.launchctl("bootout", "--wait", TARGET)


@pytest.fixture(autouse=True)
def mended(lab: PracticeMac, canary: str) -> Iterator[None]:
    yield
    faults.clear(lab)
    until(lambda: status(f"{canary}/readyz") == 200, within_s=6)


def canary_process(lab: PracticeMac) -> psutil.Process | None:
    return processes.find(lab.layout.run, f"job-{CANARY_LABEL}")


def rpc(lab: PracticeMac, url: str) -> dict[str, object]:
    """The gateway's own status, which holds its backlog and its memory."""
    token = secret(lab.layout.staging / "canary.env", "OPENCLAW_GATEWAY_TOKEN")
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{url}/api/v1/admin/rpc", headers=headers, json={"method": "status", "params": {}})
    return dict(answer.json()["payload"])


def latencies_ms(lab: PracticeMac, count: int) -> list[float]:
    """Each on a new connection, through nginx."""
    tls = ssl.create_default_context(cafile=lab.layout.nginx_etc / "tls/ca.pem")
    taken = []
    for _ in range(count):
        with httpx.Client(verify=tls) as client:
            started_at_s = time.perf_counter()
            assert hook(lab, f"https://localhost:{lab.ports.https}", client).status_code == 200
            taken.append((time.perf_counter() - started_at_s) * 1000)
    return taken


def test_canary_5xx_is_a_share_of_its_answers(lab: PracticeMac, canary: str) -> None:
    faults.inject(lab, "canary-5xx")
    time.sleep(0.3)
    with httpx.Client() as client:
        answers = [hook(lab, canary, client).status_code for _ in range(100)]
    assert sorted(set(answers)) == [200, 500]
    assert answers.count(500) == 5


def test_slow_canary_is_slow_and_primary_is_not(lab: PracticeMac, canary: str) -> None:
    faults.inject(lab, "slow-canary")
    time.sleep(0.3)
    with httpx.Client() as client:
        took_s = hook(lab, canary, client).elapsed.total_seconds()
        primary_s = hook(lab, f"http://127.0.0.1:{lab.ports.primary}", client).elapsed.total_seconds()
    assert took_s >= 0.4 > primary_s


def test_dead_canary_stays_dead_although_launchd_relaunches(lab: PracticeMac, canary: str) -> None:
    faults.inject(lab, "dead-canary")
    runs = lab.launchctl("print", TARGET).stdout
    until(
        lambda: (
            lab.launchctl("print", TARGET).stdout.count("\truns = ") and runs != lab.launchctl("print", TARGET).stdout
        )
    )
    time.sleep(1.2)  # the test's plist throttles at 1 s
    assert status(f"{canary}/healthz") == 0
    assert "\tlast exit code = 1\n" in lab.launchctl("print", TARGET).stdout


def test_dead_canary_by_force_is_for_gateways_that_cannot_be_told(lab: PracticeMac, canary: str) -> None:
    notes = lab.layout.run / "lab.json"
    built = notes.read_text()
    notes.write_text(built.replace("standin", "openclaw"))
    try:
        faults.inject(lab, "dead-canary")
        with pytest.raises(LabError, match="only the stand-in"):
            faults.inject(lab, "backlog")
    finally:
        notes.write_text(built)
    assert status(f"{canary}/healthz") == 0
    time.sleep(1.5)
    assert status(f"{canary}/readyz") != 200


def test_frozen_canary_takes_connections_and_says_nothing(lab: PracticeMac, canary: str) -> None:
    faults.inject(lab, "frozen-canary")
    process = canary_process(lab)
    assert process is not None
    until(lambda: process.status() == psutil.STATUS_STOPPED)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{canary}/healthz", timeout=0.3)
    faults.clear(lab)
    assert status(f"{canary}/healthz") == 200
    assert canary_process(lab) == process


def test_rss_growth_grows(lab: PracticeMac, canary: str) -> None:
    process = canary_process(lab)
    assert process is not None
    before = process.memory_info().rss
    faults.inject(lab, "rss-growth")
    until(lambda: process.memory_info().rss > before + 25e6, within_s=5)
    primary = processes.find(lab.layout.run, "job-ai.openclaw.gateway")
    assert primary is not None
    assert process.memory_info().rss > primary.memory_info().rss * 1.18


def test_backlog_is_seen_in_the_status(lab: PracticeMac, canary: str) -> None:
    faults.inject(lab, "backlog")
    until(lambda: len(list(rpc(lab, canary)["queuedSystemEvents"])) > 200)  # type: ignore[call-overload]
    faults.clear(lab)
    until(lambda: len(list(rpc(lab, canary)["queuedSystemEvents"])) < 200)  # type: ignore[call-overload]


def test_bad_config_does_not_parse_and_comes_back_whole(lab: PracticeMac, canary: str) -> None:
    path = lab.layout.state_dir("canary") / "openclaw.json"
    whole = path.read_text()
    faults.inject(lab, "bad-config")
    with pytest.raises(json.JSONDecodeError):
        json.loads(path.read_text())
    lab.launchctl("kickstart", "-k", TARGET)
    until(lambda: "\tlast exit code = 78: EX_CONFIG\n" in lab.launchctl("print", TARGET).stdout)
    faults.clear(lab)
    assert path.read_text() == whole


def test_bad_config_that_the_runbook_mended_is_left_alone(lab: PracticeMac, canary: str) -> None:
    path = lab.layout.state_dir("canary") / "openclaw.json"
    whole = path.read_text()
    faults.inject(lab, "bad-config")
    path.write_text(mended := whole.replace("{", "{ ", 1))
    faults.clear(lab)
    assert path.read_text() == mended


def test_taken_port_makes_the_canary_exit(lab: PracticeMac, canary: str) -> None:
    lab.launchctl("bootout", "--wait", TARGET)
    faults.inject(lab, "taken-port")
    holder = processes.find(lab.layout.run, "fault-taken-port")
    assert holder is not None
    listeners = {connection.laddr.port for connection in holder.net_connections("inet")}
    assert listeners == {lab.ports.canary}
    lab.launchctl("bootstrap", launchd_domain(), str(lab.layout.plist(CANARY_LABEL)))
    until(lambda: "\tlast exit code = 1\n" in lab.launchctl("print", TARGET).stdout)
    faults.clear(lab)
    assert not holder.is_running() or holder.status() == psutil.STATUS_ZOMBIE


def test_starved_workers_bite_right_after_a_reload(lab: PracticeMac) -> None:
    nginx = psutil.Process(int(lab.layout.nginx_pid.read_text()))
    faults.inject(lab, "starved-workers")
    before = latencies_ms(lab, 20)
    old = {worker.pid for worker in nginx.children()}
    lab.launchctl("kill", "SIGHUP", f"{launchd_domain()}/homebrew.mxcl.nginx")
    until(lambda: old.isdisjoint({worker.pid for worker in nginx.children()}))
    time.sleep(0.3)
    after = latencies_ms(lab, 20)
    faults.clear(lab)
    mended = latencies_ms(lab, 20)
    p95 = [statistics.quantiles(taken, n=20)[-1] for taken in (before, after, mended)]
    assert p95[1] > 1.35 * p95[0], "the article's rule"
    assert p95[2] < p95[1]
    assert {worker.status() for worker in nginx.children()} <= {psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING}


def test_every_fault_says_where_it_bites(lab: PracticeMac) -> None:
    steps = {name: fault.step for name, fault in faults.FAULTS.items()}
    assert {name for name, step in steps.items() if step != 7} == {"taken-port", "bad-config", "starved-workers"}
    for name, fault in faults.FAULTS.items():
        assert fault.inject.__doc__ is not None
        assert fault.inject.__doc__.startswith(f"Step {steps[name]}, ")
        assert fault.says
    with pytest.raises(LabError, match="there is no fault 'flood'; there are: taken-port"):
        faults.inject(lab, "flood")
    with pytest.raises(LabError, match="there is no practice Mac"):
        faults.inject(PracticeMac(lab.layout.tmp), "backlog")
