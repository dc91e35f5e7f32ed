"""Verbs that roll out: plan, run, approve, drain, unlock, rollback."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from runbook_lib.cli.app import Dask, Json, answer, app, example, say
from runbook_lib.plan import reading


@app.command(rich_help_panel="Roll out", epilog=example("rollout plan hk", "rollout plan hk --sudoers"))
def plan(
    region: str,
    sudoers: Annotated[bool, typer.Option("--sudoers", help="print what the Mac's sudoers must allow")] = False,
    as_json: Json = False,
) -> None:
    """Check a region's parameters without touching anything; every mistake at once."""
    from runbook_lib.nginx.sudoers import render

    checked = reading.load(region)
    sound = f"{region}: the plan is sound; nothing was touched"
    answer(checked.model_dump(), as_json, lambda: render(checked).rstrip() if sudoers else sound)


@app.command(
    rich_help_panel="Roll out",
    epilog=example("rollout run hk", "rollout run hk --dry-run", "rollout run hk jp kr --waves --through 6"),
)
def run(
    regions: Annotated[list[str], typer.Argument(help="regions; `hk : jp kr` is two waves")],
    waves: Annotated[bool, typer.Option("--waves", help="the first region alone, then the rest")] = False,
    through: Annotated[int, typer.Option(min=1, max=8, help="stop after this step")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show every change and make none")] = False,
    dask: Dask = None,
    as_json: Json = False,
) -> None:
    """Run the next steps that may run; stops at gates, goes on where it stopped when run again."""
    from runbook_lib.execution.kernels import SHARED

    SHARED.start()  # it imports what notebooks import while we do
    from runbook_lib.regions.live import LiveTable
    from runbook_lib.regions.waves import parse_waves, run_waves
    from runbook_lib.regions.workers import workers

    parsed = parse_waves(regions, waves)
    with workers(dask) as executor, LiveTable(parsed, (lambda text: None) if as_json else say) as board:
        outcomes = run_waves(parsed, executor, board.show, through, dry_run)
    answer([vars(o) for o in outcomes], as_json, lambda: "\n".join(_line(o) for o in outcomes))
    raise typer.Exit(max((o.exit_code for o in outcomes), key=(0, 3, 1).index))


def _line(outcome: Any) -> str:
    return f"{outcome.region}: {outcome.step or 'all steps'} {outcome.answer}: {outcome.reason}"


@app.command(rich_help_panel="Roll out", epilog=example('rollout approve hk --why "smoke is green"'))
def approve(
    region: str, why: Annotated[str, typer.Option(help="goes into the ledger, with your name and what you approve")]
) -> None:
    """Let the step that waits at a gate run; holds for the evidence there is now, and not for ever."""
    from runbook_lib.regions import rollout

    event = rollout.approve(region, why)
    until = event["detail"]["expires_at"]
    say(f"{region}: {event['what']} until {until}; go on with: rollout run {region}")


@app.command(
    rich_help_panel="Roll out", epilog=example("rollout drain hk", 'rollout drain hk --why "5xx on the canary"')
)
def drain(region: str, why: Annotated[str, typer.Option(help="goes into the ledger")] = "by hand") -> None:
    """The canary at zero now: one file on the Mac, no reload, no notebook."""
    from runbook_lib.regions import emergency

    say(emergency.drain_now(region, why))


@app.command(rich_help_panel="Roll out", epilog=example('rollout unlock hk --why "the laptop is gone"'))
def unlock(region: str, why: Annotated[str, typer.Option(help="goes into the ledger")]) -> None:
    """Break the lock of an operator who cannot let go of the Mac any more."""
    from runbook_lib.regions import emergency

    say(emergency.break_lock(region, why))


@app.command(rich_help_panel="Roll out", epilog=example("rollout rollback hk"))
def rollback(region: str) -> None:
    """The snapshot restored and proven, from any step."""
    from runbook_lib.regions import rollout

    outcome = rollout.roll_back(region, say)
    raise typer.Exit(outcome.exit_code)
