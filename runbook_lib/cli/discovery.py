"""Verbs that ask a Mac before anything begins: discover."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from runbook_lib.cli.app import Json, answer, app, example, say
from runbook_lib.errors import PlanError
from runbook_lib.plan import reading

Report = Annotated[Path | None, typer.Option(help="keep what the Mac answered, secrets out, as one text")]


@app.command(
    rich_help_panel="Roll out",
    epilog=example("rollout discover my-mac --region tokyo", "rollout discover --from report.txt --region tokyo"),
)
def discover(
    alias: Annotated[str, typer.Argument(help="a Host of your ssh_config")] = "",
    region: Annotated[str, typer.Option(help="which parameters/<region>.yaml to write; else the alias names it")] = "",
    from_report: Annotated[Path | None, typer.Option("--from", help="read a report instead of asking a Mac")] = None,
    report: Report = None,
    gateway: Annotated[str, typer.Option(help="primary's label, where there is more than one gateway")] = "",
    way: Annotated[str, typer.Option(help="your customers' URL, where more than one leads to the gateway")] = "",
    said: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE for what only you know; once for each")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="another file than parameters/<region>.yaml")] = None,
    ssh_config: Annotated[str, typer.Option(help="where the Host stands")] = "~/.ssh/config",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a file that is there")] = False,
    as_json: Json = False,
) -> None:
    """Ask a Mac for everything that a region's parameters need, and write them; nothing is changed there."""
    from runbook_lib.discovery import discover as found_on
    from runbook_lib.discovery.parameters_file import refuse_existing
    from runbook_lib.discovery.recording import read
    from runbook_lib.plan.models import HostSection

    if bool(alias) == bool(from_report):
        raise PlanError(
            "discover", ["name a Host of your ssh_config, or a report: rollout discover ALIAS | --from FILE"]
        )
    region = region or alias or (read(from_report).name if from_report else "")
    path = to or reading.project_root() / "parameters" / f"{region}.yaml"
    refuse_existing(path, overwrite)
    choice = found_on.Choice(gateway, way)
    if from_report:
        record, found, others = found_on.from_report(from_report, choice, region)
    else:
        section = HostSection(alias=alias, runbook_dir="/", ssh_config=ssh_config)
        record, found, others = found_on.from_mac(section, choice, region)
    if report:
        report.write_text(record.text(), encoding="utf-8")
    done = found_on.write_parameters(found, others, path, _pairs(said or []), _ask if sys.stdin.isatty() else None)
    answer(done.as_json(), as_json, lambda: "\n".join(done.lines()))
    raise typer.Exit(done.exit_code)


def _pairs(said: list[str]) -> dict[str, str]:
    if wrong := [one for one in said if "=" not in one]:
        raise PlanError("--set", [f"{one!r} is no KEY=VALUE, e.g. nginx.ca_file=~/ca.pem" for one in wrong])
    return dict(one.split("=", 1) for one in said)


def _ask(question: str, proposal: str) -> str:
    say(question)
    return str(typer.prompt("  value, or none", default=proposal or None))
