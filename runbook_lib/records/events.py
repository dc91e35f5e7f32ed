"""An event of a ledger as programs read it: its kind and its detail decide; its sentence, `what`, is for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Generic, TypedDict, TypeVar, cast

from runbook_lib.records.details import DETAILS
from runbook_lib.records.kinds import Act, Kind

D = TypeVar("D")
OPEN = (Kind.PROPOSED, Kind.SKIPPED, Kind.KEPT, Kind.INTENT, Kind.EFFECT, Kind.VERIFIED, Kind.CONFIRMED, Kind.REPLAYED)
"""The kinds that hold facts of their change beside the keys of their detail."""
SENTENCES = {
    "hold the operator's lease": Act.HOLD_LEASE,
    "give the operator's lease back": Act.RETURN_LEASE,
    "drain the canary": Act.DRAIN,
    "end the drain": Act.UNDRAIN,
    "start ": Act.START,
    "stop ": Act.STOP,
    "kickstart ": Act.RESTART,
    "suspend ": Act.SUSPEND,
}
"""How the changes began that ledgers of older versions name by their sentence alone."""


class Event(TypedDict, Generic[D]):
    """One line of a ledger. `at` is ISO 8601, UTC, by the clock of the machine that wrote it."""

    seq: int
    at: str
    who: str
    step: str
    event: Kind
    what: str
    detail: D
    previous: str


def event_of(line: bytes) -> Event[Any] | None:
    """One line of a ledger as an event; None where it is none. What an older version left out is filled in."""
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict) or Event.__required_keys__ - entry.keys():
            return None
        if not isinstance(entry["detail"], dict):
            return None
        entry["event"] = Kind(entry["event"])
    except (ValueError, RecursionError):
        return None
    _fill_in(entry)
    return cast(Event[Any], entry)


def mistake_in(kind: Kind, detail: Mapping[str, Any]) -> str:
    """What is wrong with a detail: keys that are missing or that no reader knows; empty where nothing is."""
    shape: Any = next(shape for shape, known in DETAILS.items() if known == kind)
    missing = sorted(shape.__required_keys__ - detail.keys())
    unknown = [] if kind in OPEN else sorted(detail.keys() - shape.__required_keys__ - shape.__optional_keys__)
    said = ((f"{kind} needs", missing), (f"{kind} has no", unknown))
    return "; ".join(f"{begun} {', '.join(names)}" for begun, names in said if names)


def _fill_in(entry: dict[str, Any]) -> None:
    kind, what, detail = entry["event"], str(entry["what"]), entry["detail"]
    if kind is Kind.RUN_CLOSED:
        detail.setdefault("outcome", what)
    if kind not in OPEN or "act" in detail:
        return
    begun = next((start for start in SENTENCES if what.startswith(start)), None)
    if begun:
        detail["act"] = SENTENCES[begun]
        if begun.endswith(" "):
            detail.setdefault("job", what.split(" ")[1])
