"""Executing one notebook: papermill, the record kept whole, and the page as HTML beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from runbook_lib.evidence import write_whole
from runbook_lib.parameters import project_root

STARTUP_LIMIT_S = 120


def execute(notebook: str, parameters: Mapping[str, Any], folder: Path) -> str:
    """Execute notebooks/<notebook>.ipynb into `folder`, as .ipynb and .html; answers the error, empty on success.

    papermill writes its output in place and cell by cell; readers of `folder` see it whole, or not at all.
    """
    source = project_root() / "notebooks" / f"{notebook}.ipynb"
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / f"{notebook}.ipynb"
        error = ""
        try:
            papermill.execute_notebook(
                str(source),
                str(output),
                parameters=dict(parameters),
                cwd=str(project_root()),
                progress_bar=False,
                start_timeout=STARTUP_LIMIT_S,
                shutdown_kernel="immediate",
            )
        except PapermillExecutionError as stopped:
            error = f"{stopped.ename}: {stopped.evalue}"
        finally:
            if output.exists():
                publish(output, folder)
    return error


def publish(executed: Path, folder: Path) -> None:
    """Put an executed notebook and its HTML into the run folder."""
    node = nbformat.read(executed, as_version=4)
    body, _ = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(node)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / executed.name, nbformat.writes(node))
    write_whole(folder / f"{executed.stem}.html", body)
