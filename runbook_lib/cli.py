"""What people type: `rollout VERB`. No logic here; each verb calls one function and prints what it answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from runbook_lib.errors import EvidenceError, RunbookError
from runbook_lib.plan import reading
from runbook_lib.show.console import text_table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
lab = typer.Typer(no_args_is_help=True, help="The practice Mac: real SSH, nginx and plists on loopback.")
app.add_typer(lab, name="lab")


class GatewayKind(StrEnum):
    STANDIN = "standin"
    OPENCLAW = "openclaw"


Gateway = Annotated[GatewayKind, typer.Option(help="the stand-in, or OpenClaw itself")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]
Dask = Annotated[str | None, typer.Option(help="address of a Dask scheduler that has the work done")]
LAB = Path(".lab")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def answer(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    say(json.dumps(value, indent=1, default=str) if as_json else text())


def known_regions() -> list[str]:
    return sorted(path.stem for path in (reading.project_root() / "parameters").glob("*.yaml"))


@app.command()
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


@app.command()
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
    from runbook_lib.regions.live import Board
    from runbook_lib.regions.waves import parse_waves, run_waves
    from runbook_lib.regions.workers import workers

    parsed = parse_waves(regions, waves)
    with workers(dask) as executor, Board(parsed, (lambda text: None) if as_json else say) as board:
        outcomes = run_waves(parsed, executor, board.show, through, dry_run)
    answer([vars(o) for o in outcomes], as_json, lambda: "\n".join(_line(o) for o in outcomes))
    raise typer.Exit(max((o.exit_code for o in outcomes), key=(0, 3, 1).index))


def _line(outcome: Any) -> str:
    return f"{outcome.region}: {outcome.step or 'all steps'} {outcome.answer}: {outcome.reason}"


@app.command()
def approve(
    region: str, why: Annotated[str, typer.Option(help="goes into the ledger, with your name and what you approve")]
) -> None:
    """Let the step that waits at a gate run; holds for the evidence there is now, and not for ever."""
    from runbook_lib.regions import rollout

    event = rollout.approve(region, why)
    until = event["detail"]["expires_at"]
    say(f"{region}: {event['what']} until {until}; go on with: rollout run {region}")


@app.command()
def status(regions: Annotated[list[str] | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """Every region: step, verdict, weight."""
    from runbook_lib.regions.status import status as status_of

    table = status_of(regions or known_regions())
    answer(table.to_dict("records"), as_json, lambda: text_table(table))


@app.command()
def numbers(region: str, as_json: Json = False) -> None:
    """What a region's current run took: seconds to ready, to drain, to roll back; memory of each gateway."""
    from runbook_lib.records.evidence import Run
    from runbook_lib.show.numbers import of_run

    run = Run.current(region)
    if run is None:
        raise EvidenceError(f"{region} has no run; start one: rollout run {region}")
    table = of_run(run)
    answer(table.to_dict("records"), as_json, lambda: text_table(table))


@app.command()
def watch(
    regions: Annotated[list[str] | None, typer.Argument()] = None,
    once: Annotated[bool, typer.Option("--once", help="one frame, for a log")] = False,
    every_s: Annotated[float, typer.Option(min=0.5, help="seconds between two looks")] = 5,
    as_json: Json = False,
) -> None:
    """Both gateways of each region, live: memory, CPU, in flight, failed connects, and how long is left."""
    from runbook_lib.regions.watch import draw, looks, text_of

    frames = looks(regions or known_regions())
    if sys.stdout.isatty() and not once and not as_json:
        return draw(frames, every_s)
    for several in frames:
        answer([frame.as_json() for frame in several], as_json, partial(text_of, several))
        if once:
            break
        time.sleep(every_s)
    return None


@app.command()
def remind(regions: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Tell people of leases about to lapse, and of what the sentinels did by themselves; for a timer."""
    from runbook_lib.regions.remind import remind as remind_of

    codes = [0]
    for said, code in remind_of(regions or known_regions()):
        say(said)
        codes.append(code)
    raise typer.Exit(max(codes))


@app.command()
def drain(region: str, why: Annotated[str, typer.Option(help="goes into the ledger")] = "by hand") -> None:
    """The canary at zero now: one file on the Mac, no reload, no notebook."""
    from runbook_lib.regions import rollout

    say(rollout.drain_now(region, why))


@app.command()
def unlock(region: str, why: Annotated[str, typer.Option(help="goes into the ledger")]) -> None:
    """Break the lock of an operator who cannot let go of the Mac any more."""
    from runbook_lib.regions import rollout

    say(rollout.break_lock(region, why))


@app.command()
def rollback(region: str) -> None:
    """The snapshot restored and proven, from any step."""
    from runbook_lib.regions import rollout

    outcome = rollout.roll_back(region, say)
    raise typer.Exit(outcome.exit_code)


@app.command()
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
    answer(found.as_json(), as_json, lambda: "\n".join(map(text_table, tables)))
    raise typer.Exit(EXIT_CODES[found.verdict.answer])


@app.command()
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


@app.command()
def seal(region: str) -> None:
    """Seal what no seal of the current run holds yet; `run` does it after each step, papermill alone does not."""
    from runbook_lib.records.evidence import Run
    from runbook_lib.regions.filing import file_away

    run = Run.current(region)
    say((file_away(run) if run else f"{region} has no run") or f"{region}: everything is sealed")


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="a run's folder: outputs/<region>/<run>, or a copy of it")],
    allowed_signers: Annotated[Path | None, typer.Option(help="whose keys count, as in ssh-keygen(1)")] = None,
    as_json: Json = False,
) -> None:
    """Every hash, the chain, the signatures, and every verdict judged again from the evidence; offline."""
    from runbook_lib.audit.verify import verify as verify_run
    from runbook_lib.regions.rollout import EXIT_CODES

    found = verify_run(run, allowed_signers)
    answer(found.as_json(), as_json, lambda: "\n".join([text_table(found.table()), *found.lines()]))
    raise typer.Exit(EXIT_CODES[found.answer])


@app.command()
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
    answer(found.as_json(), as_json, lambda: "\n".join(map(text_table, tables)))
    raise typer.Exit(EXIT_CODES[found.verdict.answer])


@lab.command("up")
def lab_up(gateway: Gateway = GatewayKind.STANDIN) -> None:
    """Start the practice Mac; quick and quiet when it runs already."""
    _practice_mac(gateway).up()


@lab.command("down")
def lab_down() -> None:
    """End what `lab up` started, and nothing else."""
    _practice_mac().down()


@lab.command("fault")
def lab_fault(name: Annotated[str, typer.Argument(help="a fault, or `none` to clear all")]) -> None:
    """Break something, so that a step has something to find."""
    from runbook_lib.lab import faults

    if name == "none":
        faults.clear(_practice_mac())
        return say("no fault is left")
    fault = faults.inject(_practice_mac(), name)
    return say(f"{fault.name}: {fault.says}; bites at step {fault.step}")


@lab.command("traffic")
def lab_traffic(
    rate: Annotated[float, typer.Option(min=0.1, max=500, help="webhooks a second")] = 100,
    for_s: Annotated[float, typer.Option(min=1, max=3600, help="seconds")] = 600,
) -> None:
    """Send a steady mix of webhooks through the practice Mac's nginx, in the background."""
    from runbook_lib.lab import traffic

    say(f"sending; counts in {traffic.start(_practice_mac().layout, rate, for_s)}")


@lab.command("demo")
def lab_demo(
    fault: Annotated[str | None, typer.Option(help="inject this fault where it bites")] = None,
    gateway: Gateway = GatewayKind.STANDIN,
    keep: Annotated[bool, typer.Option("--keep", help="leave the practice Mac up")] = False,
    and_back: Annotated[bool, typer.Option("--and-back", help="roll back at the end, too")] = False,
) -> None:
    """A whole rollout on a fresh practice Mac."""
    from runbook_lib.execution.kernels import SHARED

    SHARED.start()
    from runbook_lib.lab.demo import run_demo

    mac = _practice_mac(gateway)
    raise typer.Exit(run_demo(mac.layout.root, gateway.value, fault, say, keep, and_back).exit_code)


def _practice_mac(gateway: GatewayKind = GatewayKind.STANDIN) -> Any:
    from runbook_lib.lab.mac import PracticeMac

    return PracticeMac(reading.project_root() / LAB, gateway.value, say)


def main() -> None:
    """The console script: a RunbookError is one message on standard error, and its exit code."""
    try:
        app()
    except RunbookError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
