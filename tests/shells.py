"""Each shell that can be /bin/sh or a login shell on a Mac or on Debian, and one answer from all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.ssh.host import as_sent

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "zsh": ["zsh", "--emulate", "sh"]}
MAC_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
Answer = subprocess.CompletedProcess[str]

each_shell = pytest.mark.parametrize("shell", SHELLS)


def run(shell: str, text: str, *args: str, bin: Path | None = None, **variables: str) -> Answer:
    """A script as Host.run runs it, with a Mac's PATH and nothing else in its environment."""
    environment = {"PATH": f"{bin}:{MAC_PATH}" if bin else MAC_PATH, "LC_ALL": "C", **variables}
    words, sent = [*SHELLS[shell], "-s"], as_sent(text, *args)
    return subprocess.run(words, input=sent, capture_output=True, text=True, timeout=60, env=environment)


def in_every_shell(ask: Callable[[str], Answer]) -> str:
    """The one answer that all shells give, proven to be one, and nothing on standard error."""
    answers = {shell: ask(shell) for shell in SHELLS}
    for shell, done in answers.items():
        assert (done.returncode, done.stderr) == (0, ""), f"{shell}: {done.stderr}"
    texts = {shell: done.stdout for shell, done in answers.items()}
    assert len(set(texts.values())) == 1, texts
    return texts["dash"]


def put(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path
