"""The lies a reload tells, each for real on the practice Mac: found in time, the old configuration proven and back."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from lab_fixture import hook
from mac_fixture import connected, plan_of
from own_nginx import Gateway

from runbook_lib.errors import ActionFailed
from runbook_lib.lab.layout import NGINX_LABEL, launchd_domain
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.nginx.asking import probe_nginx, probe_pulse
from runbook_lib.nginx.change import RELOAD_LIMIT_S, propose_files, propose_weight, propose_weights, ramp
from runbook_lib.nginx.revision import revision_of, weight_of
from runbook_lib.records.kinds import Kind

pytest_plugins = ["lab_fixture", "mac_fixture"]

LATE_S = 2.5  # beside the limit itself: the connection, nginx -t, putting the files back and proving them


@pytest.fixture
def own_mac(own_lab: PracticeMac, tmp_path: Path) -> Iterator[Mac]:
    with connected(plan_of(own_lab), tmp_path) as mac:
        yield mac


@pytest.fixture
def at_five(own_mac: Mac) -> Mac:
    """The canary's weight is 5 % and proven."""
    apply(own_mac, propose_weight(own_mac, 5))
    return own_mac


def on_disk(lab: PracticeMac) -> dict[str, tuple[bytes, int]]:
    """Every file of nginx's configuration with its mode; hidden ones, too."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(lab.layout.nginx_etc.rglob("*"))
        if path.is_file()
    }


def changed_file(mac: Mac, text: str, path: str | None = None, expect: str = "w099.00-never") -> Proposal:
    """A change of one file that claims a revision which will not come, or not for this reason."""
    path = path or mac.plan.nginx.server_file
    configuration = probe_nginx(mac).configuration
    before = {path: configuration.files.get(path, "") if configuration else ""}
    return propose_files(mac, "break nginx", before, {path: text}, expect=expect, undo="", facts={})


def server_text(mac: Mac) -> str:
    return Path(mac.plan.nginx.server_file).read_text()


@contextmanager
def listener() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def refused(lab: PracticeMac, mac: Mac, proposal: Proposal) -> str:
    """Apply it; it must fail in time, with the old configuration on disk and live. Answers what was said."""
    disk, revision = on_disk(lab), probe_pulse(mac).revision
    workers = worker_pids(mac)
    started_at_s = time.monotonic()
    with pytest.raises(ActionFailed) as failed:
        apply(mac, proposal)
    took_s = time.monotonic() - started_at_s
    assert took_s < RELOAD_LIMIT_S + LATE_S, f"{took_s:.1f} s"
    assert on_disk(lab) == disk, "byte for byte, and nothing left beside it"
    assert probe_pulse(mac).revision == revision
    assert workers and worker_pids(mac), "nginx runs"
    tls = ssl.create_default_context(cafile=lab.layout.nginx_etc / "tls/ca.pem")
    with httpx.Client(verify=tls) as client:
        for _ in range(3):
            assert hook(lab, f"https://localhost:{lab.ports.https}", client).status_code == 200
    kinds = [event["event"] for event in mac.ledger.events()]
    assert kinds[-3:] == ["intent", "effect", "failed"]
    assert mac.ledger.events()[-1]["what"] == proposal.what
    return str(failed.value)


def worker_pids(mac: Mac) -> set[int]:
    return set(probe_pulse(mac).workers["pid"])


# -- before anything of ours is there ----------------------------------------------------------------------------


def test_a_taken_probe_port_on_the_first_change(own_lab: PracticeMac, own_mac: Mac) -> None:
    stranger = Gateway("stranger", own_mac.plan.nginx.probe_port)  # and it even answers
    try:
        said = refused(own_lab, own_mac, propose_weight(own_mac, 5))
    finally:
        stranger.end()
    time.sleep(1)  # nginx tries a taken port for 2.5 s: set free meanwhile, the change must not come alive
    assert probe_pulse(own_mac).revision == ""
    assert "Address already in use" in said
    assert "the old files are back and run" in said


def test_a_broken_configuration_of_yours_is_not_touched(own_lab: PracticeMac, own_mac: Mac) -> None:
    path = own_lab.layout.nginx_etc / "servers/yours.conf"
    path.write_text("this is not nginx\n")
    try:
        with pytest.raises(ActionFailed, match="nginx -t fails before any change.*yours.conf:2.*Mend that first"):
            propose_weight(own_mac, 5)
    finally:
        path.unlink()


# -- all is well -------------------------------------------------------------------------------------------------


def test_a_change_is_proven_and_not_made_twice(own_lab: PracticeMac, own_mac: Mac) -> None:
    Path(own_mac.plan.nginx.server_file).chmod(0o640)
    proposal = propose_weight(own_mac, 5)
    assert any("        proxy_pass http://$openclaw_pool;" in after for _, after in proposal.files.values())
    old = worker_pids(own_mac)
    (facts,) = apply(own_mac, proposal)
    assert len(facts["workers"]) == 2
    assert not {int(pid) for pid in facts["workers"]} & old
    assert facts["took_s"] < RELOAD_LIMIT_S + LATE_S
    assert probe_pulse(own_mac).weight_pct == 5
    assert [e["event"] for e in own_mac.ledger.events()] == ["intent", "effect", "verified", "weight"]
    assert Path(own_mac.plan.nginx.server_file).stat().st_mode & 0o777 == 0o640, "your file keeps its mode"
    disk = on_disk(own_lab)
    again = propose_weight(own_mac, 5)
    assert again.done_already.endswith("runs already")
    assert all(before == after for before, after in again.files.values())
    workers = worker_pids(own_mac)
    apply(own_mac, again)
    assert own_mac.ledger.events()[-1]["event"] == Kind.KEPT
    assert (on_disk(own_lab), worker_pids(own_mac)) == (disk, workers)
    Path(own_mac.plan.nginx.server_file).chmod(0o644)


@pytest.mark.parametrize("shell", ["sh", "zsh"])
def test_up_and_down_in_both_shells(own_lab: PracticeMac, tmp_path: Path, zsh_as_sh: str, shell: str) -> None:
    with connected(plan_of(own_lab), tmp_path, zsh_as_sh if shell == "zsh" else "/bin/sh") as mac:
        for weight_pct in (12, 0, 5):
            apply(mac, propose_weight(mac, weight_pct))
            assert probe_pulse(mac).weight_pct == weight_pct
        said = refused(own_lab, mac, changed_file(mac, server_text(mac) + "map $http_x_forwarded_proto {\n"))
        assert "[emerg]" in said


def test_each_weight_of_a_ramp_begins_from_what_the_one_before_leaves_and_keeps_your_edits(
    own_lab: PracticeMac, at_five: Mac
) -> None:
    ramped = propose_weights(at_five, [8, 12])
    ours = {f"{at_five.plan.nginx.managed_dir}/http.conf"}
    assert [set(proposal.files) for proposal in ramped] == [ours, ours]
    (first, second) = (list(proposal.files.values())[0] for proposal in ramped)
    assert first[1] == second[0]
    assert [p.facts["revision_before"][:7] for p in ramped] == ["w005.00", "w008.00"]
    server = Path(at_five.plan.nginx.server_file)
    before = server.read_text()
    server.write_text(f"{before}# somebody writes here between the plan and the change\n")
    apply(at_five, *ramped)
    assert probe_pulse(at_five).weight_pct == 12
    assert server.read_text() != before, "what was not to be changed is not put back either"
    server.write_text(before)
    apply(at_five, propose_weight(at_five, 5))


@pytest.mark.parametrize("name", ["", "w8", "w008.00-xyz", "w008.00-e3b0c442-1", "none", "W008.00-e3b0c442"])
def test_what_is_no_revision_of_ours_has_no_weight(name: str) -> None:
    assert weight_of(name) is None
    assert weight_of(revision_of(8, "")) == 8


def test_a_dry_run_changes_nothing(own_lab: PracticeMac, tmp_path: Path) -> None:
    with connected(plan_of(own_lab), tmp_path) as mac:
        dry = Mac(mac.plan, mac.host, mac.ledger, mac.vault, dry_run=True)
        disk = on_disk(own_lab)
        apply(dry, propose_weight(dry, 44))
        assert [e["event"] for e in mac.ledger.events()] == ["skipped"]
        assert on_disk(own_lab) == disk


def test_an_empty_text_removes_the_file(own_lab: PracticeMac, at_five: Mac) -> None:
    revision = probe_pulse(at_five).revision
    path = own_lab.layout.nginx_etc / "servers/extra.conf"
    path.write_text("# nothing\n")
    apply(at_five, changed_file(at_five, "", str(path), expect=revision))
    assert not path.exists()


def test_a_link_stays_a_link(own_lab: PracticeMac, at_five: Mac) -> None:
    server_file = Path(at_five.plan.nginx.server_file)
    real = own_lab.layout.nginx_etc / "available.conf"
    server_file.rename(real)
    server_file.symlink_to("../available.conf")
    try:
        revision = probe_pulse(at_five).revision
        apply(at_five, changed_file(at_five, real.read_text() + "# through the link\n", expect=revision))
        assert server_file.is_symlink()
        assert real.read_text().endswith("# through the link\n")
        refused(own_lab, at_five, changed_file(at_five, "nonsense\n"))
        assert server_file.is_symlink()
    finally:
        text = real.read_text().replace("# through the link\n", "")
        server_file.unlink()
        real.rename(server_file)
        server_file.write_text(text)


# -- the lies ----------------------------------------------------------------------------------------------------

TYPOS = [
    "map $http_x_forwarded_proto\n",  # the article's block, cut
    "map $http_x_forwarded_proto { default http; }\n",
    "map $http_x_forwarded_proto $proto { default http https on; }\n",
    "proxy_pass http://127.0.0.1:1;\n",
]


@pytest.mark.parametrize("typo", TYPOS)
def test_bad_syntax(own_lab: PracticeMac, at_five: Mac, typo: str) -> None:
    said = refused(own_lab, at_five, changed_file(at_five, server_text(at_five) + typo))
    assert "(refused)" in said
    assert "openclaw.conf:" in said
    assert "the old files are back" in said


def test_a_taken_port(own_lab: PracticeMac, at_five: Mac) -> None:
    with listener() as port:
        text = server_text(at_five) + f"server {{\n    listen 127.0.0.1:{port};\n}}\n"
        said = refused(own_lab, at_five, changed_file(at_five, text))
    assert "(not proven)" in said
    assert "Address already in use" in said
    assert "answers" in said


def test_a_changed_zone_key(own_lab: PracticeMac, at_five: Mac) -> None:
    path = str(own_lab.layout.nginx_etc / "servers/zone.conf")
    zone = "limit_req_zone $binary_remote_addr zone=hooks:1m rate=1000r/s;\n"
    apply(at_five, changed_file(at_five, zone, path, expect=probe_pulse(at_five).revision))
    try:
        said = refused(own_lab, at_five, changed_file(at_five, zone.replace("binary_remote_addr", "uri"), path))
        assert "limit_req" in said
        assert "answers" in said
    finally:
        apply(at_five, changed_file(at_five, "", path, expect=probe_pulse(at_five).revision))


@pytest.mark.parametrize("where", ["no folder", "a folder"])
def test_an_unwritable_log(own_lab: PracticeMac, at_five: Mac, where: str) -> None:
    path = own_lab.layout.nginx_etc / "servers" if where == "a folder" else Path("/nowhere/at/all.log")
    said = refused(own_lab, at_five, changed_file(at_five, server_text(at_five) + f"access_log {path};\n"))
    assert "open()" in said


@pytest.mark.parametrize("whose", ["nobody's", "a stranger's", "none"])
def test_a_stale_pid_file(own_lab: PracticeMac, at_five: Mac, whose: str) -> None:
    pid_file = own_lab.layout.nginx_pid
    real = pid_file.read_text()
    stranger = subprocess.Popen(["/bin/sleep", "60"])
    stale = {"nobody's": "4194000\n", "a stranger's": f"{stranger.pid}\n", "none": ""}[whose]
    pid_file.write_text(stale)
    try:
        disk = on_disk(own_lab)
        proposal = propose_weight(at_five, 12)
        started_at_s = time.monotonic()
        with pytest.raises(ActionFailed, match=r"\(stale\): the pid file says .*which is no nginx master; the old"):
            apply(at_five, proposal)
        assert time.monotonic() - started_at_s < RELOAD_LIMIT_S + LATE_S
        assert on_disk(own_lab) == disk
        assert stranger.poll() is None, "a stranger is not signalled"
    finally:
        pid_file.write_text(real)
        stranger.kill()
        stranger.wait()
    assert probe_pulse(at_five).weight_pct == 5


def test_a_revision_that_never_comes(own_lab: PracticeMac, at_five: Mac) -> None:
    """nginx is content, and yet it is not what was asked for."""
    said = refused(own_lab, at_five, changed_file(at_five, server_text(at_five) + "# only a comment\n"))
    assert f"within {RELOAD_LIMIT_S} s new connections did not answer w099.00-never" in said


def test_a_target_that_cannot_be_written(own_lab: PracticeMac, at_five: Mac) -> None:
    in_the_way = own_lab.layout.nginx_etc / "nginx.conf/x"
    path = str(in_the_way)
    said = refused(own_lab, at_five, changed_file(at_five, "# x\n", path))
    assert f"cannot write {path}" in said


def test_a_dead_nginx(own_lab: PracticeMac, at_five: Mac) -> None:
    disk = on_disk(own_lab)
    proposal = propose_weight(at_five, 12)
    own_lab.launchctl("kill", "SIGKILL", f"{launchd_domain()}/{NGINX_LABEL}")
    subprocess.run(["/bin/sleep", "0.3"], check=True)
    try:
        with pytest.raises(ActionFailed, match=r"\(stale\)|\(not proven\)"):
            apply(at_five, proposal)
        assert on_disk(own_lab) == disk
    finally:
        own_lab.up()
    assert probe_pulse(at_five).weight_pct == 5


# -- what is not a lie -------------------------------------------------------------------------------------------


def test_a_pinned_stream_is_counted_and_not_cut(own_lab: PracticeMac, at_five: Mac) -> None:
    tls = ssl.create_default_context(cafile=own_lab.layout.nginx_etc / "tls/ca.pem")
    with (
        socket.create_connection(("127.0.0.1", own_lab.ports.https)) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as stream,
    ):
        head = b"POST /hooks/wake HTTP/1.1\r\nHost: localhost\r\nX-Practice-Client: 203.0.113.5\r\n"
        stream.sendall(head + b"Content-Length: 4\r\nConnection: close\r\n\r\n{")
        time.sleep(0.2)
        (facts,) = apply(at_five, propose_weight(at_five, 12))
        assert facts["draining_workers_count"] == 1
        states = probe_pulse(at_five).workers["state"].tolist()
        assert sorted(states) == ["draining", "serving", "serving"]
        stream.sendall(b"  }")
        assert stream.recv(65536).startswith(b"HTTP/1.1 401"), "the old worker answers, without a token as usual"


def test_drain_and_its_end_need_no_reload(own_lab: PracticeMac, at_five: Mac) -> None:
    workers = worker_pids(at_five)
    drain_file = Path(at_five.plan.folder.drain)
    drain_file.parent.mkdir(exist_ok=True)
    drain_file.touch()
    pulse = probe_pulse(at_five)
    assert (pulse.drained, pulse.weight_pct) == (True, 0)
    drain_file.unlink()
    assert probe_pulse(at_five).weight_pct == 5
    assert worker_pids(at_five) == workers


@pytest.mark.parametrize(
    ("from_pct", "to_pct", "has_slow_start", "weights"),
    [
        (0, 12, False, [4.0, 8.0, 12.0]),
        (0, 12, True, [12]),
        (12, 0, False, [0]),
        (8, 18, False, [13.0, 18.0]),
        (5, 5, False, [5]),
        (0, 5, False, [5.0]),
    ],
)
def test_ramp(from_pct: float, to_pct: float, has_slow_start: bool, weights: list[float]) -> None:
    assert ramp(from_pct, to_pct, has_slow_start) == weights


def test_your_files_are_yours_again_afterwards(own_lab: PracticeMac, at_five: Mac) -> None:
    """Nothing of ours is left in the folder that nginx includes whole."""
    names = [path.name for path in (own_lab.layout.nginx_etc / "servers").iterdir()]
    assert names == ["openclaw.conf"]
    assert shutil.which("nginx", path=str(own_lab.layout.nginx_binary.parent))
    assert list(own_lab.layout.tmp.glob("rollout.*")) == [], "and nothing in the temporary folder"
