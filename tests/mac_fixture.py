"""A connected practice Mac for tests of the library: its plan, its host, a ledger in a temporary folder.

Used as lab_fixture is: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from runbook_lib.lab import processes
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.vault import Vault
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records.ledger import Ledger
from runbook_lib.ssh.host import Host

PROJECT = Path(__file__).parents[1]


def values_of(lab: PracticeMac, **sections: dict[str, Any]) -> dict[str, Any]:
    """parameters/lab.yaml for this practice Mac, with some keys of some sections set."""
    values = yaml.safe_load((PROJECT / "parameters/lab.yaml").read_text(encoding="utf-8"))
    values["host"] = {"practice_mac": str(lab.layout.yaml)}
    for section, keys in sections.items():
        values[section] = {**values.get(section, {}), **keys}
    return dict(values)


def plan_of(lab: PracticeMac, **sections: dict[str, Any]) -> Plan:
    """The plan of values_of."""
    return reading.build(values_of(lab, **sections), "parameters/lab.yaml")


def connected(plan: Plan, folder: Path, shell: str = "/bin/sh") -> Mac:
    mac = Mac.connect(plan, Ledger(folder / "ledger.jsonl", "test"))
    if shell == "/bin/sh":
        return mac
    mac.host.__exit__(None, None, None)
    host = Host(plan.host, shell)
    return replace(mac, host=host, vault=Vault(host))


def connections(lab: PracticeMac) -> list[psutil.Process]:
    """The sshd processes that serve a connection now."""
    parent = processes.find(lab.layout.run, "sshd")
    return parent.children() if parent else []


@contextmanager
def watched_process_list() -> Iterator[set[str]]:
    """Every command line that is seen on this machine meanwhile."""
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    seen.add((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


@pytest.fixture
def host(lab: PracticeMac) -> Iterator[Host]:
    with Host(plan_of(lab).host) as connected_host:
        yield connected_host


@pytest.fixture
def mac(lab: PracticeMac, tmp_path: Path) -> Iterator[Mac]:
    with connected(plan_of(lab), tmp_path) as connected_mac:
        yield connected_mac


def with_plan(mac: Mac, **sections: dict[str, Any]) -> Mac:
    """The same Mac under another plan."""
    update = {name: getattr(mac.plan, name).model_copy(update=keys) for name, keys in sections.items()}
    return replace(mac, plan=mac.plan.model_copy(update=update))


@pytest.fixture(scope="session")
def zsh_as_sh(tmp_path_factory: pytest.TempPathFactory) -> str:
    """zsh under the name sh, as a Mac may have it."""
    link = tmp_path_factory.mktemp("bin") / "sh"
    link.symlink_to("/bin/zsh" if Path("/bin/zsh").exists() else "/usr/bin/zsh")
    return str(link)
