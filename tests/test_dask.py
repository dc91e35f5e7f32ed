"""Past one machine: a real scheduler with real workers, one of which is killed in the middle of its work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lab_fixture import until
from torture_log import UPSTREAMS, torture

from runbook_lib import accesslog
from runbook_lib.analysis.partitions import partitions, read_partitions
from runbook_lib.errors import WorkersUnreachable
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.regions.workers import workers

PROJECT = Path(__file__).parents[1]
WORKERS_COUNT = 3
MACS_COUNT = 2
REGIONS = [f"lab-{number:02}" for number in range(1, 41)]
WINDOW_S = 900
LIMIT_S = 600


class Cluster:
    """A scheduler and its workers, each a process, in one project folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.note = root, root / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", self.note)
        until(self.note.exists, 60)
        own = ("--nthreads", "1", "--no-nanny", "--scheduler-file", self.note, "--local-directory", root / "dask")
        self.workers = [self._start("worker", *own) for _ in range(WORKERS_COUNT)]
        self.address: str = json.loads(self.note.read_text())["address"]

    def _start(self, what: str, *words: object) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).parent / "dask"), what, "--no-dashboard", *map(str, words)]
        log = (self.root / f"{what}.log").open("ab")
        with log:
            return subprocess.Popen(command, cwd=self.root, stdout=log, stderr=log)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.terminate()
        for process in (*self.workers, self.scheduler):
            process.wait(60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp") as folder:
        root = Path(folder).resolve()
        shutil.copytree(PROJECT / "notebooks", root / "notebooks")
        (root / "parameters").mkdir()
        cluster = Cluster(root)
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def log(tmp_path: Path) -> list[Path]:
    """A log with everything that can be in one, in two files."""
    content = torture(20_000)
    half = content.index(b"\n", len(content) // 2) + 1
    files = [tmp_path / "access.log.1", tmp_path / "access.log"]
    for path, part in zip(files, (content[:half], content[half:]), strict=True):
        path.write_bytes(part)
    return files


def test_partitions_are_whole_lines_and_nothing_else(log: list[Path]) -> None:
    parts = partitions(log, 64)
    assert 60 <= len(parts) <= 68
    for path in log:
        content, own = path.read_bytes(), [part for part in parts if part.path == str(path)]
        assert b"".join(content[part.start : part.end] for part in own) == content
        assert all(content[part.end - 1 : part.end] == b"\n" for part in own[:-1])


def test_a_local_pool_counts_what_a_single_read_counts(log: list[Path]) -> None:
    single = accesslog.read(log, upstreams=UPSTREAMS, window_s=WINDOW_S, growing=False)
    with workers() as executor:
        assert read_partitions(executor, log, UPSTREAMS, WINDOW_S).to_bytes() == single.to_bytes()


def test_no_scheduler_is_said_and_touches_nothing() -> None:
    with (
        pytest.raises(WorkersUnreachable, match="no Dask scheduler answers at tcp://127.0.0.1:9"),
        workers("tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
def test_a_cluster_counts_what_a_single_read_counts(
    cluster: Cluster, log: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster.root)
    single = accesslog.read(log, upstreams=UPSTREAMS, window_s=WINDOW_S, growing=False)
    with workers(cluster.address) as executor:
        assert read_partitions(executor, log, UPSTREAMS, WINDOW_S).to_bytes() == single.to_bytes()


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
def test_workers_elsewhere_are_refused(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notebooks", "parameters"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkersUnreachable, match="every worker needs this project folder"), workers(cluster.address):
        pass


@pytest.mark.long
@pytest.mark.timeout(900)
def test_forty_regions_and_a_killed_worker(cluster: Cluster) -> None:
    """Real notebooks on two practice Macs: each region has a folder of its own there, and takes its own snapshot."""
    macs = [PracticeMac(cluster.root / f".mac{number}", say=lambda _: None) for number in range(MACS_COUNT)]
    text = (PROJECT / "parameters/lab.yaml").read_text(encoding="utf-8")
    try:
        with ThreadPoolExecutor(MACS_COUNT) as threads:
            list(threads.map(PracticeMac.up, macs))
        for number, region in enumerate(REGIONS):
            mac = macs[number % MACS_COUNT]
            own = f"practice_mac: {mac.layout.yaml}\n  runbook_dir: {mac.layout.home}/rollout-{region}"
            path = cluster.root / f"parameters/{region}.yaml"
            path.write_text(
                text.replace("region: lab", f"region: {region}").replace("practice_mac: .lab/mac.yaml", own)
            )
        words = ["run", *REGIONS, "--through", "1", "--dask", cluster.address, "--json"]
        command = [str(Path(sys.executable).parent / "rollout"), *words]
        with (cluster.root / "answer.json").open("w") as file:
            process = subprocess.Popen(command, cwd=cluster.root, stdout=file, stderr=subprocess.PIPE, text=True)
            victim = cluster.workers[0].pid
            until(lambda: len(_judged(cluster.root)) >= 6 and _is_in_the_middle(cluster.root, victim), 300)
            os.kill(victim, signal.SIGKILL)
            _, said = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, said
        outcomes = json.loads((cluster.root / "answer.json").read_text())
        assert [outcome["region"] for outcome in outcomes] == REGIONS
        assert {(outcome["step"], outcome["answer"]) for outcome in outcomes} == {("01_snapshot", "pass")}
        judged = _judged(cluster.root)
        assert judged == dict.fromkeys(REGIONS, ["pass"]), "nothing lost, nothing twice"
        opened = {region: len(_events(cluster.root, region, "step_opened")) for region in REGIONS}
        assert sorted(opened.values())[-2:] == [1, 2], "the region of the killed worker was begun again, no other"
        for number, region in enumerate(REGIONS):
            kept = macs[number % MACS_COUNT].layout.home / f"rollout-{region}" / "snapshots"
            assert len(list(kept.iterdir())) == 1, f"{region} has one snapshot"
    finally:
        for mac in macs:
            mac.down(keep_cache=False)


def _events(root: Path, region: str, *kinds: str) -> list[dict[str, Any]]:
    pointer = root / "outputs" / region / "current"
    return Run(region, pointer.parent / pointer.read_text()).ledger().events(*kinds) if pointer.exists() else []


def _is_in_the_middle(root: Path, runner: int) -> bool:
    """Whether this process has opened a step that has no verdict yet."""
    runs = root.glob("outputs/*/.runner")
    mine = [path.parent.name for path in runs if f"process {runner}," in path.read_text()]
    last = [_events(root, region, "step_opened", "verdict")[-1:] for region in mine]
    return any(events and events[0]["event"] == Kind.STEP_OPENED for events in last)


def _judged(root: Path) -> dict[str, list[str]]:
    found = {region: [e["detail"]["answer"] for e in _events(root, region, "verdict")] for region in REGIONS}
    return {region: answers for region, answers in found.items() if answers}
