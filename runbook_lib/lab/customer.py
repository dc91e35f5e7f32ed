"""A stock practice Mac taken as a customer takes theirs: `discover` writes its parameters, a person gives the rest."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from runbook_lib.discovery import discover
from runbook_lib.lab import stock
from runbook_lib.lab.layout import LabError, write
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.plan.models import HostSection

ALIAS = "practice-mac"
MOST_GIVEN_COUNT = 5  # more than that, and a customer writes the parameters by hand


def take_over(mac: PracticeMac, say: Callable[[str], None]) -> None:
    """Write mac.yaml from what `discover` finds on this Mac and what only a person knows; say how many that were.

    Raises LabError where a value is left, or a person would have to give too many.
    """
    layout = mac.layout
    section = HostSection(alias=ALIAS, runbook_dir="/", ssh_config=str(layout.ssh_config))
    _, found, others = discover.from_mac(section, discover.Choice(), "lab")
    done = discover.write_parameters(found, others, layout.yaml, _given(mac), None)
    if done.left or done.given_count > MOST_GIVEN_COUNT:
        names = ", ".join(".".join(value.where) for value in done.left)
        raise LabError(f"discover: a person gave {done.given_count} values, and these are left: {names or 'none'}")
    say(f"discover: {len(done.values)} values, {done.given_count} of them given by a person")
    _keep_time(mac)


def _given(mac: PracticeMac) -> dict[str, str]:
    """What no Mac can say: the longest round trip, the canary's own secrets, the CA, who is paged."""
    layout = mac.layout
    own = stock.secret_references(layout)["canary"]
    return {
        "runtime.longest_model_round_trip_s": "20",
        **{f"canary.secrets.{name}": own[name] for name in ("OPENCLAW_GATEWAY_TOKEN", "ANTHROPIC_API_KEY")},
        "nginx.ca_file": str(layout.nginx_etc / "tls/ca.pem"),
        "incident.notify": f"file:{layout.staging / 'incident.env'}#INCIDENT_URL",
    }


def _keep_time(mac: PracticeMac) -> None:
    """What a practice Mac needs because seconds stand for hours: patience and thresholds, nothing of a gateway."""
    text = mac.layout.yaml.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["host"]["command_timeout_s"] = mac.kind.command_s
    values["runtime"]["ready_timeout_s"] = mac.kind.ready_s
    values["thresholds"] = dict(mac.kind.thresholds)
    write(mac.layout.yaml, yaml.safe_dump(values, sort_keys=False, width=200))
