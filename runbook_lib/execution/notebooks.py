"""The notebooks as files: whether papermill could execute them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from runbook_lib.errors import PlanError
from runbook_lib.plan.reading import project_root


def check_notebooks(names: Iterable[str]) -> None:
    """Raises PlanError, with every mistake at once, where one of these cannot be executed; nothing is touched."""
    mistakes = [f"notebooks/{name}.ipynb {wrong}" for name in names if (wrong := _what_is_wrong(name))]
    if mistakes:
        raise PlanError("notebooks", [f"{mistake}; restore it from the repository" for mistake in mistakes])


def _what_is_wrong(name: str) -> str:
    """Why papermill could not execute a notebook; empty where it can."""
    try:
        node = json.loads((project_root() / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return f"is not JSON: {error}"
    if not isinstance(node, dict) or node.get("nbformat") != 4 or not isinstance(node.get("cells"), list):
        return "is no notebook of format 4"
    if not all(isinstance(cell, dict) and {"cell_type", "source", "metadata"} <= cell.keys() for cell in node["cells"]):
        return "has a cell that is none"
    if "name" not in node.get("metadata", {}).get("kernelspec", {}):
        return "names no kernel"
    tags = [cell["metadata"].get("tags", []) for cell in node["cells"]]
    return "" if any("parameters" in tag for tag in tags) else "has no cell tagged parameters"
