"""One SSH connection to the Mac: run a script, read a file, speak HTTP through it.

Each question is one script on standard input of `/bin/sh -s`: one round trip, no quoting through zsh, nothing
in the process list.
"""

from __future__ import annotations

import shlex
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import paramiko

from runbook_lib.errors import CommandFailed, CommandTimeout, ConnectionLost
from runbook_lib.plan import HostSection
from runbook_lib.ssh import tunnel
from runbook_lib.ssh.route import connect

CHUNK = 1 << 16


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
        self._opened_ahead: list[paramiko.Channel] = []
        self._counting = threading.Lock()
        with ExitStack() as closing:
            self._transport = connect(section, closing)
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
        wrapped = f'__main() {{\n{script}\n}}\n__main "$@" </dev/null\n'
        done = self._exec([self._shell, "-s", "--", *args], wrapped.encode(), timeout_s)
        stdout, stderr, status, duration_s = done
        completed = Completed(stdout.decode(errors="replace"), stderr.decode(errors="replace"), status, duration_s)
        if check and status != 0:
            raise CommandFailed(self.name, _title(script), status, completed.stderr or completed.stdout)
        return completed

    def change(self, script: str, *args: str, timeout_s: float | None = None) -> Completed:
        """Run a script that changes the Mac. Only actions.py calls this, and a test holds it to that."""
        return self.run(script, *args, timeout_s=timeout_s, check=False)

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes of a file from `offset` on. Raises CommandFailed where it cannot be read."""
        stdout, stderr, status, _ = self._exec(["/usr/bin/tail", "-c", f"+{offset + 1}", path], b"", None)
        if status != 0:
            raise CommandFailed(self.name, f"reading {path}", status, stderr.decode(errors="replace"))
        return stdout

    def http(self, base_url: str, timeout_s: float = 30) -> httpx.Client:
        """A client whose connections leave from the Mac, through this SSH connection."""
        return tunnel.client(self._transport, self.name, base_url, timeout_s)

    def _exec(self, argv: list[str], stdin: bytes, timeout_s: float | None) -> tuple[bytes, bytes, int, float]:
        with self._counting:
            self.round_trips_count += 1
        limit_s = timeout_s or self._section.command_timeout_s
        started = time.monotonic()
        title = _title(stdin.decode(errors="replace")) if stdin else argv[-1]
        channel: paramiko.Channel | None = None

        def left_s() -> float:
            return max(0.001, limit_s - (time.monotonic() - started))

        try:
            channel = self._session(limit_s)
            channel.settimeout(limit_s)
            _begin(channel, argv, limit_s)
            errors: list[bytes] = []
            reader = threading.Thread(target=self._listen, args=(channel, errors), daemon=True)
            reader.start()
            channel.sendall(stdin)
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
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._lost(title, started, error) from error
        finally:
            if channel is not None:
                channel.close()
        if status == -1:
            raise self._lost(title, started, None)
        return b"".join(output), b"".join(errors), status, time.monotonic() - started

    def _session(self, limit_s: float) -> paramiko.Channel:
        """A channel for a command: the one that was opened while the last command ran saves a round trip."""
        while self._opened_ahead:
            with suppress(IndexError):  # another thread took it
                if not (channel := self._opened_ahead.pop()).closed:
                    return channel
        return self._transport.open_session(timeout=limit_s)

    def _listen(self, channel: paramiko.Channel, errors: list[bytes]) -> None:
        if not self._opened_ahead:
            with suppress(paramiko.SSHException, EOFError, OSError):  # the next command asks again, and says so
                self._opened_ahead.append(self._transport.open_session(timeout=self._section.connect_timeout_s))
        _drain(channel, errors)

    def _status(self, channel: paramiko.Channel, limit_s: float) -> int:
        if not channel.status_event.wait(max(0.001, limit_s)):
            raise TimeoutError
        return channel.recv_exit_status()

    def _unanswered(
        self, title: str, started: float, limit_s: float, channel: paramiko.Channel | None
    ) -> CommandTimeout | ConnectionLost:
        """Whether the command is slow or the connection is dead is asked of the connection itself."""
        if channel is not None:
            channel.close()
        if not self._answers():
            return self._lost(title, started, None)
        return CommandTimeout(
            self.name,
            f"{title}: no end after {limit_s:g} s (it may still run there)",
            "look on the Mac before you run the step again, or raise host.command_timeout_s",
        )

    def _answers(self) -> bool:
        try:
            self._transport.open_session(timeout=self._section.connect_timeout_s).close()
        except paramiko.ChannelException:
            return True  # refused, and that is an answer
        except (paramiko.SSHException, EOFError, OSError):
            return False
        return True

    def _lost(self, title: str, started: float, error: Exception | None) -> ConnectionLost:
        after_s = time.monotonic() - started
        return ConnectionLost(
            self.name,
            f"the connection was lost {after_s:.1f} s into {title!r} ({error or 'no answer, no exit status'})",
            "run the step again: it asks the Mac first what was done",
        )


def _begin(channel: paramiko.Channel, argv: list[str], limit_s: float) -> None:
    """exec_command, which waits for ever where nothing answers."""
    too_late = threading.Timer(limit_s, channel.close)
    too_late.start()
    try:
        channel.exec_command(" ".join(shlex.quote(word) for word in argv))
    finally:
        too_late.cancel()


def _drain(channel: paramiko.Channel, into: list[bytes]) -> None:
    try:
        while block := channel.recv_stderr(CHUNK):
            into.append(block)
    except TimeoutError:
        return  # the reader of standard output meets the same limit and reports it


def _title(script: str) -> str:
    """The first comment of a script, by which it is named in errors."""
    return next((line.strip("# ").strip() for line in script.splitlines() if line.startswith("# ")), "a command")
