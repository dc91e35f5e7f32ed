"""Lease, lock and kill switch on the Mac, damaged in every way: none fails open, and none is permanent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from shells import each_shell, run
from test_guard import events, guard, lease, plan  # noqa: F401

from runbook_lib.onmac import script
from runbook_lib.plan.models import Plan

FAR = int(time.time()) + 10**9
DAMAGES = {
    "empty": b"",
    "NUL bytes": b"\0" * 40,
    "no last newline": b"%d\tkai@desk" % FAR,
    "cut in the number": b"17",
    "words": b"not a lease\n",
    "markup": b"\xff\xfe<b>\tx\n",
    "a number that is too long": b"9" * 30 + b"\tkai@desk\n",
    "negative": b"-5\tkai@desk\n",
}
each_damage = pytest.mark.parametrize("damage", DAMAGES)


@each_shell
@each_damage
def test_a_lease_that_cannot_be_read_has_lapsed(plan: Plan, shell: str, damage: str) -> None:  # noqa: F811
    Path(plan.folder.lease).write_bytes(DAMAGES[damage])
    guard(shell, Path(plan.host.runbook_dir))
    assert Path(plan.folder.drain).is_file()
    (event,) = events(plan)
    assert event[2:4] == ["drained", "lease"]


@each_shell
def test_a_lease_that_is_a_folder_or_leads_nowhere_has_lapsed(plan: Plan, shell: str) -> None:  # noqa: F811
    Path(plan.folder.lease).mkdir()
    guard(shell, Path(plan.host.runbook_dir))
    assert Path(plan.folder.drain).is_file()
    Path(plan.folder.drain).unlink()
    Path(plan.folder.lease).rmdir()
    Path(plan.folder.lease).symlink_to("nowhere")
    guard(shell, Path(plan.host.runbook_dir))
    assert Path(plan.folder.drain).is_file()


@each_shell
@pytest.mark.parametrize("thing", ["folder", "full folder", "link to itself", "link to nowhere"])
def test_what_lies_in_the_place_of_the_kill_switch_is_moved_aside(
    plan: Plan,  # noqa: F811
    shell: str,
    thing: str,
) -> None:
    place = Path(plan.folder.drain)
    if thing.endswith("folder"):
        place.mkdir()
        if thing.startswith("full"):
            (place / "something").touch()
    else:
        place.symlink_to(place.name if thing.endswith("itself") else "nowhere")
    lease(plan, -60)
    guard(shell, Path(plan.host.runbook_dir))
    assert place.is_file() and not place.is_symlink()
    assert [event[2] for event in events(plan)] == ["drained"]


@each_shell
def test_a_kill_switch_that_cannot_be_made_is_said_once_and_ends_nothing(plan: Plan, shell: str) -> None:  # noqa: F811
    lease(plan, -60)
    Path(plan.folder.spare_drain).unlink()
    folder = Path(plan.host.runbook_dir)
    nowhere = f'drain_file="{folder}/no/such/folder/drain"\nguard\nguard\nprintf alive\n'
    assert guard(shell, folder, nowhere) == "alive"
    (event,) = events(plan)
    assert event[2:4] == ["not_drained", "lease"]
    assert "cannot be made" in event[4]


HOLD = "\nif hold \"$1\" me.1 60 me why; then printf 'mine\\n'; else printf 'held\\n'; fi\n"


def hold(shell: str, lock: Path) -> str:
    done = run(shell, f"# hold\n{script('hold_lock.sh')}{HOLD}", str(lock))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@each_shell
@pytest.mark.parametrize("damage", [*DAMAGES, "far in the future", "a folder", "a full folder", "a link to nowhere"])
def test_a_lock_that_cannot_be_read_holds_nobody_off(tmp_path: Path, shell: str, damage: str) -> None:
    lock = tmp_path / "lock"
    if damage == "a link to nowhere":
        lock.symlink_to("nowhere")
    elif damage.endswith("folder"):
        lock.mkdir()
        if "full" in damage:
            (lock / "something").touch()
    else:
        far = b"%d\tother.1\tkai@desk\t2026-11-22T00:00:00Z\tby hand\n" % FAR
        lock.write_bytes(far if damage == "far in the future" else DAMAGES[damage])
    said = hold(shell, lock)
    assert said.splitlines()[-1] == "mine"
    assert "taken_over\t" in said
    assert lock.is_file() and "\tme.1\t" in lock.read_text()


@each_shell
def test_a_lock_that_is_held_stays_held(tmp_path: Path, shell: str) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"{int(time.time()) + 60}\tother.1\tkai@desk\t2026-11-22T00:00:00Z\tby hand\n")
    assert hold(shell, lock) == "held\n"
    assert "\tother.1\t" in lock.read_text()


@each_shell
def test_a_lock_that_cannot_be_written_says_so(tmp_path: Path, shell: str) -> None:
    (tmp_path / "lock.me.1").mkdir()
    done = run(shell, f"# hold\n{script('hold_lock.sh')}{HOLD}", str(tmp_path / "lock"))
    assert f"unwritable\t{tmp_path}/lock.me.1" in done.stdout
    assert done.stdout.endswith("held\n")
