"""Gateways for the conformance tests, the stand-in or the real OpenClaw: started once for all of them."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import gateways
import httpx
import pytest
from gateway_questions import Crowd, agent
from gateways import HOOK, Gateway, Kind, Model

KINDS = {"standin": gateways.standin, "openclaw": gateways.openclaw}


@pytest.fixture(scope="session", params=["standin", pytest.param("openclaw", marks=pytest.mark.openclaw)])
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]()


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.close()


@pytest.fixture(scope="session")
def make(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Kind], Gateway]]:
    made: list[Gateway] = []

    def make(kind: Kind) -> Gateway:
        gateway = Gateway(kind, tmp_path_factory.mktemp(kind.name) / "state", gateways.free_port())
        gateway.configure(gateways.configuration(gateway.state_dir, gateway.port, model.url))
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.stop()


@pytest.fixture(scope="session")
def primary(kind: Kind, make: Callable[[Kind], Gateway]) -> Iterator[Gateway]:
    """The gateway that most questions go to. Its port comes from --port, against two other wishes."""
    gateway = make(kind)
    gateway.extra_env = {"OPENCLAW_GATEWAY_PORT": str(gateways.free_port()), "STANDIN_BOOT_MS": "300"}
    config = json.loads(gateway.config_path.read_text())
    config["gateway"]["port"] = gateways.free_port()
    gateway.configure(config)
    gateway.start("--port", str(gateway.port), "--bind", "loopback")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def idle_connection(primary: Gateway) -> Iterator[threading.Thread]:
    """A connection that asks once and then listens, while the other tests run, for when it is closed."""

    def listen() -> None:
        with socket.create_connection(("127.0.0.1", primary.port)) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
            connection.recv(4096)
            asked_at = time.monotonic()
            connection.settimeout(15)
            assert connection.recv(4096) == b""
            thread.name = f"{time.monotonic() - asked_at:.2f}"

    thread = threading.Thread(target=listen)
    thread.start()
    yield thread
    thread.join()


@pytest.fixture(scope="session")
def turned_away(kind: Kind, make: Callable[[Kind], Gateway], primary: Gateway) -> Iterator[Gateway]:
    """A gateway that wants primary's port. OpenClaw takes half a minute to give up: the other tests run meanwhile."""
    gateway = make(kind)
    gateway.process = gateway.run("--port", str(primary.port))
    yield gateway
    gateway.stop()


@pytest.fixture
def client(primary: Gateway, idle_connection: threading.Thread, turned_away: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=primary.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def spare(kind: Kind, make: Callable[[Kind], Gateway]) -> Gateway:
    """A configured gateway that has never been started."""
    return make(kind)


@pytest.fixture(scope="session")
def archive(primary: Gateway, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A verified backup, taken while the gateway is answering and writing."""
    output = tmp_path_factory.mktemp("backup")
    writing = threading.Event()

    def write() -> None:
        with httpx.Client(base_url=primary.url, trust_env=False, timeout=30, headers=HOOK) as client:
            while not writing.is_set():
                client.post("/hooks/wake", json={"text": f"event {uuid4()}", "mode": "next-heartbeat"})

    with httpx.Client(base_url=primary.url, trust_env=False, timeout=60) as client:
        agent(client, "the agent's database is made by its first run", waitForCompletion=True)
    with ThreadPoolExecutor() as pool:
        writer = pool.submit(write)
        done = primary.cli("backup", "create", "--output", str(output), "--verify", "--json")
        writing.set()
        writer.result()
    assert done.returncode == 0, done.stderr
    created = json.loads(done.stdout)
    return Path(created["archivePath"]), created


@pytest.fixture(scope="session")
def restored(primary: Gateway, archive: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory as the backup brought it back."""
    target = tmp_path_factory.mktemp("restore") / "target"
    done = primary.cli("backup", "restore", str(archive[0]), "--target", str(target), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is True and answer["targetPath"] == str(target)
    root: str = answer["archiveRoot"]
    return target / root / "payload" / "posix" / primary.state_dir.relative_to("/")


@pytest.fixture(scope="session")
def clone(kind: Kind, restored: Path, model: Model, make: Callable[[Kind], Gateway]) -> Iterator[Gateway]:
    """A second gateway on the restored state. Its port comes from the environment, against the configuration."""
    gateway = make(kind)
    gateway.state_dir.rmdir() if not any(gateway.state_dir.iterdir()) else shutil.rmtree(gateway.state_dir)
    shutil.copytree(restored, gateway.state_dir)
    gateway.state_dir.chmod(0o700)
    gateway.configure(gateways.configuration(gateway.state_dir, gateways.free_port(), model.url))
    gateway.extra_env = {"OPENCLAW_GATEWAY_PORT": str(gateway.port), "STANDIN_BOOT_MS": "300"}
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def crowd(clone: Gateway, model: Model) -> Iterator[Crowd]:
    """Nine runs for eight places on the clone, of which the last waits for 15 s in vain."""
    word = f"slow {uuid4()}"

    def ask(i: int) -> tuple[httpx.Response, float]:
        with httpx.Client(base_url=clone.url, trust_env=False, timeout=60) as client:
            return agent(client, f"{word} {i}"), time.monotonic()

    with model.holding(word), ThreadPoolExecutor(9) as pool:
        yield Crowd(word, time.monotonic(), [pool.submit(ask, i) for i in range(9)])
