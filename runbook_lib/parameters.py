"""Reading parameters/<region>.yaml into a Plan: all mistakes at once, each with its line and what to write."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from runbook_lib import rules
from runbook_lib.errors import PlanError
from runbook_lib.plan import Plan, Section

Lines = dict[tuple[str, ...], int]
STEP_PARAMETERS = {"dry_run", "restore_primary"}


def project_root(start: Path | None = None) -> Path:
    """The folder that holds parameters/ and notebooks/, from the working directory upward."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "parameters").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return Path(__file__).resolve().parents[1]


def parameters_file(region: str) -> Path:
    path = project_root() / "parameters" / f"{region}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise PlanError(str(path.name), [f"there is no region {region!r}; there are: {known}"])
    return path


def load(region: str) -> Plan:
    """The plan of one region from its file.

    Raises PlanError with every mistake, each as `line N: key: what is wrong and what to write`.
    """
    path = parameters_file(region)
    values, lines = _read(path)
    if values.get("region", region) != region:
        raise PlanError(
            path.name,
            [f"line {lines.get(('region',), 1)}: region: {values['region']!r}, but the file is {path.name}"],
        )
    return build(values, f"parameters/{path.name}", lines)


def from_notebook(namespace: Mapping[str, Any]) -> Plan:
    """The plan as a notebook's parameters give it: sections left empty come from parameters/<region>.yaml.

    Every plain value in the namespace counts as a parameter, so that a misspelt one, which papermill only
    warns about, is refused here before any connection is made. Raises PlanError.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in ("In", "Out")
        and (value is None or isinstance(value, str | bool | int | float | list | dict))
    }
    unknown = sorted(set(given) - set(Plan.model_fields) - STEP_PARAMETERS)
    if unknown:
        raise PlanError(
            "notebook parameters",
            [_unknown(name, [*Plan.model_fields, *STEP_PARAMETERS]) for name in unknown],
        )
    sections = {
        name: value
        for name, value in given.items()
        if name in Plan.model_fields and value not in ({}, "", None)
    }
    region = str(sections.get("region", ""))
    whole = all(field in sections for field, info in Plan.model_fields.items() if info.is_required())
    values, lines = ({}, {}) if whole else _read(parameters_file(region))
    return build({**values, **sections}, f"notebook parameters for {region}", lines)


def build(values: dict[str, Any], source: str, lines: Lines | None = None) -> Plan:
    """A checked plan from plain values; `lines` says where each key stands. Raises PlanError."""
    lines = lines or {}
    values = _with_practice_mac(values, source)
    try:
        plan = Plan.model_validate(values)
    except ValidationError as refused:
        wrong = [_sentence(error, lines) for error in refused.errors()]
        raise PlanError(source, wrong + _mistakes_beside(values, refused, lines)) from None
    wrong = [_located(where, text, lines) for where, text in rules.mistakes(plan)]
    if wrong:
        raise PlanError(source, wrong)
    return plan


def _mistakes_beside(values: dict[str, Any], refused: ValidationError, lines: Lines) -> list[str]:
    """What the rules say of the rest, when only optional or unknown keys were refused."""
    bad = {tuple(str(part) for part in error["loc"]) for error in refused.errors()}
    try:
        rest = Plan.model_validate(_without(values, bad))
    except ValidationError:
        return []
    return [_located(where, text, lines) for where, text in rules.mistakes(rest) if where not in bad]


def _without(values: dict[str, Any], paths: set[tuple[str, ...]], at: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        key: _without(value, paths, (*at, key)) if isinstance(value, dict) else value
        for key, value in values.items()
        if (*at, key) not in paths
    }


def _with_practice_mac(values: dict[str, Any], source: str) -> dict[str, Any]:
    """The lab finds free ports when it comes up; what it found is merged under what lab.yaml says."""
    host = values.get("host")
    named = host.get("practice_mac") if isinstance(host, dict) else None
    if not isinstance(named, str):
        return values
    path = project_root() / named
    if not path.is_file():
        raise PlanError(
            source, [f"host.practice_mac: {named} is not there; start the practice Mac first: rollout lab up"]
        )
    merged = dict(values)
    for section, found in _read(path)[0].items():
        merged[section] = {**found, **values.get(section, {})} if isinstance(found, dict) else found
    return merged


def _read(path: Path) -> tuple[dict[str, Any], Lines]:
    text = path.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise PlanError(path.name, [f"{line}not YAML: {getattr(error, 'problem', error)}"]) from None
    if not isinstance(values, dict):
        raise PlanError(path.name, ["line 1: a mapping of sections is expected, e.g. `region: hk`"])
    lines: Lines = {}
    repeated: list[str] = []
    _walk(node, (), lines, repeated)
    if repeated:
        raise PlanError(path.name, repeated)
    return values, lines


def _walk(node: yaml.Node | None, where: tuple[str, ...], lines: Lines, repeated: list[str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                repeated.append(
                    f"line {line}: {'.'.join(here)}: stands on line {lines[here]} already; keep one"
                )
            lines[here] = line
            _walk(value, here, lines, repeated)


def _located(where: tuple[str, ...], text: str, lines: Lines) -> str:
    nearest = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)
    return f"{f'line {nearest}: ' if nearest else ''}{'.'.join(where)}: {text}"


def _sentence(error: Any, lines: Lines) -> str:
    where = tuple(str(part) for part in error["loc"] if part != "[key]")
    match error["type"]:
        case "extra_forbidden":
            return _located(where[:-1] or where, _unknown(where[-1], _known_keys(where[:-1])), lines)
        case "missing":
            return _located(where, "is missing", lines)
        case "value_error":
            return _located(where, str(error["ctx"]["error"]), lines)
        case "string_pattern_mismatch" if "keyring:" in str(error["ctx"].get("pattern")):
            return _located(
                where,
                "is not a reference to a secret; write env:NAME, keyring:NAME or file:/path/on/the/mac#NAME",
                lines,
            )
        case "string_pattern_mismatch":
            return _located(
                where, f"{error['input']!r} does not have the form {error['ctx']['pattern']}", lines
            )
    message = str(error["msg"]).removeprefix("Input ")
    return _located(where, f"{error['input']!r} {message}", lines)


def _known_keys(where: tuple[str, ...]) -> list[str]:
    model: type[BaseModel] = Plan
    for part in where:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), Section)
    return list(model.model_fields)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name} is not a parameter" + (
        f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
    )
