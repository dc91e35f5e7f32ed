"""Verbs that read access logs: analyse, rehearse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runbook_lib.cli.app import Dask, Json, answer, app, example, table
from runbook_lib.plan import reading


@app.command(
    rich_help_panel="Logs",
    epilog=example("rollout analyse access.log access.log.1.gz", "rollout analyse access.log --region hk --json"),
)
def analyse(
    logs: Annotated[list[Path], typer.Argument(help="one log: its files, plain or .gz, in any order")],
    region: Annotated[str | None, typer.Option(help="take ports and thresholds from this region")] = None,
    window_s: Annotated[int, typer.Option(min=1, help="seconds in a window")] = 900,
    dask: Dask = None,
    as_json: Json = False,
) -> None:
    """The judge's tables from any access log, offline."""
    from runbook_lib.analysis.analyse import analyse as analyse_log
    from runbook_lib.regions.rollout import EXIT_CODES
    from runbook_lib.regions.workers import workers

    known = reading.load(region) if region else None
    upstreams, thresholds = (known.upstreams, known.thresholds) if known else (None, None)
    with workers(dask) as executor:
        found = analyse_log(logs, upstreams, thresholds, window_s, executor if dask else None)
    tables = (found.lines, found.totals, found.quantiles, found.verdict.table()[["name", "answer", "hop", "reason"]])
    answer(found.as_json(), as_json, lambda: table(*tables))
    raise typer.Exit(EXIT_CODES[found.verdict.answer])


@app.command(rich_help_panel="Logs", epilog=example("rollout rehearse hk --log access.log --log access.log.1.gz"))
def rehearse(
    region: str,
    log: Annotated[list[Path], typer.Option(help="a file of the log, plain or .gz; once for each of a rotated set")],
    seed: Annotated[int, typer.Option(min=0, help="another number deals the traffic another way")] = 1,
    as_json: Json = False,
) -> None:
    """What would the gates have done on this log: false alarms, and which injected faults they catch, and when."""
    from runbook_lib.analysis.log_trial import rehearse as rehearse_log
    from runbook_lib.regions.rollout import EXIT_CODES

    found = rehearse_log(reading.load(region), log, seed)
    tables = (found.faults, found.alarms, found.verdict.table()[["name", "answer", "hop", "reason"]])
    answer(found.as_json(), as_json, lambda: table(*tables))
    raise typer.Exit(EXIT_CODES[found.verdict.answer])
