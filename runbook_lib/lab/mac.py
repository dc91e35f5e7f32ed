"""The practice Mac: one object that brings it up, takes it down and says whether it is up."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runbook_lib.lab import gateway, npm, ports, processes, sshd, stock, web
from runbook_lib.lab.description import describe
from runbook_lib.lab.kinds import KINDS, Kind, Name
from runbook_lib.lab.layout import LAYOUTS, NGINX_LABEL, PRIMARY_LABEL, LabError, Layout, LayoutName, launchd_domain

Say = Callable[[str], None]

SERVICES_S = 10  # sshd, launchd and the channel listen within 0.2 s on a free machine
POLL_S = 0.02


def say_on_stdout(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class PracticeMac:
    """
    ssh practice-mac ──▶ sshd ──▶ zsh, a Mac's PATH ──▶ launchctl ──▶ launchd ─┬─▶ nginx (TLS) ──▶ primary
                                                                              └─▶ primary, and soon a canary
    """

    def __init__(
        self,
        root: Path | str = ".lab",
        gateway: Name = "standin",
        say: Say = say_on_stdout,
        version: str = "",
        layout: LayoutName = "tidy",
    ) -> None:
        """`version` is what primary runs; empty means the one its kind is pinned to."""
        self.root, self.asked_layout = Path(root).resolve(), layout
        self.asked = KINDS[gateway]
        self.say = say
        self.version = version or self.asked.version

    @property
    def layout(self) -> Layout:
        """Where everything lies: as it was built, or as asked while there is none."""
        name: LayoutName = self._notes().get("layout", self.asked_layout)
        return LAYOUTS[name](self.root)

    @property
    def kind(self) -> Kind:
        """What its gateways are: as it was built, or as asked while there is none."""
        return KINDS[self._notes().get("gateway", self.asked.name)]

    @property
    def ports(self) -> ports.Ports:
        return ports.Ports(self._notes()["base_port"])

    @property
    def package(self) -> str:
        return self.kind.package

    def is_up(self) -> bool:
        """Everything `up` starts still runs, and the primary gateway is ready."""
        run = self.layout.run
        wanted = ("outside", sshd.NAME, "launchd", f"job-{NGINX_LABEL}", f"job-{PRIMARY_LABEL}")
        if not self.layout.yaml.is_file() or not all(processes.find(run, name) for name in wanted):
            return False
        return _answers(f"http://127.0.0.1:{self.ports.primary}/readyz")

    def up(self) -> None:
        """Build and start what is not there yet. Nothing is said or done when all of it is up."""
        self._refuse_strangers()
        with self._locked():
            if self.kind != self.asked:
                raise LabError(f"the practice Mac has {self.kind.name} gateways; run `rollout lab down` first")
            if self.layout.is_stock != LAYOUTS[self.asked_layout].is_stock:
                raise LabError(f"the practice Mac was not built as {self.asked_layout}; run `rollout lab down` first")
            if self.is_up():
                return
            started_at_s = time.monotonic()
            self.say(f"practice Mac: bringing it up in {self.layout.root}")
            self._outside()
            with ThreadPoolExecutor(1) as beside:
                installed = beside.submit(self._install)
                self._services()
                self._nginx()
                installed.result()
            self._primary()
            describe(self.layout, self.ports, self.kind)
            took_s = time.monotonic() - started_at_s
            self.say(f"practice Mac: up after {took_s:.1f} s; try: ssh -F {self.layout.ssh_config} practice-mac")

    def down(self, keep_cache: bool = True) -> None:
        """End what is recorded by pid and start time, remove the folder; npm's cache stays unless told."""
        if not self._notes():
            if not keep_cache and not self._strangers():
                shutil.rmtree(self.layout.root, ignore_errors=True)
            return
        with self._locked():
            run = self.layout.run
            helpers = [name for name in processes.recorded(run) if name.startswith(("fault-", "traffic"))]
            for name in (*helpers, "launchd", *processes.recorded(run)):
                processes.end(run, name, grace_s=8 if name == "launchd" else 2)
            gateway.remove_locks(self.layout)
            kept = [self.layout.cache] if keep_cache else []
            doomed = [str(entry) for entry in self.layout.root.iterdir() if entry not in kept]
            subprocess.run(["/bin/rm", "-rf", *doomed], check=True)  # 41,000 files: rmtree takes four times as long
        if not any(self.layout.root.iterdir()):
            self.layout.root.rmdir()
        self.say("practice Mac: down, nothing left running")

    def _outside(self) -> None:
        if processes.find(self.layout.run, "outside"):
            return
        notes = self._notes()
        found, listener = ports.claim(notes.get("base_port"))
        with listener:
            self._note(base_port=found.base, gateway=self.asked.name, layout=self.asked_layout)
            pages = self.layout.run / "pages.jsonl"
            words = ["-m", "runbook_lib.lab.outside", str(self.layout.registry), str(pages), str(self.layout.thinking)]
            processes.start(self.layout.run, "outside", [sys.executable, *words], pass_fd=listener.fileno())

    def _install(self) -> None:
        npm.make_commands(self.layout)
        kind = self.kind
        registry = f"http://127.0.0.1:{self.ports.outside}/npm/" if kind.is_packed_here else None
        npm.make_user_config(self.layout, registry)
        if kind.is_packed_here:
            npm.pack_standin(self.layout, kind)
        self.say(f"practice Mac: npm install {kind.package}@{self.version} for the primary gateway")
        npm.install(self.layout, self.layout.prefix("primary"), kind, self.version)
        if self.layout.is_stock:
            stock.make_neighbours(self.layout)

    def _services(self) -> None:
        layout = self.layout
        theirs = [] if layout.is_stock else [layout.home / "rollout", layout.mac / "var/lib"]
        for folder in (layout.launch_agents, layout.tmp, *theirs):
            folder.mkdir(parents=True, exist_ok=True)
        sshd.make(layout, self.ports.ssh)
        if not processes.find(layout.run, sshd.NAME):
            self.say(f"practice Mac: sshd on 127.0.0.1:{self.ports.ssh}")
            sshd.start(layout)
        if not processes.find(layout.run, "launchd"):
            self.say(f"practice Mac: launchd for {launchd_domain()}")
            for name in processes.recorded(layout.run):
                if name.startswith("job-"):  # left by a launchd that was killed
                    processes.end(layout.run, name)
            (layout.run / "launchd.sock").unlink(missing_ok=True)
            words = ["-m", "runbook_lib.lab.launchd", str(layout.root)]
            processes.start(layout.run, "launchd", [sys.executable, *words])
        _until("launchd", SERVICES_S, (layout.run / "launchd.sock").exists, layout.run / "launchd.log")

    def _nginx(self) -> None:
        self.say(f"practice Mac: nginx on https://localhost:{self.ports.https}")
        web.make(self.layout, self.ports)
        self._bootstrap(NGINX_LABEL, self.layout.nginx_domain, self.layout.nginx_plist)

    def _primary(self) -> None:
        self.say(f"practice Mac: primary gateway on 127.0.0.1:{self.ports.primary}")
        incident_url = f"json://127.0.0.1:{self.ports.outside}/notify"
        if self.layout.is_stock:
            stock.make_primary(self.layout, self.ports.primary, self.kind, self.ports.outside, incident_url)
        else:
            gateway.make_secrets(self.layout, incident_url)
            gateway.make_primary(self.layout, self.ports.primary, self.kind, self.ports.outside)
        self._bootstrap(PRIMARY_LABEL, launchd_domain(), self.layout.plist(PRIMARY_LABEL))
        ready = f"http://127.0.0.1:{self.ports.primary}/readyz"
        _until("the primary gateway", self.kind.ready_s, lambda: _answers(ready), self.layout.gateway_log)
        _until("nginx", SERVICES_S, self.layout.nginx_pid.exists, self.layout.nginx_log / "error.log")

    def _bootstrap(self, label: str, domain: str, plist: Path) -> None:
        target = f"{domain}/{label}"
        if self.launchctl("print", target).returncode == 0:
            self.launchctl("kickstart", target)
            return
        done = self.launchctl("bootstrap", domain, str(plist))
        if done.returncode:
            raise LabError(f"launchctl bootstrap of {label}: {done.stderr.strip()}")

    def launchctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The practice launchctl, without SSH."""
        return subprocess.run([str(self.layout.bin / "launchctl"), *words], capture_output=True, text=True, timeout=60)

    def _notes(self) -> dict[str, Any]:
        path = self.root / "run/lab.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def _note(self, **values: object) -> None:
        (self.root / "run/lab.json").write_text(json.dumps(values))

    def _strangers(self) -> list[str]:
        root = self.layout.root
        return [entry.name for entry in root.iterdir() if entry.name != "cache"] if root.is_dir() else []

    def _refuse_strangers(self) -> None:
        if not self._notes() and (found := [name for name in self._strangers() if name != "run"]):
            raise LabError(f"{self.layout.root} holds {found[0]} and is no practice Mac; choose another folder")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` at a time for a root."""
        self.layout.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.layout.run / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(what: str, patience_s: float, reached: Callable[[], bool], log: Path) -> None:
    deadline_s = time.monotonic() + patience_s
    while not reached():
        if time.monotonic() > deadline_s:
            tail = log.read_text(errors="replace")[-2000:] if log.is_file() else "(no log)"
            raise LabError(f"{what} did not come up within {patience_s:g} s; {log} ends:\n{tail}")
        time.sleep(POLL_S)
