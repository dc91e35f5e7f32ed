"""A practice Mac of the tests' own, and a canary put on it in the shortest way: no notebook, no library.

A test module asks for it with `pytest_plugins = ["lab_fixture"]`, so that all of them share one. Its helpers are
imported before that, hence PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import json
import plistlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from runbook_lib.lab.gateway import config
from runbook_lib.lab.layout import CANARY_LABEL, launchd_domain, write
from runbook_lib.lab.mac import PracticeMac


@pytest.fixture(scope="session")
def lab() -> Iterator[PracticeMac]:
    """One practice Mac for the whole session: leave it as you found it."""
    yield from _practice_mac()


@pytest.fixture(scope="module")
def own_lab() -> Iterator[PracticeMac]:
    """One of the module's own, to break."""
    yield from _practice_mac()


def _practice_mac() -> Iterator[PracticeMac]:
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:  # short, as in a checkout
        mac = PracticeMac(Path(folder).resolve() / "l", say=lambda _: None)
        try:
            mac.up()
            yield mac
        finally:
            mac.down(keep_cache=False)


def ssh(mac: PracticeMac, command: str) -> subprocess.CompletedProcess[str]:
    """One command over the practice Mac's SSH, as anybody's ssh would send it."""
    words = ["ssh", "-F", str(mac.layout.ssh_config), "practice-mac", command]
    return subprocess.run(words, capture_output=True, text=True, timeout=30)


def until(reached: Callable[[], object], within_s: float = 10) -> None:
    deadline_s = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.03)


def start_canary(mac: PracticeMac) -> str:
    """The canary's URL, once it is ready."""
    layout = mac.layout
    state, env_file = layout.state_dir("canary"), layout.env_file("canary")
    if not layout.prefix("canary").exists():
        shutil.copytree(layout.prefix("primary"), layout.prefix("canary"), symlinks=True)
    write(state / "openclaw.json", json.dumps(config(str(state), mac.ports.canary)), 0o600)
    own = f"export OPENCLAW_STATE_DIR='{state}'\nexport OPENCLAW_CONFIG_PATH='{state}/openclaw.json'\n"
    write(env_file, (layout.staging / "canary.env").read_text() + own, 0o600)
    (state / "logs").mkdir(exist_ok=True)
    wrapper = next(layout.env_file("primary").parent.glob("*-env-wrapper.sh"))
    job = plistlib.loads(layout.plist("ai.openclaw.gateway").read_bytes())
    entry = layout.prefix("canary") / "node_modules" / mac.package / "openclaw.mjs"
    tail = ["gateway", "run", "--port", str(mac.ports.canary), "--bind", "loopback"]
    job |= {
        "Label": CANARY_LABEL,
        "ProgramArguments": ["/bin/sh", str(wrapper), str(env_file), str(layout.node_bin / "node"), str(entry), *tail],
        "ThrottleInterval": 1,
        "WorkingDirectory": str(state),
        "StandardOutPath": str(state / "logs/out.log"),
        "StandardErrorPath": str(state / "logs/err.log"),
    }
    write(layout.plist(CANARY_LABEL), plistlib.dumps(job).decode())
    started = mac.launchctl("bootstrap", launchd_domain(), str(layout.plist(CANARY_LABEL)))
    assert started.returncode == 0, started.stderr
    url = f"http://127.0.0.1:{mac.ports.canary}"
    until(lambda: status(f"{url}/readyz") == 200, within_s=30)
    return url


def status(url: str, timeout_s: float = 2) -> int:
    """The status of a GET, or 0 when nothing answered."""
    try:
        return httpx.get(url, timeout=timeout_s).status_code
    except httpx.HTTPError:
        return 0


def hook(mac: PracticeMac, url: str, client: httpx.Client) -> httpx.Response:
    token = secret(mac.layout.staging / "canary.env", "OPENCLAW_HOOKS_TOKEN")
    headers = {"Authorization": f"Bearer {token}", "X-Practice-Client": "203.0.113.9"}
    return client.post(f"{url}/hooks/wake", headers=headers, json={"text": "test", "mode": "next-heartbeat"})


def secret(path: Path, name: str) -> str:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"export {name}="))
    return line.partition("=")[2].strip("'")
