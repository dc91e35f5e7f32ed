"""The record of one execution: which cells ran, which did not and why, published whole while it grows.

papermill's own says `completed` for every cell that never ran after a kernel's death, a timeout or Ctrl-C, and writes
its file in place.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import nbformat
from nbclient.exceptions import DeadKernelError
from papermill.engines import NotebookExecutionManager

from runbook_lib.records.evidence import write_whole

STOP_GRACE_S = 5  # between asking a cell to stop and killing its kernel
PUBLISH_EVERY_S = 1


class Kernel(Protocol):
    """What a record wants of the kernel that runs."""

    @property
    def how_it_ended(self) -> str: ...

    def signal_now(self, signum: int) -> None: ...


class Record(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no annotations
    """What papermill tells as it goes, at most once a second in the run folder, and true however it ends."""

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        super().__init__(None, progress_bar=False, autosave_cell_every=PUBLISH_EVERY_S)
        self.path, self.names = path, names
        self.kernel: Kernel | None = None
        self.reason = ""  # why it ended, where no cell can tell
        self.stopped_by = 0
        self._published_at = 0.0

    def open(self, nb: Any) -> None:
        self.nb = nb
        nb.metadata.papermill.update(self.names)
        for cell in nb.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):  # often a whole file
                cell.metadata["jupyter"] = {"source_hidden": True}
        self.notebook_start()

    def save(self, **_: Any) -> None:
        """papermill asks for this at each cell's start and end, and with its outputs."""
        self.last_save_time = self.now()
        if time.monotonic() - self._published_at >= PUBLISH_EVERY_S:
            self.publish()

    def save_soon(self, **_: Any) -> None:
        """A cell that has just begun may say nothing for hours: show that it runs, within a second."""
        asyncio.get_running_loop().call_later(PUBLISH_EVERY_S, self.save)

    def publish(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text: str = nbformat.writes(self.nb)  # type: ignore[no-untyped-call]
        write_whole(self.path, text)
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
        if isinstance(error, DeadKernelError) and self.kernel:
            self.reason = f"{self.reason}; " * bool(self.reason) + f"the kernel died: {self.kernel.how_it_ended}"
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
        if self.kernel:
            self.kernel.signal_now(signal.SIGINT)
        timer = threading.Timer(STOP_GRACE_S, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        if self.kernel:
            self.kernel.signal_now(signal.SIGKILL)
