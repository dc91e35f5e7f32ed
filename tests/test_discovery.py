"""What a Mac answered becomes parameters: read again from reports, so that each report of a Mac is a test.

practice-stock.txt was recorded on the practice Mac with a stock layout. The reports that begin with `macos-` were
written after the documentation of launchctl, plutil, ps, lsof, pmset and defaults, and not recorded on a Mac.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from runbook_lib.discovery import discover
from runbook_lib.discovery.discover import Choice, Discovered

REPORTS = Path(__file__).parent / "reports"
GIVEN = {
    "runtime.longest_model_round_trip_s": "20",
    "canary.secrets.OPENCLAW_GATEWAY_TOKEN": "env:CANARY_GATEWAY_TOKEN",
    "canary.secrets.ANTHROPIC_API_KEY": "env:CANARY_ANTHROPIC",
    "nginx.ca_file": "/Users/me/ca.pem",
    "incident.notify": "none",
}


def discovered(text: str, folder: Path, said: dict[str, str] | None = None, **choice: str) -> Discovered:
    """What a report says, as `rollout discover --from` writes it."""
    report = folder / "report.txt"
    report.write_text(text, encoding="utf-8")
    _, found, others = discover.from_report(report, Choice(**choice), "tokyo")
    return discover.write_parameters(found, others, folder / "tokyo.yaml", said or {}, None)


def report(name: str) -> str:
    return (REPORTS / f"{name}.txt").read_text(encoding="utf-8")


def left(done: Discovered) -> list[str]:
    return [".".join(value.where) for value in done.left]


def test_a_stock_mac_needs_five_values_of_a_person_and_is_then_a_sound_plan(tmp_path: Path) -> None:
    assert left(discovered(report("practice-stock"), tmp_path)) == list(GIVEN)
    done = discovered(report("practice-stock"), tmp_path, GIVEN)
    assert (left(done), done.given_count, done.exit_code) == ([], 5, 0)
    values = yaml.safe_load(done.path.read_text(encoding="utf-8"))
    assert values["primary"]["state_dir"] == "/Users/openclaw/.openclaw"
    assert values["primary"]["prefix"] == "/opt/homebrew/lib"
    assert values["runtime"]["canary_rpc"] is True, "primary has none"
    token = "json:/Users/openclaw/.openclaw/openclaw.json#gateway.auth.token"
    assert values["primary"]["secrets"]["OPENCLAW_GATEWAY_TOKEN"] == token
    assert values["canary"]["state_dir"] == "/Users/openclaw/.openclaw-canary"
    assert values["canary"]["port"] == values["primary"]["port"] + 120
    assert values["nginx"]["launchd_domain"] == "system"
    assert values["nginx"]["server_file"] == "/opt/homebrew/etc/nginx/servers/gateway.conf"
