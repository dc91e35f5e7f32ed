"""Verbs of the practice Mac: lab up, down, fault, traffic, demo."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from runbook_lib.cli.app import app, example, say
from runbook_lib.plan import reading

lab = typer.Typer(no_args_is_help=True, help="The practice Mac: real SSH, nginx and plists on loopback.")
app.add_typer(lab, name="lab", rich_help_panel="Practice", epilog=example("rollout lab up"))
LAB = Path(".lab")


class GatewayKind(StrEnum):
    STANDIN = "standin"
    OPENCLAW = "openclaw"


class LayoutKind(StrEnum):
    TIDY = "tidy"
    STOCK = "stock"


Gateway = Annotated[GatewayKind, typer.Option(help="the stand-in, or OpenClaw itself")]
Layout = Annotated[LayoutKind, typer.Option(help="laid out for two gateways, or as OpenClaw's installer leaves a Mac")]


@lab.command("up", epilog=example("rollout lab up", "rollout lab up --layout stock --gateway openclaw"))
def lab_up(gateway: Gateway = GatewayKind.STANDIN, layout: Layout = LayoutKind.TIDY) -> None:
    """Start the practice Mac; quick and quiet when it runs already."""
    _practice_mac(gateway, layout).up()


@lab.command("down", epilog=example("rollout lab down"))
def lab_down() -> None:
    """End what `lab up` started, and nothing else."""
    _practice_mac().down()


@lab.command("fault", epilog=example("rollout lab fault slow-canary", "rollout lab fault none"))
def lab_fault(name: Annotated[str, typer.Argument(help="a fault, or `none` to clear all")]) -> None:
    """Break something, so that a step has something to find."""
    from runbook_lib.lab import faults

    if name == "none":
        faults.clear(_practice_mac())
        return say("no fault is left")
    fault = faults.inject(_practice_mac(), name)
    return say(f"{fault.name}: {fault.says}; bites at step {fault.step}")


@lab.command("traffic", epilog=example("rollout lab traffic --rate 20 --for-s 60"))
def lab_traffic(
    rate: Annotated[float, typer.Option(min=0.1, max=500, help="webhooks a second")] = 100,
    for_s: Annotated[float, typer.Option(min=1, max=3600, help="seconds")] = 600,
) -> None:
    """Send a steady mix of webhooks through the practice Mac's nginx, in the background."""
    from runbook_lib.lab import traffic

    say(f"sending; counts in {traffic.start(_practice_mac().layout, rate, for_s)}")


@lab.command("demo", epilog=example("rollout lab demo", "rollout lab demo --fault slow-canary --keep"))
def lab_demo(
    fault: Annotated[str | None, typer.Option(help="inject this fault where it bites")] = None,
    gateway: Gateway = GatewayKind.STANDIN,
    layout: Layout = LayoutKind.TIDY,
    keep: Annotated[bool, typer.Option("--keep", help="leave the practice Mac up")] = False,
    and_back: Annotated[bool, typer.Option("--and-back", help="roll back at the end, too")] = False,
) -> None:
    """A whole rollout on a fresh practice Mac."""
    from runbook_lib.execution.kernels import SHARED

    SHARED.start()
    from runbook_lib.lab.demo import run_demo

    mac = _practice_mac(gateway, layout)
    raise typer.Exit(run_demo(mac, fault, say, keep, and_back).exit_code)


def _practice_mac(gateway: GatewayKind = GatewayKind.STANDIN, layout: LayoutKind = LayoutKind.TIDY) -> Any:
    from runbook_lib.lab.mac import PracticeMac

    return PracticeMac(reading.project_root() / LAB, gateway.value, say, layout=layout.value)
