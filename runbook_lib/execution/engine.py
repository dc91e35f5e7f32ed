"""Our papermill engine: each notebook on a kernel of its own, forked where it can be.

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
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from runbook_lib.execution.kernels import SHARED
from runbook_lib.execution.record import Record

WARM = "warm"  # the engine's name
START_LIMIT_S = 120
OUTPUT_LIMIT_S = 60  # for the last output of a cell to arrive after its end
LOG = logging.getLogger(__name__)
CLIENT_LOG = logging.getLogger(f"{__name__}.client")
CLIENT_LOG.addHandler(logging.NullHandler())  # what it has to say, `execute` answers


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
    """What papermill calls; it hands through the Record that keeps what it returns or raises."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, record: Record, directory: Path, **_papermills: Any) -> Any:
        record.open(nb)
        try:
            with warm_kernel(kernel_name, directory) as (manager, record.kernel):
                options = {
                    "km": manager,
                    "kernel_name": kernel_name,
                    "startup_timeout": START_LIMIT_S,
                    "iopub_timeout": OUTPUT_LIMIT_S,
                    "shutdown_kernel": "immediate",
                    "log": CLIENT_LOG,
                    "on_cell_execute": record.save_soon,
                }
                Client(record, **options).execute(cleanup_kc=True, cwd=str(directory))
        except (RuntimeError, TimeoutError, InterruptedError) as error:
            # A kernel that did not start, died or was given up: the record tells, and papermill raises from it.
            record.reason = record.reason or str(error)
        finally:
            record.kernel = None
            record.notebook_complete()
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
            await self._bound()
            return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)

    async def _bound(self) -> None:
        """Until the kernel's sockets are there: who connects before that tries again only after 100 ms."""
        info: Any = self.connection_info
        sockets = [Path(f"{info['ip']}-{port}") for name, port in info.items() if name.endswith("_port")]
        for _ in range(500):
            if all(path.exists() for path in sockets):
                return
            await asyncio.sleep(0.002)

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


class ReadyClient(AsyncKernelClient):
    """jupyter_client's, without its wait for 200 ms of silence: each answer ends with a status among the output."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Until the kernel answers, and its output arrives. Raises RuntimeError."""
        give_up = time.monotonic() + (timeout or START_LIMIT_S)
        while time.monotonic() < give_up:
            asked = self.kernel_info()
            try:
                await self.get_shell_msg(timeout=1)
                while (told := await self.get_iopub_msg(timeout=0.2))["parent_header"].get("msg_id") != asked or (
                    told["content"].get("execution_state") != "idle"
                ):
                    pass
                return
            except Empty:
                if not await self.is_alive():
                    raise RuntimeError("the kernel ended before it answered") from None
        raise RuntimeError(f"the kernel did not answer in {timeout} s")


@contextmanager
def warm_kernel(kernel_name: str, directory: Path) -> Iterator[tuple[AsyncKernelManager, WarmProvisioner]]:
    """A manager that will fork its kernel.

    Its sockets lie in a private directory: over TCP anybody on the machine could read along, as ipykernel says.
    """
    with tempfile.TemporaryDirectory(dir=SHARED.directory(), prefix="", ignore_cleanup_errors=True) as private:
        connection_file = str(Path(private) / "k.json")
        manager = AsyncKernelManager(
            kernel_name=kernel_name, transport="ipc", connection_file=connection_file, client_factory=ReadyClient
        )
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


papermill_engines.register(WARM, WarmEngine)
