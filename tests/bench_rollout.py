"""What a rollout costs: `python tests/bench_rollout.py [--through 8] [--latency-ms 150] [--no-regions]`.

One region's steps by us, by a shell script over ssh and by an Ansible playbook: the same remote commands and requests,
recorded from our run and done again on a practice Mac built anew on the same ports. What we sleep while we wait for
traffic, for an observation or for a ramp is left out of our time; the others do not wait. Then five regions at once
against one, waiting included. Trust the ratios. Ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml
from delay import delayed
from replayed import RECORDER, Work

from runbook_lib.lab import traffic
from runbook_lib.lab.mac import PracticeMac

PROJECT = Path(__file__).parents[1]
ANSIBLE = PROJECT / "build" / "ansible"
ANSIBLE_VERSION = "ansible-core>=2.17,<2.20"
FASTER_THAN_ANSIBLE, OF_SHELL, OF_ONE = 2.0, 2.0, 2.5
RATE, RATE_OF_FIVE, LIMIT_S = 100, 25, 1800
SHORT = {
    "traffic": {"ramp_s": 0, "settle_s": 0.2, "promote_every_s": 0.2},
    "observation": {"observe_s": 5, "window_s": 5, "sample_every_s": 1},
    "thresholds": {"slower_than_primary_pct": 1000, "reload_p95_rise_pct": 1000, "rss_gap_pct": 500},  # no weather
}
SELDOM = {
    "traffic": {"promote_every_s": 0.5},  # waits 30 times as long for primary's 20 requests, of 2.5 a second at 90 %
    "observation": {"observe_s": 20, "window_s": 10, "sample_every_s": 5},
}
"""Five Macs on one machine: less of it for what would be the Macs' own work."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--through", type=int, default=8, choices=range(4, 9), help="from 4 on there is a canary")
    options.add_argument("--latency-ms", type=float, default=150)
    options.add_argument("--no-regions", action="store_true")
    given = options.parse_args()
    promises = []
    with tempfile.TemporaryDirectory(prefix="b-", dir="/tmp") as folder:
        desk = Desk(Path(folder).resolve())
        playbooks = install_ansible()
        for where, one_way_s in (("loopback", 0.0), (f"{given.latency_ms:g} ms away", given.latency_ms / 2000)):
            took_s, work = desk.ours(one_way_s, given.through)
            print(f"{where}: ours {took_s:.1f} s, and {work.slept_s:.1f} s slept: {work.count()}", flush=True)
            shell_s = desk.shell(work, one_way_s)
            ansible_s = desk.ansible(work, one_way_s, playbooks)
            print(f"{where}: ssh script {shell_s:.1f} s, Ansible {ansible_s:.1f} s, each over one kept connection")
            print(f"{where}: Ansible / ours {ansible_s / took_s:.1f}, ours / script {took_s / shell_s:.2f}", flush=True)
            promises += [ansible_s / took_s >= FASTER_THAN_ANSIBLE, took_s / shell_s <= OF_SHELL]
        if not given.no_regions:
            one_s, five_s = desk.regions(1, given.through), desk.regions(5, given.through)
            print(f"one region {one_s:.1f} s, five at once {five_s:.1f} s: {five_s / one_s:.2f} times")
            promises.append(five_s / one_s <= OF_ONE)
    return int(not all(promises))


class Desk:
    """A project folder in which one practice Mac after the other is built, always on the same ports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base_port = 0
        shutil.copytree(PROJECT / "notebooks", root / "notebooks")
        (root / "parameters").mkdir()
        (root / "recorder").mkdir()
        (root / "recorder/sitecustomize.py").write_text(RECORDER)

    def ours(self, one_way_s: float, through: int) -> tuple[float, Work]:
        """Seconds of the whole command, imports included and sleeps taken off, and what it did."""
        record = self.root / f"record-{one_way_s:g}.jsonl"
        with self.mac() as mac, self.way(mac, one_way_s) as sections:
            self.describe("lab", ".lab/mac.yaml", sections)
            traffic.start(mac.layout, RATE, LIMIT_S)
            shutil.rmtree(self.root / "outputs", ignore_errors=True)
            path = {"PYTHONPATH": f"{self.root / 'recorder'}:{PROJECT}", "BENCH_RECORD": str(record)}
            took_s = call(self.root, [tool("rollout"), "run", "lab", "--through", str(through)], path)
        work = Work.read(record)
        return took_s - work.slept_s, work

    def shell(self, work: Work, one_way_s: float) -> float:
        with self.mac() as mac, self.way(mac, one_way_s) as sections, tempfile.TemporaryDirectory() as folder:
            own = ["-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/s", "-o", "ControlPersist=30"]
            ssh = " ".join(["ssh", "-F", sections["host"]["ssh_config"], *own, "practice-mac"])
            script = work.shell_script(Path(folder), ssh, (public(mac), sections["nginx"]["public_url"]))
            took_s = call(self.root, ["/bin/sh", str(script)])
            self.prove(mac)
        return took_s

    def ansible(self, work: Work, one_way_s: float, command: Path) -> float:
        with self.mac() as mac, self.way(mac, one_way_s) as sections, tempfile.TemporaryDirectory() as folder:
            playbook = work.playbook(Path(folder), (public(mac), sections["nginx"]["public_url"]))
            inventory = Path(folder) / "inventory"
            python = "ansible_python_interpreter=/usr/bin/python3"
            common = f"-F {sections['host']['ssh_config']} -o ControlMaster=auto -o ControlPersist=60s"
            inventory.write_text(f"practice-mac {python} ansible_ssh_common_args='{common}'\n")
            inventory.write_text(inventory.read_text() + f"localhost ansible_connection=local {python}\n")
            setting = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_HOME": folder, "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{folder}/c"}
            words = [str(command), "-i", str(inventory), "--limit", "practice-mac", str(playbook)]
            took_s = call(self.root, words, setting)
            self.prove(mac)
        return took_s

    def regions(self, count: int, through: int) -> float:
        """Seconds of the whole command, all waiting included."""
        names = [f"lab-{number}" for number in range(1, count + 1)]
        macs = [PracticeMac(self.root / f".{name}", say=lambda _: None) for name in names]
        shutil.rmtree(self.root / "outputs", ignore_errors=True)
        try:
            for name, mac in zip(names, macs, strict=True):
                mac.up()
                self.describe(name, f".{name}/mac.yaml", SELDOM)
                traffic.start(mac.layout, RATE_OF_FIVE, LIMIT_S)
            return call(self.root, [tool("rollout"), "run", *names, "--through", str(through)])
        finally:
            with ThreadPoolExecutor(2) as two:
                list(two.map(PracticeMac.down, macs))

    def describe(self, name: str, mac_yaml: str, sections: dict[str, dict[str, str]]) -> None:
        values = yaml.safe_load((PROJECT / "parameters/lab.yaml").read_text())
        values |= {"region": name, "host": {"practice_mac": mac_yaml}}
        for section, keys in [*SHORT.items(), *sections.items()]:
            values[section] = {**values.get(section, {}), **keys}
        (self.root / f"parameters/{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    @contextmanager
    def mac(self) -> Iterator[PracticeMac]:
        """A fresh practice Mac, on the ports of the one before."""
        mac = PracticeMac(self.root / ".lab", say=lambda _: None)
        if self.base_port:
            mac.layout.run.mkdir(parents=True, exist_ok=True, mode=0o700)
            (mac.layout.run / "lab.json").write_text(json.dumps({"base_port": self.base_port, "gateway": "standin"}))
        mac.up()
        self.base_port = mac.ports.base
        try:
            yield mac
        finally:
            mac.down()

    @contextmanager
    def way(self, mac: PracticeMac, one_way_s: float) -> Iterator[dict[str, dict[str, str]]]:
        """host.ssh_config and nginx.public_url of a Mac that is this far away."""
        config, url = mac.layout.ssh_config, public(mac)
        with ExitStack() as stack:
            if one_way_s:
                ssh, https = (stack.enter_context(delayed(p, one_way_s)) for p in (mac.ports.ssh, mac.ports.https))
                known, far = self.root / "known_hosts", self.root / "ssh_config"
                near = (mac.layout.run / "known_hosts").read_text()
                known.write_text(near.replace(f":{mac.ports.ssh} ", f":{ssh} "))
                text = config.read_text().replace(str(mac.layout.run / "known_hosts"), str(known))
                far.write_text(text.replace(str(mac.ports.ssh), str(ssh)))
                config, url = far, f"https://localhost:{https}"
            yield {"host": {"ssh_config": str(config)}, "nginx": {"public_url": url}}

    def prove(self, mac: PracticeMac) -> None:
        """The others did the work, too: their canary answers."""
        url = f"http://127.0.0.1:{mac.ports.canary}/readyz"
        if subprocess.run(["curl", "-sf", "-o", "/dev/null", url], check=False).returncode:
            sys.exit(f"{url} does not answer: this was not the same work")


def public(mac: PracticeMac) -> str:
    return f"https://localhost:{mac.ports.https}"


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def install_ansible() -> Path:
    """Ansible in an environment of its own, kept until `make clean`."""
    command = ANSIBLE / "bin/ansible-playbook"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ANSIBLE)], check=True)
        call(PROJECT, [str(ANSIBLE / "bin/pip"), "-q", "install", ANSIBLE_VERSION])
    return command


def call(folder: Path, words: list[str], variables: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **(variables or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words[:4])} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
