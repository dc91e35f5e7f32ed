"""The work of one rollout, recorded, and done again without us: by a shell script over ssh, and by Ansible.

Recorded is what reaches the Mac: each remote command with its standard input, each HTTP request with where it left
from. What we slept in between is counted and left out of every time.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Python imports this by its name before anything else; it only does something in the process that forks our kernels.
RECORDER = """
import json, os, sys, threading, time

def note(**what):
    with open(os.environ["BENCH_RECORD"], "a") as file:
        file.write(json.dumps(what) + "\\n")

if "runbook_lib.execution.zygote" in sys.orig_argv:
    import httpx, paramiko
    sleep, send = time.sleep, httpx.Client.send
    start, write, end = (getattr(paramiko.Channel, name) for name in ("exec_command", "sendall", "shutdown_write"))

    def recorded_sleep(seconds):
        if seconds >= 0.05 and threading.current_thread() is threading.main_thread():
            note(sleep=seconds)
        sleep(seconds)

    def recorded_start(self, command):
        self.asked = [command, b""]
        start(self, command)

    def recorded_write(self, data):
        if hasattr(self, "asked"):
            self.asked[1] += data
        write(self, data)

    def recorded_end(self):
        if hasattr(self, "asked"):
            note(command=self.asked[0], stdin=self.asked[1].decode())
        end(self)

    def recorded_send(self, request, **options):
        body = request.read().decode("latin-1")
        inside = type(getattr(self._transport._pool, "_network_backend", None)).__name__ == "_ThroughSSH"
        own = {name: value for name, value in request.headers.items() if name not in ("connection", "content-length")}
        note(url=str(request.url), method=request.method, headers=own, body=body, inside=inside)
        return send(self, request, **options)

    time.sleep, httpx.Client.send = recorded_sleep, recorded_send
    paramiko.Channel.exec_command, paramiko.Channel.sendall = recorded_start, recorded_write
    paramiko.Channel.shutdown_write = recorded_end
"""


ARCHIVE = re.compile(r"[^/ ]+(?=-openclaw-backup[.]tar[.]gz)")
"""The gateway names its backup by the time of day, which is another one when the work is done again."""


@dataclass(frozen=True)
class Work:
    """What was recorded, in order."""

    entries: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Work:
        return cls([json.loads(ARCHIVE.sub("*", line)) for line in path.read_text().splitlines()])

    @property
    def slept_s(self) -> float:
        return sum(float(entry.get("sleep", 0)) for entry in self.entries)

    @property
    def acts(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if "sleep" not in entry]

    def count(self) -> str:
        commands = sum("command" in act for act in self.acts)
        inside = sum(bool(act.get("inside")) for act in self.acts)
        return f"{commands} commands, {inside} requests on the Mac, {len(self.acts) - commands - inside} from outside"

    def shell_script(self, folder: Path, ssh: str, outside: tuple[str, str]) -> Path:
        """A script as a careful person writes it: one ssh a command, requests in a row in one ssh with curl.

        `outside` is the public address as recorded, and as it is to be reached now.
        """
        lines, batch = ["#!/bin/sh"], list[str]()

        def flush() -> None:
            if batch:
                lines.append(f"{ssh} {shlex.quote('; '.join(batch))} >/dev/null 2>&1")
                batch.clear()

        for number, act in enumerate(self.acts):
            if "command" in act:
                flush()
                (folder / f"{number}.in").write_text(act["stdin"])
                lines.append(f"{ssh} {shlex.quote(act['command'])} <{folder}/{number}.in >/dev/null 2>&1")
            elif act["inside"]:
                batch.append(_curl(act))
            else:
                flush()
                lines.append(f"{_curl(act).replace(*outside)} >/dev/null 2>&1")
        flush()
        script = folder / "rollout.sh"
        script.write_text("\n".join([*lines, "exit 0", ""]))
        return script

    def playbook(self, folder: Path, outside: tuple[str, str]) -> Path:
        """A task for each command and each request, by the modules that are there for it."""
        tasks = []
        for number, act in enumerate(self.acts):
            if "command" in act:
                task: dict[str, Any] = {"ansible.builtin.shell": {"cmd": act["command"], "stdin": act["stdin"]}}
            else:
                request = {"url": act["url"], "method": act["method"], "headers": act["headers"], "body": act["body"]}
                request |= {"validate_certs": False, "status_code": list(range(100, 600)), "follow_redirects": "none"}
                task = {"ansible.builtin.uri": request}
                if not act["inside"]:
                    request["url"] = act["url"].replace(*outside)
                    task["delegate_to"] = "localhost"
            tasks.append({"name": f"act {number}", "ignore_errors": True, "changed_when": False, **_raw(task)})
        play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
        path = folder / "playbook.yml"
        path.write_text(yaml.dump(play, Dumper=_Dumper, sort_keys=False, width=10**6))
        return path


class _Unsafe(str):
    """Text that Ansible takes as it is, braces included."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def _raw(value: Any) -> Any:
    if isinstance(value, str):
        return _Unsafe(value) if "{" in value else value
    if isinstance(value, dict):
        return {key: _raw(inner) for key, inner in value.items()}
    return [_raw(inner) for inner in value] if isinstance(value, list) else value


def _curl(act: dict[str, Any]) -> str:
    words = ["curl", "-sk", "-o", "/dev/null", "--max-time", "30", "-X", act["method"], act["url"]]
    for name, value in act["headers"].items():
        words += ["-H", f"{name}: {value}"]
    return shlex.join([*words, *(["--data-binary", act["body"]] if act["body"] else [])])
