"""Files that are broken as text: each mistake with its line, in words, and never with a value that may be a secret."""

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
from parameter_files import LITERAL, VALID, make_place

from runbook_lib.errors import PlanError
from runbook_lib.plan import reading


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, to write broken files into."""
    return make_place(tmp_path, monkeypatch)


def load_text(place: Path, text: str | bytes) -> list[str]:
    (place / "hk.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(PlanError) as caught:
        reading.load("hk")
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
        reading.load("hongkong")


def test_aliases_and_merge_keys_are_fine(place: Path) -> None:
    text = VALID.replace("  sample_every_s: 5\n", "  sample_every_s: &five 5\n  wait_s: *five\n")
    (place / "hk.yaml").write_text(text)
    assert reading.load("hk").observation.wait_s == 5


@pytest.mark.parametrize("section", [None, [1], 5, "x", {"port": "x"}])
def test_the_labs_file_may_be_broken_too(place: Path, section: object) -> None:
    (place.parent / "mac.yaml").write_text(VALID)
    values = {"region": "lab", "host": {"practice_mac": "mac.yaml"}, "canary": section}
    (place / "lab.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(PlanError) as caught:
        reading.load("lab")
    assert any("canary" in m for m in caught.value.mistakes)


def test_a_practice_mac_that_is_not_up(place: Path) -> None:
    (place / "lab.yaml").write_text("region: lab\nhost:\n  practice_mac: .lab/mac.yaml\n")
    with pytest.raises(PlanError, match="start the practice Mac first: rollout lab up"):
        reading.load("lab")


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
            reading.load("hk")
        except PlanError as error:
            assert error.mistakes
            assert all(error.mistakes)
