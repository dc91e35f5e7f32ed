"""launchd jobs as text: a plist to render and lint, and what `launchctl print` answers."""

from __future__ import annotations

import plistlib
import re
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

from runbook_lib.plan.models import GatewaySection, Plan

DRAIN_S = 315  # how long OpenClaw drains under OPENCLAW_SUPERVISOR_MODE=external
EXIT_TIMEOUT_S = 330  # launchd must wait longer before it kills
UNREADABLE = (ExpatError, ValueError, TypeError, AttributeError, LookupError, OverflowError, EOFError)
"""What plistlib raises for content that is no plist, beside its own exception."""
SHAPES = (
    ("ProgramArguments", list, "a list of words"),
    ("EnvironmentVariables", dict, "a dictionary"),
    ("ExitTimeOut", int, "a whole number of seconds"),
)
OWN_KEYS = {"Label", "ProgramArguments", "EnvironmentVariables", "WorkingDirectory", "Comment"}
OWN_KEYS |= {"StandardOutPath", "StandardErrorPath", "LimitLoadToSessionType"}


@dataclass(frozen=True)
class Job:
    """What launchd says of one job."""

    loaded: bool
    state: str = ""
    pid: int | None = None
    runs: int | None = None
    program: str = ""
    path: str = ""
    last_exit: str = ""

    def __str__(self) -> str:
        if not self.loaded:
            return "not loaded"
        return f"{self.state}, pid {self.pid or '-'}, runs {self.runs or 0}, last exit {self.last_exit or '-'}"


def parse_print(text: str, exit_status: int) -> Job:
    """`launchctl print DOMAIN/LABEL` as a Job.

    Only lines indented by one tab are the job's own (its print is no API: docs say so); the environment it
    prints is never kept, since it may hold secrets.
    """
    if exit_status != 0:
        return Job(loaded=False)
    values: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"^\t([a-z][a-z ]*?) = (.*)$", line):
            values.setdefault(match[1], match[2])
    return Job(
        loaded=True,
        state=values.get("state", ""),
        pid=int(values["pid"]) if values.get("pid", "").isdigit() else None,
        runs=int(values["runs"]) if values.get("runs", "").isdigit() else None,
        program=values.get("program", ""),
        path=values.get("path", ""),
        last_exit=values.get("last exit code") or values.get("last terminating signal", ""),
    )


def program_of(content: bytes, package: str) -> tuple[list[str], str]:
    """What a gateway's job runs: Node's own flags (`--max-old-space-size=8192`), and the file within its package.

    The heap's size decides when memory is collected, so that two gateways compare only with the same one.
    """
    words = [str(word) for word in _job(content).get("ProgramArguments", [])]
    found = next((number for number, word in enumerate(words) if word.startswith(f"{package}/")), None)
    if found is None:
        return [], ""
    flags: list[str] = []
    while found - len(flags) > 0 and words[found - len(flags) - 1].startswith("--"):
        flags.insert(0, words[found - len(flags) - 1])
    return flags, words[found].removeprefix(f"{package}/")


def render_plist(plan: Plan, gateway: GatewaySection, words: list[str], environment: dict[str, str]) -> bytes:
    """The plist of one gateway: our wrapper reads the 0600 env file, so no secret stands in the plist.

    `words` are Node's flags and the file that it runs.
    """
    return plistlib.dumps(
        {
            "Label": gateway.label,
            "ProgramArguments": [
                "/bin/sh",
                plan.folder.wrapper,
                gateway.env_file,
                plan.runtime.node,
                *words,
                "gateway",
                "run",
                "--port",
                str(gateway.port),
                "--bind",
                "loopback",
            ],
            "EnvironmentVariables": environment,
            "RunAtLoad": True,
            "KeepAlive": True,
            "ThrottleInterval": 10,
            "ExitTimeOut": EXIT_TIMEOUT_S,
            "ProcessType": "Interactive",  # as primary's: another type gets less of the CPU
            "Umask": 0o77,
            "StandardInPath": "/dev/null",
            "StandardOutPath": gateway.log_file.removesuffix(".log") + ".stdout.log",
            "StandardErrorPath": gateway.log_file.removesuffix(".log") + ".stderr.log",
            **({"LimitLoadToSessionType": "Background"} if plan.runtime.launchd_domain.startswith("user/") else {}),
        }
    )


def compare_plists(installers: bytes, ours: bytes) -> list[tuple[str, str, str]]:
    """Key by key what OpenClaw's installer would write and what lies there: (key, installer, plist), texts.

    Only the rules of the job are compared; its program, its paths and its environment are its own.
    """
    policy, job = _job(installers), _job(ours)
    keys = sorted({"ExitTimeOut", *policy, *job} - OWN_KEYS)
    return [(key, str(policy.get(key, "")), str(job.get(key, ""))) for key in keys]


def variable(content: bytes, name: str) -> str:
    """A variable of a plist's own environment; empty where it is not there."""
    return str(_job(content).get("EnvironmentVariables", {}).get(name, ""))


def _job(content: bytes) -> dict[str, Any]:
    """A plist's keys; none where it is no plist, which lint_plist says."""
    try:
        job = plistlib.loads(content)
    except (plistlib.InvalidFileException, *UNREADABLE):
        return {}
    return job if isinstance(job, dict) else {}


def lint_plist(content: bytes, gateway: GatewaySection) -> list[str]:
    """What is wrong with a gateway's plist, a sentence each; empty when it is good."""
    try:
        plist = plistlib.loads(content)
    except (plistlib.InvalidFileException, *UNREADABLE) as error:
        return [f"{gateway.plist} is not a property list: {error or type(error).__name__}; write it again: run step 2"]
    if not isinstance(plist, dict):
        return [f"{gateway.plist} holds a {type(plist).__name__}, not a job; write it again: run step 2"]
    found = [
        f"{key} is not {what}"
        for key, kind, what in SHAPES
        if key in plist and (not isinstance(plist[key], kind) or (kind is int and isinstance(plist[key], bool)))
    ]
    if found:
        return found
    arguments = [str(word) for word in plist.get("ProgramArguments", [])]
    if plist.get("Label") != gateway.label:
        found.append(f"Label is {plist.get('Label')!r}, the plan says {gateway.label!r}")
    if str(gateway.port) not in arguments:
        found.append(f"ProgramArguments does not name port {gateway.port}: the port must be in the plist, not guessed")
    if plist.get("EnvironmentVariables", {}).get("OPENCLAW_STATE_DIR") != gateway.state_dir:
        found.append(f"OPENCLAW_STATE_DIR is not {gateway.state_dir}")
    if not plist.get("KeepAlive"):
        found.append("KeepAlive is off: launchd will not restart the gateway")
    if plist.get("ExitTimeOut", 20) < DRAIN_S:
        found.append(
            f"ExitTimeOut is {plist.get('ExitTimeOut', 20)} s, OpenClaw drains for up to {DRAIN_S} s; "
            f"set {EXIT_TIMEOUT_S}"
        )
    named = [
        name for name in plist.get("EnvironmentVariables", {}) if re.search(r"TOKEN|SECRET|API_KEY|PASSWORD", name)
    ]
    if named:
        found.append(f"{', '.join(named)} stand in the plist, readable by every user; move them to {gateway.env_file}")
    return found
