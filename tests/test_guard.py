"""What the sentinel does by itself, script by script: the judge's own test in awk, a lease, a full disk."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from shells import MAC_PATH, SHELLS, each_shell

from runbook_lib.accesslog import LOG_FIELDS
from runbook_lib.onmac import script
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.statistics import excess
from runbook_lib.steps import sentinel

PROJECT = Path(__file__).resolve().parents[1]
RUN = "20261122T000000Z"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """hk's plan, with the runbook's folder and nginx's log in a temporary one."""
    values = yaml.safe_load((PROJECT / "parameters/hk.yaml").read_text(encoding="utf-8"))
    values["host"]["runbook_dir"] = str(tmp_path)
    values["nginx"]["log_dir"] = str(tmp_path)
    plan = reading.build(values, "parameters/hk.yaml")
    (tmp_path / "guard.sh").write_text(script("guard.sh"))
    lines = [line for line in sentinel.config(plan, RUN).splitlines() if not line.startswith("gateway ")]
    (tmp_path / "sentinel.conf").write_text("\n".join([*lines, ""]))
    Path(f"{plan.drain_file}.spare").touch()
    return plan


def guard(shell: str, folder: Path, then: str = "guard") -> str:
    """Run some of guard.sh as the sentinel does; what it says on standard error is a defect."""
    text = f"umask 077\n. {folder}/sentinel.conf\n. {folder}/guard.sh\n{then}\n"
    words = [*SHELLS[shell], "-c", text, str(folder / "sentinel.sh")]
    done = subprocess.run(words, env={"PATH": MAC_PATH}, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def lease(plan: Plan, for_s: int) -> None:
    (Path(plan.host.runbook_dir) / "lease").write_text(f"{int(time.time()) + for_s}\tkai@desk\n")


def events(plan: Plan) -> list[list[str]]:
    path = Path(sentinel.events_file(plan))
    return sentinel.parse_events(path.read_bytes() if path.exists() else b"").to_numpy().tolist()


def line(plan: Plan, statuses: tuple[int, ...]) -> str:
    """One request: tried at the canary first, then, after a failure, at primary."""
    fields = dict.fromkeys(LOG_FIELDS, "-")
    addresses = (plan.canary.address, plan.primary.address)[: len(statuses)]
    fields |= {"upstream_addr": ", ".join(addresses), "upstream_status": ", ".join(map(str, statuses))}
    return "\t".join(fields.values()) + "\n"


@each_shell
@pytest.mark.parametrize("seed", range(3))
def test_it_decides_at_the_same_look_as_the_judge(shell: str, seed: int, plan: Plan, tmp_path: Path) -> None:
    """Look after look at a growing log, half a line at the end of each, against statistics.excess on its counts."""
    rng = np.random.default_rng(seed)
    trials = rng.integers(0, 25, 40)
    failed = rng.binomial(trials, np.where(np.arange(40) < 15, 0.001, (0.2, 0.05, 0.0)[seed]))
    t = plan.thresholds
    starts = t.observation_s / plan.observation.sample_every_s
    shares = (t.error_ratio_pct / 100, t.healthy_error_ratio_pct / 100, t.confidence_pct / 100)
    expected = excess(failed, trials, *shares, starts_count=starts, recent=0.0).certain_at
    lease(plan, 600)
    log = tmp_path / "openclaw-rollout.tsv"
    log.write_text(line(plan, (200,)) * 3)
    guard(shell, tmp_path)  # what was there before is not looked at
    torn = ""
    for look, (count, bad) in enumerate(zip(trials, failed, strict=True)):
        text = line(plan, (502, 200)) * bad + line(plan, (200,)) * (count - bad)
        whole = text + line(plan, (200,))[:40]
        with log.open("a") as file:
            file.write(line(plan, (200,))[len(torn) :] * bool(torn) + whole)
        if torn:
            count += 1  # the half line of the look before is whole now
            trials[look] = count
        torn = line(plan, (200,))[:40]
        guard(shell, tmp_path)
        if Path(plan.drain_file).exists():
            break
    expected = excess(failed, trials, *shares, starts_count=starts, recent=0.0).certain_at
    if expected is None:
        assert not Path(plan.drain_file).exists()
        return
    assert look == expected
    (event,) = events(plan)
    assert event[1:4] == [RUN, "drained", "errors"]
    assert f"{failed[: look + 1].sum()} of {trials[: look + 1].sum()} attempts" in event[4]


@each_shell
def test_a_rotated_log_is_read_from_its_beginning(shell: str, plan: Plan, tmp_path: Path) -> None:
    lease(plan, 600)
    log = tmp_path / "openclaw-rollout.tsv"
    log.write_text(line(plan, (200,)) * 50)
    guard(shell, tmp_path)
    log.rename(tmp_path / "openclaw-rollout.tsv.1")
    log.write_text(line(plan, (502, 200)) * 20)
    guard(shell, tmp_path)
    assert events(plan)[0][3] == "errors"


@each_shell
def test_a_lapsed_lease_drains_once_and_a_held_one_does_not(shell: str, plan: Plan, tmp_path: Path) -> None:
    guard(shell, tmp_path)
    assert not Path(plan.drain_file).exists(), "without a lease there is nothing to guard"
    lease(plan, 600)
    guard(shell, tmp_path)
    assert not Path(plan.drain_file).exists()
    lease(plan, -1)
    guard(shell, tmp_path, "guard; guard")
    assert Path(plan.drain_file).exists()
    assert [event[1:] for event in events(plan)] == [[RUN, "drained", "lease", "the lease of kai@desk lapsed"]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="macOS has no disk that is always full")
@each_shell
def test_a_full_disk_stops_neither_the_drain_nor_what_is_told_of_it(shell: str, plan: Plan, tmp_path: Path) -> None:
    lease(plan, -1)
    guard(shell, tmp_path, "real=$events; events=/dev/full; guard; events=$real; guard")
    assert Path(plan.drain_file).samefile(f"{plan.drain_file}.spare"), "a link needs no room"
    assert [event[3] for event in events(plan)] == ["lease"]


def test_hk_has_all_that_the_guard_asks_for(plan: Plan, tmp_path: Path) -> None:
    """Every variable that guard.sh does not set itself is set by the config."""
    guard("dash", tmp_path, "set -u; : $run $drain_file $lease $pending $events $guarded $slim_log $canary $columns")
    guard("dash", tmp_path, "set -u; : $bets $needed $needed_stretch $starts $error_pct; echo ok")
