"""Every verb explains itself: one sentence, and command lines that can be typed as they stand there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from runbook_lib.cli.app import app

ROOT = typer.main.get_command(app)


def verbs(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, *words, name)


VERBS = list(verbs(ROOT))


@pytest.mark.parametrize(("words", "command"), VERBS, ids=[" ".join(("rollout", *words)) for words, _ in VERBS])
def test_a_verb_says_what_it_does_and_shows_examples(words: tuple[str, ...], command: Any) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert shown.exit_code == 0
    assert (command.help or "").rstrip().endswith((".", "?"))
    lines = (command.epilog or "").removeprefix("Example: ").split("\n\n")
    assert all(line.startswith(" ".join(("rollout", *words))) for line in lines), lines
    for line in lines:
        assert line.split()[-1] in shown.output
        _, *typed = shlex.split(line)
        parse(ROOT, typed)


def parse(command: Any, typed: list[str]) -> None:
    """As click reads a command line; raises UsageError for a word or an option that is none."""
    while commands := getattr(command, "commands", {}):
        name, *typed = typed
        command = commands[name]
    command.make_context(command.name, typed)
