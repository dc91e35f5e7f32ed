"""The sudoers file that is printed allows what the scripts run with sudo, and nothing wider."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mac_fixture import connected, plan_of

from runbook_lib.errors import ActionFailed, PlanError
from runbook_lib.lab.layout import write
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.nginx import sudoers
from runbook_lib.nginx.asking import probe_nginx
from runbook_lib.nginx.change import propose_files, propose_weight
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan

pytest_plugins = ["lab_fixture", "mac_fixture"]

ONMAC = Path(__file__).parents[1] / "runbook_lib/onmac"
# As sudo: never asks with -n, and notes what it was asked for.
SUDO = """#!/bin/sh
[ "$1" = -n ] || exit 1
shift
printf '%s\\n' "$*" >>{log}
exec "$@"
"""


@pytest.fixture
def own_mac(own_lab: PracticeMac, tmp_path: Path) -> Iterator[Mac]:
    with connected(plan_of(own_lab, nginx={"sudo": True}), tmp_path) as mac:
        yield mac


def allowed(plan: Plan, call: str) -> bool:
    """Whether a rule of the printed file fits this call; a bare name is what PATH finds on a Mac."""
    command, _, arguments = call.partition(" ")
    for line in sudoers.render(plan).splitlines():
        rule = re.fullmatch(r"#\d+ ALL = \(root\) NOPASSWD: (\S+) \^(.*)\$", line)
        if rule and command in (rule[1], rule[1].rpartition("/")[2]) and re.fullmatch(rule[2], arguments):
            return True
    return False


def test_everything_that_is_run_with_sudo_is_allowed(own_lab: PracticeMac, own_mac: Mac, tmp_path: Path) -> None:
    log = tmp_path / "sudo.log"
    sudo = write(own_lab.layout.bin / "sudo", SUDO.format(log=log), 0o755)
    try:
        for weight_pct in (0, 5):
            apply(own_mac, propose_weight(own_mac, weight_pct))
        server = own_mac.plan.nginx.server_file
        for text in ("map $http_x_forwarded_proto\n", ""):  # refused and put back; removed, which proves nothing
            before = {server: Path(server).read_text()}
            with pytest.raises(ActionFailed):
                apply(own_mac, propose_files(own_mac, "x", before, {server: text}, expect="w1", undo="", facts={}))
        assert probe_nginx(own_mac).test_exit == 0
    finally:
        sudo.unlink()
    calls = log.read_text().splitlines()
    assert [call for call in calls if not allowed(own_mac.plan, call)] == []
    used = {call.partition(" ")[0].rpartition("/")[2] for call in calls}
    assert used == {"nginx", "cp", "mv", "cmp", "rm", "mkdir", "kill"}, "each command of the file is needed"


def test_no_script_runs_anything_else_with_sudo() -> None:
    words = {word for path in ONMAC.glob("*.sh") for word in re.findall(r"\$sudo (\S+)", path.read_text())}
    assert words <= {"cp", "mv", "cmp", "rm", "mkdir", "kill", '"$binary"'}


@pytest.mark.parametrize(
    "call",
    [
        "cp /etc/shadow /tmp/rollout.abcdef/1",
        "cp /tmp/rollout.abcdef/1 /etc/sudoers.d/x",
        "cp -p {server} /etc/passwd",
        "rm -rf /",
        "rm -f {server} /etc/passwd",
        "mv -f /tmp/x {server}",
        "kill -9 1",
        "kill -HUP -1",
        "{nginx} -c /tmp/mine.conf",
        "{nginx} -t -q -c /tmp/mine.conf",
        "sh -c id",
    ],
)
def test_nothing_wider(call: str) -> None:
    plan = with_sudo()
    assert not allowed(plan, call.format(server=plan.nginx.server_file, nginx=plan.nginx.binary))


def with_sudo(**runtime: str) -> Plan:
    values = reading.load("hk").model_dump()
    values["nginx"]["sudo"] = True
    values["runtime"] |= runtime
    return reading.build(values, "hk")


def test_without_sudo_nothing_is_allowed_and_a_user_must_be_known() -> None:
    assert sudoers.render(reading.load("hk")) == "# nginx.sudo is false for hk: nothing is run with sudo\n"
    with pytest.raises(PlanError, match="does not say which user"):
        sudoers.render(with_sudo(launchd_domain="system"))


def test_sudo_itself_reads_the_file(tmp_path: Path) -> None:
    """As visudo says, and by the grammar of sudoers(5): a backslash, a comma, a # end a word."""
    text = sudoers.render(with_sudo())
    rules = [line for line in text.splitlines() if not line.startswith("# ")]
    assert len(rules) > 15
    for rule in rules:
        head, _, command = rule.partition("NOPASSWD: ")
        assert head == "#501 ALL = (root) "
        assert not set('\\,#=:!"') & set(command)
    file = tmp_path / "sudoers"
    file.write_text(text)
    checked = subprocess.run(["/usr/sbin/visudo", "-c", "-f", file], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
