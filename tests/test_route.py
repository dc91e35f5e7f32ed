"""The way to the Mac: keys that are refused, jump hosts, dead ends, black holes."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from lab_fixture import until
from mac_fixture import connections
from ssh_ways import black_hole, hangs_up_after, section, ssh_config

from runbook_lib.errors import HostKeyRefused, HostUnreachable, RouteRefused
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.ssh.host import Host

pytest_plugins = ["lab_fixture", "mac_fixture"]


def test_an_unknown_host_key_is_refused(lab: PracticeMac, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    empty.write_text("")
    with pytest.raises(HostKeyRefused, match=r"\(SHA256:.* is not in .*known_hosts.*compare it .*: ssh -F .* true$"):
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


@pytest.mark.parametrize("accepts", [True, False], ids=["no banner", "no handshake"])
def test_a_black_hole_is_given_up_in_time(lab: PracticeMac, tmp_path: Path, accepts: bool) -> None:
    with black_hole(accepts) as port:
        config = ssh_config(lab, tmp_path, f"Host hole\n HostName 127.0.0.1\n Port {port}")
        started_at_s = time.monotonic()
        with pytest.raises(HostUnreachable, match=f"127.0.0.1:{port} within 1 s"):
            Host(section(lab, config, alias="hole", connect_timeout_s=1))
        assert time.monotonic() - started_at_s < 6, "not the 10 s that is the default"


def test_a_host_that_hangs_up_in_the_handshake(lab: PracticeMac, tmp_path: Path) -> None:
    with hangs_up_after(b"SSH-2.0-Busy\r\n") as port:
        config = ssh_config(lab, tmp_path, f"Host busy\n HostName 127.0.0.1\n Port {port}")
        with pytest.raises(HostUnreachable, match=f"no SSH connection to 127.0.0.1:{port} .*hung up"):
            Host(section(lab, config, alias="busy"))


def test_nothing_is_printed_beside_the_error(lab: PracticeMac, tmp_path: Path) -> None:
    with hangs_up_after(b"") as port:
        config = ssh_config(lab, tmp_path, f"Host odd\n HostName 127.0.0.1\n Port {port}")
        values = section(lab, config, alias="odd").model_dump()
        code = f"""
from runbook_lib.errors import HostUnreachable
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.host import Host
try:
    Host(HostSection(**{values}))
except HostUnreachable as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "no SSH connection" in done.stdout
    assert done.stderr == ""


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
    if jumps == ["here"]:  # [user@]host[:port]
        named = f"{psutil.Process().username()}@door:{lab.ports.ssh}"
        text = config.read_text().replace("ProxyJump here", f"ProxyJump {named}")
        base = lab.layout.ssh_config.read_text().partition("\n")[2]
        config.write_text(text + "Host door\n" + re.sub(r" *(Port|User) .*\n", "", base))
    before = len(connections(lab))
    with Host(section(lab, config, alias="through")) as host:
        assert len(connections(lab)) == before + len(jumps) + 1
        assert host.run("echo $SSH_CONNECTION | cut -d ' ' -f 3").stdout == "127.0.0.1\n"
        assert len(host.run("yes | head -c 3000000").stdout) == 3_000_000
    until(lambda: len(connections(lab)) <= before)


def test_a_jump_host_for_all_hosts_has_to_be_excepted(lab: PracticeMac, tmp_path: Path) -> None:
    """ssh itself would start ssh without end."""
    config = ssh_config(lab, tmp_path)
    base = lab.layout.ssh_config.read_text().partition("\n")[2]
    config.write_text(f"Host bastion through\n{base}\nHost *\n ProxyJump bastion\n")
    with pytest.raises(RouteRefused, match=r"circle, through to bastion to bastion. Next: .*Host \* !that-host"):
        Host(section(lab, config, alias="through"))
    config.write_text(f"Host bastion through\n{base}\nHost * !bastion\n ProxyJump bastion\n")
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
