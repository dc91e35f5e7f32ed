"""Where the last read of a rotating log ended, and what is left to read. Pure: the listing comes from the caller.

A file is known by device and inode and by the SHA-256 of its first bytes, so these are told apart:

    renamed          same inode, same head: read on in it, then the newer files
    packed           other inode, same head after unpacking: read on in it
    copytruncated    same inode, other head: the copy has the old head; read on there, then the short file
    deleted          nobody has the head: whatever was not read is lost, and that is said
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

HEAD_BYTES = 256
PACKED = (".gz", ".bz2", ".xz")


def head_hash(content: bytes) -> str:
    return hashlib.sha256(content[:HEAD_BYTES]).hexdigest()


@dataclass(frozen=True)
class LogFile:
    """One file of a rotated set as it is on the host.

    `head_sha256` is of the first `head_bytes` bytes, unpacked if it is packed. Hash as many as
    `head_bytes_wanted(cursor)` says, or all that the file has. `size_bytes` is as on disk.
    """

    path: str
    device: int
    inode: int
    size_bytes: int
    modified_s: float
    head_sha256: str
    head_bytes: int

    @property
    def is_packed(self) -> bool:
        return self.path.endswith(PACKED)


@dataclass(frozen=True)
class Cursor:
    """The file that was read last, up to where (unpacked), and the head by which to know it again."""

    device: int
    inode: int
    offset: int
    head_sha256: str
    head_bytes: int
    modified_s: float


@dataclass(frozen=True)
class Fetch:
    """Read `file` from byte `start` (unpacked) to its end."""

    file: LogFile
    start: int

    def cursor(self, read_bytes: int) -> Cursor:
        """Where to go on when `read_bytes` of this were read: up to the last newline, not a torn line."""
        f = self.file
        return Cursor(f.device, f.inode, self.start + read_bytes, f.head_sha256, f.head_bytes, f.modified_s)


@dataclass(frozen=True)
class Plan:
    """What to read, oldest first; only the last file may still grow. `lost`: the cursor's file is gone."""

    fetches: tuple[Fetch, ...]
    lost: bool = False


def head_bytes_wanted(cursor: Cursor | None) -> int:
    return cursor.head_bytes if cursor else HEAD_BYTES


def plan_fetch(files: Iterable[LogFile], cursor: Cursor | None) -> Plan:
    """What was not read yet of a rotated set: the plain log, NAME.1, NAME.2.gz, NAME-20260506.gz and so on.

    An empty file is left alone: until nginx writes to it, it may still write to the one before.
    """
    ordered = _once(f for f in sorted(files, key=_age) if f.size_bytes)
    if cursor is None:
        return Plan(tuple(Fetch(f, 0) for f in ordered))
    known = [i for i, f in enumerate(ordered) if _is_known(f, cursor)]
    if not known:
        unread = [f for f in ordered if f.modified_s > cursor.modified_s]
        return Plan(tuple(Fetch(f, 0) for f in unread), lost=True)
    newer = [Fetch(f, 0) for f in ordered[known[0] + 1 :]]
    return Plan((Fetch(ordered[known[0]], cursor.offset), *newer))


def _is_known(file: LogFile, cursor: Cursor) -> bool:
    same_head = (file.head_bytes, file.head_sha256) == (cursor.head_bytes, cursor.head_sha256)
    return same_head and (file.is_packed or file.size_bytes >= cursor.offset)


def _age(file: LogFile) -> tuple[int, int]:
    """Oldest first: dated names by date, numbered ones from the highest down, the plain log last."""
    suffix = re.search(r"[.-](\d+)(?:\.(?:gz|bz2|xz))?$", file.path)
    if not suffix:
        return (2, 0)
    number = int(suffix[1])
    return (0, number) if number > 19_000_000 else (1, -number)


def _once(files: Iterable[LogFile]) -> list[LogFile]:
    """A file and its .gz may both be there while it is being packed: keep the plain one."""
    kept: dict[tuple[int, str], LogFile] = {}
    for file in files:
        key = (file.head_bytes, file.head_sha256)
        if key not in kept or kept[key].is_packed:
            kept[key] = file
    return sorted(kept.values(), key=_age)
