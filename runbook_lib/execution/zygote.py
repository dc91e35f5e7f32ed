"""A process that has imported what notebooks import, and forks a kernel for each: run with `python -m`.

    runner                                   zygote                       kernel
      │ one end of a new socket pair ──────────▶│
      │ {arguments, cwd, env} ─────────────────▶│ fork ─────────────────────▶│ IPKernelApp
      │◀─────────────── {pid}, or {refused: why}│                            │
      │ a signal's number, one byte ───────────▶│ killpg ───────────────────▶│
      │◀──────────────────────────── exit status│◀───────────────────── ends │

The pair over which these ends come stays open as long as the runner lives. Its end of file, or that of a kernel's own
pair, means that nobody waits any more: the kernel's process group is killed. Nothing here has a name in the file
system that somebody else could connect to. The runner's side is kernels.py.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import runbook_lib

REQUEST_LIMIT_S = 10
THREADS_LIMIT_S = 5
RUNNER_CHECK_S = 1
INLINE = "module://matplotlib_inline.backend_inline"
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
WARM = """
    numpy pandas matplotlib.figure matplotlib.backends.backend_agg
    ipykernel.kernelapp ipykernel.ipkernel ipykernel.debugger tornado.platform.asyncio sqlite3 faulthandler
    IPython.core.completerlib IPython.core.debugger IPython.core.logger IPython.core.oinspect
    IPython.extensions.storemagic
"""
COLD = {
    "live",
    "cli",
    "engine",
    "execution",
    "kernels",
    "notebooks",
    "lab",
    "record",
    "notifications",
    "rollout",
    "status",
    "watch",
    "waves",
    "workers",
    "zygote",
}  # of ours, what no notebook imports


@dataclass(frozen=True)
class Child:
    """A forked kernel."""

    pid: int
    ended: int  # a descriptor that is readable when it has
    connection: socket.socket

    def signal(self, signum: int) -> None:
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:  # it has not made its group yet; it is not reaped, so the pid is its own
            os.kill(self.pid, signum)

    def bury(self) -> None:
        """Reap an ended kernel, kill what it left in its process group, and say how it ended."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.signal(signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.ended)
        send(self.connection, b"%d" % status)
        self.connection.close()

    def close(self) -> None:
        os.close(self.ended)
        self.connection.close()


def main() -> None:
    """Serve the runner whose socket is the descriptor in argv[1]; its directory, argv[2], is removed after it."""
    runner, directory, zygote = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], os.getpid()
    request = serve(runner, warm_up())
    if request is not None:
        become_kernel(request, zygote)
    else:
        shutil.rmtree(directory, ignore_errors=True)


def warm_up() -> str:
    """Import it all; returns why forking would not be safe, empty where it is."""
    ours = [module.name for module in pkgutil.iter_modules(runbook_lib.__path__)]
    for name in [*WARM.split(), *(f"runbook_lib.{name}" for name in ours if name not in COLD)]:
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError) as error:
            sys.stderr.write(f"{name} is not kept warm: {error}\n")
    show_something()
    give_up = time.monotonic() + THREADS_LIMIT_S
    while (threads := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < give_up:  # noqa: PTH208
        time.sleep(0.01)  # an importer's helper may be on its way out
    gc.collect()
    gc.freeze()  # the collector leaves these pages alone, so that the forks share them
    return f"{threads} threads run after the imports, and a fork keeps their locks for ever" if threads > 1 else ""


def show_something() -> None:
    """Fonts, glyphs and templates are loaded with their first use: half the time of a kernel's first picture."""
    import pandas as pd

    from runbook_lib.plan.thresholds import Thresholds
    from runbook_lib.show import plots, report

    frame = pd.DataFrame({"gateway": ["primary"], "before_ms": [1.0], "after_ms": [1.0]})
    report.together(report.table(frame), report.picture(plots.plot_quantiles(frame, Thresholds()), ""))


def serve(runner: socket.socket, refusal: str) -> dict[str, Any] | None:
    """Fork kernels until the runner is gone: None. In each forked child: the request it was forked for."""
    children: dict[int, Child] = {}
    parent = os.getppid()
    while os.getppid() == parent:
        watched = {child.ended: child for child in children.values()}
        watched |= {child.connection.fileno(): child for child in children.values()}
        ready, _, _ = select.select([runner.fileno(), *watched], [], [], RUNNER_CHECK_S)
        for child in {watched[fd] for fd in ready if fd in watched}:
            if child.ended in ready or not pass_on_signals(child):
                del children[child.pid]
                child.bury()
        if runner.fileno() in ready:
            mark, handed, _, _ = socket.recv_fds(runner, 1, 1)
            if not mark:
                break
            connection = socket.socket(fileno=handed[0])
            request = None if refusal else hear(connection)
            if request is None:
                send(connection, json.dumps({"refused": refusal}).encode() + b"\n")
                connection.close()
                continue
            pid = os.fork()
            if pid == 0:
                for child in children.values():
                    child.close()
                connection.close()
                runner.close()
                return request
            children[pid] = Child(pid, os.pidfd_open(pid), connection)
            send(connection, json.dumps({"pid": pid}).encode() + b"\n")
    for child in children.values():
        child.signal(signal.SIGKILL)
        child.bury()
    return None


def pass_on_signals(child: Child) -> bool:
    """Signal the child as its runner asks; False where nobody asks any more, and it has been killed."""
    asked = child.connection.recv(64, socket.MSG_DONTWAIT)
    for signum in asked or [signal.SIGKILL]:
        child.signal(signum)
    return bool(asked)


def hear(connection: socket.socket) -> dict[str, Any] | None:
    """A request; None where the runner has gone away in between."""
    connection.settimeout(REQUEST_LIMIT_S)
    try:
        with connection.makefile("r", encoding="utf-8") as lines:
            request: dict[str, Any] = json.loads(lines.readline())
    except (OSError, ValueError):
        return None
    connection.settimeout(None)
    return request


def send(connection: socket.socket, line: bytes) -> None:
    try:
        connection.send(line)
    except OSError:
        return  # who asked is gone; the next look at the connection finds that


def become_kernel(request: dict[str, Any], zygote: int) -> None:
    """Make this forked child what `python -m ipykernel_launcher` would be, and run until it is shut down."""
    import matplotlib
    import numpy
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != zygote:  # it died before that
        return
    os.environ.clear()
    os.environ.update(request["env"])
    if not sys.flags.safe_path:
        del sys.path[0]  # the zygote's working directory; IPython puts the kernel's own there
    os.chdir(request["cwd"])
    # A cold kernel imports matplotlib after ipykernel has put this into the environment.
    matplotlib.rcParams["backend"] = os.environ.get("MPLBACKEND") or INLINE
    numpy.random.seed()  # each fork would draw the same numbers otherwise; Python's own random sees to that itself
    sys.argv = ["ipykernel_launcher", *request["arguments"]]
    IPKernelApp.launch_instance(argv=request["arguments"], parent_handle=zygote)


if __name__ == "__main__":
    main()
