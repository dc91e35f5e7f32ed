"""Every mistake in a parameters file is found before anything is touched, all at once, with what to write instead."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import command
from parameter_files import LITERAL, PROJECT, VALID, make_place

from runbook_lib.errors import PlanError
from runbook_lib.plan import reading

REGIONS = ("hk", "jp", "kr", "sg", "us")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, to write broken files into."""
    return make_place(tmp_path, monkeypatch)


def changed(*where: str, to: object) -> dict[str, Any]:
    """The valid values with one key set; `to=...` takes it out."""
    values: dict[str, Any] = copy.deepcopy(yaml.safe_load(VALID))
    inner = values
    for part in where[:-1]:
        inner = inner.setdefault(part, {})
    if to is ...:
        del inner[where[-1]]
    else:
        inner[where[-1]] = to
    return values


def refused(values: dict[str, Any]) -> list[str]:
    with pytest.raises(PlanError) as caught:
        reading.build(values, "parameters/hk.yaml")
    assert caught.value.exit_code == 2
    return caught.value.mistakes


@pytest.mark.parametrize("region", REGIONS)
def test_shipped_regions_are_valid(region: str) -> None:
    plan = reading.load(region)
    assert plan.region == region
    assert plan.traffic.slice_pct == 8
    assert "example.com" in plan.nginx.public_url, "no real host"
    assert not plan.is_practice


@pytest.mark.parametrize("topology", ["active_active", "primary_standby"])
def test_both_topologies(topology: str) -> None:
    assert reading.build(changed("topology", to=topology), "hk").topology == topology


PRIMARY_STATE = "/var/lib/openclaw-prod"
RULES: list[tuple[tuple[str, ...], object, str, str]] = [
    # key, wrong value, what the sentence says, what to write instead
    (("canary", "port"), 18789, "primary's port too", "18909"),
    (("canary", "port"), 80, "privileged", "above 1023"),
    (("primary", "port"), 443, "privileged", "above 1023"),
    (("canary", "port"), 70000, "less than or equal to 65535", "port: 18890"),
    (("canary", "port"), True, "not a whole number", "port: 18890"),
    (("canary", "port"), 18890.5, "not a whole number", "port: 18890"),
    (("nginx", "probe_port"), 18789, "a gateway's port", "another"),
    (("nginx", "probe_port"), 81, "privileged", "above 1023"),
    (("canary", "state_dir"), PRIMARY_STATE, "primary's too", "its own"),
    (("canary", "state_dir"), "/var/lib/OPENCLAW-prod", "primary's too", "its own"),
    (("canary", "state_dir"), "/private/var/lib/openclaw-prod", "primary's too", "its own"),
    (("canary", "state_dir"), f"{PRIMARY_STATE}/canary", "one inside the other", "side by side"),
    (("canary", "state_dir"), "/var/lib", "one inside the other", "side by side"),
    (("canary", "state_dir"), "/", "one inside the other", "side by side"),
    (
        ("canary", "state_dir"),
        "/Users/openclaw/.openclaw",
        "default home of the user's own gateway",
        ".openclaw-canary",
    ),
    (("canary", "state_dir"), "~/.openclaw", "not an absolute path", "write it from / on"),
    (("canary", "state_dir"), "/Users/o/Desktop/x", "protected by macOS", "/Users/openclaw/.openclaw-canary"),
    (("canary", "state_dir"), "/Users/o/documents/x", "protected by macOS", "/Users/openclaw/.openclaw-canary"),
    (("canary", "state_dir"), "/Users/o/Library/Mobile Documents/x", "iCloud", "/Users/openclaw/.openclaw-canary"),
    (
        ("canary", "state_dir"),
        "/Users/o/Library/Mobile Documents/com~apple~CloudDocs/x",
        "iCloud",
        "/Users/openclaw/.openclaw-canary",
    ),
    (
        ("canary", "state_dir"),
        "/Users/o/Library/CloudStorage/GoogleDrive/x",
        "is synced",
        "/Users/openclaw/.openclaw-canary",
    ),
    (("canary", "state_dir"), "/Users/o/Dropbox/x", "is synced", "/Users/openclaw/.openclaw-canary"),
    (("canary", "state_dir"), "/Volumes/Fast/x", "external volume", "/Users/openclaw/.openclaw-canary"),
    (("canary", "state_dir"), "/var/lib/../lib/openclaw-prod", "not an absolute path", "without ~ and .."),
    (("canary", "state_dir"), "/var/lib/$HOME", "dollar", "a plain path"),
    (("canary", "prefix"), "/Users/openclaw/gateways/primary", "primary's too", "its own"),
    (("canary", "prefix"), "/Users/openclaw/gateways/primary/x", "one inside the other", "side by side"),
    (("canary", "bind"), "0.0.0.0", "not 127.0.0.1", "write 127.0.0.1"),
    (("primary", "bind"), "::", "not 127.0.0.1", "write 127.0.0.1"),
    (("canary", "label"), "ai.openclaw.gateway", "primary's too", "its own"),
    (("canary", "label"), "homebrew.mxcl.nginx", "nginx's too", "its own"),
    (("primary", "label"), "homebrew.mxcl.nginx", "nginx's too", "its own"),
    (("canary", "plist"), "/Users/openclaw/Library/LaunchAgents/ai.openclaw.gateway.plist", "primary's too", "its own"),
    (("canary", "log_file"), f"{PRIMARY_STATE}/logs/gateway.log", "primary's too", "its own"),
    (("canary", "env_file"), f"{PRIMARY_STATE}/service-env/ai.openclaw.gateway.env", "primary's too", "its own"),
    (
        ("canary", "secrets", "ANTHROPIC_API_KEY"),
        f"file:{PRIMARY_STATE}/service-env/ai.openclaw.gateway.env#ANTHROPIC_API_KEY",
        "primary's ANTHROPIC_API_KEY too",
        "write another reference",
    ),
    (("canary", "secrets"), {"X": "env:X"}, "OPENCLAW_GATEWAY_TOKEN is missing", "keyring:"),
    (("traffic", "slice_pct"), 4.99, "outside 5-12 %", "choose e.g. 8"),
    (("traffic", "slice_pct"), 13, "outside 5-12 %", "choose e.g. 8"),
    (("traffic", "slice_pct"), 0.08, "outside 5-12 %", "choose e.g. 8"),
    (("traffic", "slice_pct"), float("nan"), "not a finite number", ""),
    (("traffic", "slice_pct"), 7.125, "finer than nginx can split", "two decimals"),
    (("traffic", "step_pct"), 20, "not 10 %", "write 10"),
    (("traffic", "settle_s"), float("inf"), "not a finite number", ""),
    (("thresholds", "connect_p95_ms"), -120, "whole milliseconds", "120 for 120 ms"),
    (("thresholds", "connect_p95_ms"), 0.12, "whole milliseconds", "120 for 120 ms"),
    (("thresholds", "error_ratio_pct"), 0.005, "write a percentage", "0.5 for half a percent"),
    (("thresholds", "error_ratio_pct"), -1, "write a percentage", "0.5 for half a percent"),
    (("thresholds", "reload_p95_rise_pct"), 0.35, "in percent", "35 for 35 %"),
    (("thresholds", "rss_gap_pct"), 1.18, "in percent", "35 for 35 %"),
    (("thresholds", "backlog_jobs"), -200, "whole numbers", "200"),
    (("observation", "observe_s"), 172_799, "shorter than 48 h", "172800"),
    (("thresholds", "observation_s"), 86_400, "86400 s is not observation.observe_s, 172800 s", "leave it out"),
    (("observation", "window_s"), 200_000, "longer than the observation", "e.g. 900"),
    (("observation", "sample_every_s"), 500, "fewer than two samples", "at most 450"),
    (("nginx", "proxy_read_timeout_s"), 599, "below the longest model round trip of 600", "at least 600"),
    (("nginx", "probe_address"), "127.0.0.1", "proxy_attribution_required", "192.0.2.10"),
    (("nginx", "probe_headers"), {"Authorization": "x"}, "carries a secret", "leave it out"),
    (("nginx", "public_url"), "http://hk.gateway.example.com", "does not have the form", "https://hk."),
    (("nginx", "bianry"), "/x", "nginx.bianry: is not a parameter", "did you mean binary?"),
    (("trafic",), {}, "trafic: is not a parameter", "did you mean traffic?"),
    (("zzz",), 1, "zzz: is not a parameter", "known are region, topology"),
    (("runtime", "launchd_domain"), "gui", "does not have the form", "gui/501"),
    (("topology",), "both", "should be 'active_active' or 'primary_standby'", "active_active"),
    (("webhooks", "hooks_token"), LITERAL, "not a reference to a secret", "env:NAME"),
    (("incident", "notify"), "slack://secret-token", "not a reference to a secret", "keyring:NAME"),
    (("canary", "secrets", "ANTHROPIC_API_KEY"), LITERAL, "not a reference to a secret", "file:/path/on/the/mac#NAME"),
    (("canary", "secrets", "ANTHROPIC_API_KEY"), 12345678, "not a reference to a secret", "env:NAME"),
    (("webhooks", "pinned_paths"), ["/hooks;}"], "does not have the form", "/hooks/stripe"),
    (("webhooks", "split_keys"), ["http_x"], "does not have the form", "$http_idempotency_key"),
    (("webhooks", "split_keys"), [], "at least 1 item", "$http_idempotency_key"),
    (("host", "practice_mac"), "parameters/hk.yaml", "not the lab", "leave it out"),
    (("primary", "port"), ..., "is missing", "port: 18890"),
    (("nginx",), ..., "is missing", "binary"),
    (("nginx",), None, "is not a section", "binary"),
    (("nginx",), [1], "is not a section", "binary"),
]


@pytest.mark.parametrize(("where", "value", "says", "instead"), RULES, ids=lambda v: str(v)[:40])
def test_each_rule_says_what_to_write(where: tuple[str, ...], value: object, says: str, instead: str) -> None:
    mistakes = refused(changed(*where, to=value))
    named = [m for m in mistakes if m.startswith(".".join(where))]
    assert any(says in m and instead in m for m in named), mistakes


def test_the_judge_looks_for_as_long_as_the_observation_lasts() -> None:
    """One number: what the judge's budget of false drains is for is taken from observation.observe_s."""
    longer = reading.build(changed("observation", "observe_s", to=259_200), "parameters/hk.yaml")
    assert longer.thresholds.observation_s == 259_200
    same = changed("observation", "observe_s", to=259_200) | {"thresholds": {"observation_s": 259_200}}
    assert reading.build(same, "parameters/hk.yaml").thresholds == longer.thresholds


def test_browser_control_wants_the_documented_spacing() -> None:
    values = changed("runtime", "browser_control", to=True)
    (mistake,) = refused(values)
    assert mistake == (
        "canary.port: 18890 is 101 from primary's 18789, but browser control needs 120; "
        "choose 18909 or set runtime.browser_control: false"
    )
    values["canary"]["port"] = 18909
    assert reading.build(values, "hk").canary.port == 18909


def test_hook_queue_is_waited_for() -> None:
    values = changed("nginx", "proxy_read_timeout_s", to=15)
    values["runtime"]["longest_model_round_trip_s"] = 10
    (mistake,) = refused(values)
    assert "nginx.proxy_read_timeout_s: 15 s is not above the 15 s" in mistake
    assert "at least 16" in mistake


def test_what_authenticates_deliveries_is_shared_and_a_gateway_token_never() -> None:
    values = changed("primary", "secrets", "OPENCLAW_HOOKS_TOKEN", to="keyring:openclaw-hk-hooks-token")
    reading.build(values, "hk")
    for gateway in ("primary", "canary"):
        values[gateway]["secrets"]["OPENCLAW_GATEWAY_TOKEN"] = "keyring:openclaw-hk-hooks-token"
    assert any(m.startswith("canary.secrets.OPENCLAW_GATEWAY_TOKEN: ") for m in refused(values))


def test_all_mistakes_at_once_structural_ones_beside_rules() -> None:
    values = changed("primary", "port", to=...)
    values["canary"]["port"] = "18890"
    values["canary"]["state_dir"] = f"{PRIMARY_STATE}/inside"
    values["traffic"]["slice_pct"] = 30
    values["traffic"]["stepp"] = 10
    values["observation"] = 5
    values["nginx"]["proxy_read_timeout_s"] = 10
    named = {m.partition(":")[0] for m in refused(values)}
    assert named == {
        *("primary.port", "canary.port", "canary.state_dir", "traffic.slice_pct", "traffic.stepp", "observation"),
        "nginx.proxy_read_timeout_s",
    }


def test_a_longer_observation_is_no_second_mistake() -> None:
    values = changed("thresholds", "rss_gap_pct", to=-1)
    values["observation"] = {**values["observation"], "observe_s": 259_200}
    assert [mistake.partition(": ")[0] for mistake in refused(values)] == ["thresholds.rss_gap_pct"]


def test_a_rule_says_nothing_of_a_key_that_is_refused() -> None:
    values = changed("primary", "port", to="18789")
    values["canary"]["port"] = 18789
    assert [m.partition(":")[0] for m in refused(values)] == ["primary.port"]


@pytest.mark.parametrize(
    "where",
    [
        *(("canary", "secrets", "ANTHROPIC_API_KEY"), ("webhooks", "github_secret"), ("incident", "notify")),
        *(("canary", "bind"), ("runtime", "node"), ("nginx", "public_url"), ("topology",)),
        *(("canary", "sekrets"), ("nginx", "probe_headers"), ("canary", "port"), ("webhooks", "split_keys")),
        *(("canary", "state_dir"), ("host",), ("incident", "confirm_url")),
    ],
    ids=".".join,
)
@pytest.mark.parametrize(
    "literal", [LITERAL, "ghp_abcdefghij0123456789", "https://user:pa55word@example.com/x", "0f3a" * 12]
)
def test_a_literal_secret_is_never_echoed(where: tuple[str, ...], literal: str) -> None:
    said = "\n".join(refused(changed(*where, to=literal)))
    assert literal not in said
    assert "pa55word" not in said


def test_a_secret_as_a_key_is_not_echoed() -> None:
    said = "\n".join(refused(changed("canary", "secrets", LITERAL, to="env:X")))
    assert LITERAL not in said
    assert "canary.secrets.a key" in said


# -- notebooks ---------------------------------------------------------------------------------------------------


def test_empty_sections_come_from_the_regions_file() -> None:
    plan = reading.from_notebook({"region": "jp", "traffic": {}, "canary": {}, "dry_run": True, "_x": 1, "In": []})
    assert plan == reading.load("jp")


def test_a_given_section_wins_key_by_key() -> None:
    plan = reading.from_notebook({"region": "jp", "traffic": {"slice_pct": 9}, "observation": {"wait_s": 1}})
    assert plan.traffic.slice_pct == 9
    assert plan.traffic.ramp_s == reading.load("jp").traffic.ramp_s
    assert plan.observation.wait_s == 1


def test_a_whole_plan_needs_no_file(place: Path) -> None:
    assert reading.from_notebook(yaml.safe_load(VALID)).canary.port == 18890


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [("trafic", {}, "traffic"), ("dry_ran", True, "dry_run"), ("Region", "hk", "region"), ("canarry", None, "canary")],
)
def test_misspelt_notebook_parameters_are_refused(name: str, value: object, near: str) -> None:
    with pytest.raises(PlanError, match=f"{name}: is not a parameter; did you mean {near}"):
        reading.from_notebook({"region": "hk", name: value})


def test_what_a_startup_file_defines_is_no_parameter() -> None:
    """IPython's startup files run before the first cell, and are none of the cells."""
    cells = ["", 'region: str = "jp"\ntraffic: dict = {}', "region = 'jp'\ntraffic = {'slice_pct': 9}", "1 +"]
    startup = {"region2": "x", "nginx": {"binary": "/x"}, "observation": 5}
    plan = reading.from_notebook({"region": "jp", "traffic": {"slice_pct": 9}, **startup, "In": cells})
    assert plan == reading.from_notebook({"region": "jp", "traffic": {"slice_pct": 9}})
    with pytest.raises(PlanError, match="trafic: is not a parameter"):
        reading.from_notebook({"region": "jp", "trafic": {}, **startup, "In": [*cells, "trafic = {}"]})


def test_a_misspelt_key_in_a_given_section_blames_no_line_of_the_file() -> None:
    with pytest.raises(PlanError) as caught:
        reading.from_notebook({"region": "hk", "traffic": {"slice_ptc": 9}})
    assert caught.value.mistakes == ["traffic.slice_ptc: is not a parameter; did you mean slice_pct?"]


@pytest.mark.parametrize("region", ["", "nowhere", 5, None, ["hk"], "../parameters/hk"])
def test_a_notebook_without_a_region(region: object) -> None:
    with pytest.raises(PlanError):
        reading.from_notebook({"region": region})


def test_a_sound_plan_says_so_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, PROJECT, "plan", "hk") == (0, "hk: the plan is sound; nothing was touched\n")


@pytest.mark.parametrize(
    ("state", "prefix"),
    [
        ("/Users/openclaw/.openclaw", "/opt/homebrew/lib"),  # npm -g
        ("/Users/openclaw/.openclaw-old7", "/Users/openclaw/.nvm/versions/node/v24.19.0/lib"),  # a profile, nvm
        ("/Users/openclaw/.openclaw", "/Users/openclaw/.openclaw/lib"),  # the installer's own prefix
    ],
)
def test_a_stock_primary_stays_where_it_is(state: str, prefix: str) -> None:
    values = changed("primary", "state_dir", to=state)
    values["primary"]["prefix"] = prefix
    values["canary"]["state_dir"] = "/Users/openclaw/.openclaw-canary"
    assert reading.build(values, "test").primary.state_dir == state


def test_the_canarys_packages_do_not_lie_in_primarys_state() -> None:
    values = changed("primary", "state_dir", to="/Users/openclaw/.openclaw")
    values["canary"]["prefix"] = "/Users/openclaw/.openclaw/canary"
    assert any("lies in primary's state" in mistake for mistake in refused(values))


def test_a_setting_is_no_secret() -> None:
    values = changed("primary", "secrets", "HOME", to="file:/Users/openclaw/.openclaw/service-env/x.env#HOME")
    assert any("primary.secrets.HOME: is a setting" in mistake for mistake in refused(values))
