"""Every mistake in a parameters file is found before anything is touched, all at once, with what to write instead."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import command

from runbook_lib import parameters
from runbook_lib.errors import PlanError

PROJECT = Path(__file__).parents[1]
REGIONS = ("hk", "jp", "kr", "sg", "us")
VALID = (PROJECT / "parameters/hk.yaml").read_text(encoding="utf-8")
LITERAL = "sk-ant-api03-0123456789abcdefABCDEF"  # looks like a key, and is none


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, to write broken files into."""
    return make_place(tmp_path, monkeypatch)


def make_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("parameters", "notebooks"):
        (folder / name).mkdir()
    monkeypatch.chdir(folder)
    return folder / "parameters"


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
        parameters.build(values, "parameters/hk.yaml")
    assert caught.value.exit_code == 2
    return caught.value.mistakes


@pytest.mark.parametrize("region", REGIONS)
def test_shipped_regions_are_valid(region: str) -> None:
    plan = parameters.load(region)
    assert plan.region == region
    assert plan.traffic.slice_pct == 8
    assert "example.com" in plan.nginx.public_url, "no real host"
    assert not plan.is_practice


@pytest.mark.parametrize("topology", ["active_active", "primary_standby"])
def test_both_topologies(topology: str) -> None:
    assert parameters.build(changed("topology", to=topology), "hk").topology == topology


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
    (("canary", "state_dir"), "/Users/openclaw/.openclaw", "default home of every gateway", "/var/lib/openclaw-canary"),
    (("primary", "state_dir"), "/Users/openclaw/.OpenClaw", "default home", "/var/lib/"),
    (("canary", "state_dir"), "~/.openclaw", "not an absolute path", "write it from / on"),
    (("canary", "state_dir"), "/Users/o/Desktop/x", "protected by macOS", "/var/lib/"),
    (("canary", "state_dir"), "/Users/o/documents/x", "protected by macOS", "/var/lib/"),
    (("canary", "state_dir"), "/Users/o/Library/Mobile Documents/x", "iCloud", "/var/lib/"),
    (("canary", "state_dir"), "/Users/o/Library/Mobile Documents/com~apple~CloudDocs/x", "iCloud", "/var/lib/"),
    (("canary", "state_dir"), "/Users/o/Library/CloudStorage/GoogleDrive/x", "is synced", "/var/lib/"),
    (("canary", "state_dir"), "/Users/o/Dropbox/x", "is synced", "/var/lib/"),
    (("canary", "state_dir"), "/Volumes/Fast/x", "external volume", "/var/lib/"),
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
    longer = parameters.build(changed("observation", "observe_s", to=259_200), "parameters/hk.yaml")
    assert longer.thresholds.observation_s == 259_200
    same = changed("observation", "observe_s", to=259_200) | {"thresholds": {"observation_s": 259_200}}
    assert parameters.build(same, "parameters/hk.yaml").thresholds == longer.thresholds


def test_browser_control_wants_the_documented_spacing() -> None:
    values = changed("runtime", "browser_control", to=True)
    (mistake,) = refused(values)
    assert mistake == (
        "canary.port: 18890 is 101 from primary's 18789, but browser control needs 120; "
        "choose 18909 or set runtime.browser_control: false"
    )
    values["canary"]["port"] = 18909
    assert parameters.build(values, "hk").canary.port == 18909


def test_hook_queue_is_waited_for() -> None:
    values = changed("nginx", "proxy_read_timeout_s", to=15)
    values["runtime"]["longest_model_round_trip_s"] = 10
    (mistake,) = refused(values)
    assert "nginx.proxy_read_timeout_s: 15 s is not above the 15 s" in mistake
    assert "at least 16" in mistake


def test_what_authenticates_deliveries_is_shared_and_a_gateway_token_never() -> None:
    values = changed("primary", "secrets", "OPENCLAW_HOOKS_TOKEN", to="keyring:openclaw-hk-hooks-token")
    parameters.build(values, "hk")
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


# -- the file's text ---------------------------------------------------------------------------------------------


def load_text(place: Path, text: str | bytes) -> list[str]:
    (place / "hk.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(PlanError) as caught:
        parameters.load("hk")
    assert caught.value.source.endswith("hk.yaml")
    return caught.value.mistakes


def line_of(text: str, start: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), start=1) if line.strip().startswith(start))


def test_each_mistake_names_its_line(place: Path) -> None:
    text = VALID.replace("slice_pct: 8", "slice_pct: 80").replace("probe_port: 18700", "probe_prot: 18700")
    mistakes = load_text(place, text)
    at = line_of(text, "probe_prot")
    assert f"line {at}: nginx.probe_prot: is not a parameter; did you mean probe_port?" in mistakes
    assert any(m.startswith(f"line {line_of(text, 'nginx:')}: nginx.probe_port: is missing") for m in mistakes)
    assert any(m.startswith(f"line {line_of(text, 'slice_pct')}: traffic.slice_pct: 80 is outside") for m in mistakes)
    assert len(mistakes) == 3


def test_repeated_keys_are_refused_beside_other_mistakes(place: Path) -> None:
    text = VALID.replace("  slice_pct: 8\n", "  slice_pct: 8\n  ramp_s: -1\n  slice_pct: 90\n")
    at = line_of(text, "slice_pct")
    mistakes = load_text(place, text)
    assert f"line {at + 2}: traffic.slice_pct: stands on line {at} already; keep one of them" in mistakes
    assert any("traffic.slice_pct: 90 is outside" in m for m in mistakes)
    assert any("traffic.ramp_s" in m for m in mistakes)


ODD = ["2026-09-06", "2026-13-45", "0x_", "18:90", "!!binary x", "!!python/object:os.system x", "!!int abc"]


@pytest.mark.parametrize("value", [*ODD, "&a [*a]", "[", "{[a]: b}", '"', "*nobody", "!!timestamp 9", "!!float x"])
def test_values_that_yaml_reads_as_something_odd(place: Path, value: str) -> None:
    text = VALID.replace("  package: openclaw\n", f"  package: openclaw\n  canary_version: {value}\n")
    mistakes = load_text(place, text)
    near = line_of(text, "canary_version")
    assert any(re.match(rf"line ({near}|{near + 1}): ", m) for m in mistakes), mistakes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a mapping of sections is expected"),
        (b"- a\n", "a mapping of sections is expected"),
        (b"region: hk\n\xff\xfe\n", "byte 12 is not UTF-8"),
        (b"region: hk\n\x00\n", "not YAML"),
        (b"region: hk\n\tport: 1\n", "line 2: not YAML"),
        (b"region: hk\n--- \nregion: jp\n", "not YAML"),
        (b"region: jp\n", "line 1: region: the file is hk.yaml; write hk"),
    ],
)
def test_broken_texts(place: Path, content: bytes, says: str) -> None:
    assert any(says in m for m in load_text(place, content))


def test_an_unknown_region_names_those_there_are() -> None:
    with pytest.raises(PlanError, match="no region 'hongkong'; there are: hk, jp, kr, lab, sg, us"):
        parameters.load("hongkong")


def test_aliases_and_merge_keys_are_fine(place: Path) -> None:
    text = VALID.replace("  sample_every_s: 5\n", "  sample_every_s: &five 5\n  wait_s: *five\n")
    (place / "hk.yaml").write_text(text)
    assert parameters.load("hk").observation.wait_s == 5


# -- notebooks ---------------------------------------------------------------------------------------------------


def test_empty_sections_come_from_the_regions_file() -> None:
    plan = parameters.from_notebook({"region": "jp", "traffic": {}, "canary": {}, "dry_run": True, "_x": 1, "In": []})
    assert plan == parameters.load("jp")


def test_a_given_section_wins_key_by_key() -> None:
    plan = parameters.from_notebook({"region": "jp", "traffic": {"slice_pct": 9}, "observation": {"wait_s": 1}})
    assert plan.traffic.slice_pct == 9
    assert plan.traffic.ramp_s == parameters.load("jp").traffic.ramp_s
    assert plan.observation.wait_s == 1


def test_a_whole_plan_needs_no_file(place: Path) -> None:
    assert parameters.from_notebook(yaml.safe_load(VALID)).canary.port == 18890


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [("trafic", {}, "traffic"), ("dry_ran", True, "dry_run"), ("Region", "hk", "region"), ("canarry", None, "canary")],
)
def test_misspelt_notebook_parameters_are_refused(name: str, value: object, near: str) -> None:
    with pytest.raises(PlanError, match=f"{name}: is not a parameter; did you mean {near}"):
        parameters.from_notebook({"region": "hk", name: value})


def test_a_misspelt_key_in_a_given_section_blames_no_line_of_the_file() -> None:
    with pytest.raises(PlanError) as caught:
        parameters.from_notebook({"region": "hk", "traffic": {"slice_ptc": 9}})
    assert caught.value.mistakes == ["traffic.slice_ptc: is not a parameter; did you mean slice_pct?"]


@pytest.mark.parametrize("region", ["", "nowhere", 5, None, ["hk"], "../parameters/hk"])
def test_a_notebook_without_a_region(region: object) -> None:
    with pytest.raises(PlanError):
        parameters.from_notebook({"region": region})


# -- the lab -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", [None, [1], 5, "x", {"port": "x"}])
def test_the_labs_file_may_be_broken_too(place: Path, section: object) -> None:
    (place.parent / "mac.yaml").write_text(VALID)
    values = {"region": "lab", "host": {"practice_mac": "mac.yaml"}, "canary": section}
    (place / "lab.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(PlanError) as caught:
        parameters.load("lab")
    assert any("canary" in m for m in caught.value.mistakes)


def test_a_practice_mac_that_is_not_up(place: Path) -> None:
    (place / "lab.yaml").write_text("region: lab\nhost:\n  practice_mac: .lab/mac.yaml\n")
    with pytest.raises(PlanError, match="start the practice Mac first: rollout lab up"):
        parameters.load("lab")


# -- two hundred broken files and more ---------------------------------------------------------------------------

Path_ = tuple[str, ...]


def leaves(values: dict[str, Any], at: Path_ = ()) -> Iterator[Path_]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*at, key))
        else:
            yield (*at, key)


WHOLE = yaml.safe_load(VALID)
LEAVES = sorted(leaves(WHOLE))
# wrong for every key: no value here is a number in range, a plain path, a name, a reference or one of two words
WRONG: st.SearchStrategy[object] = st.one_of(
    st.integers(max_value=-1),
    st.floats(max_value=-0.5),
    st.just(float("nan")),
    st.sampled_from([{"x": 1}, {}, [{}], "", " ", "~/x", "../x", "a\nb", "a'b", float("inf"), [], "${HOME}"]),
    st.text(alphabet="äöü\"'\\\n{};", min_size=1),
)


@st.composite
def broken(draw: st.DrawFn) -> tuple[dict[str, Any], Path_]:
    """A valid file with one key spoilt, taken out or misspelt, and the key that the error must name."""
    values, where = copy.deepcopy(WHOLE), draw(st.sampled_from(LEAVES))
    inner = values
    for part in where[:-1]:
        inner = inner[part]
    how = draw(st.sampled_from(["spoilt", "secret"] if "secrets" in where else ["spoilt", "misspelt", "secret"]))
    if how == "spoilt":
        inner[where[-1]] = draw(WRONG.filter(lambda wrong: not (where[-1] == "pinned_paths" and wrong == [])))
        return values, where
    if how == "secret":
        inner[where[-1]] = {"value": LITERAL} if draw(st.booleans()) else [LITERAL, LITERAL]
        return values, where
    misspelt = f"{where[-1]}{draw(st.sampled_from(['s', 'x', '_', '-']))}"
    inner[misspelt] = inner.pop(where[-1])
    return values, (*where[:-1], misspelt)


@pytest.fixture(scope="module")
def a_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        return make_place(folder, patch)


@settings(
    max_examples=220,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=broken())
def test_broken_files_name_the_key_and_change_nothing(
    a_place: Path, capsys: pytest.CaptureFixture[str], case: tuple[dict[str, Any], Path_]
) -> None:
    values, where = case
    (a_place / "hk.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    before = sorted(a_place.parent.rglob("*"))
    code, said = command(capsys, a_place.parent, "plan", "hk")
    assert code == 2, said
    sentences = said.splitlines()[1:]
    assert any(re.match(r"  (line \d+: )?", s) and ".".join(where[:2]) in s for s in sentences), said
    assert LITERAL not in said
    assert sorted(a_place.parent.rglob("*")) == before, "nothing was written"


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_torn_and_scribbled_files_are_answered_in_words(a_place: Path, data: st.DataObject) -> None:
    """Cut anywhere, or with bytes written over: valid, or a PlanError with a sentence; never another exception."""
    content = bytearray(VALID.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    torn = bytes(content[: data.draw(st.integers(0, len(content)))])
    (a_place / "hk.yaml").write_bytes(torn)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(a_place.parent)
        try:
            parameters.load("hk")
        except PlanError as error:
            assert error.mistakes
            assert all(error.mistakes)


def test_a_sound_plan_says_so_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, PROJECT, "plan", "hk") == (0, "hk: the plan is sound; nothing was touched\n")
