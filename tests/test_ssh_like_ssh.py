"""Other people's ssh configurations: what `ssh` does, what ours does; the same. docs/ssh.md has the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ssh_cases import CASES, Case
from ssh_world import World, by_ours, by_ssh, keygen

from runbook_lib.lab.layout import user

pytest_plugins = ["ssh_world"]

DOCS = Path(__file__).parents[1] / "docs/ssh.md"


def filled(world: World, folder: Path) -> dict[str, Any]:
    """What stands in braces in the cases."""
    hashing = folder.parent / "hashing"
    hashing.write_text(f"{world.known()}\n")
    keygen("-H", "-f", hashing)
    other = world.host_key("gate")
    return {
        "dir": folder,
        "world": world.folder,
        "keys": world.folder / "keys",
        "port": world.ports["mac"],
        "gate": world.ports["gate"],
        "user": user(),
        "known": world.known(),
        "known_gate": world.known("gate"),
        "known_rsa": world.known(kind="rsa"),
        "hashed": hashing.read_text().strip(),
        "host_key": world.host_key(),
        "gate_key": other,
        "other_key": other,
        "host_ca": world.public("host_ca"),
        "a": world.key("a").read_text(),
    }


def laid(world: World, case: Case, folder: Path) -> Path:
    """The case's files in a folder of its own."""
    folder.mkdir(parents=True)
    words = filled(world, folder)
    for name, text in {"config": case.config, "known_hosts": case.known, **case.files}.items():
        path = folder / name.format(**words)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.format(**words).encode("latin-1"))
        path.chmod(0o644 if name == "open" else 0o600)
    return folder / "config"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_ours_does_what_ssh_does(world: World, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    outcomes = []
    for name, ask in (("ssh", by_ssh), ("ours", by_ours)):
        config = laid(world, case, tmp_path / name)
        for variable, value in case.env.items():
            monkeypatch.setenv(variable, value.format(**filled(world, config.parent)))
        outcomes.append(ask(world, config, case.alias))
    assert outcomes == [case.outcome, case.outcome]
    assert f"\n| {case.what} | {outcomes[0]} | {outcomes[1]} |\n" in DOCS.read_text()


def test_the_table_has_no_other_row() -> None:
    table = DOCS.read_text().partition("|---|---|---|\n")[2].partition("\n\n")[0]
    assert [row.removeprefix("| ").partition(" | ")[0] for row in table.splitlines()] == [case.what for case in CASES]
