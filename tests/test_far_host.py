"""A Mac on another continent: 300 ms there and back, connections that are cut or go silent in the middle."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lab_fixture import until
from mac_fixture import plan_of

from runbook_lib.errors import CommandFailed, ConnectionLost
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.host import Host

pytest_plugins = ["lab_fixture", "mac_fixture"]

ONE_WAY_S = 0.15
TRIPS_A_COMMAND = 1  # the script with its end, and the answer with its exit status
SLOW_S = 1.5  # what a loaded machine adds


class Wire:
    """A TCP proxy to the practice Mac's sshd that delays every byte, and can cut or swallow them."""

    def __init__(self, to_port: int) -> None:
        self.to_port, self.is_silent = to_port, False
        self.passed_bytes = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to_port))
                self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    late: queue.Queue[tuple[float, bytes]] = queue.Queue()
                    threading.Thread(target=self._take, args=(one, late), daemon=True).start()
                    threading.Thread(target=self._give, args=(other, late), daemon=True).start()

    def _take(self, source: socket.socket, late: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            late.put((time.monotonic() + ONE_WAY_S, data))

    def _give(self, target: socket.socket, late: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            due_s, data = late.get()
            time.sleep(max(0, due_s - time.monotonic()))
            if self.is_silent:
                continue
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return
            self.passed_bytes += len(data)

    def cut(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()
        for one in self._sockets:
            one.close()


@pytest.fixture
def wire(lab: PracticeMac) -> Iterator[Wire]:
    wire = Wire(lab.ports.ssh)
    yield wire
    wire.close()


@pytest.fixture
def far(lab: PracticeMac, wire: Wire, tmp_path: Path) -> Iterator[Host]:
    """The practice Mac as if it were far away, with the key that it has."""
    layout, config = lab.layout, tmp_path / "ssh_config"
    known = tmp_path / "known_hosts"
    known.write_text((layout.run / "known_hosts").read_text().replace(str(lab.ports.ssh), str(wire.port)))
    text = layout.ssh_config.read_text().replace(f"Port {lab.ports.ssh}", f"Port {wire.port}")
    config.write_text(text.replace(str(layout.run / "known_hosts"), str(known)))
    values = plan_of(lab).host.model_dump() | {"ssh_config": str(config), "connect_timeout_s": 10}
    with Host(HostSection(**values)) as host:
        yield host


def test_a_command_costs_a_handful_of_round_trips(far: Host) -> None:
    far.run("true")
    took_s = min(far.run("# say a lot\nyes | head -c 200000").duration_s for _ in range(3))
    assert took_s < TRIPS_A_COMMAND * 2 * ONE_WAY_S + SLOW_S


def test_a_failed_command_is_no_lost_connection(far: Host) -> None:
    with pytest.raises(CommandFailed, match="try in vain ended with 3: no"):
        far.run("# try in vain\necho no >&2\nreturn 3")
    assert far.run("echo still there").stdout == "still there\n"


def test_a_cut_in_the_middle_is_a_lost_connection_and_what_began_may_go_on(
    far: Host, wire: Wire, tmp_path: Path
) -> None:
    marks = tmp_path / "begun", tmp_path / "went on"
    script = f"# cut me\n: >'{marks[0]}'\nsleep 1\n: >'{marks[1]}'\nsleep 20"

    def cut_when_it_has_begun() -> None:
        until(marks[0].exists, within_s=20)
        wire.cut()

    cutter = threading.Thread(target=cut_when_it_has_begun)
    cutter.start()
    with pytest.raises(ConnectionLost, match=r"lost .* into 'cut me'.*it asks the Mac first what was done"):
        far.run(script, timeout_s=30)
    cutter.join()
    until(marks[1].exists, within_s=20)


def test_a_connection_that_goes_silent_in_the_middle_is_lost_in_time(far: Host, wire: Wire) -> None:
    passed = wire.passed_bytes
    silencer = threading.Thread(
        target=lambda: (until(lambda: wire.passed_bytes > passed), setattr(wire, "is_silent", True))
    )
    silencer.start()
    started_s = time.monotonic()
    with pytest.raises(ConnectionLost):
        far.run("# wait\nsleep 20", timeout_s=2)
    silencer.join()
    assert time.monotonic() - started_s < 2 + 10 + SLOW_S, "the command's limit and one question to the connection"
