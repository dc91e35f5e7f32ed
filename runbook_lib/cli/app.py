"""The command `rollout`: its options, and how it prints. Each verb calls one function and prints what it returns."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runbook_lib.errors import PlanError, RunbookError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Roll out a second OpenClaw gateway beside the first one, step by step.",
    epilog="Example: rollout run hk --dry-run",
)
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]
Dask = Annotated[str | None, typer.Option(help="address of a Dask scheduler that has the work done")]


def example(*lines: str) -> str:
    """What stands under a verb's help: command lines that can be typed as they are."""
    return "\n\n".join([f"Example: {lines[0]}", *lines[1:]])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def answer(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    say(json.dumps(_finite(value), indent=1, default=str, allow_nan=False) if as_json else text())


def _finite(value: Any) -> Any:
    """The same with null where a number is none: NaN is no JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(*frames: pd.DataFrame) -> str:
    """Frames as tables for the terminal, one below the other."""
    from runbook_lib.show.console import text_table

    return "\n".join(map(text_table, frames))


def known_regions() -> list[str]:
    from runbook_lib.plan.reading import project_root

    return sorted(path.stem for path in (project_root() / "parameters").glob("*.yaml"))


def chosen(regions: list[str] | None) -> list[str]:
    """The regions that were named, or all. Raises PlanError for each that has neither parameters nor a run."""
    from runbook_lib.plan.reading import project_root

    there = {*known_regions(), *(path.name for path in (project_root() / "outputs").glob("*/") if path.is_dir())}
    names = ", ".join(known_regions()) or "none"
    wrong = [f"there is no region {name!r}; there are: {names}" for name in regions or [] if name not in there]
    if wrong:
        raise PlanError("regions", wrong)
    return regions or known_regions()


def main() -> None:
    """The console script: a RunbookError is one message on standard error, and its exit code."""
    try:
        app()
    except RunbookError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
