"""What events are told apart by: their kinds, what a change does, why a canary was drained, how a run ended."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The kinds of events."""

    RUN_OPENED = "run_opened"
    RUN_CLOSED = "run_closed"
    STEP_OPENED = "step_opened"
    STEP_CLOSED = "step_closed"
    GATE_WAITING = "gate_waiting"
    APPROVED = "approved"
    VERDICT = "verdict"
    JUDGED = "judged"
    PROPOSED = "proposed"
    SKIPPED = "skipped"
    KEPT = "kept"
    INTENT = "intent"
    EFFECT = "effect"
    VERIFIED = "verified"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    REPLAYED = "replayed"
    WEIGHT = "weight"
    DRAINED = "drained"
    NOT_DRAINED = "not_drained"
    UNDRAINED = "undrained"
    REVERTED = "reverted"
    LOCK_TAKEN_OVER = "lock_taken_over"
    LOCK_BROKEN = "lock_broken"
    LEASE_ENDING = "lease_ending"
    NOTIFIED = "notified"
    NOT_NOTIFIED = "not_notified"
    FETCHED = "fetched"
    LOST_LINES = "lost_lines"


class Act(StrEnum):
    """What a change does: the kind of a proposal, and so of each event of it."""

    SNAPSHOT = "take a snapshot"
    PUT_TOOLS = "put the runbook's tools"
    INSTALL = "install the packages"
    WRITE_ENV = "write the env file"
    CLONE_STATE = "clone the state"
    WRITE_PLIST = "write the plist"
    START = "start a job"
    STOP = "stop a job"
    RESTART = "restart a job"
    SUSPEND = "suspend a gateway"
    CONFIGURE_NGINX = "change nginx's configuration"
    DRAIN = "drain the canary"
    UNDRAIN = "end the drain"
    TRY_SWITCH = "try the kill switch"
    HOLD_LEASE = "hold the lease"
    RETURN_LEASE = "give the lease back"
    START_SENTINEL = "start the sentinel"
    REMOVE_SENTINEL = "remove the sentinel"
    SET_ASIDE = "set the canary aside"
    RESTORE_STATE = "restore primary's state"
    UNLOCK = "let go of the Mac"
    SEND = "send requests"


class Cause(StrEnum):
    """Why the canary was drained. The last three are the sentinel's own."""

    HAND = "hand"
    VERDICT = "verdict"
    DEATH = "death"
    LEASE = "lease"
    ERRORS = "errors"
    UNCONFIRMED = "unconfirmed"


class Closing(StrEnum):
    """How a run ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    TAKEN_DOWN = "the practice Mac was taken down"
