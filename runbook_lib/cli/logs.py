"""Verbs that read access logs: analyse, rehearse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runbook_lib.cli.app import Dask, Json, answer, app, example, table
from runbook_lib.plan import reading

Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="the log's log_format, or a file that declares it: nginx.conf, or what nginx -T printed"
    ),
]
Unit = Annotated[str | None, typer.Option(help="s, ms, us or ns: the unit of times that do not tell theirs")]


@app.command(
    rich_help_panel="Logs",
    epilog=example(
        "rollout analyse access.log access.log.1.gz",
        "rollout analyse access.log --region hk --json",
        "rollout analyse access.log --format /opt/homebrew/etc/nginx/nginx.conf --upstream 127.0.0.1:3000=primary",
    ),
)
def analyse(
    logs: Annotated[list[Path], typer.Argument(help="one log: its files, plain, .gz, .bz2 or .xz, in any order")],
    region: Annotated[str | None, typer.Option(help="take ports and thresholds from this region")] = None,
    upstream: Annotated[
        list[str] | None, typer.Option(help="ADDRESS=primary or =canary: whose address that is")
    ] = None,
    log_format: Format = None,
    unit: Unit = None,
    window_s: Annotated[int, typer.Option(min=1, help="seconds in a window")] = 900,
    dask: Dask = None,
    as_json: Json = False,
) -> None:
    """The judge's tables from any access log, offline."""
    from runbook_lib.analysis.analyse import analyse as analyse_log
    from runbook_lib.analysis.named_log import hints_of, named_upstreams
    from runbook_lib.regions.rollout import EXIT_CODES
    from runbook_lib.regions.workers import workers

    hints, named = hints_of(log_format, unit, upstream or []), named_upstreams(upstream or [])
    known = reading.load(region) if region else None
    upstreams = {**(known.upstreams if known else {}), **named} or None
    with workers(dask) as executor:
        thresholds = known.thresholds if known else None
        found = analyse_log(logs, upstreams, thresholds, window_s, executor if dask else None, hints)
    checks = found.verdict.table()[["name", "answer", "hop", "reason"]]
    tables = table(found.lines, found.totals, found.quantiles, found.judged, checks)
    answer(found.as_json(), as_json, lambda: "\n".join([tables, *found.notes]))
    raise typer.Exit(EXIT_CODES[found.verdict.answer])


@app.command(rich_help_panel="Logs", epilog=example("rollout rehearse hk --log access.log --log access.log.1.gz"))
def rehearse(
    region: str,
    log: Annotated[list[Path], typer.Option(help="a file of the log, packed or not; once for each of a rotated set")],
    log_format: Format = None,
    unit: Unit = None,
    seed: Annotated[int, typer.Option(min=0, help="another number deals the traffic another way")] = 1,
    as_json: Json = False,
) -> None:
    """What would the gates have done on this log: false alarms, and which injected faults they catch, and when."""
    from runbook_lib.analysis.log_trial import rehearse as rehearse_log
    from runbook_lib.analysis.named_log import hints_of
    from runbook_lib.regions.rollout import EXIT_CODES

    found = rehearse_log(reading.load(region), log, seed, hints_of(log_format, unit))
    tables = (found.faults, found.alarms, found.verdict.table()[["name", "answer", "hop", "reason"]])
    answer(found.as_json(), as_json, lambda: table(*tables))
    raise typer.Exit(EXIT_CODES[found.verdict.answer])
