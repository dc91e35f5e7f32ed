"""parameters/<region>.yaml as discover writes it: each value with where it came from, and what is left for a person."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from runbook_lib.discovery.values import Value
from runbook_lib.errors import PlanError

FOR_A_PERSON = "FOR A PERSON"
WIDTH = 46
Ask = Callable[[str, str], str]


def render(values: list[Value], head: list[str]) -> str:
    """The file's text; a value that a person still has to say is left out of its line, and plan refuses that."""
    lines, opened = [f"# {line}" if line else "#" for line in head], tuple[str, ...]()
    for value in values:
        *within, key = value.where
        for depth, name in enumerate(within):
            if opened[: depth + 1] != tuple(within[: depth + 1]):
                lines += [""] * (depth == 0) + [f"{'  ' * depth}{name}:"]
                opened = tuple(within[: depth + 1])
        opened = tuple(within)
        lines.append(_line(value, key, "  " * len(within)))
    return "\n".join(lines) + "\n"


def _line(value: Value, key: str, indent: str) -> str:
    if value.question:
        e_g = f", e.g. {_plain(value.value)}" if value.value is not None else ""
        return f"{f'{indent}{key}:':<{WIDTH}}  # {FOR_A_PERSON}: {value.question}{e_g} ({value.source})"
    return f"{f'{indent}{key}: {_plain(value.value)}':<{WIDTH}}  # {value.source}"


def _plain(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def left(values: list[Value]) -> list[Value]:
    """What a person still has to say."""
    return [value for value in values if value.question]


def answered(values: list[Value], said: dict[str, str], ask: Ask | None) -> tuple[list[Value], int]:
    """The values with what a person said of them, and how many that were.

    `said` is by key, as nginx.ca_file; what is left is asked where somebody can be asked, each with its proposal.
    Raises PlanError for a key that is none.
    """
    known = {".".join(value.where) for value in values}
    if wrong := sorted(set(said) - known):
        raise PlanError(
            "--set",
            [f"{key} is no parameter that discover writes; there are: {', '.join(sorted(known))}" for key in wrong],
        )
    done, given_count = list[Value](), 0
    for value in values:
        key = ".".join(value.where)
        if key in said:
            done.append(_said(value, said[key]))
            given_count += 1
        elif value.question and ask is not None:
            proposal = "" if value.value is None else _plain(value.value)
            text = ask(f"{key}: {value.question} ({value.source})", proposal).strip()
            given_count += bool(text)
            done.append(_said(value, text) if text else value)
        else:
            done.append(value)
    return done, given_count


def _said(value: Value, text: str) -> Value:
    said = None if text == "none" else yaml.safe_load(text)
    return replace(value, value=said, source="as you said", question="")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises PlanError where a file is there already, and nobody asked to replace it."""
    if path.exists() and not overwrite:
        raise PlanError(
            str(path),
            ["it is there already, and stays as it is; --overwrite replaces it, --region NAME writes another"],
        )


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105
