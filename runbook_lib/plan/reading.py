"""Reading parameters/<region>.yaml into a Plan: all mistakes at once, each with its line and what to write."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard, cast

from pydantic import BaseModel, ValidationError

from runbook_lib.errors import PlanError
from runbook_lib.plan import mistakes, rules
from runbook_lib.plan.models import Plan, Where, is_section, with_horizon
from runbook_lib.plan.yaml_file import Lines, YamlFile, read

STEP_PARAMETERS = {"again", "dry_run", "restore_primary"}


def project_root(start: Path | None = None) -> Path:
    """The folder that holds parameters/ and notebooks/, from the working directory upward."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "parameters").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return Path(__file__).resolve().parents[2]


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
    file = read(path)
    wrong = list(file.wrong)
    if file.values.get("region", region) != region:
        wrong.append(mistakes.located(("region",), f"the file is {path.name}; write {region}", file.lines))
    return _build(file.values, f"parameters/{path.name}", file.lines, wrong)


def from_notebook(namespace: Mapping[str, Any]) -> Plan:
    """The plan as a notebook's parameters give it; what they leave out comes from parameters/<region>.yaml.

    Every plain value that a cell has set counts as a parameter, so that a misspelt one, which papermill only warns
    about, is refused here before any connection is made. What IPython's startup files have set is nobody's parameter.
    Raises PlanError.
    """
    cells = [cell for cell in namespace.get("In", []) if cell]
    mine = _names_set_by(cells) if cells else set(namespace)
    given = {
        name: value
        for name, value in namespace.items()
        if name in mine
        and not name.startswith("_")
        and name not in ("In", "Out")
        and (value is None or isinstance(value, str | bool | int | float | list | tuple | dict))
    }
    unknown = sorted(set(given) - set(Plan.model_fields) - STEP_PARAMETERS)
    if unknown:
        raise PlanError(
            "notebook parameters",
            [f"{name}: {mistakes.unknown(name, [*Plan.model_fields, *STEP_PARAMETERS])}" for name in unknown],
        )
    sections = {n: value for n, value in given.items() if n in Plan.model_fields and value not in ({}, "", None)}
    region = str(sections.get("region", ""))
    whole = all(field in sections for field, info in Plan.model_fields.items() if info.is_required())
    file = YamlFile() if whole else read(parameters_file(region))
    lines = {where: line for where, line in file.lines.items() if not _is_given(where, sections)}
    return _build(_merged(file.values, sections), f"notebook parameters for {region}", lines, file.wrong)


def _names_set_by(cells: list[str]) -> set[str]:
    """What the cells that ran in this kernel have assigned: its own, and the one that papermill injects."""
    names: set[str] = set()
    for cell in cells:
        with suppress(SyntaxError):  # it did not run
            names |= {node.id for node in ast.walk(ast.parse(cell)) if _is_set(node)}
    return names


def _is_set(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def build(values: dict[str, Any], source: str, lines: Lines | None = None) -> Plan:
    """A checked plan from plain values; `lines` says where each key stands. Raises PlanError."""
    return _build(values, source, lines or {}, [])


def _build(values: dict[str, Any], source: str, lines: Lines, wrong: list[str]) -> Plan:
    values = _with_practice_mac(values, source)
    try:
        plan = Plan.model_validate(values)
    except ValidationError as refused:
        errors = refused.errors()
        bad = {tuple(str(part) for part in error["loc"] if part != "[key]") for error in errors}
        wrong = [*wrong, *(mistakes.sentence(error, lines) for error in errors), *_rules_beside(values, bad, lines)]
        raise PlanError(source, mistakes.without_secrets(wrong, values)) from None
    wrong = [*wrong, *(mistakes.located(where, text, lines) for where, text in rules.mistakes(plan))]
    if wrong:
        raise PlanError(source, mistakes.without_secrets(wrong, values))
    return plan


def _rules_beside(values: dict[str, Any], bad: set[Where], lines: Lines) -> Iterator[str]:
    """What the rules say of the keys that are sound: a rule that needs a refused one ends there."""
    sound = _sound(Plan, with_horizon(values), bad, ())
    for rule in rules.RULES:
        with suppress(AttributeError):
            yield from (mistakes.located(where, text, lines) for where, text in rule(sound))


def _sound(model: type[BaseModel], values: Mapping[str, Any], bad: set[Where], at: Where) -> Any:
    """A model of the keys that were accepted; asking it for another raises AttributeError."""
    kept: dict[str, Any] = {}
    refused = []
    for name, info in model.model_fields.items():
        inner, here = info.annotation, (*at, name)
        value = values.get(name, {} if isinstance(inner, type) and issubclass(inner, BaseModel) else None)
        if any(where[: len(here)] == here for where in bad) and not (is_section(inner) and isinstance(value, dict)):
            refused.append(name)
        elif is_section(inner) and isinstance(value, dict):
            kept[name] = _sound(cast(type[BaseModel], inner), value, bad, here)
        elif name in values:
            kept[name] = value
    model_of_sound = model.model_construct(**kept)
    for name in refused:
        model_of_sound.__dict__.pop(name, None)
    return model_of_sound


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two levels of values, section by section; what `above` says wins."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = {**under, **value} if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _is_given(where: Where, sections: Mapping[str, Any]) -> bool:
    """Whether a notebook says this key itself, so that no line of the file is to blame."""
    section = sections.get(where[0])
    return where[0] in sections and (len(where) == 1 or not isinstance(section, dict) or where[1] in section)


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
    return _merged(read(path).values, values)
