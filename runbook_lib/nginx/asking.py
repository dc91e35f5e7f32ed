"""What is asked of nginx: its configuration on disk, and what its workers say of the one that runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from runbook_lib.mac.mac import Mac
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.nginx.revision import weight_of
from runbook_lib.onmac import script


@dataclass(frozen=True)
class Nginx:
    """nginx as it is: the configuration on disk, the version, what `nginx -t` says.

    `open_files` is what the job's plist allows; empty where it says nothing.
    """

    configuration: Configuration | None
    version: str
    open_files: str
    has_slow_start: bool
    test_exit: int
    test_text: str

    @property
    def default_log(self) -> str:
        """Where this nginx writes its access log when its configuration says nothing."""
        built = re.search(r"--http-log-path=(\S+)", self.version)
        return built[1] if built else "logs/access.log"


def probe_nginx(mac: Mac) -> Nginx:
    """nginx's configuration on disk, its version, and what its master may open."""
    section = mac.plan.nginx
    words = (section.binary, section.conf, section.sudo_words, section.plist)
    done = mac.host.run(script("ask_nginx.sh"), *words)
    head, _, dump = done.stdout.partition("dump\tfollows\n")
    fields = dict(line.split("\t", 1) for line in head.splitlines())
    test_exit = int(fields["test_exit"])
    return Nginx(
        Configuration(dump, section.conf) if test_exit == 0 else None,
        fields["version"],
        fields["open_files"],
        fields["slow_start"] == "yes",
        test_exit,
        fields["test_text"],
    )


@dataclass(frozen=True)
class Pulse:
    """Which configuration new connections meet, whether the kill switch is pulled, and what waits to be confirmed."""

    revision: str
    workers: pd.DataFrame
    drained: bool
    unconfirmed: str

    @property
    def weight_pct(self) -> float:
        """The canary's weight as it runs; 0 where our configuration does not run or the drain file is there."""
        return 0.0 if self.drained else weight_of(self.revision) or 0.0


def probe_pulse(mac: Mac) -> Pulse:
    """The running revision, asked of nginx by a new connection. workers: pid, state (serving or draining)."""
    section = mac.plan.nginx
    words = (str(section.probe_port), section.pid_file, mac.plan.folder.drain, mac.plan.folder.pending)
    done = mac.host.run(script("ask_pulse.sh"), *words)
    fields = done.fields()
    workers = [(int(pid), state) for _, pid, state in done.rows(3)]
    return Pulse(
        fields.get("answer", "").partition(" ")[0],
        pd.DataFrame(workers, columns=["pid", "state"]),
        fields["drain_file"] == "there",
        fields.get("unconfirmed", ""),
    )


def nginx_facts(nginx: Nginx) -> dict[str, Any]:
    """What `nginx -t` said, to be kept and judged: test_exit, test_text, version."""
    return {"test_exit": nginx.test_exit, "test_text": nginx.test_text, "version": nginx.version}


def pulse_facts(pulse: Pulse) -> dict[str, Any]:
    """What of a pulse is kept to be judged again, by the names of its fields."""
    return {
        "revision": pulse.revision,
        "drained": pulse.drained,
        "unconfirmed": pulse.unconfirmed,
        "workers": pulse.workers.to_dict("list"),
    }


def pulse_from(facts: Mapping[str, Any]) -> Pulse:
    return Pulse(facts["revision"], pd.DataFrame(facts["workers"]), facts["drained"], facts["unconfirmed"])
