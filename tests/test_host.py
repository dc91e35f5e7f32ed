"""One SSH connection, as it is when all is well and when it is not: cut, gone silent, flooded."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from lab_fixture import until
from mac_fixture import connections, watched_process_list
from ssh_ways import cut_unnoticed, own_connection, section

from runbook_lib import matrix
from runbook_lib.errors import CommandFailed, CommandTimeout, ConnectionLost
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.mac import Mac
from runbook_lib.probes import probe_matrix
from runbook_lib.ssh.host import Host, as_sent

pytest_plugins = ["lab_fixture", "mac_fixture"]

MAX_SESSIONS = 10  # sshd_config(5), what an sshd allows a connection where nothing is set


# -- run ---------------------------------------------------------------------------------------------------------


def test_output_arguments_and_exit_code_arrive(host: Host) -> None:
    done = host.run(
        'printf "%s|" "$@"; echo oops >&2; return 7', "a b", "", "*", "it's", "$HOME", 'say "x"', "-n", check=False
    )
    assert done.stdout == 'a b||*|it\'s|$HOME|say "x"|-n|'
    assert done.stderr == "oops\n"
    assert done.exit_status == 7
    assert 0 < done.duration_s < 5


def test_a_failed_command_is_named_by_its_first_comment(host: Host) -> None:
    with pytest.raises(CommandFailed, match="practice-mac: count the sheep ended with 3: no sheep") as caught:
        host.run("# count the sheep\necho no sheep >&2\nreturn 3\n")
    assert caught.value.exit_status == 3
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("script", ["exit 9", "return 9", "false; (exit 9)"])
def test_every_way_to_end(host: Host, script: str) -> None:
    assert host.run(script, check=False).exit_status == 9


def test_standard_input_is_not_the_script(host: Host) -> None:
    assert host.run("cat; echo end").stdout == "end\n"


def test_bytes_that_are_no_text_do_not_break_it(host: Host) -> None:
    assert host.run(r"printf 'a\377b\000c'").stdout == "a\ufffdb\x00c"


def test_rows_and_fields(host: Host) -> None:
    done = host.run(r"printf 'x\t1\nrow\ta\tb\nx\t2\n'")
    assert done.fields() == {"x": "2"}
    assert done.rows(3) == [["row", "a", "b"]]


def test_five_megabytes_on_both_at_once(host: Host) -> None:
    done = host.run(
        "yes out | head -c 5000000 & yes err | head -c 5000000 >&2 & wait",
        timeout_s=30,
    )
    assert (len(done.stdout), len(done.stderr)) == (5_000_000, 5_000_000)
    assert set(done.stdout.split("\n")[:-1]) == {"out"}


def test_a_long_script_and_a_long_argument(host: Host) -> None:
    long = "x" * 100_000
    script = "\n".join([f"# {long}"] * 20 + ['printf "%s" "$1" | wc -c'])
    assert host.run(script, long, timeout_s=20).stdout.strip() == "100000"


def test_a_script_that_was_cut_runs_nothing(lab: PracticeMac, tmp_path: Path) -> None:
    """Whatever byte the connection ends at, the shell has not begun."""
    marker = tmp_path / "marker"
    script = f"touch {marker}\n" + "echo more\n" * 50
    whole = len(as_sent(script, mark="rollout-0123456789abcdef"))
    for kept in (20, 100, whole // 2, *range(whole - 32, whole - 1, 3)):
        cut = tmp_path / "cut-sh"
        cut.write_text(f'#!/bin/sh\nhead -c {kept} | /bin/sh "$@"\n')
        cut.chmod(0o755)
        with Host(section(lab), shell=str(cut)) as host, pytest.raises(CommandFailed, match="login shell answered"):
            host.run(script, check=False)
        assert not marker.exists(), f"ran after {kept} of {whole} bytes"


# -- what the login shell's own files do ---------------------------------------------------------------------------


@contextmanager
def zshenv(lab: PracticeMac, text: str) -> Iterator[None]:
    file = lab.layout.home / ".zshenv"
    file.write_text(text)
    try:
        yield
    finally:
        file.unlink()


def test_what_zshenv_prints_is_noise(lab: PracticeMac) -> None:
    with zshenv(lab, "echo welcome back\nprintf 'pid\\t1\\n'\necho no colours >&2\n"), Host(section(lab)) as host:
        done = host.run("printf 'pid\\t2\\n'; echo mine >&2; printf 'a\\377'")
        assert (done.fields()["pid"], done.rows(2)) == ("2", [["pid", "2"]])
        assert (done.stdout, done.stderr) == ("pid\t2\na\ufffd", "mine\n")
        assert host.read(str(lab.layout.home / ".zshenv")).startswith(b"echo welcome")


def test_proxies_a_curlrc_and_a_path_of_zshenv_change_no_question(lab: PracticeMac, mac: Mac) -> None:
    curlrc = lab.layout.home / ".curlrc"
    curlrc.write_text("include\nproxy = http://127.0.0.1:1\n")
    proxies = " ".join(
        f"{name}=http://127.0.0.1:1" for name in ("http_proxy", "https_proxy", "ALL_PROXY", "HTTPS_PROXY")
    )
    try:
        with zshenv(lab, f"export {proxies} CDPATH=/ PATH={lab.layout.bin}\n"), Host(section(lab)) as host:
            asked = host.run(
                'curl -s "$1"; lsof -v >/dev/null 2>&1; echo " $?"', f"http://127.0.0.1:{lab.ports.primary}/healthz"
            )
            assert asked.stdout == '{"ok":true,"status":"live"} 0\n'
            asked_so = probe_matrix(replace(mac, host=host), ("primary",), through_nginx=False)
        assert list(asked_so["status"]) == list(probe_matrix(mac, ("primary",), through_nginx=False)["status"])
    finally:
        curlrc.unlink()


@pytest.mark.parametrize("text", ["exit 0", "echo This account is not available; exit 1"])
def test_a_login_shell_that_ends_by_itself_is_no_answer(lab: PracticeMac, text: str) -> None:
    with zshenv(lab, f"{text}\n"), Host(section(lab)) as host:
        for check in (True, False):
            with pytest.raises(CommandFailed, match="login shell answered instead of /bin/sh ended with"):
                host.run("true", check=check)


def test_twenty_channels_at_once(host: Host) -> None:
    before = host.round_trips_count
    started_at_s = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: host.run('sleep 1; echo "$1"', str(n)).stdout.strip(), range(20)))
    assert answers == [str(n) for n in range(20)]
    assert time.monotonic() - started_at_s < 18, "one after the other takes 20 s"
    assert host.round_trips_count == before + 20


@pytest.mark.parametrize("left", [1, 2, 3])
def test_an_sshd_that_allows_few_sessions(host: Host, left: int) -> None:
    others = [host._transport.open_session() for _ in range(MAX_SESSIONS - left)]
    for number in range(8):
        assert host.run('echo "$1"', str(number)).stdout == f"{number}\n"
    assert all(not other.closed for other in others)


def test_an_sshd_that_allows_no_session_is_named(host: Host) -> None:
    others = [host._transport.open_session() for _ in range(MAX_SESSIONS)]
    with pytest.raises(CommandTimeout, match="its sshd gave no session within 0.5 s, nothing was run.*MaxSessions"):
        host.run("echo hello", timeout_s=0.5)
    others.pop().close()
    assert host.run("echo hello").stdout == "hello\n"


def test_works_where_sh_is_zsh(lab: PracticeMac, zsh_as_sh: str) -> None:
    with Host(section(lab), shell=zsh_as_sh) as host:
        assert host.run('words="a b"; printf "<%s>" $words; echo "${ZSH_VERSION:+zsh}"').stdout == "<a><b>zsh\n"


# -- reading -----------------------------------------------------------------------------------------------------


def test_binary_files_are_read_from_an_offset(host: Host, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    file = tmp_path / "it's a file $x"
    file.write_bytes(content)
    assert host.read(str(file)) == content
    assert host.read(str(file), offset=1_000_000) == content[1_000_000:]
    assert host.read(str(file), offset=len(content)) == b""
    assert host.read(str(file), offset=len(content) + 5) == b""


def test_a_file_that_is_not_there_is_a_failed_command(host: Host) -> None:
    with pytest.raises(CommandFailed, match="reading /nowhere/file ended with 1"):
        host.read("/nowhere/file")


# -- timeouts and cuts -------------------------------------------------------------------------------------------


def test_a_slow_command_is_a_timeout_and_the_connection_stays(host: Host) -> None:
    started_at_s = time.monotonic()
    with pytest.raises(CommandTimeout, match="wait for ever: no end after 2 s"):
        host.run("# wait for ever\nsleep 20", timeout_s=2)
    assert time.monotonic() - started_at_s < 10, "not the 20 s that it sleeps"
    assert host.run("echo fine").stdout == "fine\n"


def test_a_command_that_never_stops_talking_is_a_timeout(host: Host) -> None:
    with pytest.raises(CommandTimeout):
        host.run("yes", timeout_s=0.5)
    assert host.run("echo fine").stdout == "fine\n"


def test_a_child_that_holds_the_output_open_is_a_timeout(host: Host) -> None:
    with pytest.raises(CommandTimeout):
        host.run("sleep 20 & echo started", timeout_s=0.5)


def test_a_cut_connection_is_told_apart_from_a_failed_command(lab: PracticeMac, host: Host) -> None:
    served = own_connection(lab, host)
    threading.Timer(0.4, served.kill).start()
    with pytest.raises(ConnectionLost, match=r"lost \d\.\d s into 'take a nap'.*run the step again"):
        host.run("# take a nap\nsleep 20", timeout_s=20)
    with pytest.raises(ConnectionLost):
        host.run("echo anything")
    with pytest.raises(ConnectionLost):
        host.read("/etc/hosts")


def test_a_connection_that_is_gone_unnoticed_is_lost(lab: PracticeMac, host: Host) -> None:
    host.run("true")
    with cut_unnoticed(lab, host), pytest.raises(ConnectionLost, match=r"into 'say hello' \(no answer, no exit"):
        host.run("# say hello\necho hello")


def test_a_connection_that_went_silent_is_lost_not_slow(lab: PracticeMac) -> None:
    with Host(section(lab, connect_timeout_s=1)) as host:
        served = own_connection(lab, host)
        served.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionLost):
                host.run("echo anything", timeout_s=1)
        finally:
            served.send_signal(signal.SIGCONT)


def test_closing_leaves_no_connection(lab: PracticeMac) -> None:
    before = {process.pid for process in connections(lab)}
    with Host(section(lab)) as host:
        host.run("true")
    until(lambda: {process.pid for process in connections(lab)} <= before)


# -- nothing secret in the process list --------------------------------------------------------------------------


def test_neither_a_script_nor_its_arguments_are_in_the_process_list(host: Host) -> None:
    with watched_process_list() as seen:
        host.run("# quiet\n: token-in-the-script\nsleep 0.567", "argument-of-the-script")
    assert any("sleep 0.567" in line for line in seen), "the watch sees what is there"
    assert not any("of-the-script" in line or "in-the-script" in line for line in seen)


def test_the_matrix_keeps_its_token_out_of_the_process_list(mac: Mac) -> None:
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token).value
    asked = matrix.rows(mac.plan, ("primary",), through_nginx=False)
    assert token in matrix.script(mac.plan, asked, mac.vault.resolve(mac.plan.webhooks.hooks_token))
    with watched_process_list() as seen:
        for _ in range(3):
            assert probe_matrix(mac, ("primary",), through_nginx=False)["ok"].all()
    assert any("curl" in line for line in seen)
    assert not any(token in line for line in seen)
