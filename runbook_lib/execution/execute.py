"""Executing one notebook: papermill on a warm kernel, the record kept whole and true, the page as HTML beside it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from runbook_lib.execution.kernels import SHARED
from runbook_lib.plan.reading import project_root

if TYPE_CHECKING:
    from runbook_lib.execution.record import Record

TEMPLATE = Path(__file__).parents[1] / "templates" / "notebook.html.j2"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_running: set[Record] = set()
_stopped_by: list[int] = []
_one_export = threading.Lock()  # an exporter changes its filters with each notebook


def execute(notebook: str, parameters: Mapping[str, Any], folder: Path) -> str:
    """Execute notebooks/<notebook>.ipynb into `folder`, as .ipynb and .html; returns the error, empty on success.

    Readers of `folder` see the record grow, whole at any time. Whatever ends the execution, cells that never ran are
    `pending` in it, and the cell in which it ended is `failed`. Raises KeyboardInterrupt or SystemExit where a signal
    has asked the runner to stop.
    """
    root = project_root()
    with stoppable():
        warm_up()
        # Only now: the zygote imports at the same time, and `rollout drain` and `rollout status` need none of it.
        with _without("rfc3987_syntax"):
            import papermill
            from papermill.exceptions import PapermillExecutionError

            from runbook_lib.execution.engine import WARM
            from runbook_lib.execution.record import Record
            from runbook_lib.records.evidence import write_whole

        source, target = root / "notebooks" / f"{notebook}.ipynb", folder / f"{notebook}.ipynb"
        record = Record(target, {"input_path": _shown(source, root), "output_path": _shown(target, root)})
        error = ""
        _running.add(record)
        try:
            raise_if_stopped()
            papermill.execute_notebook(
                str(source),
                None,
                parameters=dict(parameters),
                engine_name=WARM,
                record=record,
                directory=root,
                progress_bar=False,
            )
        except PapermillExecutionError as stopped:
            error = f"{stopped.ename}: {stopped.evalue}"
        finally:
            _running.discard(record)
            if record.nb is not None:
                record.publish()
                write_whole(target.with_suffix(".html"), as_html(record.nb, notebook))
        raise_if_stopped()
        if record.stopped_by:
            raise SystemExit(128 + record.stopped_by)
        if not error and record.unfinished:
            reason = record.reason or "a cell ended the notebook"
            error = f"{reason}; {record.unfinished} cells did not run to their end"
        return error


def warm_up() -> None:
    """Begin to import what kernels need, in another process; where that cannot be, a kernel's start will say so."""
    try:
        SHARED.start()
    except OSError:
        return


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Import other modules as if this one were not installed.

    jsonschema, under nbformat, asks for a checker of international addresses, which compiles its grammar for a second
    and is never used here.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(module, None)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and a closed terminal stop what executes, in every thread, with true records; then raise.

    `execute` does this by itself in the main thread. Who executes in other threads wraps this around them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    default = (signal.SIG_DFL, signal.default_int_handler)
    before = {signum: handler for signum in STOPPING if (handler := signal.getsignal(signum)) in default}
    for signum in before:
        signal.signal(signum, _stop)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if before:
            _stopped_by.clear()


def stop_in(folder: Path) -> None:
    """Stop what executes into a folder, as SIGTERM would."""
    for record in [record for record in list(_running) if folder in record.path.parents and not record.stopped_by]:
        record.stop(signal.SIGTERM)


def raise_if_stopped() -> None:
    """Raises KeyboardInterrupt after SIGINT, SystemExit with the shell's exit code after other signals."""
    if _stopped_by:
        if _stopped_by[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + _stopped_by[0])


def _stop(signum: int, _frame: FrameType | None) -> None:
    _stopped_by.append(signum)
    running = list(_running)
    for record in running:
        record.stop(signum)
    if not running:
        raise_if_stopped()


def as_html(node: Any, title: str) -> str:
    """An executed notebook as one page that needs no network."""
    with _one_export:
        body, _ = _exporter().from_notebook_node(node, {"metadata": {"name": title}})
    return str(body)


@cache
def _exporter() -> Any:
    from nbconvert import HTMLExporter

    return HTMLExporter(
        template_file=str(TEMPLATE),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name
