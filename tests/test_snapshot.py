"""A snapshot that is a way back: consistent while the gateway writes, compared at once, refused without room."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from lab_fixture import hook, status, until
from mac_fixture import connected, plan_of
from own_nginx import free_ports

from runbook_lib.errors import ActionFailed
from runbook_lib.gateway.launchd import Job
from runbook_lib.lab.layout import write
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.vault import parse_env
from runbook_lib.records.kinds import Kind
from runbook_lib.steps import jobs, snapshot
from runbook_lib.steps.snapshot import Snapshot
from runbook_lib.verdict import Answer, Verdict

pytest_plugins = ["lab_fixture", "mac_fixture"]


@pytest.fixture
def own_mac(own_lab: PracticeMac, tmp_path: Path) -> Iterator[Mac]:
    with connected(plan_of(own_lab), tmp_path) as mac:
        apply(mac, snapshot.prepare_tools(mac))
        yield mac


def take(mac: Mac, name: str) -> Snapshot:
    return Snapshot.from_facts(apply(mac, snapshot.propose_snapshot(mac, name))[0])


@contextmanager
def write_load(lab: PracticeMac) -> Iterator[list[int]]:
    """Webhooks arrive at primary meanwhile; the statuses they got."""
    statuses: list[int] = []
    done = threading.Event()

    def send() -> None:
        with httpx.Client(timeout=10) as client:
            while not done.is_set():
                statuses.append(hook(lab, f"http://127.0.0.1:{lab.ports.primary}", client).status_code)

    senders = [threading.Thread(target=send) for _ in range(2)]
    for sender in senders:
        sender.start()
    time.sleep(0.2)
    try:
        yield statuses
    finally:
        done.set()
        for sender in senders:
            sender.join()


def failing(checks: object) -> list[str]:
    return [c.name for c in Verdict.of(checks).checks if c.answer is not Answer.PASS]  # type: ignore[arg-type]


# -- taken for real ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_under_write_load_every_copy_is_sound(own_lab: PracticeMac, own_mac: Mac, tmp_path: Path, times: int) -> None:
    for number in range(times):
        with write_load(own_lab) as statuses:
            before, written = len(statuses), deliveries(own_lab.layout.state_dir("primary"))
            taken = take(own_mac, f"loaded-{times}-{number}")
            assert len(statuses) > before, "webhooks arrived while it was taken"
        assert set(statuses) == {200}
        checks = snapshot.judge(taken)
        assert failing(checks) == [], [check.reason for check in checks]
        assert (taken.databases["integrity"] == "ok").all()
        assert (taken.databases["schema_version"] == taken.databases["live_schema_version"]).all()
        still = taken.files[(taken.files["asset"] == "primary") & ~taken.files["changing"]]
        kept, left_out = still[still["restored"] != ""], still[still["restored"] == ""]
        assert left_out["file"].str.startswith("./tmp/").all(), "locks, and nothing else"
        assert len(kept) >= 1
        assert (kept["live"] == kept["restored"]).all()
        assert "3 live files are not in the backup, e.g. primary ./tmp/" in checks[2].reason
        state = unpacked(taken, tmp_path / str(number))
        restored, live = deliveries(state), deliveries(own_lab.layout.state_dir("primary"))
        assert len(restored) >= len(written)
        assert restored == live[: len(restored)], "every row that was written until then, and no other"
        shutil.rmtree(taken.directory)
    starts(own_lab, state)


def unpacked(taken: Snapshot, folder: Path) -> Path:
    """Primary's state out of its archive, where nobody has touched it."""
    with tarfile.open(taken.archive("primary")) as archive:
        archive.extractall(folder, filter="data")
    return next(path.parent for path in folder.rglob("openclaw.json") if "payload" in path.parts)


def deliveries(state: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{state}/state/openclaw.sqlite?mode=ro", uri=True) as database:
        rows = database.execute("select * from deliveries order by id").fetchall()
    database.close()
    return rows


def starts(lab: PracticeMac, state: Path) -> None:
    """A gateway that is started on this state becomes ready."""
    config = json.loads((state / "openclaw.json").read_text())
    config["logging"]["file"] = str(state / "gateway.log")
    (state / "openclaw.json").write_text(json.dumps(config))
    state.chmod(0o700)
    (port,) = free_ports(1)
    entry = lab.layout.prefix("primary") / "node_modules" / lab.package / "openclaw.mjs"
    words = [lab.layout.node_bin / "node", entry, "gateway", "run", "--port", str(port), "--bind", "loopback"]
    own = {"OPENCLAW_STATE_DIR": str(state), "OPENCLAW_CONFIG_PATH": str(state / "openclaw.json")}
    secrets = parse_env(lab.layout.env_file("primary").read_text())
    gateway = subprocess.Popen(words, env={**os.environ, **secrets, **own}, stdout=subprocess.DEVNULL)
    try:
        until(lambda: status(f"http://127.0.0.1:{port}/readyz") == 200, within_s=30)
    finally:
        gateway.terminate()
        gateway.wait(20)


def test_an_archive_holds_whole_databases(own_lab: PracticeMac, own_mac: Mac, tmp_path: Path) -> None:
    with write_load(own_lab):
        taken = take(own_mac, "whole")
    with tarfile.open(taken.archive("primary")) as archive:
        archive.extractall(tmp_path, filter="data")
    found = list(tmp_path.rglob("*.sqlite"))
    assert len(found) >= 1
    for file in found:
        with sqlite3.connect(file) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)
            assert database.execute("select count(*) from sqlite_master").fetchone()[0] > 0
        database.close()


def test_what_is_kept_beside_the_state(own_lab: PracticeMac, own_mac: Mac) -> None:
    taken = take(own_mac, "beside")
    layout = own_lab.layout
    kept = taken.assets[taken.assets["bytes"] == 0].set_index("path")
    for path in (own_mac.plan.primary.plist, own_mac.plan.primary.env_file, own_mac.plan.nginx.plist):
        copy = Path(taken.directory) / "files" / str(kept.loc[path, "asset"]) / Path(path).name
        assert copy.read_bytes() == Path(path).read_bytes()
        assert copy.stat().st_mode == Path(path).stat().st_mode
    assert any(str(path).endswith("env-wrapper.sh") for path in kept.index), "the wrapper that the plist runs"
    assert kept.loc[own_mac.plan.canary.plist, "sha256"] == "absent"
    with tarfile.open(taken.archive("nginx")) as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert {"nginx.conf", "servers/openclaw.conf"} <= names
    assert (Path(taken.directory).stat().st_mode & 0o077) == 0, "nobody else reads it"
    assert not (Path(taken.directory) / "scratch").exists()
    assert layout.state_dir("primary").is_dir()


def test_an_absent_canary_is_no_mistake(own_mac: Mac) -> None:
    taken = take(own_mac, "absent")
    assert taken.archive("canary") == ""
    assert failing(snapshot.judge(taken)) == []


def test_facts_survive_the_ledger_and_hold_no_secret(own_lab: PracticeMac, own_mac: Mac) -> None:
    taken = take(own_mac, "facts")
    event = own_mac.ledger.last(Kind.VERIFIED)
    assert event is not None
    again = Snapshot.from_facts(event["detail"])
    assert again.directory == taken.directory
    assert again.databases.equals(taken.databases)
    assert failing(snapshot.judge(again)) == []
    text = own_mac.ledger.path.read_text()
    for line in Path(own_mac.plan.primary.env_file).read_text().splitlines():
        if any(word in line for word in ("TOKEN", "SECRET", "KEY")):
            assert line.partition("=")[2].strip("'") not in text


DF = """#!/bin/sh
echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'
echo '/dev/disk1 1000000 950000 50000 95% /'
"""


def test_too_little_disk_is_refused_before_anything_is_written(own_lab: PracticeMac, own_mac: Mac) -> None:
    df = own_lab.layout.bin / "df"
    real = df.read_text()
    write(df, DF, 0o755)
    home = own_lab.layout.home / "rollout"
    before = sorted(home.rglob("*"))
    try:
        with pytest.raises(
            ActionFailed, match=r"too little disk .* \d+ MiB needed .*48 MiB free; nothing was written"
        ) as no:
            take(own_mac, "no-room")
    finally:
        write(df, real, 0o755)
    assert "move host.runbook_dir" in str(no.value)
    assert sorted(home.rglob("*")) == before


def test_a_backup_that_fails_is_no_snapshot(own_lab: PracticeMac, own_mac: Mac) -> None:
    entry = own_lab.layout.prefix("primary") / "node_modules" / own_lab.package / "openclaw.mjs"
    aside = entry.with_name("aside.mjs")
    entry.rename(aside)
    try:
        with pytest.raises(ActionFailed, match="the snapshot is not whole: primary: .*openclaw.mjs"):
            take(own_mac, "failing")
    finally:
        aside.rename(entry)


def test_round_trips_are_few(own_mac: Mac) -> None:
    before = own_mac.host.round_trips_count
    take(own_mac, "few")
    assert own_mac.host.round_trips_count - before == 1


# -- judged ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taken(own_lab: PracticeMac, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    with connected(plan_of(own_lab), tmp_path_factory.mktemp("mac")) as mac:
        apply(mac, snapshot.prepare_tools(mac))
        return take(mac, "to-judge")


def test_a_file_that_differs_fails(taken: Snapshot) -> None:
    files = taken.files.copy()
    index = files[(files["asset"] == "nginx")].index[0]
    files.loc[index, "restored"] = "0" * 64
    checks = snapshot.judge(replace(taken, files=files))
    assert failing(checks) == ["restored files equal live ones"]
    assert f"not nginx {files.loc[index, 'file']}" in next(c.reason for c in checks if c.answer is Answer.FAIL)


def test_a_file_that_changed_meanwhile_is_not_compared(taken: Snapshot) -> None:
    files = taken.files.copy()
    index = files[(files["asset"] == "nginx")].index[0]
    files.loc[index, ["restored", "changing"]] = ["0" * 64, True]
    assert failing(snapshot.judge(replace(taken, files=files))) == []


def test_nothing_compared_is_no_pass(taken: Snapshot) -> None:
    assert failing(snapshot.judge(replace(taken, files=taken.files.iloc[:0]))) == ["restored files equal live ones"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("integrity", "*** in database main ***"), ("schema_version", "17"), ("tables_count", "0"), ("integrity", "")],
)
def test_a_database_that_is_not_sound_fails(taken: Snapshot, column: str, value: str) -> None:
    databases = taken.databases.copy()
    databases.loc[databases.index[0], column] = value
    assert len(failing(snapshot.judge(replace(taken, databases=databases)))) == 1


def test_no_database_at_all_is_inconclusive(taken: Snapshot) -> None:
    checks = snapshot.judge(replace(taken, databases=taken.databases.iloc[:0]))
    assert Verdict.of(checks).answer is Answer.INCONCLUSIVE


def test_an_empty_snapshot_passes_nothing() -> None:
    assert Verdict.of(snapshot.judge(Snapshot.from_facts({}))).answer is Answer.FAIL


@pytest.mark.parametrize(("state", "answer"), [("running", Answer.PASS), ("spawn scheduled", Answer.FAIL)])
def test_only_a_healthy_primary_is_rolled_out_beside(state: str, answer: Answer) -> None:
    running = Job(True, "running", 1)
    assert Verdict.of(snapshot.judge_before({"primary": Job(True, state), "nginx": running})).answer is answer
    assert jobs.BOOTSTRAP_LIMIT_S > 10, "longer than launchd's throttle"
