"""A change before it is made: what it is, what it would do, how it is proven, how it is undone."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pandas as pd

from runbook_lib.mac.mac import Mac
from runbook_lib.onmac import function, script
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.ssh.host import Completed

Proof = Callable[[Mac, Completed], Mapping[str, Any]]


def _nothing_to_prove(mac: Mac, done: Completed) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Proposal:
    """One change. Only actions.apply can carry it out.

    `act` says to programs what kind of change it is; `what` says it to people. `script` and `args` run on the Mac;
    `files` are (before, after) texts for the diff; `commands` say in words of the shell what the script does;
    `proof` asks the Mac afterwards, raises ActionFailed or returns the facts for the ledger; `done_already` says
    why nothing is left to do. A change with a `confirmation`, a script too, is taken back by the Mac itself unless
    that runs in time. An `urgent` one waits for nobody who holds the Mac. Before the change the step waits
    `after_s`. `told` is an event
    that the ledger gets beside the change's own, once it is proven.
    """

    act: Act
    what: str
    script: str
    args: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    proof: Proof = _nothing_to_prove
    undo: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    done_already: str = ""
    timeout_s: float | None = None
    confirmation: str = ""
    urgent: bool = False
    after_s: float = 0
    told: Kind | None = None

    @property
    def gives_traffic(self) -> bool:
        """Whether the canary gets requests by it that it does not get now."""
        return self.facts.get("weight_pct", 0) > 0 or self.told is Kind.UNDRAINED


@dataclass(frozen=True)
class Sending:
    """Requests that make a gateway work, straight to it through SSH. Only actions.send can send them.

    `send` gets a client of `url` and returns the answers as a table with `columns`.
    """

    what: str
    url: str
    send: Callable[[httpx.Client], pd.DataFrame]
    columns: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 30
    act: Act = Act.SEND
    undo: str = "nothing: what a gateway has executed stays executed"


def staged(files: Mapping[str, str]) -> str:
    """Shell text that lays `files` (target path to content) out in a fresh $stage, numbered, with $stage/targets."""
    end = f"END_{secrets.token_hex(8)}"
    lines = ['stage=$(mktemp -d "${TMPDIR:-/tmp}/rollout.XXXXXX") || return 1']
    for number, content in enumerate(files.values(), start=1):
        if content:
            lines += [f"cat >\"$stage/{number}\" <<'{end}'", content.removesuffix("\n"), end]
        else:
            lines += [f': >"$stage/{number}"']
    lines += [f"cat >\"$stage/targets\" <<'{end}'"]
    lines += [f"{number}\t{target}" for number, target in enumerate(files, start=1)]
    return "\n".join([*lines, end, ""])


def laid(files: Mapping[str, str], name: str) -> str:
    """A script of onmac/ that lays these files (target path to content) with the functions and $stage it needs."""
    text = script(name)
    return text.partition("\n")[0] + "\n" + staged(files) + function("put_file") + function("lay_files") + text


def facts_table(**proofs: Mapping[str, Any]) -> pd.DataFrame:
    """What proofs found, one row a fact: change, fact, value."""
    rows = [(change, fact, str(value)) for change, facts in proofs.items() for fact, value in facts.items()]
    return pd.DataFrame(rows, columns=["change", "fact", "value"])


def sh(*words: str) -> str:
    """Words as one shell command."""
    return shlex.join(words)
