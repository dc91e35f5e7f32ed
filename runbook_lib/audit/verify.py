"""Is this the run that was sealed, and do its verdicts follow from its evidence? Offline, on any copy.

Every file against the last seal, the seals' chain and signatures, the ledger's own chain; then every verdict once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from runbook_lib.audit.kept import Kept, Slices
from runbook_lib.audit.rejudging import AGAIN, JudgedAgain, judged
from runbook_lib.errors import EvidenceError
from runbook_lib.judging.actions import action_of
from runbook_lib.records import manifest
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.manifest import LEDGER, NAME, SEALS, Manifest
from runbook_lib.records.signature import signature_of, signer_of
from runbook_lib.verdict import SEVERITY, Answer, Check

RECORDED = "recorded only"
ALWAYS_NEW = ("index.html", "evidence/log/", "evidence/samples/", "evidence/sentinel/")
"""What any contact with the Mac may make anew or add to."""


@dataclass(frozen=True)
class Again:
    """One verdict of the ledger, judged again. `differs` says what does not follow from the evidence."""

    step: str
    at: str
    answer: str
    recomputed_count: int = 0
    rejudged_count: int = 0
    recorded_count: int = 0
    differs: tuple[str, ...] = ()
    why_recorded: str = ""


@dataclass
class Verification:
    """What was found: `problems` are file and sentence; `not_sealed` what came after the last seal."""

    region: str
    run: str
    seals_count: int = 0
    files_count: int = 0
    signed_by: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    not_sealed: list[str] = field(default_factory=list)
    verdicts: list[Again] = field(default_factory=list)

    @property
    def answer(self) -> Answer:
        if self.problems or any(again.differs for again in self.verdicts):
            return Answer.FAIL
        unsure = self.not_sealed or any(again.why_recorded for again in self.verdicts)
        return Answer.INCONCLUSIVE if unsure else Answer.PASS

    def add(self, file: str, said: str) -> None:
        self.problems.setdefault(file, said)

    def as_json(self) -> dict[str, Any]:
        return {"answer": str(self.answer), **asdict(self)}

    def table(self) -> pd.DataFrame:
        """One row a verdict: step, verdict, checks recomputed, re-judged and recorded only, and whether they agree."""
        rows = [
            (a.step, a.answer, a.recomputed_count, a.rejudged_count, a.recorded_count, _agreement(a))
            for a in self.verdicts
        ]
        return pd.DataFrame(rows, columns=["step", "verdict", "recomputed", "re-judged", RECORDED, "agrees"])

    def lines(self) -> list[str]:
        """What people read below the table."""
        found = [f"NOT AS SEALED  {file}: {said}" for file, said in sorted(self.problems.items())]
        found += [f"DIFFERS  {again.step}: {said}" for again in self.verdicts for said in again.differs]
        found += [f"not sealed yet: {said}" for said in self.not_sealed]
        signed = ", ".join(dict.fromkeys(self.signed_by)) or "nobody"
        return [*found, f"{self.files_count} files, {self.seals_count} seals, signed by {signed}: {self.answer}"]


def verify(run_dir: Path, allowed_signers: Path | None = None) -> Verification:
    """Compare a run's folder with its seals and judge its verdicts again. Raises EvidenceError where it is no run."""
    if not (run_dir / LEDGER).exists() and not (run_dir / SEALS).is_dir():
        raise EvidenceError(f"{run_dir} is no run: neither {LEDGER} nor {SEALS}/ is there")
    found = Verification(run_dir.absolute().parent.name, run_dir.absolute().name)
    seals = list(_seals(run_dir, found))
    for seal in seals:
        _check_signature(run_dir, seal, allowed_signers, seal == seals[-1], found)
    events = _events(run_dir, found)
    if not found.problems:
        _compare(run_dir, seals[-1] if seals else None, events, found)
    if not found.problems:
        found.verdicts = list(_verdicts(run_dir, seals, events))
    return found


def _seals(run_dir: Path, found: Verification) -> Iterator[Manifest]:
    """The manifests that can be read, oldest first; each must name the hash of the one before."""
    previous = ""
    for number, path in enumerate(manifest.paths(run_dir), start=1):
        where = path.relative_to(run_dir).as_posix()
        try:
            seal = Manifest.from_bytes(path.read_bytes())
        except FileNotFoundError:
            found.add(where, "it is missing")
            return
        except EvidenceError as damaged:
            found.add(where, str(damaged))
            return
        if (seal.number, path.parent.name) != (number, f"{number:04d}") or seal.previous != previous:
            found.add(where, f"it does not follow seal {number - 1}; a seal was taken out, put in or made anew")
            return
        previous = manifest.hash_file(path)
        found.region, found.run, found.seals_count = seal.region, seal.run, number
        yield seal


def _check_signature(
    run_dir: Path, seal: Manifest, allowed_signers: Path | None, is_newest: bool, found: Verification
) -> None:
    """The newest seal holds the hashes of all before it: where signatures are asked for, that one needs it."""
    file = manifest.folder_of(run_dir, seal.number) / NAME
    signature = signature_of(file)
    where = signature.relative_to(run_dir).as_posix()
    if seal.is_signed != signature.exists():
        found.add(where, "it is missing" if seal.is_signed else "it was added: this seal was not signed")
    elif not seal.is_signed and allowed_signers and is_newest:
        found.add(where, "it is missing: signatures are asked for, and this seal was never signed")
    elif seal.is_signed:
        try:
            found.signed_by.append(signer_of(file, allowed_signers))
        except EvidenceError as refused:
            found.add(where, str(refused))


def _events(run_dir: Path, found: Verification) -> list[Event[Any]]:
    try:
        return Run(found.region, run_dir).ledger().events()
    except EvidenceError as damaged:
        found.add(LEDGER, str(damaged))
        return []


def _compare(run_dir: Path, newest: Manifest | None, events: list[Event[Any]], found: Verification) -> None:
    """Every file with the last seal; what came later may only belong to steps that the ledger has since."""
    number = newest.number if newest else 0
    now = manifest.hashes(run_dir, number)
    found.files_count = len(now)
    if newest is None:
        found.not_sealed.append("the whole run")
        return
    now[LEDGER] = manifest.hash_file(run_dir / LEDGER, newest.ledger_bytes) if LEDGER in now else ""
    later = [event for event in events if event["seq"] > _lines(run_dir, newest)]
    steps = tuple(dict.fromkeys(event["step"] for event in later if event["step"]))
    if later:
        found.not_sealed.append(f"{len(later)} events of the ledger ({', '.join(steps) or 'no step'})")
    for name in sorted(newest.files.keys() | now.keys()):
        if newest.files.get(name) == now.get(name):
            continue
        if later and _may_change(name, steps, name in newest.files and name in now):
            found.not_sealed.append(name)
        elif not now.get(name):
            found.add(name, "it is missing")
        else:
            found.add(name, "it was changed" if name in newest.files else "it was added")


def _may_change(name: str, steps: tuple[str, ...], is_there: bool) -> bool:
    """Whether later events can explain a file: slices are only ever added."""
    if name.endswith(".tsv.gz") and is_there:
        return False
    own = tuple(start for step in steps for start in (f"{step}.", f"evidence/{step}/"))
    return name.startswith((*ALWAYS_NEW, *own))


def _lines(run_dir: Path, seal: Manifest) -> int:
    """How many lines of the ledger a seal holds."""
    return (run_dir / LEDGER).read_bytes()[: seal.ledger_bytes].count(b"\n")


def _verdicts(run_dir: Path, seals: list[Manifest], events: list[Event[Any]]) -> Iterator[Again]:
    slices = Slices(Run("", run_dir))
    ends = [(_lines(run_dir, seal), manifest.folder_of(run_dir, seal.number)) for seal in seals]
    with_checks = [event for event in events if event["event"] in (Kind.VERDICT, Kind.JUDGED)]
    homes = [next((folder for end, folder in ends if event["seq"] <= end), run_dir) for event in with_checks]
    for event, home in zip(with_checks, homes, strict=True):
        pairs = zip(with_checks, homes, strict=True)
        last = [e for e, h in pairs if (h, e["step"], e["event"]) == (home, event["step"], "verdict")][-1:]
        before = events[: event["seq"] - 1]
        kept = Kept(event, before, home / "evidence" / event["step"], slices)
        overwritten = event["event"] == Kind.VERDICT and [event] != last
        yield _again(kept, "a later attempt has overwritten what it was made from" if overwritten else "")


def _again(kept: Kept, why: str) -> Again:
    """Judge one event again and compare; what cannot be judged again is recorded only, and says why."""
    step, event = kept.event["step"], kept.event
    recorded = event["detail"].get("checks") or []
    shown = step if event["event"] == Kind.VERDICT else f"{step} at {event['detail']['weight_pct']:g} %"
    replayed: JudgedAgain = {}
    try:
        if not why and step in AGAIN:
            replayed = judged(kept) if event["event"] == Kind.JUDGED else AGAIN[step](kept)
    except EvidenceError as lost:
        why = str(lost)
    except (LookupError, ValueError, TypeError) as other:
        why = f"kept by another version: {type(other).__name__} {other}"
    left = [_plain(check) for check in recorded]
    has_actions = any("action" in check for check in left)  # those of older runs have none
    judged_again = [(how, check) for how, found in replayed.items() for check in found]
    checks = [
        (how, _with_action(kept, check) if has_actions else _without_action(check)) for how, check in judged_again
    ]
    counted = dict.fromkeys(("recomputed", "re-judged"), 0)
    differs = []
    for how, check in checks:
        same = next((other for other in left if _equal(other, check)), None)
        if same is None:
            said = next((o["reason"] for o in left if o["name"] == check["name"]), "no such check")
            differs.append(f"{check['name']}: the evidence says {check['reason']!r}, the ledger {said!r}")
        else:
            left.remove(same)
            counted[how] += 1
    answers = [check["answer"] for check in [*(check for _, check in checks), *left]]
    worst = max(answers, key=[str(a) for a in SEVERITY].index, default=str(Answer.INCONCLUSIVE))
    if worst != event["detail"]["answer"]:
        differs.append(f"the checks give {worst}, the ledger says {event['detail']['answer']}")
    return Again(
        shown,
        event["at"],
        event["detail"]["answer"],
        counted["recomputed"],
        counted["re-judged"],
        len(left),
        tuple(differs),
        why,
    )


def _with_action(kept: Kept, check: Check) -> dict[str, Any]:
    return _plain(replace(check, action=action_of(check, kept.plan.thresholds)).row())


def _without_action(check: Check) -> dict[str, Any]:
    return {name: value for name, value in _plain(check.row()).items() if name != "action"}


def _plain(check: Mapping[str, Any]) -> dict[str, Any]:
    """A check as JSON and tables carry it: numbers as floats, nothing as None, answers as text."""
    return {
        name: float(value) if isinstance(value, int | float) and not math.isnan(value) else _text(value)
        for name, value in check.items()
    }


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, float) else str(value)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def _agreement(again: Again) -> str:
    return "NO" if again.differs else again.why_recorded or "yes"
