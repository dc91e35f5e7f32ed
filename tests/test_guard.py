"""What the sentinel does by itself, script by script: the judge's own test in awk, a lease, a full disk."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from shells import MAC_PATH, SHELLS, each_shell

from runbook_lib.accesslog import LOG_FIELDS
from runbook_lib.judging.pair import Pair
from runbook_lib.judging.ratios import bets_of
from runbook_lib.onmac import script
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
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
    Path(f"{plan.folder.spare_drain}").touch()
    return plan


def guard(shell: str, folder: Path, then: str = "guard") -> str:
    """Run some of guard.sh as the sentinel does; what it says on standard error is a defect."""
    text = f"umask 077\n. {folder}/sentinel.conf\n. {folder}/guard.sh\n{then}\n"
    words = [*SHELLS[shell], "-c", text, str(folder / "sentinel.sh")]
    done = subprocess.run(words, env={"PATH": MAC_PATH}, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def lease(plan: Plan, for_s: int) -> None:
    Path(plan.folder.lease).write_text(f"{int(time.time()) + for_s}\tkai@desk\n")


def events(plan: Plan) -> list[list[str]]:
    path = Path(plan.folder.events)
    return sentinel.parse_events(path.read_bytes() if path.exists() else b"").to_numpy().tolist()


def line(plan: Plan, statuses: tuple[int, ...], gateway: str = "canary") -> str:
    """One request: tried at `gateway` first, then, after a failure, at primary."""
    fields = dict.fromkeys(LOG_FIELDS, "-")
    addresses = (plan.gateways[gateway].address, plan.primary.address)[: len(statuses)]
    fields |= {"upstream_addr": ", ".join(addresses), "upstream_status": ", ".join(map(str, statuses))}
    return "\t".join(fields.values()) + "\n"


AWKS = [awk for awk in ("mawk", "original-awk", "gawk", "busybox") if shutil.which(awk)]
"""Debian's, the one that macOS has, and others where they are installed."""
LOOKS_COUNT = 40
SCENES = {  # errors of the canary, of primary, from look 15 on
    "the canary is bad": (0.3, 0.002),
    "the canary is worse": (0.12, 0.02),
    "both are bad": (0.2, 0.2),
    "both are well": (0.0, 0.0),
}


@pytest.mark.parametrize("share", [0.1, 0.6], ids=["a slice", "most"])
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("awk", AWKS)
def test_it_decides_at_the_same_look_as_the_judge(
    awk: str, scene: str, share: float, plan: Plan, tmp_path: Path
) -> None:
    """Look after look at a growing log, half a line at the end of each, against pair.Pair on its counts."""
    rng = np.random.default_rng(7)
    late = np.arange(LOOKS_COUNT) >= 15
    tried = rng.poisson(np.array([[share], [1 - share]]) * 60, (2, LOOKS_COUNT))
    failed = rng.binomial(tried, np.where(late, np.array(SCENES[scene])[:, None], 0.001))
    shell = as_awk(tmp_path, awk)
    lease(plan, 600)
    log = tmp_path / "openclaw-rollout.tsv"
    log.write_text(line(plan, (200,)) * 3)
    guard("dash", tmp_path, shell + "guard")  # what was there before is not looked at
    t = plan.thresholds
    pair, torn = Pair(bets_of(t), sentinel.looks_in(plan), t.healthy_error_ratio_pct / 100), ""
    for look in range(LOOKS_COUNT):
        ours, theirs, ours_failed, theirs_failed = *tried[:, look], *failed[:, look]
        text = line(plan, (502,)) * ours_failed + line(plan, (200,)) * (ours - ours_failed)
        text += line(plan, (502,), "primary") * theirs_failed + line(plan, (200,), "primary") * (theirs - theirs_failed)
        half = line(plan, (200,))[:40]
        with log.open("a") as file:
            file.write(line(plan, (200,))[len(torn) :] * bool(torn) + text + half)
        ours, torn = ours + bool(torn), half  # the half line of the look before is whole now
        (certain,) = pair.look(*(np.array([count]) for count in (ours_failed, ours, theirs_failed, theirs)))
        guard("dash", tmp_path, shell + "guard")
        assert Path(plan.folder.drain).exists() is bool(certain), f"look {look}"
        if certain:
            break
        carried = [float(number) for number in (tmp_path / "guarded").read_text().split()[15:]]
        logs = [*np.stack((pair.stretch[:, 0], pair.run[:, 0]), axis=1).ravel(), *pair.worse[:, 0]]
        assert carried == pytest.approx([pair.lead[0], *logs], rel=1e-6, abs=1e-6), f"look {look}"
    else:
        assert scene.startswith("both")
        return
    (event,) = events(plan)
    assert event[1:4] == [RUN, "drained", "errors"]
    assert f"{failed[0, : look + 1].sum()} of {tried[0, : look + 1].sum() + look} attempts" in event[4]


def as_awk(folder: Path, awk: str) -> str:
    """Shell text that makes `awk` the named one, as if it were the Mac's."""
    words = "busybox awk" if awk == "busybox" else awk
    path = folder / "bin" / "awk"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return f"PATH={path.parent}:$PATH\n"


@each_shell
def test_a_quiet_log_counts_as_a_look_and_starts_no_program(shell: str, plan: Plan, tmp_path: Path) -> None:
    lease(plan, 600)
    log = tmp_path / "openclaw-rollout.tsv"
    log.write_text(line(plan, (200,)) * 50)
    guard(shell, tmp_path)
    log.write_text(line(plan, (200,)) * 100)
    guard(shell, tmp_path)
    once = (tmp_path / "guarded").read_text().split()
    guard(shell, tmp_path)
    again = (tmp_path / "guarded").read_text().split()
    assert again == [*once[:2], str(int(once[2]) + 1), *once[3:]]


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
    assert not Path(plan.folder.drain).exists(), "without a lease there is nothing to guard"
    lease(plan, 600)
    guard(shell, tmp_path)
    assert not Path(plan.folder.drain).exists()
    lease(plan, -1)
    guard(shell, tmp_path, "guard; guard")
    assert Path(plan.folder.drain).exists()
    assert [event[1:] for event in events(plan)] == [[RUN, "drained", "lease", "the lease of kai@desk lapsed"]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="macOS has no disk that is always full")
@each_shell
def test_a_full_disk_stops_neither_the_drain_nor_what_is_told_of_it(shell: str, plan: Plan, tmp_path: Path) -> None:
    lease(plan, -1)
    guard(shell, tmp_path, "real=$events; events=/dev/full; guard; events=$real; guard")
    assert Path(plan.folder.drain).samefile(f"{plan.folder.spare_drain}"), "a link needs no room"
    assert [event[3] for event in events(plan)] == ["lease"]


def test_hk_has_all_that_the_guard_asks_for(plan: Plan, tmp_path: Path) -> None:
    """Every variable that guard.sh does not set itself is set by the config."""
    guard("dash", tmp_path, "set -u; : $run $drain_file $lease $pending $events $guarded $slim_log $canary $columns")
    guard("dash", tmp_path, "set -u; : $primary $bets $odds $limits $error_pct; echo ok")
