"""Kernels forked from a warm process, as the runner sees them: the zygote's handle, and a kernel's.

Only the standard library is imported here, so that the zygote can import while its runner still does.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

IMPORT_LIMIT_S = 120
END_LIMIT_S = 5
SHORT = 60  # characters: a socket's path may have 107 on Linux and 103 on macOS, in all
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
QUIET_DEBUGGER = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # or ipykernel's says that Python's modules are frozen


class ForkedKernel:
    """A kernel with what jupyter_client uses of subprocess.Popen, in the same words."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection, self.pid = connection, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status as Popen has it (-9: by signal 9); None while it runs."""
        if self.returncode is None:
            try:
                status = self._connection.recv(16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                status = b""
            # Without a status the zygote has ended, and its kernels are killed with it.
            self.returncode = int(status) if status else -signal.SIGKILL
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, waited for. Raises subprocess.TimeoutExpired."""
        if self.poll() is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, signum: int) -> None:
        """To its process group, by the zygote, which alone knows that the pid is still the kernel's."""
        if self.poll() is None:
            try:
                self._connection.send(bytes([signum]))
            except OSError:
                self.poll()

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Zygote:
    """One a process: started when first asked for, again where it has ended, and ended with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._has_forked = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def directory(self) -> Path:
        """This process's private directory, with a path short enough for sockets."""
        with self._lock:
            if self._owner != os.getpid():  # the first use, or we are a fork of who used it
                is_long = len(tempfile.gettempdir()) > SHORT
                self._directory = Path(tempfile.mkdtemp(prefix="kernels-", dir="/tmp" if is_long else None))
                self._owner, self._process, self._control = os.getpid(), None, None
                atexit.register(self.stop)
            return self._directory

    def start(self) -> None:
        """See that it runs. Raises OSError where it cannot.

        Not on macOS: there a process that has used Apple's frameworks (numpy does, and so does whoever asks for
        proxies or fonts) must not go on after a fork; the child is killed at its first call into them.
        """
        if sys.platform != "linux":
            raise OSError(f"a process cannot go on safely after a fork on {sys.platform}")
        directory = self.directory()
        with self._lock:
            if self._process and self._process.poll() is None:
                return
            self._end()
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "runbook_lib.execution.zygote", str(theirs.fileno()), str(directory)],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **ONE_THREAD, **QUIET_DEBUGGER},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._control = ours

    def fork(self, arguments: list[str], cwd: str, env: Mapping[str, str]) -> ForkedKernel:
        """A kernel with these arguments of ipykernel's. Raises OSError where there is none to be had."""
        self.start()
        control = self._control
        assert control is not None
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(control, [b"k"], [theirs.fileno()])
            ours.settimeout(IMPORT_LIMIT_S)
            with ours.makefile("rw", encoding="utf-8") as lines:
                lines.write(json.dumps({"arguments": arguments, "cwd": cwd, "env": dict(env)}) + "\n")
                lines.flush()
                told = json.loads(lines.readline() or '{"refused": "the process that forks them has ended"}')
            if "pid" not in told:
                raise ConnectionError(told["refused"])
        except OSError:
            ours.close()
            raise
        ours.settimeout(None)
        self._has_forked = True
        return ForkedKernel(ours, told["pid"])

    def stop(self) -> None:
        """End it and all kernels, and remove the directory."""
        with self._lock:
            if self._owner == os.getpid():
                self._end()
                shutil.rmtree(self._directory, ignore_errors=True)
                self._owner = 0
                atexit.unregister(self.stop)

    def _end(self) -> None:
        if self._control:
            self._control.close()
        if self._process:
            try:
                self._process.wait(END_LIMIT_S if self._has_forked else 0)
            except subprocess.TimeoutExpired:  # it still imports
                self._process.kill()
                self._process.wait()
        self._process, self._control, self._has_forked = None, None, False


SHARED = Zygote()
