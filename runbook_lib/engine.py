"""Our papermill engine: each notebook on a kernel of its own, forked where it can be, and a record that does not lie.

papermill's own command and engines are not touched.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from runbook_lib.evidence import write_whole
from runbook_lib.kernels import SHARED

START_LIMIT_S = 120
OUTPUT_LIMIT_S = 60  # for the last output of a cell to arrive after its end
STOP_GRACE_S = 5  # between asking a cell to stop and killing its kernel
PUBLISH_EVERY_S = 1
LOG = logging.getLogger(__name__)
CLIENT_LOG = logging.getLogger(f"{__name__}.client")
CLIENT_LOG.addHandler(logging.NullHandler())  # what it has to say, `execute` answers


class Execution(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no annotations
    """One notebook being executed, and its record: published whole, at most once a second, and true at any end."""

    def __init__(self, record: Path, names: Mapping[str, str]) -> None:
        super().__init__(None, progress_bar=False, autosave_cell_every=PUBLISH_EVERY_S)
        self.record, self.names = record, names
        self.provisioner: WarmProvisioner | None = None
        self.reason = ""  # why it ended, where no cell can tell
        self.stopped_by = 0
        self._published_at = 0.0

    def open(self, nb: Any) -> None:
        self.nb = nb
        nb.metadata.papermill.update(self.names)
        self.notebook_start()

    def save(self, **_: Any) -> None:
        """papermill asks for this at each cell's start and end, and with its outputs."""
        self.last_save_time = self.now()
        if time.monotonic() - self._published_at >= PUBLISH_EVERY_S:
            self.publish()

    def publish(self) -> None:
        self.record.parent.mkdir(parents=True, exist_ok=True)
        text: str = nbformat.writes(self.nb)  # type: ignore[no-untyped-call]
        write_whole(self.record, text)
        self._published_at = time.monotonic()

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        if self.stopped_by:
            raise InterruptedError(self.reason)
        super().cell_start(cell, cell_index, **kwargs)

    def cell_complete(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        """papermill calls this for a cell that did not start, too."""
        if cell.metadata.papermill["status"] != self.PENDING:
            super().cell_complete(cell, cell_index, **kwargs)

    def cell_lost(self, cell: Any, error: BaseException) -> None:
        """The cell in which the kernel died or was given up: papermill would call it completed."""
        if isinstance(error, DeadKernelError) and self.provisioner:
            self.reason = f"{self.reason}; " * bool(self.reason) + f"the kernel died: {self.provisioner.how_it_ended}"
        else:
            self.reason = self.reason or f"{type(error).__name__}: {error}"
        self.cell_exception(cell)
        trace = [f"{type(error).__name__}: {self.reason}"]
        lost = {"ename": type(error).__name__, "evalue": self.reason, "traceback": trace}
        cell.outputs.append(nbformat.v4.new_output("error", **lost))  # type: ignore[no-untyped-call]

    def notebook_complete(self, **_: Any) -> None:
        """papermill would call every cell that never ran completed."""
        self.end_time = self.now()
        facts = self.nb.metadata.papermill
        facts.update(end_time=self.end_time.isoformat(), duration=(self.end_time - self.start_time).total_seconds())
        if self.unfinished:
            facts["exception"] = True
        if self.reason:
            facts["reason"] = self.reason

    @property
    def unfinished(self) -> int:
        """How many cells did not run to their end."""
        cells = [cell.metadata.get("papermill", {}) for cell in self.nb.cells]
        return sum(facts.get("status", self.COMPLETED) != self.COMPLETED for facts in cells)

    def stop(self, signum: int) -> None:
        """Ask the running cell to stop as a notebook's stop button does, so that it can clean up; then kill it."""
        self.reason = f"the runner was stopped by {signal.Signals(signum).name}"
        if self.stopped_by:
            self.kill()
            return
        self.stopped_by = signum
        if self.provisioner:
            self.provisioner.signal_now(signal.SIGINT)
        timer = threading.Timer(STOP_GRACE_S, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        if self.provisioner:
            self.provisioner.signal_now(signal.SIGKILL)


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's, that tells the record when a cell is lost."""

    def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
        try:
            return super().execute_cell(cell, cell_index, **kwargs)
        except CellExecutionError:
            raise
        except BaseException as error:
            self.nb_man.cell_lost(cell, error)
            raise


class WarmEngine(NBClientEngine):  # type: ignore[misc]
    """What papermill calls; it hands through the Execution that keeps what it returns or raises."""

    @classmethod
    def execute_notebook(
        cls, nb: Any, kernel_name: str, execution: Execution, directory: Path, **_papermills: Any
    ) -> Any:
        execution.open(nb)
        try:
            with warm_kernel(kernel_name, directory) as (manager, execution.provisioner):
                options = {
                    "km": manager,
                    "kernel_name": kernel_name,
                    "startup_timeout": START_LIMIT_S,
                    "iopub_timeout": OUTPUT_LIMIT_S,
                    "shutdown_kernel": "immediate",
                    "log": CLIENT_LOG,
                }
                Client(execution, **options).execute(cleanup_kc=True, cwd=str(directory))
        except (RuntimeError, TimeoutError, InterruptedError) as error:
            # A kernel that did not start, died or was given up: the record tells, and papermill raises from it.
            execution.reason = execution.reason or str(error)
        finally:
            execution.provisioner = None
            execution.notebook_complete()
        return nb


class WarmProvisioner(LocalProvisioner):
    """Forks a kernel where it can and starts one where it cannot; jupyter_client does the rest."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        try:
            arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
            forked: Any = SHARED.fork(arguments, str(kwargs["cwd"]), kwargs["env"])
        except ValueError:
            say_once(f"kernels of {cmd[0]} are started, not forked")
        except OSError as reason:
            say_once(f"kernels are started, not forked: {reason}")
        else:
            self.process, self.pid = forked, forked.pid  # without pgid: signals go by the zygote
            return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)

    async def kill(self, restart: bool = False) -> None:
        await super().kill(restart)
        for _ in range(20):  # the manager looks every 100 ms, and a killed kernel is gone in one or two
            if self.process is None or self.process.poll() is not None:
                return
            await asyncio.sleep(0.005)

    def signal_now(self, signum: int) -> None:
        """To the kernel's process group, from a signal handler or any thread."""
        process: Any = self.process
        if isinstance(process, subprocess.Popen) and process.returncode is None:
            os.killpg(process.pid, signum)
        elif process:
            process.send_signal(signum)

    @property
    def how_it_ended(self) -> str:
        status = self.process.poll() if self.process else None
        if status is None:
            return "it does not answer"
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"


@contextmanager
def warm_kernel(kernel_name: str, directory: Path) -> Iterator[tuple[AsyncKernelManager, WarmProvisioner]]:
    """A manager that will fork its kernel.

    Its sockets lie in a private directory: over TCP anybody on the machine could read along, as ipykernel says.
    """
    with tempfile.TemporaryDirectory(dir=SHARED.directory(), prefix="", ignore_cleanup_errors=True) as private:
        connection_file = str(Path(private) / "k.json")
        manager = AsyncKernelManager(kernel_name=kernel_name, transport="ipc", connection_file=connection_file)
        manager.kernel_id = str(uuid.uuid4())
        manager.provisioner = provisioner = WarmProvisioner(
            kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager
        )
        try:
            yield manager, provisioner
        finally:
            loop = ensure_event_loop()
            if not loop.is_running():
                loop.close()  # jupyter_client opens one in each thread and closes none


@cache
def say_once(what: str) -> None:
    """A warning, once a process; no news where forking is never possible."""
    LOG.log(logging.WARNING if sys.platform == "linux" else logging.INFO, what)


papermill_engines.register("warm", WarmEngine)
