"""What each kind of event says beside its sentence: the keys of its detail, and their types."""

from typing import Any, NotRequired, TypedDict

from runbook_lib.records.kinds import Closing, Kind


class RunOpened(TypedDict):
    run: str


class RunClosed(TypedDict):
    outcome: Closing


class StepOpened(TypedDict):
    region: NotRequired[str]
    dry_run: NotRequired[bool]


class StepClosed(TypedDict):
    round_trips_count: NotRequired[int]


class GateWaiting(TypedDict):
    """`evidence` is the hash of what a person is asked about."""

    evidence: NotRequired[str]
    reason: str


class Approved(TypedDict):
    """`expires_at` is ISO 8601, UTC."""

    why: str
    evidence: NotRequired[str]
    before: NotRequired[str]
    expires_at: NotRequired[str]


class Verdict(TypedDict):
    """`checks` are rows of verdict.Verdict.table; `fetched` says how many slices there were of each kind."""

    answer: str
    action: NotRequired[str]
    hops: NotRequired[list[str]]
    reasons: NotRequired[list[str]]
    checks: NotRequired[list[dict[str, Any]]]
    fetched: NotRequired[dict[str, int]]


class Judged(TypedDict):
    """One weight of the promotion; `since` is where its samples begin, ISO 8601."""

    weight_pct: float
    revision: str
    answer: str
    since: NotRequired[str]
    checks: NotRequired[list[dict[str, Any]]]
    fetched: NotRequired[dict[str, int]]


class Change(TypedDict):
    """`act` is the kind of the change; beside these keys there are the facts of the change."""

    act: NotRequired[str]
    undo: NotRequired[str]
    hashes: NotRequired[dict[str, list[str]]]
    reason: NotRequired[str]
    why: NotRequired[str]


class Proposed(Change):
    """Shown, and not yet done."""


class Skipped(Change):
    """Not done, since this is a dry run."""


class Kept(Change):
    """Done already; `reason` says why."""


class Intent(Change):
    """About to be tried."""


class Effect(Change):
    """Tried, with the exit status that it ended with."""


class Confirmed(Change):
    """The Mac does not take it back any more."""


class Replayed(Change):
    """Requests that a gateway executes were sent."""


class Verified(TypedDict):
    """What the proof found. `until` is of a lease (ISO 8601); the rest is of a job: primary, canary or nginx."""

    act: NotRequired[str]
    job: NotRequired[str]
    until: NotRequired[str]
    ready_after_s: NotRequired[float]
    waited_s: NotRequired[float]
    took_s: NotRequired[float]


class Failed(TypedDict):
    """A change, or a step without a verdict; `error` says why."""

    act: NotRequired[str]
    error: NotRequired[str]


class Weight(TypedDict):
    """The configuration that nginx runs from now on."""

    weight_pct: float
    revision: str


class Drained(TypedDict):
    """`cause` is a Cause; `at_mac` is the Mac's time where the sentinel did it by itself."""

    why: str
    cause: NotRequired[str]
    at_mac: NotRequired[Any]


class NotDrained(Drained):
    """The sentinel tried, and nginx does not say that it is drained."""


class Reverted(Drained):
    """The sentinel took back a change that nobody confirmed."""


class Undrained(TypedDict):
    """The canary has its share back."""

    why: str


class LockTakenOver(TypedDict):
    """A lock that had lapsed, could not be read, or whose holder is gone."""

    holder: str


class LockBroken(TypedDict):
    """Somebody else's lock, broken by hand."""

    why: str


class LeaseEnding(TypedDict):
    """`until` is when the sentinel drains the canary, ISO 8601."""

    until: NotRequired[str]
    why: NotRequired[str]


class Notified(TypedDict):
    """`seq` is the event that somebody was told of."""

    seq: int
    channel: str
    severity: NotRequired[str]


class NotNotified(Notified):
    """`error` says why nobody was."""

    error: NotRequired[str]


class Fetched(TypedDict):
    """The newest lines of the log were asked for, outside a step."""


class LostLines(TypedDict):
    """A log was rotated away before it was read to its end."""

    offset: NotRequired[int | None]


DETAILS: dict[type, Kind] = {
    RunOpened: Kind.RUN_OPENED,
    RunClosed: Kind.RUN_CLOSED,
    StepOpened: Kind.STEP_OPENED,
    StepClosed: Kind.STEP_CLOSED,
    GateWaiting: Kind.GATE_WAITING,
    Approved: Kind.APPROVED,
    Verdict: Kind.VERDICT,
    Judged: Kind.JUDGED,
    Proposed: Kind.PROPOSED,
    Skipped: Kind.SKIPPED,
    Kept: Kind.KEPT,
    Intent: Kind.INTENT,
    Effect: Kind.EFFECT,
    Verified: Kind.VERIFIED,
    Confirmed: Kind.CONFIRMED,
    Failed: Kind.FAILED,
    Replayed: Kind.REPLAYED,
    Weight: Kind.WEIGHT,
    Drained: Kind.DRAINED,
    NotDrained: Kind.NOT_DRAINED,
    Undrained: Kind.UNDRAINED,
    Reverted: Kind.REVERTED,
    LockTakenOver: Kind.LOCK_TAKEN_OVER,
    LockBroken: Kind.LOCK_BROKEN,
    LeaseEnding: Kind.LEASE_ENDING,
    Notified: Kind.NOTIFIED,
    NotNotified: Kind.NOT_NOTIFIED,
    Fetched: Kind.FETCHED,
    LostLines: Kind.LOST_LINES,
}
"""The detail of each kind of event."""
