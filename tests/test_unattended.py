"""Nobody connected, two people at once, a drain under load: for real on the practice Mac."""

from __future__ import annotations

import http.server
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from lab_fixture import start_canary, until
from mac_fixture import connected, plan_of, values_of, with_plan
from own_nginx import free_ports

from runbook_lib.errors import ActionFailed, HostError, HostLocked, PlanError
from runbook_lib.lab import traffic
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply, release, unlock
from runbook_lib.mac.lease import held_until, propose_lease, propose_release
from runbook_lib.mac.lock import probe_lock
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.switch import propose_drain, propose_undrain
from runbook_lib.nginx.asking import probe_pulse
from runbook_lib.nginx.change import propose_weight
from runbook_lib.notifications import kind_of
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.weights import drains, is_drained
from runbook_lib.regions.emergency import drain_now
from runbook_lib.regions.remind import remind
from runbook_lib.regions.rollout import alone
from runbook_lib.steps.collect import collect_events
from runbook_lib.steps.sentinel import propose_removal, propose_sentinel
from runbook_lib.steps.snapshot import prepare_tools

pytest_plugins = ["lab_fixture", "mac_fixture"]

EVERY_S = 1
LEASE_S = 4
CONFIRM_S = 15
LOOK_S = EVERY_S + 3  # one round of the sentinel on a busy machine: its wait, and six questions


@pytest.fixture(scope="module")
def canary(own_lab: PracticeMac) -> PracticeMac:
    """A practice Mac whose canary is ready."""
    start_canary(own_lab)
    return own_lab


@pytest.fixture
def mac(canary: PracticeMac, tmp_path: Path) -> Iterator[Mac]:
    """The sentinel runs, the canary's weight is 50 %, and no lease is held."""
    plan = plan_of(canary, lease={"attended_s": LEASE_S, "confirm_s": CONFIRM_S}, thresholds={"error_window_s": 60})
    with connected(plan, tmp_path) as mac:
        apply(mac, prepare_tools(mac), propose_sentinel(mac), propose_weight(mac, 50))
        yield mac
        apply(mac, propose_removal(mac))  # first: it would drain once more for a lease that has lapsed
        apply(mac, propose_undrain(mac.plan, "the test is over"))
        release(mac)


def run_of(mac: Mac) -> Run:
    return Run("lab", mac.ledger.path.parent)


def drained(mac: Mac) -> bool:
    return probe_pulse(mac).drained


def test_a_lease_that_lapses_drains_and_is_told_of_in_the_ledger_once(mac: Mac) -> None:
    apply(mac, propose_lease(mac, LEASE_S))
    assert held_until(mac.ledger)
    assert not drained(mac)
    until(lambda: drained(mac), within_s=LEASE_S + LOOK_S + 5)
    assert collect_events(mac, run_of(mac)) == 1
    assert collect_events(mac, run_of(mac)) == 0
    event = mac.ledger.last(Kind.DRAINED)
    assert event is not None
    assert (event["step"], event["detail"]["cause"]) == ("sentinel", "lease")


@pytest.fixture
def project(mac: Mac, canary: PracticeMac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with this Mac's run, and a region `lab-gone` with the same run, whose Mac does not answer."""
    project, nobody = tmp_path / "project", tmp_path / "ssh_config"
    nobody.write_text(f"Host practice-mac\n HostName 127.0.0.1\n Port {free_ports(1)[0]}\n")
    gone = values_of(canary, host={"ssh_config": str(nobody)}) | {"region": "lab-gone"}
    (project / "notebooks").mkdir(parents=True)
    (project / "parameters").mkdir()
    for region, values in {"lab": values_of(canary), "lab-gone": gone}.items():
        (project / f"parameters/{region}.yaml").write_text(yaml.safe_dump(values))
        (project / f"outputs/{region}").mkdir(parents=True)
        (project / f"outputs/{region}" / mac.ledger.run).symlink_to(tmp_path)
        (project / f"outputs/{region}/current").write_text(mac.ledger.run)
    monkeypatch.chdir(project)
    return project


def said_of_lab() -> str:
    [(said, code)] = remind(["lab"])
    assert code == 0
    return said


@pytest.mark.usefixtures("project")
def test_people_hear_of_a_lease_that_ends_and_of_the_drain_once_each(mac: Mac) -> None:
    assert "no lease is held" in said_of_lab()
    apply(mac, propose_lease(mac, LEASE_S))
    for _ in range(2):
        assert "the lease holds until" in said_of_lab()
    assert len(mac.ledger.events(Kind.LEASE_ENDING)) == 1
    until(lambda: drained(mac), within_s=LEASE_S + LOOK_S + 5)
    for _ in range(2):
        assert said_of_lab() == "lab: the canary is drained"
    assert [e["detail"]["cause"] for e in mac.ledger.events(Kind.DRAINED, step="sentinel")] == ["lease"]


@pytest.mark.usefixtures("project")
def test_a_mac_that_cannot_be_asked_keeps_nobody_from_hearing(mac: Mac) -> None:
    apply(mac, propose_lease(mac, 60))
    gone, nowhere, lab = remind(["lab-gone", "nowhere", "lab"])
    assert "no SSH connection to 127.0.0.1:" in gone[0] and gone[1] == HostError.exit_code
    assert "nowhere.yaml" in nowhere[0] and nowhere[1] == PlanError.exit_code
    assert "lab: the lease holds until" in lab[0] and lab[1] == 0
    assert len(mac.ledger.events(Kind.LEASE_ENDING)) == 1, (
        "the same lease, told once; by the region that was not reached"
    )


@pytest.mark.usefixtures("project")
def test_a_region_at_work_is_left_alone_until_its_lease_has_lapsed(mac: Mac) -> None:
    apply(mac, propose_lease(mac, LEASE_S))
    mac.ledger.append(Kind.STEP_OPENED, "07_observe")
    mac.ledger.append(Kind.FAILED, "a change that was undone")
    assert said_of_lab().endswith("runs, nobody needs to be told")
    until(lambda: drained(mac), within_s=LEASE_S + LOOK_S + 5)
    with alone("lab"):
        assert "runs it already" in said_of_lab()
    assert said_of_lab() == "lab: the canary is drained", "its kernel is dead: whoever waits for it must hear"


def test_a_drain_by_hand_is_on_the_page_and_needs_no_sound_ledger(mac: Mac, project: Path) -> None:
    assert drain_now("lab", "p95 doubled").startswith("lab: drained; new requests go to primary")
    page = project / "outputs/lab" / mac.ledger.run / "index.html"
    assert "p95 doubled" in page.read_text(encoding="utf-8")
    apply(mac, propose_undrain(mac.plan, "and once more"))
    sound = mac.ledger.path.read_bytes()
    mac.ledger.path.write_bytes(sound.replace(b"intent", b"intend", 1))
    try:
        said = drain_now("lab", "with a damaged ledger")
        assert drained(mac)
    finally:
        mac.ledger.path.write_bytes(sound)
    assert "lab: drained" in said and "the page is as it was: ledger.jsonl line" in said


def test_a_drain_needs_no_sound_parameters(mac: Mac, project: Path, tmp_path: Path) -> None:
    """One misspelt key must not lie between a person and the kill switch: the run kept its plan."""
    file = project / "parameters/lab.yaml"
    sound = file.read_text(encoding="utf-8")
    file.write_text(f"{sound}\nslize_pct: 8\n", encoding="utf-8")
    try:
        with pytest.raises(PlanError, match=r"slize_pct(.|\n)*to drain the canary all the same: ssh "):
            drain_now("lab", "nothing was kept")
        assert not drained(mac)
        run_of(mac).keep_facts("04_start_dark", "plan", mac.plan.model_dump(mode="json"))
        said = drain_now("lab", "p95 doubled")
    finally:
        file.write_text(sound, encoding="utf-8")
    assert drained(mac)
    assert f"1 mistake; the plan that run {mac.ledger.run} kept is used" in said


@pytest.mark.usefixtures("project")
def test_a_drain_that_cannot_be_recorded_says_what_to_type(mac: Mac) -> None:
    sound = mac.ledger.path.read_bytes()
    mac.ledger.path.write_bytes(sound + b"no event\n")
    try:
        with pytest.raises(ActionFailed, match="NOT drained, .*edited or damaged.*by hand:\nssh ") as refused:
            drain_now("lab", "by hand")
    finally:
        mac.ledger.path.write_bytes(sound)
    assert not drained(mac)
    subprocess.run(str(refused.value).splitlines()[-1], shell=True, check=True, timeout=30)
    assert drained(mac)


def test_a_sentinel_that_runs_already_is_not_started_again(mac: Mac, canary: PracticeMac) -> None:
    """As after a crash between the effect and its record; another configuration does start it anew."""

    def runs() -> str:
        job = f"{mac.plan.runtime.launchd_domain}/{mac.plan.sentinel_label}"
        return next(line for line in canary.launchctl("print", job).stdout.splitlines() if "pid = " in line)

    before = runs()
    apply(mac, propose_sentinel(mac))
    assert mac.ledger.events(Kind.EFFECT)[-1]["detail"]["result"] == "there already"
    assert runs() == before
    conf = Path(mac.plan.folder.sentinel_config)
    conf.write_text(f"{conf.read_text()}# by hand\n")
    apply(mac, propose_sentinel(mac))
    assert mac.ledger.events(Kind.EFFECT)[-1]["detail"]["result"] == "sampling"
    assert runs() != before


def test_a_lease_that_is_given_back_guards_nothing(mac: Mac) -> None:
    apply(mac, propose_lease(mac, LEASE_S), propose_release(mac))
    assert held_until(mac.ledger) is None
    time.sleep(LEASE_S + LOOK_S)
    assert not drained(mac)


class Open(http.server.BaseHTTPRequestHandler):
    """Says what an nginx says whose worker cannot see the kill switch."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"w050.00-aaaaaaaa 7 open\n")

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_drain_is_told_of_only_once_it_is_proven(mac: Mac) -> None:
    before = len(mac.ledger.events())
    with http.server.HTTPServer(("127.0.0.1", 0), Open) as nginx:
        threading.Thread(target=nginx.serve_forever).start()
        try:
            blind = with_plan(mac, nginx={"probe_port": nginx.server_port})
            with pytest.raises(ActionFailed, match="nginx's worker says open"):
                apply(blind, propose_drain(blind.plan, "by hand"))
        finally:
            nginx.shutdown()
    events = mac.ledger.events()[before:]
    assert [e["event"] for e in events] == [Kind.INTENT, Kind.EFFECT, Kind.FAILED]
    assert kind_of(events[-1]) == "not_drained"
    assert (is_drained(events), len(drains(events))) == (False, 1), "it voids what was said of the slice all the same"
    apply(mac, propose_drain(mac.plan, "by hand"))
    assert mac.ledger.events()[-1]["event"] == Kind.DRAINED
    assert is_drained(mac.ledger.events())


def test_a_change_that_nobody_confirms_is_taken_back(mac: Mac) -> None:
    before = probe_pulse(mac).revision
    apply(mac, replace(propose_weight(mac, 60), confirmation=""))  # as if we had died right after the proof
    assert probe_pulse(mac).unconfirmed.startswith("w060")
    until(lambda: probe_pulse(mac).unconfirmed == "", within_s=CONFIRM_S + LOOK_S + 10)
    pulse = probe_pulse(mac)
    assert (pulse.revision, pulse.drained) == (before, False)
    collect_events(mac, run_of(mac))
    event = mac.ledger.last(Kind.REVERTED)
    assert event is not None and "w060" in event["what"] and f"{before} answers" in event["what"]


def test_a_change_that_runs_unconfirmed_is_confirmed_by_whoever_asks_for_it_again(mac: Mac) -> None:
    proposal = propose_weight(mac, 60)
    apply(mac, replace(proposal, confirmation=""))
    apply(mac, propose_weight(mac, 60))
    assert probe_pulse(mac).unconfirmed == ""
    assert propose_weight(mac, 60).done_already


@pytest.mark.long
def test_a_change_while_the_sentinel_takes_one_back(canary: PracticeMac, tmp_path: Path) -> None:
    """Whoever is first: what is asked for last runs, and nobody has to drain."""
    plan = plan_of(canary, lease={"attended_s": 600, "confirm_s": CONFIRM_S})
    settings = Path(plan.folder.pending) / "settings"
    with connected(plan, tmp_path) as mac:
        apply(mac, prepare_tools(mac), propose_sentinel(mac), propose_weight(mac, 50), propose_lease(mac, 600))
        for number in range(12):
            apply(mac, replace(propose_weight(mac, 60), confirmation=""))
            settings.write_text(re.sub(r"deadline='\d+'", f"deadline='{time.time():.0f}'", settings.read_text()))
            time.sleep(0.35 * number)
            apply(mac, propose_weight(mac, 70))
            pulse = probe_pulse(mac)
            assert (pulse.weight_pct, pulse.drained, pulse.unconfirmed) == (70, False, "")
        collect_events(mac, run_of(mac))
        apply(mac, propose_removal(mac))
        release(mac)
        assert mac.ledger.events(Kind.DRAINED) == []
        assert 0 < len(mac.ledger.events(Kind.REVERTED)) < 12


def test_too_many_5xx_drain_with_nobody_connected(mac: Mac, canary: PracticeMac) -> None:
    """A dead canary: nginx answers for it from primary, so no client sees a 5xx, and the sentinel must."""
    apply(mac, propose_lease(mac, 600))
    traffic.start(canary.layout, 50, 120)
    try:
        time.sleep(2 * LOOK_S)
        assert not drained(mac)
        canary.launchctl("bootout", "--wait", f"{mac.plan.runtime.launchd_domain}/{mac.plan.canary.label}")
        until(lambda: drained(mac), within_s=100)  # nginx asks a dead canary once in 10 s, so each 5xx takes that long
    finally:
        traffic.stop(canary.layout)
        start_canary(canary)
    collect_events(mac, run_of(mac))
    event = mac.ledger.last(Kind.DRAINED)
    assert event is not None and event["detail"]["cause"] == "errors" and "certainly over 0.5 %" in event["what"]


@pytest.mark.long
def test_drained_within_a_second_under_load(mac: Mac, canary: PracticeMac) -> None:
    """50 times: from the command to the last request that was meant for the canary, by nginx's own log."""
    log = Path(mac.plan.nginx.slim_log)
    late_s = []
    traffic.start(canary.layout, 100, 240)
    try:
        for _ in range(50):
            apply(mac, propose_undrain(mac.plan, "again"))
            until(lambda: last_canary_s(log) > time.time() - 1)
            started_at_s = time.time()
            apply(mac, propose_drain(mac.plan, "by hand"))
            time.sleep(0.5)
            late_s.append(max(0.0, last_canary_s(log) - started_at_s))
    finally:
        sent = traffic.stop(canary.layout)
    print(f"drain, 50 times: median {statistics.median(late_s) * 1000:.0f} ms, worst {max(late_s) * 1000:.0f} ms")
    assert max(late_s) <= 1.0
    assert sent["sent"] == sent["ok"]


def last_canary_s(log: Path) -> float:
    """When the newest request that was meant for the canary came; nginx logs when it was answered."""
    lines = [line.split("\t") for line in log.read_text(errors="replace").splitlines()[-400:]]
    return max((float(f[0]) - float(f[9]) for f in lines if len(f) > 9 and f[1] == "canary"), default=0.0)


HOLD_LEASE = """
import sys, time
from pathlib import Path
import mac_fixture
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply
from runbook_lib.mac.lease import is_short, propose_lease
from runbook_lib.records.kinds import Kind

lab = PracticeMac(Path(sys.argv[1]), say=lambda text: None)
plan = mac_fixture.plan_of(lab, lease={"attended_s": int(sys.argv[3]), "confirm_s": 15})
with mac_fixture.connected(plan, Path(sys.argv[2])) as mac:
    while True:
        if is_short(mac.ledger, plan.lease.attended_s):
            apply(mac, propose_lease(mac, plan.lease.attended_s))
        print("held", flush=True)
        time.sleep(0.3)
"""


@pytest.mark.long
def test_a_runner_killed_at_any_moment_leaves_a_canary_that_is_drained(mac: Mac, canary: PracticeMac) -> None:
    """20 times: drained within the lease and one look of the sentinel."""
    rng = random.Random(5)
    took_s = []
    for _ in range(20):
        apply(mac, propose_lease(mac, 60))  # or the sentinel drains for the lapsed one before it is held again
        apply(mac, propose_undrain(mac.plan, "again"))
        release(mac)
        with runner(mac, canary) as process:
            assert not drained(mac), "what is measured below has not happened yet"
            time.sleep(rng.uniform(0, LEASE_S))
            process.kill()
        release_dead(mac)
        killed_at_s = time.monotonic()
        until(lambda: drained(mac), within_s=LEASE_S + LOOK_S)
        took_s.append(time.monotonic() - killed_at_s)
    print(f"drained after a killed runner, 20 times: worst {max(took_s):.1f} s of a lease of {LEASE_S} s")


def runner(mac: Mac, canary: PracticeMac) -> subprocess.Popen[str]:
    """A process of its own that keeps the lease, as a step does."""
    here = Path(__file__).parent
    words = [sys.executable, "-c", HOLD_LEASE, str(canary.layout.root), str(mac.ledger.path.parent), str(LEASE_S)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=here)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def release_dead(mac: Mac) -> None:
    """The next change finds that the holder's process is gone, and goes on."""
    holder = probe_lock(mac)
    assert holder is None or holder.is_gone


def test_a_second_operator_is_refused_until_the_first_lets_go(mac: Mac, canary: PracticeMac) -> None:
    release(mac)
    with runner(mac, canary) as process:
        try:
            with pytest.raises(
                HostLocked, match=r"nothing was changed: the Mac is held by .* until .*rollout unlock lab"
            ):
                apply(mac, propose_weight(mac, 60))
            assert probe_pulse(mac).weight_pct == 50
            apply(mac, propose_drain(mac.plan, "a drain waits for nobody"))
            assert drained(mac)
            apply(mac, propose_undrain(mac.plan, "go on"))
        finally:
            process.kill()
    apply(mac, propose_weight(mac, 60))
    assert [e["event"] for e in mac.ledger.events(Kind.LOCK_TAKEN_OVER)] == ["lock_taken_over"]


def test_a_broken_lock_is_on_record(mac: Mac, canary: PracticeMac) -> None:
    release(mac)
    with runner(mac, canary) as process:
        try:
            process.send_signal(signal.SIGSTOP)  # a laptop that is closed
            holder = probe_lock(mac)
            assert holder is not None and not holder.is_gone
            unlock(mac, holder, "kai is on a plane")
            assert probe_lock(mac) is None
        finally:
            process.kill()
    broken = mac.ledger.last(Kind.LOCK_BROKEN)
    assert broken is not None and broken["detail"]["why"] == "kai is on a plane"


def test_a_lock_that_lapsed_is_taken_over_by_one_of_many(mac: Mac, tmp_path: Path) -> None:
    """Of twenty that find a lapsed lock at once, one holds the Mac."""
    lock = tmp_path / "m" / "lock"
    lock.parent.mkdir()
    lock.write_text("1\tgone.1\tkai@desk\t2026-11-22T00:00:00Z\tby hand\n")
    text = (Path(__file__).parents[1] / "runbook_lib/onmac/hold_lock.sh").read_text()
    words = ["sh", "-c", f'{text}\nhold {lock} "$0" 60 me why && echo got >>{tmp_path}/got; :']
    racers = [subprocess.Popen([*words, f"racer.{n}"], stdout=subprocess.DEVNULL) for n in range(20)]
    assert [racer.wait() for racer in racers] == [0] * 20
    assert (tmp_path / "got").read_text() == "got\n"
    assert sorted(path.name for path in lock.parent.iterdir()) == ["lock"]
