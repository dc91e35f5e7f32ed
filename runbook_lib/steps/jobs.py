"""Starting and stopping launchd jobs: proposals, proven by what launchd, the listeners and the gateway answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from runbook_lib.clock import wait_until
from runbook_lib.errors import ActionFailed
from runbook_lib.gateway import openclaw
from runbook_lib.gateway.launchd import EXIT_TIMEOUT_S, Job
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.onmac import script
from runbook_lib.plan.models import GatewaySection
from runbook_lib.probes import probe_jobs, probe_listeners, probe_startup
from runbook_lib.records.kinds import Act
from runbook_lib.ssh.host import Completed
from runbook_lib.steps import migration

BOOTSTRAP_LIMIT_S = 20
ASK_EVERY_S = 0.3


def propose_start(mac: Mac, name: str, after_stop: bool = False) -> Proposal:
    """Bootstrap a gateway's job; proven when this very job listens on its port and says it is ready.

    `after_stop`: it runs now, and will have been stopped and given another state by then. Else raises ActionFailed
    where its binary is older than its state: that never starts.
    """
    if not after_stop:
        migration.refuse_downgrade(mac, name)
    section = mac.plan.gateways[name]
    domain = mac.plan.runtime.launchd_domain
    job = probe_jobs(mac)[name]
    return Proposal(
        Act.START,
        f"start {name} ({section.label})",
        script("start_job.sh"),
        args=(domain, section.label, section.plist, str(BOOTSTRAP_LIMIT_S)),
        commands=(
            f"launchctl enable {domain}/{section.label}",
            f"launchctl bootstrap {domain} {section.plist}",
        ),
        proof=lambda mac, done: _prove_started(mac, name, done),
        undo=f"launchctl bootout {domain}/{section.label}",
        done_already=f"launchd runs it: {job}" if job.loaded and job.pid and not after_stop else "",
    )


def propose_stop(mac: Mac, name: str) -> Proposal:
    """Boot a gateway's job out; proven when launchd no longer knows it.

    A stopped process is continued, since it could not obey; one that hangs is killed, instead of waiting ExitTimeOut.
    """
    section = mac.plan.gateways[name]
    domain = mac.plan.runtime.launchd_domain
    return Proposal(
        Act.STOP,
        f"stop {name} ({section.label})",
        f"# stop {name}\n{script('thaw.sh')}{script('stop_job.sh')}",
        args=(domain, section.label, str(EXIT_TIMEOUT_S), section.url + openclaw.LIVE),
        commands=(f"launchctl bootout {domain}/{section.label}",),
        proof=lambda mac, done: _prove_stopped(mac, name, done),
        undo=f"launchctl bootstrap {domain} {section.plist}",
        done_already="" if probe_jobs(mac)[name].loaded else "launchd does not know it",
        timeout_s=EXIT_TIMEOUT_S + 30,
    )


def propose_kickstart(mac: Mac, name: str) -> Proposal:
    """Restart a gateway's loaded job; proven by a new pid that listens and is ready.

    Raises ActionFailed where its binary is older than its state: that never starts again.
    """
    migration.refuse_downgrade(mac, name)
    section = mac.plan.gateways[name]
    target = f"{mac.plan.runtime.launchd_domain}/{section.label}"
    return Proposal(
        Act.RESTART,
        f"kickstart {name} ({section.label})",
        f"# restart {name}\n{script('thaw.sh')}{script('restart_job.sh')}",
        args=(target, section.url + openclaw.LIVE),
        commands=(f"launchctl kickstart -k {target}",),
        proof=lambda mac, done: _prove_started(mac, name, done),
        undo="nothing: the same job runs again",
        timeout_s=EXIT_TIMEOUT_S + 30,
    )


def _prove_started(mac: Mac, name: str, done: Completed) -> Mapping[str, Any]:
    """It is this job that listens, on loopback only, and it is ready; a crash is told with launchd's last exit."""
    section = mac.plan.gateways[name]
    fields = done.fields()
    if fields.get("result") != "loaded":
        raise ActionFailed(f"{mac.host.name}: launchd refused {section.label}: {fields.get('detail', done.stderr)}")
    started, runs = time.monotonic(), list[int]()

    def ask() -> tuple[dict[str, Any], Job | None]:
        """Whether it is ready, and what launchd says of it while it is not."""
        ready = probe_startup(mac, name)
        return ready, None if ready["ready"] and ready["pid"] else probe_jobs(mac)[name]

    def is_over(seen: tuple[dict[str, Any], Job | None]) -> bool:
        job = seen[1]
        if job is None:
            return True
        runs.append(job.runs or 0)
        first_run = next(filter(None, runs), 0)
        ended = job.pid is None or runs[-1] > first_run  # a slow start hides the pause between two tries
        return ended and job.last_exit.startswith(str(openclaw.EXIT_CONFIG))

    limit_s = mac.plan.runtime.ready_timeout_s
    ready, job = wait_until(ask, is_over, limit_s, ASK_EVERY_S)
    waited_s = time.monotonic() - started
    if job is not None:
        raise ActionFailed(
            f"{mac.host.name}, gateway {name}: not ready after {waited_s:.0f} of {limit_s:g} s "
            f"({ready['answer']}); launchd: {job}. "
            f"{openclaw.explain_exit(job.last_exit, _last_words(mac, section))}Read {section.log_file}"
        )
    listener = _prove_listener(mac, section, int(ready["pid"]))
    return {"job": name, **ready, **listener, "ready_after_s": round(waited_s, 1)}


def _last_words(mac: Mac, section: GatewaySection) -> str:
    """The end of what a gateway said on standard error before it gave up."""
    file = f"{section.log_file.removesuffix('.log')}.stderr.log"
    return mac.host.run(script("ask_tail.sh"), file).stdout


def _prove_listener(mac: Mac, section: GatewaySection, pid: int) -> Mapping[str, Any]:
    listeners = probe_listeners(mac, section.port)
    addresses = sorted(set(listeners["address"]))
    strangers = sorted(set(listeners["pid"]) - {pid})
    if listeners.empty or strangers:
        raise ActionFailed(
            f"{mac.host.name}: port {section.port} is held by pid {strangers or 'nobody'}, "
            f"not by {section.label} (pid {pid})"
        )
    public = [a for a in addresses if not a.startswith(("127.0.0.1:", "[::1]:"))]
    if public:
        raise ActionFailed(f"{mac.host.name}: {section.label} listens on {', '.join(public)}; it must stay on loopback")
    return {"listens_on": addresses}


def _prove_stopped(mac: Mac, name: str, done: Completed) -> Mapping[str, Any]:
    fields = done.fields()
    if fields.get("result") != "gone":
        raise ActionFailed(f"{mac.host.name}: {fields.get('detail', done.stderr)}")
    forced: dict[str, Any] = {name: int(fields[name]) for name in ("continued", "killed") if name in fields}
    return {"job": name, "took_s": round(done.duration_s, 1), **forced}
