"""The ledger of one run: append-only, one JSON line per event, on disk before anything goes on.

Each change to the Mac is three lines: `intent` before it is tried, `effect` when it is done, `verified` when the
host has proven it; or `failed` with what was undone. `previous` chains the lines by hash.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, overload

import pandas as pd

from runbook_lib.errors import EvidenceError
from runbook_lib.records.details import DETAILS
from runbook_lib.records.events import Event, event_of, mistake_in
from runbook_lib.records.kinds import Act, Kind

D = TypeVar("D")


def operator() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


class Ledger:
    """A ledger file. Several processes may append; each line is whole and fsynced before `append` returns."""

    def __init__(self, path: Path, step: str = "") -> None:
        self.path, self.step = path, step
        self.redact: Callable[[str], str] = str
        """What every line passes through before it is written: a Mac's ledger knows the secrets resolved so far."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def run(self) -> str:
        """The name of the run this is the ledger of."""
        return self.path.parent.name

    def append(self, kind: Kind, what: str, **detail: Any) -> Event[Any]:
        """Write one event and wait until it is on disk. Raises TypeError for a detail that its kind does not have."""
        if wrong := mistake_in(kind, detail):
            raise TypeError(wrong)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            last = _last_line(file)
            entry = {
                "seq": json.loads(last)["seq"] + 1 if last else 1,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "who": operator(),
                "step": self.step,
                "event": kind,
                "what": what,
                "detail": detail,
                "previous": hashlib.sha256(last).hexdigest() if last else "",
            }
            line = self.redact(json.dumps(entry, ensure_ascii=False, default=str))
            file.write(line.encode(errors="backslashreplace") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not last:
            _sync_folder(self.path.parent)  # or the file's name may not survive a power cut
        written: Event[Any] = json.loads(line)
        return written

    @overload
    def events(self, kind: type[D], /, *, step: str | None = None) -> list[Event[D]]: ...
    @overload
    def events(self, *kinds: Kind, step: str | None = None) -> list[Event[Any]]: ...
    def events(self, *kinds: Any, step: str | None = None) -> list[Event[Any]]:
        """The events so far, oldest first, only of these kinds and this step where given.

        A kind may be named by the type of its detail (records/details.py); the details then have that type.

        A torn last line (the writer died inside it) is not an event. Raises EvidenceError for any other line that
        cannot be read, or that does not follow the one before it: it was edited, taken out or put in.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")
        found, previous = [], ""
        for number, line in enumerate(lines[:-1], start=1):
            entry = event_of(line)
            if entry is None:
                raise EvidenceError(f"{self.path.name} line {number} is no event; the ledger was edited or damaged")
            if (entry["seq"], entry["previous"]) != (number, previous):
                said = f"{self.path.name} line {number} does not follow line {number - 1}"
                raise EvidenceError(f"{said}; the ledger was edited or damaged")
            previous = hashlib.sha256(line).hexdigest()
            found.append(entry)
        wanted = {DETAILS.get(kind, kind) for kind in kinds}
        return [e for e in found if (not wanted or e["event"] in wanted) and step in (None, e["step"])]

    @overload
    def last(self, kind: type[D], /, *, step: str | None = None) -> Event[D] | None: ...
    @overload
    def last(self, *kinds: Kind, step: str | None = None) -> Event[Any] | None: ...
    def last(self, *kinds: Any, step: str | None = None) -> Event[Any] | None:
        """The newest of these events; None where there is none."""
        return next(reversed(self.events(*kinds, step=step)), None)

    def table(self) -> pd.DataFrame:
        """One row an event: seq, at (aware UTC), who, step, event, what."""
        frame = pd.DataFrame(self.events(), columns=["seq", "at", "who", "step", "event", "what"])
        return frame.assign(at=pd.to_datetime(frame["at"], utc=True))

    @contextmanager
    def change(self, act: Act, what: str, **detail: Any) -> Iterator[Change]:
        """Record a change: `intent` on entry, `failed` with the reason if the block raises.

        The block itself says `effect` and `verified`.
        """
        intent = self.append(Kind.INTENT, what, act=act, **detail)
        try:
            yield Change(self, act, what, intent["seq"])
        except BaseException as error:
            self.append(Kind.FAILED, what, act=act, error=f"{type(error).__name__}: {error}")
            raise


class Change:
    """A change under way; `seq` is its intent's."""

    def __init__(self, ledger: Ledger, act: Act, what: str, seq: int) -> None:
        self._ledger, self._act, self._what, self.seq = ledger, act, what, seq

    def effect(self, **detail: Any) -> None:
        self._ledger.append(Kind.EFFECT, self._what, act=self._act, **detail)

    def verified(self, **detail: Any) -> None:
        self._ledger.append(Kind.VERIFIED, self._what, act=self._act, **detail)

    def confirmed(self, **detail: Any) -> None:
        self._ledger.append(Kind.CONFIRMED, self._what, act=self._act, **detail)


def _last_line(file: Any) -> bytes:
    """The last whole line, however long; a torn tail left by a dead writer is cut off first."""
    size = file.seek(0, os.SEEK_END)
    start = size
    tail = b""
    while start > 0 and tail.count(b"\n") < 2:
        start = max(0, start - max(1 << 16, len(tail)))
        file.seek(start)
        tail = file.read(size - start)
    whole, _, torn = tail.rpartition(b"\n")
    if torn:
        file.truncate(size - len(torn))
    file.seek(0, os.SEEK_END)
    last: bytes = whole.rpartition(b"\n")[2]
    if last and event_of(last) is None:
        raise EvidenceError(f"the last line of {file.name} is no event; the ledger was edited or damaged")
    return last


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
