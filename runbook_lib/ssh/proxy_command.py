"""A ProxyCommand as a socket: what the command reads and writes is the connection."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import suppress

from runbook_lib.ssh.settings import Settings

LAST_WORDS = 2000
GRACE_S = 2


class ProxyCommand:
    """A running ProxyCommand, with what paramiko asks of a socket; pipes, as ssh gives it."""

    def __init__(self, hop: Settings) -> None:
        self.command = hop.filled(hop.one("proxycommand"))
        shell = os.environ.get("SHELL") or "/bin/sh"
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(  # a session of its own: Ctrl-C is ours to answer
            [shell, "-c", f"exec {self.command}"],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,
        )
        self._timeout_s: float | None = None
        self._errors = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def last_words(self) -> str:
        """How it ended, and what it said on standard error; empty while it runs silently."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        status = self._process.poll()
        self._listener.join(0.5 if status is not None else 0)
        said = " ".join(self._errors.decode(errors="replace").split())
        ended = f"it ended with {status}" if status is not None else ""
        return ": ".join(part for part in (ended, said) if part)

    @property
    def _closed(self) -> bool:
        """As paramiko asks it of a socket."""
        return self._process.stdin is None or self._process.stdin.closed

    def settimeout(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s

    def recv(self, size: int) -> bytes:
        source = self._process.stdout
        assert source is not None
        try:
            if not select.select([source], [], [], self._timeout_s)[0]:
                raise TimeoutError
            return os.read(source.fileno(), size)
        except ValueError:  # closed meanwhile
            return b""

    def send(self, data: bytes) -> int:
        target = self._process.stdin
        assert target is not None
        if not select.select([], [target], [], self._timeout_s)[1]:
            raise TimeoutError
        return os.write(target.fileno(), data[: select.PIPE_BUF])  # a pipe that takes any takes so much

    def close(self) -> None:
        """End the command, and whatever it started."""
        for number in (signal.SIGHUP, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
                break
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            while block := errors.read(1024):
                self._errors = (self._errors + block)[-LAST_WORDS:]
