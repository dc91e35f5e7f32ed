"""The two kinds of gateway differ in one place, and the model of agent runs answers on loopback."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import httpx
import pytest

from runbook_lib.lab.kinds import KINDS, Kind
from runbook_lib.lab.mac import PracticeMac

pytest_plugins = ["lab_fixture"]

LIBRARY = Path(__file__).parents[1] / "runbook_lib"
ADAPTERS = {"gateway/openclaw.py", "lab/kinds.py"}
NAMES = {"openclaw", "standin", "openclaw-standin"}


def test_no_other_file_asks_which_kind_it_is() -> None:
    asking = []
    for path in sorted(LIBRARY.rglob("*.py")):
        name = str(path.relative_to(LIBRARY))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if any(isinstance(word, ast.Constant) and word.value in NAMES for word in asked):
                asking.append(name)
    on_a_strangers_mac = {name for name in asking if name.startswith("discovery/")}  # where it must be found by name
    assert set(asking) - on_a_strangers_mac <= ADAPTERS


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_an_upgrade_migrates(kind: Kind) -> None:
    before, after = (kind.schemas[version] for version in kind.upgrade)
    assert all(before[database] < after[database] for database in before)
    assert kind.version in kind.upgrade


def test_the_model_answers_as_openais_do(lab: PracticeMac) -> None:
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"http://127.0.0.1:{lab.ports.outside}/v1/chat/completions", json=body)
    assert answer.headers["content-type"] == "text/event-stream"
    *chunks, end = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    said = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content", "") for choice in said) == "ok"
    assert said[-1]["finish_reason"] == "stop" and end == "[DONE]"
