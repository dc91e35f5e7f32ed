"""One SSH connection to the Mac: run a script, read a file, speak HTTP through it.

Each question is one script on standard input of `/bin/sh -s`: no quoting through zsh, nothing in the process list.
The next shells are begun while a command runs, so that it costs one round trip. An answer begins with a mark: what the
login shell's own files print before is noise.
"""

from __future__ import annotations

import secrets
import shlex
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import paramiko

from runbook_lib import onmac
from runbook_lib.errors import CommandFailed, CommandTimeout, ConnectionLost
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.login import LOST
from runbook_lib.ssh.route import AGAIN, connect, hang_up
from runbook_lib.ssh.tunnel import Tunnel

CHUNK = 1 << 16
SHELLS_AHEAD = 2  # beginning one takes two round trips, and a command one
REFUSED_S = 0.1  # until a refused session is asked for again


@dataclass(frozen=True)
class Completed:
    """What a remote script answered."""

    stdout: str
    stderr: str
    exit_status: int
    duration_s: float

    def fields(self) -> dict[str, str]:
        """The `name<TAB>value` lines of the answer; a later line of the same name wins."""
        return dict(self.rows(2))

    def rows(self, width: int) -> list[list[str]]:
        """The lines that have exactly `width` tab-separated parts."""
        parts = (line.split("\t") for line in self.stdout.splitlines())
        return [row for row in parts if len(row) == width]


class Host:
    """A connected Mac. Use as a context manager."""

    def __init__(self, section: HostSection, shell: str = "/bin/sh") -> None:
        self.name, self._section, self._shell = section.alias, section, shell
        self.round_trips_count = 0
        self._ahead: deque[Future[paramiko.Channel]] = deque()
        self._most_ahead = SHELLS_AHEAD
        self._lock = threading.Lock()
        self._beginning = ThreadPoolExecutor(SHELLS_AHEAD + 1)
        with ExitStack() as closing:
            closing.callback(self._beginning.shutdown, wait=False, cancel_futures=True)
            self._transport, self.notes = connect(section, closing)
            """What is to be said of the way there: lines of known_hosts that were skipped, keys that were new."""
            self._closing = closing.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def run(self, script: str, *args: str, timeout_s: float | None = None, check: bool = True) -> Completed:
        """Run a POSIX sh script on the Mac with `args` as $1, $2, …

        The whole script is parsed before its first command runs, so a connection cut while it is sent runs
        nothing. Raises CommandFailed (unless `check` is false), CommandTimeout, ConnectionLost.
        """
        title = _title(script)
        stdout, stderr, status, duration_s = self._exec(title, script, args, timeout_s)
        completed = Completed(stdout.decode(errors="replace"), stderr.decode(errors="replace"), status, duration_s)
        if check and status != 0:
            raise CommandFailed(self.name, title, status, completed.stderr or completed.stdout)
        return completed

    def change(self, script: str, *args: str, timeout_s: float | None = None) -> Completed:
        """Run a script that changes the Mac. Only actions.py calls this, and a test holds it to that."""
        return self.run(script, *args, timeout_s=timeout_s, check=False)

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes of a file from `offset` on. Raises CommandFailed where it cannot be read."""
        words = (str(offset + 1), path)
        stdout, stderr, status, _ = self._exec(f"reading {path}", 'exec /usr/bin/tail -c "+$1" "$2"', words, None)
        if status != 0:
            raise CommandFailed(self.name, f"reading {path}", status, stderr.decode(errors="replace"))
        return stdout

    def http(self, base_url: str, timeout_s: float = 30) -> httpx.Client:
        """A client whose connections leave from the Mac, through this SSH connection."""
        return Tunnel(self._transport, self.name, self._answers).client(base_url, timeout_s)

    def _exec(
        self, title: str, script: str, args: tuple[str, ...], timeout_s: float | None
    ) -> tuple[bytes, bytes, int, float]:
        with self._lock:
            self.round_trips_count += 1
        limit_s = timeout_s or self._section.command_timeout_s
        started, mark = time.monotonic(), f"rollout-{secrets.token_hex(8)}"
        channel: paramiko.Channel | None = None

        def left_s() -> float:
            return max(0.001, limit_s - (time.monotonic() - started))

        try:
            channel = self._shell_ahead(limit_s)
            channel.settimeout(left_s())
            errors: list[bytes] = []
            reader = threading.Thread(target=_drain, args=(channel, errors), daemon=True)
            reader.start()
            channel.sendall(as_sent(script, *args, mark=mark).encode())
            channel.shutdown_write()
            output: list[bytes] = []
            while block := channel.recv(CHUNK):
                output.append(block)
                if time.monotonic() - started > limit_s:
                    raise TimeoutError  # a command that never stops talking would never let recv time out
                channel.settimeout(left_s())
            reader.join(left_s())
            status = self._status(channel, left_s())
        except TimeoutError:
            raise self._unanswered(title, started, limit_s, channel) from None
        except LOST as error:
            raise self._lost(title, started, error) from error
        finally:
            if channel is not None:
                hang_up(channel)
        if status == -1:
            raise self._lost(title, started, None)
        noise, begun, answer = b"".join(output).partition(mark.encode())
        said = b"".join(errors)
        if not begun:
            text = (noise + said).decode(errors="replace")
            raise CommandFailed(self.name, f"{title}: the login shell answered instead of {self._shell}", status, text)
        return answer, said.rpartition(mark.encode())[2], status, time.monotonic() - started

    def _shell_ahead(self, limit_s: float) -> paramiko.Channel:
        """A shell that waits for its script; as many more are begun as it takes that the next one does, too.

        An sshd that allows no more sessions (MaxSessions) gets none ahead from then on, and this one waits its turn.
        """
        deadline = time.monotonic() + limit_s
        while True:
            with self._lock:
                while len(self._ahead) <= self._most_ahead:
                    self._ahead.append(self._beginning.submit(self._begin_shell, self._section.connect_timeout_s))
                waiting = self._ahead.popleft()
            try:
                if not (channel := waiting.result(limit_s)).closed:
                    return channel
            except LOST:
                if not self._transport.is_active():
                    raise
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                self._most_ahead = 0
                time.sleep(REFUSED_S)

    def _begin_shell(self, limit_s: float) -> paramiko.Channel:
        channel = self._transport.open_session(timeout=limit_s)
        too_late = threading.Timer(limit_s, hang_up, [channel])  # exec_command waits for ever where nothing answers
        too_late.start()
        try:
            channel.exec_command(shlex.join([self._shell, "-s"]))
        finally:
            too_late.cancel()
        return channel

    def _status(self, channel: paramiko.Channel, limit_s: float) -> int:
        if not channel.status_event.wait(max(0.001, limit_s)):
            raise TimeoutError
        return channel.recv_exit_status()

    def _unanswered(
        self, title: str, started: float, limit_s: float, channel: paramiko.Channel | None
    ) -> CommandTimeout | ConnectionLost:
        """Whether the command is slow or the connection is dead is asked of the connection itself."""
        if channel is not None:
            hang_up(channel)
        if not self._answers():
            return self._lost(title, started, None)
        if channel is None:
            return CommandTimeout(
                self.name,
                f"{title}: its sshd gave no session within {limit_s:g} s, nothing was run",
                "let the other commands of this connection end, or look for MaxSessions in its sshd_config",
            )
        return CommandTimeout(
            self.name,
            f"{title}: no end after {limit_s:g} s (it may still run there)",
            "look on the Mac before you run the step again, or raise host.command_timeout_s",
        )

    def _answers(self) -> bool:
        try:
            hang_up(self._transport.open_session(timeout=self._section.connect_timeout_s))
        except paramiko.ChannelException:
            return True  # refused, and that is an answer
        except LOST:
            return False
        return True

    def _lost(self, title: str, started: float, error: Exception | None) -> ConnectionLost:
        after_s = time.monotonic() - started
        why = str(error or "") or "no answer, no exit status"
        return ConnectionLost(
            self.name,
            f"the connection was lost {after_s:.1f} s into {title!r} ({why})",
            AGAIN,
        )


def as_sent(script: str, *args: str, mark: str = "") -> str:
    """A script as a shell gets it on standard input: parsed whole before its first command runs.

    Both of its outputs begin with the mark.
    """
    marked = f"printf %s {mark}; printf %s {mark} >&2; " if mark else ""
    begin = onmac.script("surroundings.sh")
    return f'set -- {shlex.join(args)}\n{begin}__main() {{\n{script}\n}}\n{{ {marked}__main "$@" </dev/null; }}\n'


def _drain(channel: paramiko.Channel, into: list[bytes]) -> None:
    with suppress(*LOST):  # the reader of standard output meets the same limit, or the same end, and reports it
        while block := channel.recv_stderr(CHUNK):
            into.append(block)


def _title(script: str) -> str:
    """The first comment of a script, by which it is named in errors."""
    return next((line.strip("# ").strip() for line in script.splitlines() if line.startswith("# ")), "a command")
