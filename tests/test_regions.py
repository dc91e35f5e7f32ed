"""Five practice regions in waves, one that fails: the table, the ledgers and the pages agree, the rest is untouched."""

from __future__ import annotations

import json
import re
import signal

import pytest
from lab_fixture import until
from regions_fixture import LIMIT_S, NAMES, Regions

from runbook_lib.lab import faults, processes, sshd, traffic
from runbook_lib.records.kinds import Kind
from runbook_lib.regions.watch import Watcher

pytest_plugins = ["regions_fixture"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_a_failure_in_the_first_wave_leaves_the_others_untouched(regions: Regions) -> None:
    faults.inject(regions.macs["lab-hk"], "taken-port")
    before = {name: regions.files(name) for name in NAMES[1:]}
    code, output = regions.rollout("run", *NAMES, "--waves", "--through", "3")
    faults.clear(regions.macs["lab-hk"])
    assert code == 1, output
    assert regions.agree("lab-hk") == ("02_install_canary", "fail")
    for name in NAMES[1:]:
        assert f"{name}: all steps inconclusive: held: lab-hk is fail in wave 1; not touched" in output
        assert regions.run_of(name) is None
        assert regions.table()[name]["step"] == ""
        assert regions.files(name) == before[name]
    assert "\x1b[" not in output, "a log gets no cursor tricks"
    assert re.search(r"^\d\d:\d\d:\d\d  lab-hk 02_install_canary +fail ", output, re.MULTILINE)


def test_a_failure_in_the_second_wave_stops_the_third_and_not_its_neighbour(regions: Regions) -> None:
    for name in NAMES[:3]:
        traffic.start(regions.macs[name].layout, 60, LIMIT_S)
    code, output = regions.rollout("run", "lab-hk", "--through", "3")
    assert code == 0, output
    before = {name: regions.files(name) for name in NAMES[3:]}
    words = ["lab-hk", ":", "lab-jp", "lab-kr", ":", "lab-sg", "lab-us", "--through", "6"]
    process = regions.start("run", *words)
    until(lambda: _has(regions, "lab-kr", "05_smoke"), LIMIT_S)
    faults.inject(regions.macs["lab-kr"], "starved-workers")
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, output
    assert regions.agree("lab-hk") == ("06_raise_weight", "pass")
    assert regions.agree("lab-jp") == ("06_raise_weight", "pass")
    assert regions.agree("lab-kr") == ("06_raise_weight", "fail")
    table = regions.table()
    assert {name: (table[name]["weight_pct"], table[name]["drained"]) for name in NAMES[:3]} == {
        "lab-hk": (10, False),
        "lab-jp": (10, False),
        "lab-kr": (10, False),  # starved workers pause: the weight stays where it is
    }
    for name in NAMES[3:]:
        assert f"{name}: all steps inconclusive: held: lab-kr is fail in wave 2; not touched" in output
        assert regions.run_of(name) is None
        assert regions.files(name) == before[name]


def test_watch_shows_both_gateways_and_what_is_left(regions: Regions) -> None:
    code, output = regions.rollout("watch", "lab-hk", "lab-us", "--once", "--json")
    assert code == 0, output
    slice_, nothing = json.loads(output)
    assert (slice_["step"], slice_["weight_pct"], slice_["drained"]) == ("06_raise_weight", 10, False)
    assert slice_["observed_s"] > 0 and slice_["observed_s"] + slice_["left_s"] >= 15
    assert all(slice_["gateways"][name]["rss_mb"] > 1 for name in ("primary", "canary"))
    assert nothing["problem"] == "nothing to watch yet: rollout run lab-us"
    code, output = regions.rollout("watch", "lab-hk", "--once")
    assert code == 0 and "\x1b[" not in output
    assert re.search(r"^ memory, MB +\d+", output, re.MULTILINE), output


def test_watch_says_when_a_mac_does_not_answer(regions: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(regions.root)
    watcher = Watcher("lab-hk")
    assert watcher.look().problem == ""
    mac = regions.macs["lab-hk"]
    processes.end(mac.layout.run, sshd.NAME)
    try:
        until(lambda: watcher.look().problem, 60)
        assert (watcher.look().step, watcher.look().weight_pct) == ("06_raise_weight", 10)
    finally:
        mac.up()
    until(lambda: not watcher.look().problem, 60)
    watcher.close()


def test_ctrl_c_ends_every_runner_with_true_records(regions: Regions) -> None:
    names = ("lab-sg", "lab-us")
    process = regions.start("run", *names, "--through", "3")
    until(lambda: all(_opened(regions, name) for name in names), LIMIT_S)
    board = (regions.root / "outputs/index.html").read_text(encoding="utf-8")
    assert board.count("… RUNNING") == len(names), "not only after each step: an observation takes two days"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, output
    for name in names:
        run = regions.run_of(name)
        assert run is not None
        (record,) = run.directory.glob("*.ipynb")
        facts = json.loads(record.read_text())["metadata"]["papermill"]
        assert facts["reason"] == "the runner was stopped by SIGTERM"
    assert not list((regions.root / "outputs").glob(".wanted-*"))
    code, output = regions.rollout("run", *names, "--through", "1")
    assert code == 0, f"it goes on where it was stopped: {output}"


def _opened(regions: Regions, name: str) -> bool:
    run = regions.run_of(name)
    return run is not None and run.ledger().last(Kind.INTENT) is not None


def _has(regions: Regions, name: str, step: str) -> bool:
    run = regions.run_of(name)
    return run is not None and run.ledger().last(Kind.VERDICT, step=step) is not None
