"""Everything that is asked of the Mac. Nothing here changes it: each probe is one script, one round trip."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from runbook_lib import gateway, launchd, matrix
from runbook_lib.errors import EvidenceError
from runbook_lib.launchd import Job
from runbook_lib.lock import Holder, lock_file
from runbook_lib.mac import Mac
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.onmac import script
from runbook_lib.verdict import Check


def probe_jobs(mac: Mac) -> dict[str, Job]:
    """What launchd says of both gateways and nginx, by the plan's names."""
    plan = mac.plan
    labels = {plan.primary.label: "primary", plan.canary.label: "canary", plan.nginx.label: "nginx"}
    done = mac.host.run(script("ask_jobs.sh"), plan.runtime.launchd_domain, *labels)
    jobs: dict[str, Job] = {}
    for part in done.stdout.split("job\t")[1:]:
        head, _, text = part.partition("\n")
        label, status = head.split("\t")
        if "Could not find domain" in text:
            raise EvidenceError(
                f"{mac.host.name}: launchd has no domain {plan.runtime.launchd_domain}: no GUI session of that user; "
                "log in once at the screen, or use runtime.launchd_domain: user/UID or system"
            )
        jobs[labels[label]] = launchd.parse_print(text, int(status))
    return jobs


def jobs_table(jobs: dict[str, Job]) -> pd.DataFrame:
    """One row a job: job, loaded, state, pid, runs, last_exit."""
    columns = ["loaded", "state", "pid", "runs", "last_exit"]
    return pd.DataFrame([{"job": name, **{c: getattr(job, c) for c in columns}} for name, job in jobs.items()])


def probe_listeners(mac: Mac, *ports: int) -> pd.DataFrame:
    """Who listens: port (int), pid (int), command, address; no row for a free port."""
    done = mac.host.run(script("ask_listeners.sh"), *(str(port) for port in ports))
    rows = [(int(port), int(pid), command, address) for port, pid, command, address in done.rows(4)]
    return pd.DataFrame(rows, columns=["port", "pid", "command", "address"])


@dataclass(frozen=True)
class Nginx:
    """nginx as it is: the configuration on disk, the version, the master, what `nginx -t` says."""

    configuration: Configuration | None
    version: str
    master_pid: int | None
    open_files: str
    has_slow_start: bool
    test_exit: int
    test_text: str


def probe_nginx(mac: Mac) -> Nginx:
    """nginx's configuration on disk, its version and its master process."""
    section = mac.plan.nginx
    done = mac.host.run(script("ask_nginx.sh"), section.binary, section.conf, section.pid_file, section.sudo_words)
    head, _, dump = done.stdout.partition("dump\tfollows\n")
    fields = dict(line.split("\t", 1) for line in head.splitlines())
    test_exit = int(fields["test_exit"])
    return Nginx(
        Configuration(dump, section.conf) if test_exit == 0 else None,
        fields["version"],
        int(fields["master"]) if fields["master"].isdigit() else None,
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
        return float(self.revision[1:7]) if self.revision.startswith("w") and not self.drained else 0.0


def probe_pulse(mac: Mac) -> Pulse:
    """The running revision, asked of nginx by a new connection. workers: pid, state (serving or draining)."""
    section = mac.plan.nginx
    words = (str(section.probe_port), section.pid_file, mac.plan.drain_file, mac.plan.pending_dir)
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


def probe_lock(mac: Mac) -> Holder | None:
    """Who holds this Mac now."""
    done = mac.host.run('# ask who holds this Mac\n[ ! -f "$1" ] || cat "$1"\n', lock_file(mac.plan))
    return Holder.parse(done.stdout)


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


def probe_matrix(
    mac: Mac, gateways: tuple[str, ...] = ("primary", "canary"), through_nginx: bool = True
) -> pd.DataFrame:
    """The curl matrix on the Mac, and from outside when nginx is asked too; columns as in matrix.COLUMNS."""
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token)
    asked = matrix.rows(mac.plan, gateways, through_nginx)
    on_mac = matrix.parse(asked, mac.host.run(matrix.script(mac.plan, asked, token)))
    if not through_nginx:
        return on_mac
    return pd.concat([on_mac, matrix.ask_from_outside(mac.plan, token)], ignore_index=True)


def judge_matrix(table: pd.DataFrame) -> list[Check]:
    """See matrix.judge."""
    return matrix.judge(table)


def facts_table(**proofs: Mapping[str, Any]) -> pd.DataFrame:
    """What proofs found, one row a fact: change, fact, value."""
    rows = [(change, fact, str(value)) for change, facts in proofs.items() for fact, value in facts.items()]
    return pd.DataFrame(rows, columns=["change", "fact", "value"])


def probe_packages(mac: Mac) -> pd.DataFrame:
    """`npm ls --depth=0` of both prefixes side by side: package, primary, canary, same (bool)."""
    plan = mac.plan
    prefixes = {g.prefix: name for name, g in plan.gateways.items()}
    done = mac.host.run(script("ask_packages.sh"), plan.runtime.node, plan.runtime.npm, *prefixes)
    versions: dict[str, dict[str, str]] = {"primary": {}, "canary": {}}
    for kind, prefix, text in done.rows(3):
        if kind == "tree" and text:
            tree = json.loads(text).get("dependencies", {})
            versions[prefixes[prefix]] = {name: package.get("version", "missing") for name, package in tree.items()}
    names = sorted(versions["primary"] | versions["canary"])
    table = [(n, versions["primary"].get(n, ""), versions["canary"].get(n, "")) for n in names]
    frame = pd.DataFrame(table, columns=["package", "primary", "canary"])
    return frame.assign(same=frame["primary"] == frame["canary"])


def probe_secrets(mac: Mac, salt: str) -> pd.DataFrame:
    """The secrets of both env files by salted hash: gateway, name, sha256, private (file is 0600). No value leaves."""
    files = {g.env_file: name for name, g in mac.plan.gateways.items()}
    done = mac.host.run(script("ask_secrets.sh"), salt, launchd.wrapper_path(mac.plan), *files)
    private = {file: mode == "1" for kind, file, mode in done.rows(3) if kind == "mode"}
    rows = [(files[file], name, digest, private[file]) for kind, file, name, digest in done.rows(4) if kind == "secret"]
    return pd.DataFrame(rows, columns=["gateway", "name", "sha256", "private"])


def probe_validation(mac: Mac) -> pd.DataFrame:
    """Each gateway's own config validation and doctor: gateway, tool, exit_status, took_s, findings (text)."""
    plan = mac.plan
    lines = [script("ask_validation.sh")]
    for name, section in plan.gateways.items():
        for tool, words in (("config validate", gateway.VALIDATE), ("doctor", gateway.DOCTOR)):
            lines.append(shlex.join(["one", name, tool, *gateway.command(plan, section, *words)]))
    done = mac.host.run("\n".join(lines))
    rows = [
        (name, tool, int(status), int(took), mac.vault.redact(text)) for name, tool, status, took, text in done.rows(5)
    ]
    return pd.DataFrame(rows, columns=["gateway", "tool", "exit_status", "took_s", "findings"])


def probe_startup(mac: Mac, name: str) -> dict[str, Any]:
    """Whether a gateway is ready, with the pid launchd has for it and the version it says.

    Readiness is /readyz and the version of /startupz; /healthz answers 200 while it starts and while it drains.
    """
    plan, section = mac.plan, mac.plan.gateways[name]
    done = mac.host.run(
        "# ask whether a gateway is ready\n"
        "printf 'pid\\t%s\\n' \"$(launchctl print \"$1\" 2>/dev/null | sed -n 's/^\tpid = //p')\"\n"
        'printf \'ready\\t%s\\n\' "$(curl -s --max-time 5 "$2$3")"\n'
        'printf \'started\\t%s\\n\' "$(curl -s --max-time 5 "$2$4")"\n',
        f"{plan.runtime.launchd_domain}/{section.label}",
        section.url,
        gateway.READY,
        gateway.STARTED,
    )
    fields = done.fields()
    ready, version = gateway.parse_ready(fields.get("ready", ""), fields.get("started", ""))
    pid = fields.get("pid", "")
    return {
        "ready": ready,
        "version": version,
        "pid": int(pid) if pid.isdigit() else None,
        "answer": fields.get("ready", "")[:200],
    }
