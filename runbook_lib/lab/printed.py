"""How `launchctl print` shows a job: the shape of macOS 14 and 15, one tab for the job, two for what nests."""

from __future__ import annotations

import signal

from runbook_lib.lab.jobs import EXIT_TIMEOUT_S, Job

NAMES = "USAGE DATAERR NOINPUT NOUSER NOHOST UNAVAILABLE SOFTWARE OSERR OSFILE CANTCREAT IOERR"
NAMES += " TEMPFAIL PROTOCOL NOPERM CONFIG"
SYSEXITS = {number: f"EX_{name}" for number, name in enumerate(NAMES.split(), start=64)}
PROPERTIES = {
    "keepalive": "KeepAlive",
    "runatload": "RunAtLoad",
    "abandon process group": "AbandonProcessGroup",
}


def printed(job: Job) -> str:
    spec = job.spec
    environment = {**job.own, "XPC_SERVICE_NAME": job.label}
    interactive = spec.get("ProcessType") == "Interactive"
    lines = [
        f"active count = {int(job.process is not None)}",
        f"path = {job.path}",
        f"type = {'LaunchDaemon' if job.domain == 'system' else 'LaunchAgent'}",
        f"state = {job.state}",
        "",
        f"program = {job.program}",
        *_block("arguments", job.arguments),
        "",
        *([f"working directory = {spec['WorkingDirectory']}", ""] if "WorkingDirectory" in spec else []),
        *(
            f"{name} path = {spec[key]}"
            for name, key in (("stdout", "StandardOutPath"), ("stderr", "StandardErrorPath"))
            if key in spec
        ),
        *_block("default environment", ["PATH => /usr/bin:/bin:/usr/sbin:/sbin"]),
        "",
        *_block("environment", [f"{key} => {value}" for key, value in environment.items()]),
        "",
        f"domain = {job.domain}" + (" [100003]" if job.domain.startswith("gui/") else ""),
        f"minimum runtime = {job.throttle_s}",
        f"exit timeout = {spec.get('ExitTimeOut', EXIT_TIMEOUT_S)}",
        f"runs = {job.runs}",
        *([f"pid = {job.pid}"] if job.process else []),
        ended(job.last_exit),
        "",
        *_block("resource coalition", ["type = resource", "state = active", "active count = 1"]),
        "",
        "spawn type = interactive (4)" if interactive else "spawn type = daemon (3)",
        f"job state = {'running' if job.process else 'exited'}",
        "",
        f"properties = {' | '.join(_properties(job))}",
    ]
    body = "\n".join(f"\t{line}" if line else "" for line in lines)
    return f"{job.domain}/{job.label} = {{\n{body}\n}}\n"


def ended(last_exit: int | None) -> str:
    """A signal's line takes the place of the exit code's."""
    if last_exit is None:
        return "last exit code = (never exited)"
    if last_exit < 0:
        return f"last terminating signal = {signal.strsignal(-last_exit)}: {-last_exit}"
    name = SYSEXITS.get(last_exit)
    return f"last exit code = {last_exit}" + (f": {name}" if name else "")


def _properties(job: Job) -> list[str]:
    set_here = [name for name, key in PROPERTIES.items() if job.spec.get(key)]
    return [*set_here, *([] if "Program" in job.spec else ["inferred program"])]


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"{name} = {{", *(f"\t{line}" for line in lines), "}"]
