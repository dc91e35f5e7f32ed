"""Verbs that look at regions: status, watch, numbers, remind."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Annotated

import typer

from runbook_lib.cli.app import Json, answer, app, chosen, example, say, table
from runbook_lib.errors import EvidenceError


@app.command(rich_help_panel="Look", epilog=example("rollout status", "rollout status hk --json"))
def status(regions: Annotated[list[str] | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """Every region: step, verdict, weight."""
    from runbook_lib.regions.status import status as status_of

    rows = status_of(chosen(regions))
    answer(rows.to_dict("records"), as_json, lambda: table(rows))


@app.command(rich_help_panel="Look", epilog=example("rollout watch hk", "rollout watch hk jp --once"))
def watch(
    regions: Annotated[list[str] | None, typer.Argument()] = None,
    once: Annotated[bool, typer.Option("--once", help="one frame, for a log")] = False,
    every_s: Annotated[float, typer.Option(min=0.5, help="seconds between two looks")] = 5,
    as_json: Json = False,
) -> None:
    """Both gateways of each region, live: memory, CPU, in flight, failed connects, and how long is left."""
    from runbook_lib.regions.watch import draw, looks, text_of

    frames = looks(chosen(regions))
    if sys.stdout.isatty() and not once and not as_json:
        return draw(frames, every_s)
    for several in frames:
        answer([frame.as_json() for frame in several], as_json, partial(text_of, several))
        if once:
            break
        time.sleep(every_s)
    return None


@app.command(rich_help_panel="Look", epilog=example("rollout numbers hk"))
def numbers(region: str, as_json: Json = False) -> None:
    """What a region's current run took: seconds to ready, to drain, to roll back; memory of each gateway."""
    from runbook_lib.records.evidence import Run
    from runbook_lib.show.numbers import of_run

    run = Run.current(region)
    if run is None:
        raise EvidenceError(f"{region} has no run; start one: rollout run {region}")
    rows = of_run(run)
    answer(rows.to_dict("records"), as_json, lambda: table(rows))


@app.command(rich_help_panel="Look", epilog=example("rollout remind", "rollout remind hk jp"))
def remind(regions: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Tell people of leases about to lapse, and of what the sentinels did by themselves; for a timer."""
    from runbook_lib.regions.remind import remind as remind_of

    codes = [0]
    for said, code in remind_of(chosen(regions)):
        say(said)
        codes.append(code)
    raise typer.Exit(max(codes))
