"""The scripts that change and ask nginx, in each shell, against a real nginx."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from shells import MAC_PATH, each_shell, in_every_shell, put, run

from runbook_lib.nginx.change import propose_files
from runbook_lib.onmac import script
from runbook_lib.plan.models import Plan

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def own_nginx(tmp_path: Path) -> Iterator[Callable[[str], SimpleNamespace]]:
    """Makes a real nginx whose managed file answers a revision on /__rollout."""
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:{MAC_PATH}")
    assert binary, "nginx is not installed; make setup installs it"
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> SimpleNamespace:
        root = tmp_path / name
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        managed = put(root / "managed/rollout.conf", revision("w001"))
        temporary = "".join(
            f"  {kind}_temp_path {root}/tmp-{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        conf = put(
            root / "nginx.conf",
            f"daemon off; pid {root}/nginx.pid; error_log {root}/error.log;\nevents {{}}\nhttp {{\n{temporary}"
            f"  access_log off;\n  server {{ listen 127.0.0.1:{port}; include {root}/managed/*.conf; }}\n}}\n",
        )
        words = [binary, "-c", str(conf), "-e", f"{root}/error.log"]
        processes.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        files = {"binary": binary, "conf": str(conf), "pid_file": f"{root}/nginx.pid", "error_log": f"{root}/error.log"}
        made = SimpleNamespace(port=port, managed=managed, root=root, mac=mac_with_nginx(probe_port=port, **files))
        deadline_s = time.monotonic() + 10
        while answered(made) != "w001":
            assert time.monotonic() < deadline_s, (root / "error.log").read_text()
            time.sleep(0.05)
        return made

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=10)


def revision(name: str) -> str:
    return f'location = /__rollout {{ return 200 "{name} $pid"; }}\n'


def mac_with_nginx(**nginx: object) -> Any:
    """As much of a Mac as propose_files looks at."""
    values = yaml.safe_load((PROJECT / "parameters/hk.yaml").read_text(encoding="utf-8"))
    plan = Plan.model_validate(values)
    return SimpleNamespace(plan=plan.model_copy(update={"nginx": plan.nginx.model_copy(update=nginx)}))


def answered(nginx: SimpleNamespace) -> str:
    url = f"http://127.0.0.1:{nginx.port}/__rollout"
    return subprocess.run(["curl", "-s", url], capture_output=True, text=True).stdout.split(" ")[0]


def reload(shell: str, nginx: SimpleNamespace, files: dict[Path, str], expect: str) -> dict[str, str]:
    """What a reload answers, by the very script that the library puts together; only its patience is cut."""
    after = {str(path): text for path, text in files.items()}
    proposal = propose_files(nginx.mac, "try", {}, after, expect=expect, undo="", facts={})
    args = list(proposal.args)
    args[6] = "3"
    done = run(shell, proposal.script, *args, TMPDIR=str(nginx.root))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert not list(nginx.root.glob("rollout.*")), "the staging folder is gone"
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


@each_shell
def test_a_reload_is_proven_refused_or_put_back(shell: str, own_nginx: Callable[[str], SimpleNamespace]) -> None:
    """Against a real nginx, with what stands on disk and what answers after each."""
    nginx = own_nginx(shell)
    extra = nginx.managed.with_name("extra.conf")
    proven = reload(shell, nginx, {nginx.managed: revision("w002"), extra: "# new\n"}, "w002")
    assert (proven["result"], proven["before"], answered(nginx)) == ("proven", "w001", "w002")
    assert len(proven["workers"].split()) >= 1
    assert extra.read_text() == "# new\n"

    refused = reload(shell, nginx, {nginx.managed: "locatio n {\n", extra: ""}, "w003")
    assert (refused["result"], answered(nginx)) == ("refused", "w002")
    assert "unknown directive" in refused["detail"]
    assert (nginx.managed.read_text(), extra.read_text()) == (revision("w002"), "# new\n")

    unproven = reload(shell, nginx, {nginx.managed: revision("other")}, "w003")
    assert (unproven["result"], answered(nginx)) == ("not proven", "w002")
    assert "w002 answers" in unproven["detail"]
    assert nginx.managed.read_text() == revision("w002")

    removed = reload(shell, nginx, {nginx.managed: revision("w004"), extra: ""}, "w004")
    assert (removed["result"], extra.exists()) == ("proven", False)

    pid = (nginx.root / "nginx.pid").read_text()
    put(nginx.root / "nginx.pid", f"{os.getpid()}\n")
    stale = reload(shell, nginx, {nginx.managed: revision("w005")}, "w005")
    put(nginx.root / "nginx.pid", pid)
    assert (stale["result"], answered(nginx), nginx.managed.read_text()) == ("stale", "w004", revision("w004"))


def test_ask_pulse_and_ask_nginx(own_nginx: Callable[[str], SimpleNamespace]) -> None:
    nginx = own_nginx("one")
    section = nginx.mac.plan.nginx
    drain = put(nginx.root / "drain", "")
    pulse = in_every_shell(
        lambda shell: run(shell, script("ask_pulse.sh"), str(nginx.port), section.pid_file, str(drain))
    )
    rows = [line.split("\t") for line in pulse.splitlines()]
    assert rows[0][1].startswith("w001 ")
    assert ["drain_file", "there"] in rows
    workers = [row for row in rows if row[0] == "worker"]
    assert workers and {row[2] for row in workers} == {"serving"}
    words = (section.binary, section.conf, "")
    asked = in_every_shell(lambda shell: run(shell, script("ask_nginx.sh"), *words, TMPDIR=str(nginx.root)))
    assert "slow_start\tno\n" in asked
    assert "test_exit\t0\n" in asked
    assert revision("w001") in asked
    assert not list(nginx.root.glob("nginx.??????")), "its scratch folder is gone"
