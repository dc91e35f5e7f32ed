"""A steady mix of webhooks through the practice Mac's nginx: `python -m runbook_lib.lab.traffic --rate 100`.

    Provider ──▶ one delivery each 1/rate s ──▶ kept connections, some new ──▶ nginx (TLS)
                                              └─▶ traffic.jsonl, a line a second

Open loop: a slow gateway does not slow the senders down, as it would not in earnest.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import operator
import signal
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import json5
import yaml

from runbook_lib.lab import processes
from runbook_lib.lab.deliveries import Provider
from runbook_lib.lab.kinds import KINDS
from runbook_lib.lab.layout import LabError, Layout
from runbook_lib.lab.wire import Connection, CutError

NAME = "traffic"
TIMEOUT_S = 10.0  # GitHub waits 10 s for an answer (docs: "Webhook events and payloads")
NEW_CONNECTION_RATIO = 0.1
MOST_AT_ONCE = 200
LAST_ANSWERS_S = 2.0


def start(layout: Layout, rate: float, for_s: float) -> Path:
    """Send in the background, bounded in time, ended by `stop` or `down`. The file of counts."""
    stop(layout)
    out = counts_file(layout)
    out.unlink(missing_ok=True)
    words = ["-m", "runbook_lib.lab.traffic", "--root", str(layout.root), "--out", str(out)]
    processes.start(layout.run, NAME, [sys.executable, *words, "--rate", str(rate), "--for-s", str(for_s)])
    return out


def stop(layout: Layout) -> dict[str, Any]:
    """End the background traffic, if any. Its last counts."""
    processes.end(layout.run, NAME, grace_s=LAST_ANSWERS_S + 1)
    return counts(layout)


def counts(layout: Layout) -> dict[str, Any]:
    """The newest line of the counts: second, sent, ok, in_flight, skipped, statuses; empty before the first."""
    path = counts_file(layout)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return dict(json.loads(lines[-1])) if lines else {}


def counts_file(layout: Layout) -> Path:
    return layout.run / "traffic.jsonl"


class Traffic:
    """Sends at a rate and counts: sent = the sum of statuses + in_flight, at every line that is written."""

    def __init__(self, provider: Provider, port: int, tls: ssl.SSLContext, out: Path) -> None:
        self.provider, self.port, self.tls, self.out = provider, port, tls, out
        self.sent = self.skipped = self.retried = 0
        self.statuses: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.stopping = asyncio.Event()
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, rate: float, for_s: float) -> None:
        began_s = time.monotonic()
        due, second = 0, 0
        while not self.stopping.is_set() and (elapsed_s := time.monotonic() - began_s) < for_s:
            while due < min(elapsed_s, for_s) * rate:
                self._one()
                due += 1
            if int(elapsed_s) > second:
                second = int(elapsed_s)
                self._write(second)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), max(0.002, 1 / rate))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_ANSWERS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._write(second + 1, done=True)
        for connection in self._idle:
            connection.close()

    def _one(self) -> None:
        if len(self._tasks) >= MOST_AT_ONCE:
            self.skipped += 1
            return
        fresh = self.provider.dice.random() < NEW_CONNECTION_RATIO
        _, request = self.provider.next(close=fresh)
        self.sent += 1
        task = asyncio.create_task(self._deliver(request, fresh))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, request: bytes, fresh: bool) -> None:
        outcome = "unanswered"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                outcome = str(await self._send(request, fresh))
        except TimeoutError:
            outcome = "timeout"
        except (CutError, OSError) as error:
            outcome = "cut" if isinstance(error, CutError) else "refused"
        finally:
            self.statuses[outcome] += 1

    async def _send(self, request: bytes, fresh: bool) -> int:
        connection = None if fresh else self._kept()
        if connection is None:
            connection = await Connection.open("127.0.0.1", self.port, self.tls)
        try:
            status = await connection.send(request)
        except CutError as cut:
            connection.close()
            if cut.early and connection.used > 1:  # closed while idle: every HTTP client sends that again
                self.retried += 1
                return await self._send(request, fresh=True)
            raise
        except asyncio.CancelledError:
            connection.close()
            raise
        if fresh:
            connection.close()
        elif connection.is_usable:
            self._idle.append(connection)
        return status

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        return None

    def _write(self, second: int, done: bool = False) -> None:
        now = {"sent": self.sent, "ok": _ok(self.statuses), **self.statuses}
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "second": second,
            "sent": self.sent,
            "ok": now["ok"],
            "in_flight": self.sent - self.statuses.total(),
            "skipped": self.skipped,
            "retried": self.retried,
            "statuses": dict(self.statuses),
            "in_second": {name: count - self.seconds[name] for name, count in now.items()},
            "done": done,
        }
        self.seconds = Counter(now)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _ok(statuses: Counter[str]) -> int:
    return sum(count for status, count in statuses.items() if status.startswith("2"))


def _secret(reference: str) -> str:
    kind, _, rest = reference.partition(":")
    path, _, name = rest.partition("#")
    if kind == "json":
        found = functools.reduce(operator.getitem, name.split("."), json5.loads(Path(path).read_text(encoding="utf-8")))
        return str(found)
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(f"export {name}="):
            return line.partition("=")[2].strip("'")
    raise LabError(f"{reference} is not there")


async def send(layout: Layout, rate: float | None, for_s: float, out: Path) -> dict[str, Any]:
    """Send in the foreground until the time is over or SIGTERM comes. The last counts."""
    if not layout.yaml.is_file():
        raise LabError(f"there is no practice Mac in {layout.root}; start it: rollout lab up")
    mac = yaml.safe_load(layout.yaml.read_text(encoding="utf-8"))
    address, secrets = mac["nginx"]["public_url"].removeprefix("https://"), mac["primary"]["secrets"]
    names = ("OPENCLAW_HOOKS_TOKEN", "STANDIN_GITHUB_SECRET", "STANDIN_STRIPE_SECRET")
    package = mac["runtime"].get("package", KINDS["openclaw"].package)  # as the plan has it where nothing is said
    kind = next(kind for kind in KINDS.values() if kind.package == package)
    hooks_token, github, stripe = (_secret(secrets[name]) if name in secrets else "" for name in names)
    mix = {name: share for name, share in kind.mix.items() if github or name not in ("github", "stripe")}
    provider = Provider(address, hooks_token, github, stripe, mix)
    tls = ssl.create_default_context(cafile=mac["nginx"]["ca_file"])
    tls.check_hostname = False  # we connect to 127.0.0.1 and say localhost; the CA is what is verified
    traffic = Traffic(provider, int(address.partition(":")[2]), tls, out)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, traffic.stopping.set)
    await traffic.run(rate or kind.rate, for_s)
    return dict(json.loads(out.read_text(encoding="utf-8").splitlines()[-1]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m runbook_lib.lab.traffic", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".lab"))
    parser.add_argument("--rate", type=float, help="deliveries a second")
    parser.add_argument("--for-s", type=float, default=600)
    parser.add_argument("--out", type=Path, help="the JSON-lines file of counts")
    given = parser.parse_args(argv)
    layout = Layout(given.root.resolve())
    last = asyncio.run(send(layout, given.rate, given.for_s, given.out or counts_file(layout)))
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
