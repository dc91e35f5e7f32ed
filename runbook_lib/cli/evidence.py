"""Verbs for what a run leaves: seal, verify, postmortem."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runbook_lib.cli.app import Json, answer, app, example, say, table


@app.command(rich_help_panel="Evidence", epilog=example("rollout seal hk"))
def seal(region: str) -> None:
    """Seal what no seal of the current run holds yet; `run` does it after each step, papermill alone does not."""
    from runbook_lib.records.evidence import Run
    from runbook_lib.regions.filing import file_away

    run = Run.current(region)
    say((file_away(run) if run else f"{region} has no run") or f"{region}: everything is sealed")


@app.command(rich_help_panel="Evidence", epilog=example("rollout verify outputs/hk/20260506T101500Z"))
def verify(
    run: Annotated[Path, typer.Argument(help="a run's folder: outputs/<region>/<run>, or a copy of it")],
    allowed_signers: Annotated[Path | None, typer.Option(help="whose keys count, as in ssh-keygen(1)")] = None,
    as_json: Json = False,
) -> None:
    """Every hash, the chain, the signatures, and every verdict judged again from the evidence; offline."""
    from runbook_lib.audit.verify import verify as verify_run
    from runbook_lib.regions.rollout import EXIT_CODES

    found = verify_run(run, allowed_signers)
    answer(found.as_json(), as_json, lambda: "\n".join([table(found.table()), *found.lines()]))
    raise typer.Exit(EXIT_CODES[found.answer])


@app.command(
    rich_help_panel="Evidence",
    epilog=example("rollout postmortem hk", "rollout postmortem all --since 2026-05-06 --until 2026-05-08"),
)
def postmortem(
    region: Annotated[str, typer.Argument(help="a region, or all")],
    run: Annotated[str, typer.Option(help="a run's name; else the current one")] = "",
    since: Annotated[str, typer.Option(help="every run that was busy in this range, UTC")] = "",
    until: Annotated[str, typer.Option(help="the range's end")] = "",
) -> None:
    """What happened, where, and what was done: one HTML file that can be mailed, and Markdown."""
    from runbook_lib.audit import postmortem as told

    found = told.choose(region, run, since, until)
    for one in map(told.story, found):
        say(f"{one.region} {one.run}: {one.answer}: {one.happened}")
    say("\n".join(map(str, told.export(found, since, until))))
