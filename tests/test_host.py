"""One SSH connection, as it is when all is well and when it is not: cut, black holes, other keys, floods."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from lab_fixture import until
from mac_fixture import connections, plan_of, watched_process_list

from runbook_lib import matrix
from runbook_lib.errors import CommandFailed, CommandTimeout, ConnectionLost, HostKeyRefused, HostUnreachable
from runbook_lib.host import Host
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac import Mac
from runbook_lib.plan import HostSection
from runbook_lib.probes import probe_matrix

pytest_plugins = ["lab_fixture", "mac_fixture"]


def section(lab: PracticeMac, config: Path | None = None, **keys: Any) -> HostSection:
    values = {**plan_of(lab).host.model_dump(), **keys}
    return HostSection(**(values | {"ssh_config": str(config)} if config else values))


def ssh_config(lab: PracticeMac, folder: Path, *lines: str, known_hosts: Path | None = None) -> Path:
    """The practice Mac's ssh_config with other hosts above it."""
    text = lab.layout.ssh_config.read_text()
    if known_hosts:
        text = re.sub(r"UserKnownHostsFile .*", f"UserKnownHostsFile {known_hosts}", text)
    path = folder / "ssh_config"
    path.write_text("\n".join([*lines, "", text]))
    return path


def own_connection(lab: PracticeMac, host: Host) -> psutil.Process:
    """The sshd process that serves this host's connection: the parent of its shell's parents."""
    pid = int(host.run("ps -o ppid= -p $$").stdout)
    mine = {pid, *(parent.pid for parent in psutil.Process(pid).parents())}
    return next(process for process in connections(lab) if process.pid in mine)


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
    whole = len(f'__main() {{\n{script}\n}}\n__main "$@" </dev/null\n')
    for kept in (20, 100, whole // 2, whole - 30, whole - 23):
        cut = tmp_path / "cut-sh"
        cut.write_text(f'#!/bin/sh\nhead -c {kept} | /bin/sh "$@"\n')
        cut.chmod(0o755)
        with Host(section(lab), shell=str(cut)) as host:
            host.run(script, check=False)
        assert not marker.exists(), f"ran after {kept} of {whole} bytes"


def test_twenty_channels_at_once(host: Host) -> None:
    before = host.round_trips_count
    started_at_s = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: host.run('sleep 1; echo "$1"', str(n)).stdout.strip(), range(20)))
    assert answers == [str(n) for n in range(20)]
    assert time.monotonic() - started_at_s < 18, "one after the other takes 20 s"
    assert host.round_trips_count == before + 20


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
    with pytest.raises(CommandTimeout, match="wait for ever: no end after 0.5 s"):
        host.run("# wait for ever\nsleep 20", timeout_s=0.5)
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


# -- keys and ways -----------------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_refused(lab: PracticeMac, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    empty.write_text("")
    with pytest.raises(HostKeyRefused, match="is not in .*known_hosts.*ssh-keyscan -p"):
        Host(section(lab, ssh_config(lab, tmp_path, known_hosts=empty)))
    assert empty.read_text() == "", "nothing is learnt by itself"


def test_a_changed_host_key_is_refused_with_both_fingerprints(lab: PracticeMac, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    kind, key, *_ = (tmp_path / "key.pub").read_text().split()
    other.write_text(f"[127.0.0.1]:{lab.ports.ssh} {kind} {key}\n")
    with pytest.raises(HostKeyRefused, match=r"another host key \(SHA256:.*holds.*\(SHA256:") as caught:
        Host(section(lab, ssh_config(lab, tmp_path, known_hosts=other)))
    assert caught.value.exit_code == 3
    assert "reinstalled" in str(caught.value)


def test_a_user_who_is_not_let_in(lab: PracticeMac, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    config = ssh_config(lab, tmp_path)
    config.write_text(re.sub(r"IdentityFile .*", f"IdentityFile {tmp_path}/key", config.read_text()))
    with pytest.raises(HostUnreachable, match="refused user"):
        Host(section(lab, config))


def test_a_port_where_nobody_listens(lab: PracticeMac, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = ssh_config(lab, tmp_path, f"Host nobody\n HostName 127.0.0.1\n Port {unused.getsockname()[1]}")
        with pytest.raises(HostUnreachable, match=r"no SSH connection to 127.0.0.1:\d+ within .*try: ssh -F"):
            Host(section(lab, config, alias="nobody"))


@contextmanager
def black_hole(accepts: bool) -> Iterator[int]:
    """A port that answers nothing: after the handshake, or not even that (its queue is full)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8 if accepts else 0)
        fillers = []
        for _ in range(0 if accepts else 4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("accepts", [True, False], ids=["no banner", "no handshake"])
def test_a_black_hole_is_given_up_in_time(lab: PracticeMac, tmp_path: Path, accepts: bool) -> None:
    with black_hole(accepts) as port:
        config = ssh_config(lab, tmp_path, f"Host hole\n HostName 127.0.0.1\n Port {port}")
        started_at_s = time.monotonic()
        with pytest.raises(HostUnreachable, match=f"127.0.0.1:{port} within 1 s"):
            Host(section(lab, config, alias="hole", connect_timeout_s=1))
        assert time.monotonic() - started_at_s < 6, "not the 10 s that is the default"


def test_a_name_that_does_not_resolve(lab: PracticeMac, tmp_path: Path) -> None:
    config = ssh_config(lab, tmp_path, "Host lost\n HostName no-such-mac.invalid")
    with pytest.raises(HostUnreachable, match="no-such-mac.invalid"):
        Host(section(lab, config, alias="lost"))


def jump_config(lab: PracticeMac, folder: Path, *jumps: str) -> Path:
    """Host `through` behind the practice Mac's own sshd, once or several times."""
    base = lab.layout.ssh_config.read_text().partition("\n")[2]
    hosts = [f"Host {name}\n{base}" for name in ("first", "second")]
    return ssh_config(lab, folder, *hosts, f"Host through\n ProxyJump {','.join(jumps)}\n{base}")


@pytest.mark.parametrize("jumps", [["first"], ["first", "second"], ["here"]], ids=",".join)
def test_proxy_jump(lab: PracticeMac, tmp_path: Path, jumps: list[str]) -> None:
    config = jump_config(lab, tmp_path, *jumps)
    if jumps == ["here"]:  # [user@]host[:port], with keys from a Host * below
        text = config.read_text().replace("ProxyJump here", f"ProxyJump root@127.0.0.1:{lab.ports.ssh}")
        text = text.replace("root@", f"{psutil.Process().username()}@")
        base = lab.layout.ssh_config.read_text().partition("\n")[2]
        config.write_text(text + "Host 127.0.0.1\n" + re.sub(r" *(Port|User) .*\n", "", base))
    before = len(connections(lab))
    with Host(section(lab, config, alias="through")) as host:
        assert len(connections(lab)) == before + len(jumps) + 1
        assert host.run("echo $SSH_CONNECTION | cut -d ' ' -f 3").stdout == "127.0.0.1\n"
        assert len(host.run("yes | head -c 3000000").stdout) == 3_000_000
    until(lambda: len(connections(lab)) <= before)


def test_a_jump_host_for_all_hosts_is_not_its_own(lab: PracticeMac, tmp_path: Path) -> None:
    config = ssh_config(lab, tmp_path)
    base = lab.layout.ssh_config.read_text().partition("\n")[2]
    config.write_text(f"Host bastion through\n{base}\nHost *\n ProxyJump bastion\n")
    before = len(connections(lab))
    with Host(section(lab, config, alias="through")) as host:
        assert len(connections(lab)) == before + 2
        host.run("true")


def test_a_dead_end_behind_a_jump_host(lab: PracticeMac, tmp_path: Path) -> None:
    before = len(connections(lab))
    with black_hole(accepts=False) as port:
        config = jump_config(lab, tmp_path, "first")
        lines = f"Host behind\n HostName 127.0.0.1\n Port {port}\n ProxyJump first\n"
        config.write_text(f"{lines}{config.read_text()}")
        started_at_s = time.monotonic()
        with pytest.raises(HostUnreachable, match=f"first cannot reach 127.0.0.1:{port} within 1 s"):
            Host(section(lab, config, alias="behind", connect_timeout_s=1))
        assert time.monotonic() - started_at_s < 8, "not the 10 s that is the default"
    until(lambda: len(connections(lab)) <= before)


def test_a_proxy_command_is_refused_in_words(lab: PracticeMac, tmp_path: Path) -> None:
    config = ssh_config(lab, tmp_path, "Host odd\n HostName 127.0.0.1\n ProxyCommand nc %h %p")
    with pytest.raises(HostUnreachable, match="write a ProxyJump instead"):
        Host(section(lab, config, alias="odd"))


def test_the_keys_of_an_agent_are_used(lab: PracticeMac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sock = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        until(sock.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        key = tmp_path / "id"
        shutil.copy(lab.layout.run / "user_ed25519_key", key)
        key.chmod(0o600)
        subprocess.run(["ssh-add", "-q", str(key)], check=True, capture_output=True)
        config = ssh_config(lab, tmp_path)
        config.write_text(re.sub(r" *(IdentityFile|IdentitiesOnly) .*\n", "", config.read_text()))
        monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.ssh/id_*
        with Host(section(lab, config)) as host:
            assert host.run("echo in").stdout == "in\n"
    finally:
        agent.terminate()
        agent.wait()


def test_the_users_own_key_is_used_where_the_config_names_none(
    lab: PracticeMac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    shutil.copy(lab.layout.run / "user_ed25519_key", tmp_path / ".ssh/id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    config = ssh_config(lab, tmp_path)
    config.write_text(re.sub(r" *(IdentityFile|IdentitiesOnly) .*\n", "", config.read_text()))
    with Host(section(lab, config)) as host:
        assert host.run("echo in").stdout == "in\n"


# -- HTTP through the connection ---------------------------------------------------------------------------------


def test_http_leaves_from_the_mac(lab: PracticeMac, host: Host) -> None:
    with host.http(f"http://127.0.0.1:{lab.ports.primary}") as client:
        assert client.get("/healthz").json() == {"ok": True, "status": "live"}
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: client.get("/readyz").status_code, range(24))) == [200] * 24


def test_http_refused_is_a_connect_error(host: Host) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with host.http(f"http://127.0.0.1:{unused.getsockname()[1]}") as client, pytest.raises(httpx.ConnectError):
            client.get("/")


def test_http_that_never_answers_is_a_read_timeout(host: Host) -> None:
    with black_hole(accepts=True) as port, host.http(f"http://127.0.0.1:{port}", timeout_s=0.5) as client:
        pytest.raises(httpx.ReadTimeout, client.get, "/")


def test_http_over_a_cut_connection_is_an_http_error(lab: PracticeMac, host: Host) -> None:
    with host.http(f"http://127.0.0.1:{lab.ports.primary}", timeout_s=3) as client:
        assert client.get("/healthz").status_code == 200
        own_connection(lab, host).kill()
        with pytest.raises(httpx.HTTPError):
            client.get("/healthz")


# -- nothing secret in the process list --------------------------------------------------------------------------


def test_a_script_is_not_in_the_process_list(host: Host) -> None:
    with watched_process_list() as seen:
        host.run("# quiet\n: token-in-the-script\nsleep 0.5", "argument-in-sight")
    assert any("argument-in-sight" in line for line in seen), "the watch sees what is there"
    assert not any("token-in-the-script" in line for line in seen)


def test_the_matrix_keeps_its_token_out_of_the_process_list(mac: Mac) -> None:
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token).value
    asked = matrix.rows(mac.plan, ("primary",), through_nginx=False)
    assert token in matrix.script(mac.plan, asked, mac.vault.resolve(mac.plan.webhooks.hooks_token))
    with watched_process_list() as seen:
        for _ in range(3):
            assert probe_matrix(mac, ("primary",), through_nginx=False)["ok"].all()
    assert any("curl" in line for line in seen)
    assert not any(token in line for line in seen)
