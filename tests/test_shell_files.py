"""The scripts that lay files on the Mac, set them aside and bring them back, in each shell that /bin/sh may be."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

from shells import Answer, each_shell, in_every_shell, put, run

from runbook_lib.mac.proposal import laid
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.onmac import script

NASTY = "#!/bin/sh\necho 'it''s $HOME `x` \\n' \"$1\"\n"
RESTORES = """#!/bin/sh
# As a gateway's `backup restore ARCHIVE --target FOLDER --json`; the archive is a folder here.
[ "$1 $2 $4 $6" = "backup restore --target --json" ] || exit 1
mkdir -p "$5/x/payload/home" && cp -R "$3" "$5/x/payload/home/state"
"""


def once(done: Answer) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@each_shell
def test_files_are_laid_with_their_modes_and_not_a_second_time(shell: str, tmp_path: Path) -> None:
    folder, snapshots, wrapper = tmp_path / "own", tmp_path / "own/snapshots", tmp_path / "own/bin/with-env.sh"
    text = laid({str(wrapper): NASTY}, "put_tools.sh")
    for said in ("written", "there already"):
        assert once(run(shell, text, str(folder), str(snapshots), TMPDIR=str(tmp_path))) == f"result\t{said}\n"
        assert wrapper.read_text() == NASTY
        assert [oct(path.stat().st_mode)[-3:] for path in (wrapper, folder, snapshots)] == ["755", "711", "700"]
    assert list(tmp_path.glob("rollout.*")) == [], "nothing stays in the temporary folder"


@each_shell
def test_a_plist_that_plutil_refuses_takes_no_place(shell: str, tmp_path: Path) -> None:
    plist = put(tmp_path / "agents/canary.plist", "as it was")
    put(tmp_path / "bin/plutil", '#!/bin/sh\ngrep -q "<plist" "$2"\n', 0o755)
    logs = tmp_path / "logs"
    refused = run(shell, laid({str(plist): "no plist"}, "put_plist.sh"), str(logs), bin=tmp_path / "bin")
    assert (refused.returncode, plist.read_text()) == (1, "as it was")
    once(run(shell, laid({str(plist): "<plist/>\n"}, "put_plist.sh"), str(logs), bin=tmp_path / "bin"))
    assert (plist.read_text(), oct(plist.stat().st_mode)[-3:], logs.is_dir()) == ("<plist/>\n", "644", True)


@each_shell
def test_the_switch_is_pulled_and_put_back(shell: str, tmp_path: Path) -> None:
    drain, nowhere = tmp_path / "drain", "http://127.0.0.1:1/__rollout"
    for turn, there in (("pull", True), ("pull", True), ("put_back", False), ("put_back", False)):
        assert once(run(shell, script("turn_switch.sh"), str(drain), turn, nowhere)) == "answer\t\n"
        assert drain.exists() is there
    gone = run(shell, script("turn_switch.sh"), str(tmp_path / "no folder/drain"), "pull", nowhere)
    assert gone.returncode == 1 and gone.stdout == "", "a switch that was not turned asks nothing and does not end well"


@each_shell
def test_a_lease_is_held_by_the_macs_clock_and_given_back(shell: str, tmp_path: Path) -> None:
    lease, before = tmp_path / "lease", int(time.time())
    kind, until = once(run(shell, script("hold_lease.sh"), str(lease), "600", "kai@desk it's me")).split()
    assert kind == "until" and before + 600 <= int(until) <= time.time() + 600
    assert lease.read_text() == f"{until}\tkai@desk it's me\n"
    for _ in range(2):
        assert once(run(shell, script("give_lease_back.sh"), str(lease))) == ""
        assert not lease.exists()


def test_who_holds_the_lock_is_read_and_nobody_is_no_error(tmp_path: Path) -> None:
    lock = put(tmp_path / "lock", "1\tmac.7\tkai\tbecause\n")
    assert in_every_shell(lambda shell: run(shell, script("ask_lock.sh"), str(lock))) == lock.read_text()
    assert in_every_shell(lambda shell: run(shell, script("ask_lock.sh"), str(tmp_path / "none"))) == ""


def test_the_end_of_a_log_and_hashes_of_files_that_are_there(tmp_path: Path) -> None:
    log, absent = put(tmp_path / "a log", "x" * 5000 + "the end\n"), str(tmp_path / "absent")
    tail = in_every_shell(lambda shell: run(shell, script("ask_tail.sh"), str(log)))
    assert len(tail) == 4000 and tail.endswith("the end\n")
    assert in_every_shell(lambda shell: run(shell, script("ask_tail.sh"), absent)) == ""
    hashed = in_every_shell(lambda shell: run(shell, script("ask_hashes.sh"), absent, str(log), absent))
    assert hashed == f"{hashlib.sha256(log.read_bytes()).hexdigest()}  {log}\n"


def test_a_tarball_is_read_as_nginx_prints_a_configuration_and_no_key_leaves_it(tmp_path: Path) -> None:
    put(tmp_path / "etc/nginx.conf", "events {}\n# 100 % \\n $1\n")
    put(tmp_path / "etc/servers/own site.conf", "server {\n}")
    put(tmp_path / "etc/tls/site.key", "SECRET")
    put(tmp_path / "etc/tls/site.pem", "SECRET")
    subprocess.run(["tar", "-czf", tmp_path / "nginx.tar.gz", "-C", tmp_path / "etc", "."], check=True)
    words = (str(tmp_path / "nginx.tar.gz"), "/opt/nginx")
    told = in_every_shell(lambda shell: run(shell, script("ask_tarball.sh"), *words))
    assert "SECRET" not in told
    files = Configuration.split(told)
    assert files.keys() == {"/opt/nginx/nginx.conf", "/opt/nginx/servers/own site.conf"}
    assert files["/opt/nginx/nginx.conf"] == "events {}\n# 100 % \\n $1\n"


@each_shell
def test_what_is_set_aside_is_kept_each_time(shell: str, tmp_path: Path) -> None:
    snapshot, drain = tmp_path / "snapshot", put(tmp_path / "drain", "")
    for number in (1, 2):
        plist, state = put(tmp_path / "canary.plist", f"{number}"), tmp_path / "state of it"
        put(state / "openclaw.json", f"{number}")
        words = (str(snapshot), str(plist), str(state), str(drain))
        assert once(run(shell, script("set_aside.sh"), *words)) == "result\taside\n"
        assert not plist.exists() and not state.exists() and not drain.exists()
        assert (snapshot / f"aside-{number}/state of it/openclaw.json").read_text() == f"{number}"
    assert once(run(shell, script("set_aside.sh"), *words)) == "result\taside\n", "nothing left to set aside"


@each_shell
def test_a_state_is_restored_and_what_was_there_is_kept_beside_it(shell: str, tmp_path: Path) -> None:
    put(tmp_path / "archive/openclaw.json", "then")
    state = put(tmp_path / "state/openclaw.json", "now").parent
    gateway = str(put(tmp_path / "openclaw", RESTORES, 0o755))
    for number in (1, 2):
        words = (str(tmp_path / "archive"), str(state), gateway)
        assert once(run(shell, script("restore_state.sh"), *words)) == "result\trestored\n"
        assert (state / "openclaw.json").read_text() == "then"
        assert oct(state.stat().st_mode)[-3:] == "700"
        assert (tmp_path / f"state.before-rollback-{number}/openclaw.json").exists()
    assert (tmp_path / "state.before-rollback-1/openclaw.json").read_text() == "now"
    broken = run(shell, script("restore_state.sh"), str(tmp_path / "none"), str(state), gateway)
    assert broken.returncode == 1 and (state / "openclaw.json").read_text() == "then", "it stays as it is"


@each_shell
def test_files_are_removed_after_the_job_and_a_job_is_started_later(shell: str, tmp_path: Path) -> None:
    spared, files = put(tmp_path / "4", ""), [put(tmp_path / name, "") for name in ("a plist", "lease")]
    once(run(shell, script("remove_files.sh"), "gui/1", "label", "20", str(spared), *map(str, files)))
    assert [path.exists() for path in (spared, *files)] == [True, False, False]
    put(
        tmp_path / "bin/launchctl",
        f'#!/bin/sh\nprintf "%s " "$@" >"{tmp_path}/said.next" && mv {tmp_path}/said.next {tmp_path}/said\n',
        0o755,
    )
    words = ("gui/1", "nginx", "20", "", "/x/nginx.plist", "0.2")
    once(run(shell, script("start_later.sh"), *words, bin=tmp_path / "bin"))
    give_up = time.monotonic() + 30
    while not (tmp_path / "said").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    assert (tmp_path / "said").read_text().split() == ["bootstrap", "gui/1", "/x/nginx.plist"]
