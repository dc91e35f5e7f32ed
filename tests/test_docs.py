"""README and docs: links lead somewhere, commands can be typed, files and names that they speak of exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from runbook_lib.cli.app import app

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
ROOT = typer.main.get_command(app)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_can_be_typed_as_they_stand_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [line.strip() for line in blocks.splitlines() if line.strip().startswith("rollout ")]
    lines += [word for word in re.findall(r"`(rollout [^`]+)`", text) if not word.split()[1].isupper()]
    for line in lines:
        read(ROOT, shlex.split(line, comments=True)[1:])


def read(command: Any, typed: list[str]) -> None:
    """As click reads a command line. A verb in the middle of a sentence may stand there without its arguments."""
    while (commands := getattr(command, "commands", {})) and typed and not typed[0].startswith("-"):
        name, *typed = typed
        assert name in commands, f"there is no `rollout {name}`"
        command = commands[name]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in typed if word.startswith("--")} <= options, typed


def test_the_architecture_page_names_files_and_functions_that_are_there() -> None:
    text = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+? \| (.+) \|$", text.partition("## The rules")[0], re.MULTILINE)[2:]
    assert len(rows) > 8
    for row in rows:
        file, *names = re.findall(r"`([^`]+)`", row)
        assert (PROJECT / file).exists(), file
        for name in names:
            here = [path.name for path in (PROJECT / "runbook_lib").rglob("*.*")]
            assert name in here or f"def {name}(" in (PROJECT / file).read_text() or (PROJECT / name).exists(), name


def test_the_glossary_has_each_word_once_in_order_and_the_project_uses_it() -> None:
    text = (PROJECT / "docs/glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| ([^|]+?) \| .+\. \|$", text, re.MULTILINE)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(words) == len(rows), "a row is one line that ends with a full stop"
    plain = [re.sub("[^a-z]", "", word.lower()) for word in words]
    assert plain == sorted(set(plain))
    elsewhere = [page for page in PAGES if page.name != "glossary.md"]
    elsewhere += [*(PROJECT / "runbook_lib").rglob("*.py"), *(PROJECT / "notebooks").glob("*.ipynb")]
    used = " ".join(path.read_text(encoding="utf-8").lower() for path in elsewhere)
    assert [word for word in words if word.lower() not in used] == []


def test_the_readme_is_short() -> None:
    """What a newcomer needs, and no more: the rest has its own pages."""
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 120
