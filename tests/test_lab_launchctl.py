"""The practice launchctl answers as facts/macos.md says: codes, texts, and what a job does in between."""

from __future__ import annotations

import json
import os
import plistlib
import re
import signal
import subprocess
import time
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_fixture import until

from runbook_lib.lab.layout import launchd_domain, write
from runbook_lib.lab.mac import PracticeMac

pytest_plugins = ["lab_fixture"]

GUI = launchd_domain()
LABEL = "test.job"
TARGET = f"{GUI}/{LABEL}"


@pytest.fixture
def plist(lab: PracticeMac) -> Iterator[Path]:
    """A job that sleeps, not loaded; whatever the test does with it is undone."""
    yield job(lab, ["/bin/sleep", "60"])
    lab.launchctl("enable", TARGET)
    lab.launchctl("kill", "SIGKILL", TARGET)
    lab.launchctl("bootout", "--wait", TARGET)


def job(lab: PracticeMac, arguments: list[str], mode: int = 0o644, **keys: Any) -> Path:
    spec = {"Label": LABEL, "ProgramArguments": arguments, "RunAtLoad": True, **keys}
    return write(lab.layout.tmp / f"{LABEL}.plist", plistlib.dumps(spec).decode(), mode)


def printed(lab: PracticeMac, key: str) -> str | None:
    """A one-tab line of `launchctl print`, as the library would read it."""
    found = re.search(rf"^\t{key} = (.*)$", lab.launchctl("print", TARGET).stdout, re.MULTILINE)
    return found.group(1) if found else None


def bootstrap(lab: PracticeMac, plist: Path) -> int:
    return lab.launchctl("bootstrap", GUI, str(plist)).returncode


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["print", TARGET], 113, f'Could not find service "{LABEL}" in domain for user gui: {os.getuid()}'),
        (["print", "gui/4242/x"], 112, "Could not find domain for user gui: 4242"),
        (["kickstart", TARGET], 113, "Could not find service"),
        (["kill", "SIGTERM", TARGET], 113, "Could not find service"),
        (["list", LABEL], 113, "Could not find service"),
        (["bootout", TARGET], 3, "Boot-out failed: 3: No such process"),
        (["bootstrap", GUI, "/no/such.plist"], 5, "Bootstrap failed: 5: Input/output error"),
        (["bootstrap", "gui/4242", "/no/such.plist"], 125, "Domain does not support specified action"),
        (["reboot"], 64, "Unrecognized subcommand: reboot"),
    ],
)
def test_answers_when_nothing_is_loaded(lab: PracticeMac, words: list[str], code: int, text: str) -> None:
    done = lab.launchctl(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr


def test_a_job_from_bootstrap_to_bootout(lab: PracticeMac, plist: Path) -> None:
    assert bootstrap(lab, plist) == 0
    until(lambda: printed(lab, "state") == "running")
    assert printed(lab, "path") == str(plist)
    assert printed(lab, "program") == "/bin/sleep"
    assert printed(lab, "runs") == "1"
    assert printed(lab, "last exit code") == "(never exited)"
    assert printed(lab, "minimum runtime") == "10"
    pid = printed(lab, "pid")
    assert f"{pid}\t0\t{LABEL}\n" in lab.launchctl("list").stdout
    assert bootstrap(lab, plist) == 5, "already loaded"
    assert lab.launchctl("bootout", TARGET).returncode == 0
    assert lab.launchctl("print", TARGET).returncode == 113


def test_a_slow_exit_is_still_tearing_down(lab: PracticeMac, plist: Path) -> None:
    job(lab, ["/bin/sh", "-c", "trap 'sleep 0.8; exit 0' TERM; while :; do sleep 0.05; done"])
    assert bootstrap(lab, plist) == 0
    until(lambda: printed(lab, "pid"))
    time.sleep(0.2)  # the trap is set
    first = lab.launchctl("bootout", TARGET)
    assert (first.returncode, first.stderr) == (36, "Boot-out failed: 36: Operation now in progress\n")
    assert lab.launchctl("bootout", TARGET).returncode == 36
    assert printed(lab, "state") == "SIGTERMed"
    assert bootstrap(lab, plist) == 5
    until(lambda: lab.launchctl("print", TARGET).returncode == 113)
    assert bootstrap(lab, plist) == 0


def test_exit_timeout_ends_in_sigkill(lab: PracticeMac, plist: Path) -> None:
    job(lab, ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], ExitTimeOut=1)
    bootstrap(lab, plist)
    until(lambda: printed(lab, "pid"))
    assert lab.launchctl("bootout", TARGET).returncode == 36
    until(lambda: lab.launchctl("print", TARGET).returncode == 113, within_s=3)


def test_the_definition_that_was_loaded_stays_until_bootout(lab: PracticeMac, plist: Path) -> None:
    bootstrap(lab, plist)
    job(lab, ["/bin/sleep", "61"])
    assert lab.launchctl("kickstart", "-k", TARGET).returncode == 0
    assert "\t\t60\n" in lab.launchctl("print", TARGET).stdout
    assert printed(lab, "runs") == "2"
    assert printed(lab, "last terminating signal") == "Terminated: 15"
    assert printed(lab, "last exit code") is None, "a signal's line takes its place"


def test_kickstart_prints_the_new_pid(lab: PracticeMac, plist: Path) -> None:
    bootstrap(lab, plist)
    before = printed(lab, "pid")
    after = lab.launchctl("kickstart", "-kp", TARGET).stdout
    assert after == f"{printed(lab, 'pid')}\n" != f"{before}\n"


@pytest.mark.parametrize(("code", "text"), [(0, "0"), (1, "1"), (78, "78: EX_CONFIG")])
def test_exit_codes_are_named(lab: PracticeMac, plist: Path, code: int, text: str) -> None:
    job(lab, ["/bin/sh", "-c", f"exit {code}"])
    bootstrap(lab, plist)
    until(lambda: printed(lab, "last exit code") == text)
    assert printed(lab, "state") == "not running"
    assert printed(lab, "pid") is None


def test_a_program_that_is_not_there_is_a_configuration_error(lab: PracticeMac, plist: Path) -> None:
    job(lab, ["/no/such/program"])
    assert bootstrap(lab, plist) == 0
    until(lambda: printed(lab, "last exit code") == "78: EX_CONFIG")


def test_keepalive_waits_out_the_throttle_and_counts_runs(lab: PracticeMac, plist: Path) -> None:
    job(lab, ["/bin/sh", "-c", "exit 1"], KeepAlive=True, ThrottleInterval=1)
    bootstrap(lab, plist)
    until(lambda: printed(lab, "state") == "spawn scheduled")
    assert (printed(lab, "runs"), printed(lab, "last exit code")) == ("1", "1")
    started_at_s = time.monotonic()
    until(lambda: int(printed(lab, "runs") or 0) >= 3)
    assert 1.5 < time.monotonic() - started_at_s < 8, "two waits of 1 s, not of the default 10"


def test_default_throttle_is_ten_seconds_and_kickstart_does_not_wait(lab: PracticeMac, plist: Path) -> None:
    job(lab, ["/bin/sh", "-c", "exit 1"], KeepAlive=True)
    bootstrap(lab, plist)
    time.sleep(0.5)
    assert (printed(lab, "runs"), printed(lab, "minimum runtime")) == ("1", "10")
    lab.launchctl("kickstart", TARGET)
    assert printed(lab, "runs") == "2"


def test_a_crash_is_relaunched_and_its_group_is_killed(lab: PracticeMac, plist: Path) -> None:
    child = lab.layout.tmp / "child"
    script = f"sleep 60 & echo $! >{child}; wait"
    job(lab, ["/bin/sh", "-c", script], KeepAlive=True, ThrottleInterval=0)
    bootstrap(lab, plist)
    until(child.exists)
    orphan, pid = int(child.read_text()), int(printed(lab, "pid") or 0)
    os.kill(pid, signal.SIGKILL)
    until(lambda: printed(lab, "runs") == "2")
    assert printed(lab, "last terminating signal") == "Killed: 9"
    until(lambda: not Path(f"/proc/{orphan}").exists() or "Z" in Path(f"/proc/{orphan}/stat").read_text())


def test_disabled_survives_bootout_and_refuses_bootstrap(lab: PracticeMac, plist: Path) -> None:
    assert lab.launchctl("disable", TARGET).returncode == 0
    refused = lab.launchctl("bootstrap", GUI, str(plist))
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (5, "Bootstrap failed: 5: Input/output error")
    assert f'"{LABEL}" => disabled' in lab.launchctl("print-disabled", GUI).stdout
    lab.launchctl("enable", TARGET)
    assert f'"{LABEL}" => enabled' in lab.launchctl("print-disabled", GUI).stdout
    assert bootstrap(lab, plist) == 0


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o600, 0o640])
def test_plists_others_can_write_or_not_read_are_refused(lab: PracticeMac, plist: Path, mode: int) -> None:
    job(lab, ["/bin/sleep", "60"], mode)
    assert bootstrap(lab, plist) == 5


@pytest.mark.parametrize("text", ["", "<plist><dict>", "{}", "<plist version='1.0'><dict/></plist>"])
def test_bad_plists_are_refused(lab: PracticeMac, plist: Path, text: str) -> None:
    write(plist, text)
    assert bootstrap(lab, plist) == 5


def test_kill_sends_and_says_when_there_is_no_process(lab: PracticeMac, plist: Path) -> None:
    bootstrap(lab, plist)
    until(lambda: printed(lab, "pid"))
    assert lab.launchctl("kill", "SIGINT", TARGET).returncode == 0
    until(lambda: printed(lab, "last terminating signal") == "Interrupt: 2")
    again = lab.launchctl("kill", "SIGINT", TARGET)
    assert (again.returncode, again.stderr) == (3, "No process to signal.\n")


def test_environment_folder_umask_and_logs_are_the_plists(lab: PracticeMac, plist: Path) -> None:
    out, made = lab.layout.tmp / "out.log", lab.layout.tmp / "made"
    job(
        lab,
        ["/bin/sh", "-c", f"echo $GREETING $XPC_SERVICE_NAME $PATH; pwd -P; touch {made}; ulimit -n >&2"],
        EnvironmentVariables={"GREETING": "hello", "IGNORED": 1},
        WorkingDirectory="/usr",
        Umask=0o077,
        StandardOutPath=str(out),
        StandardErrorPath=str(out),
    )
    bootstrap(lab, plist)
    until(lambda: printed(lab, "last exit code") == "0")
    path = f"{lab.layout.bin}:/usr/bin:/bin:/usr/sbin:/sbin"  # a Mac's, with our launchctl as its /bin/launchctl
    assert out.read_text().split("\n") == [f"hello {LABEL} {path}", "/usr", "256", ""]
    assert made.stat().st_mode & 0o777 == 0o600
    assert "\t\tGREETING => hello\n" in lab.launchctl("print", TARGET).stdout


def test_a_call_is_fast(lab: PracticeMac) -> None:
    assert min(timeit.repeat(lambda: lab.launchctl("list"), number=1, repeat=5)) < 0.15


def test_plutil_lints_and_converts(lab: PracticeMac, plist: Path) -> None:
    plutil = str(lab.layout.bin / "plutil")
    assert subprocess.check_output([plutil, "-lint", plist], text=True) == f"{plist}: OK\n"
    shown = subprocess.check_output([plutil, "-convert", "json", "-o", "-", "--", plist])
    assert json.loads(shown)["Label"] == LABEL
    write(plist, "not a plist")
    assert subprocess.run([plutil, "-lint", plist], capture_output=True).returncode == 1
