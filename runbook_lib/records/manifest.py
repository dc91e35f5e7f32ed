"""One seal's manifest: the hash of every file of a run, the hash of the manifest before it, and its own.

seals/0003/manifest.json      written once, in one form only: each of its bytes counts
seals/0003/manifest.json.sig  where the plan has a signing key
seals/0003/…                  the sealed steps' notebooks and evidence as they were: a later attempt overwrites the rest
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from runbook_lib.errors import EvidenceError

SEALS, NAME, LEDGER = "seals", "manifest.json", "ledger.jsonl"


@dataclass(frozen=True)
class Manifest:
    """`files` are path to sha256, of every file in the run's folder but this manifest and its signature.

    Of the ledger it is the hash of its first `ledger_bytes`. `previous` is the hash of the manifest before.
    """

    number: int
    region: str
    run: str
    steps: tuple[str, ...]
    sealed_at: str
    sealed_by: str
    ledger_bytes: int
    files: dict[str, str]
    previous: str
    is_signed: bool
    secrets_sought: tuple[str, ...]
    secrets_unknown: tuple[str, ...]
    sha256: str = ""

    def to_bytes(self) -> bytes:
        return _written(asdict(replace(self, sha256=_hash(_written(asdict(replace(self, sha256="")))))))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises EvidenceError unless these are the bytes that `to_bytes` wrote."""
        try:
            values: dict[str, Any] = json.loads(content)
            tuples = {name: tuple(values[name]) for name in ("steps", "secrets_sought", "secrets_unknown")}
            found = cls(**{**values, **tuples})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise EvidenceError("it is no manifest; it was edited or damaged") from None
        if found.to_bytes() != content:
            raise EvidenceError("it does not have the hash that it names; it was edited or damaged")
        return found


def paths(run_dir: Path) -> list[Path]:
    """The manifests of a run, oldest first; those of folders without one as well, so that a lost one is noticed."""
    return [folder / NAME for folder in sorted((run_dir / SEALS).glob("[0-9]*")) if folder.is_dir()]


def folder_of(run_dir: Path, number: int) -> Path:
    return run_dir / SEALS / f"{number:04d}"


def newest(run_dir: Path) -> Manifest | None:
    """The last manifest; None where nothing is sealed. Raises EvidenceError where it is damaged."""
    found = paths(run_dir)
    return Manifest.from_bytes(found[-1].read_bytes()) if found and found[-1].exists() else None


def hashes(run_dir: Path, number: int) -> dict[str, str]:
    """What manifest `number` says of the files: all but itself, its signature and later seals."""
    own = folder_of(run_dir, number)
    left_out = {own / NAME, own / f"{NAME}.sig"}
    found = {}
    for path in _files(run_dir):
        name = path.relative_to(run_dir).as_posix()
        later = name.startswith(f"{SEALS}/") and name.split("/")[1] > own.name
        if path not in left_out and not later:
            found[name] = hash_file(path)
    return found


def hash_file(path: Path, first_bytes: int | None = None) -> str:
    """The sha256 of a file, or of its beginning; of a link, which no run has, where it leads."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if first_bytes is None else _hash(file.read(first_bytes))


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        linked = [name for name in folders if (Path(where) / name).is_symlink()]
        yield from (Path(where) / name for name in sorted([*names, *linked]))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _written(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
