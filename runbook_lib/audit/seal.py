"""Sealing a run: what no seal holds yet is searched for secrets, hashed, chained to the seal before, and signed."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from runbook_lib.errors import EvidenceError
from runbook_lib.records import manifest
from runbook_lib.records.evidence import Run, write_whole
from runbook_lib.records.ledger import operator
from runbook_lib.records.manifest import LEDGER, NAME, SEALS, Manifest
from runbook_lib.records.signature import sign


class Secrets(Protocol):
    """What sealing wants of a vault that has resolved all it can."""

    @property
    def known(self) -> list[str]: ...

    @property
    def unknown(self) -> list[str]: ...

    def leaked(self, content: bytes) -> list[str]: ...


def seal(run: Run, secrets: Secrets, signing_key: str | None = None) -> Manifest | None:
    """Seal what no seal holds yet; None where there is nothing new.

    Raises EvidenceError, and seals nothing, where a known secret stands in a file, where the ledger or the seal
    before is damaged, or where the key cannot sign.
    """
    with _alone(run.directory):
        before = manifest.newest(run.directory)
        number = before.number + 1 if before else 1
        files = manifest.hashes(run.directory, number)
        if before and _holds(before, run.directory, files):
            return None
        steps = unsealed_steps(run, before)
        _search(run.directory, [name for name in files if not before or before.files.get(name) != files[name]], secrets)
        folder = manifest.folder_of(run.directory, number)
        try:
            _archive(run.directory, folder, steps)
            ledger_bytes = (run.directory / LEDGER).stat().st_size  # more may be written while this goes on
            sealed = manifest.hashes(run.directory, number)
            sealed[LEDGER] = manifest.hash_file(run.directory / LEDGER, ledger_bytes)
            made = Manifest(
                number=number,
                region=run.region,
                run=run.name,
                steps=steps,
                sealed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                sealed_by=operator(),
                ledger_bytes=ledger_bytes,
                files=sealed,
                previous=manifest.hash_file(manifest.folder_of(run.directory, before.number) / NAME) if before else "",
                is_signed=bool(signing_key),
                secrets_sought=tuple(secrets.known),
                secrets_unknown=tuple(secrets.unknown),
            )
            write_whole(folder / NAME, made.to_bytes())
            if signing_key:
                sign(folder / NAME, signing_key)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # half a seal would say that a file is lost
            raise
        return Manifest.from_bytes((folder / NAME).read_bytes())


def unsealed_steps(run: Run, newest: Manifest | None) -> tuple[str, ...]:
    """The steps that have done something since the last seal, in order."""
    sealed = (run.directory / LEDGER).read_bytes()[: newest.ledger_bytes].count(b"\n") if newest else 0
    return tuple(dict.fromkeys(event["step"] for event in run.ledger().events()[sealed:] if event["step"]))


def describe(made: Manifest) -> str:
    """One sentence for people."""
    steps = ", ".join(made.steps) or "what was written since"
    unknown = f"; not searched for {', '.join(made.secrets_unknown)}" if made.secrets_unknown else ""
    signed = ", signed" if made.is_signed else ""
    return f"seal {made.number} of {made.region} {made.run} holds {steps}{signed}{unknown}"


def _holds(before: Manifest, run_dir: Path, files: dict[str, str]) -> bool:
    """Whether a seal holds all that is there, but itself."""
    own = f"{SEALS}/{before.number:04d}/{NAME}"
    others = {name: digest for name, digest in files.items() if name not in (own, f"{own}.sig")}
    return others == before.files and (run_dir / LEDGER).stat().st_size == before.ledger_bytes


def _search(run_dir: Path, names: list[str], secrets: Secrets) -> None:
    """Look for every known secret in every file, compressed ones as well."""
    found = [(name, reference) for name in names for reference in secrets.leaked(_content(run_dir / name))]
    if found:
        said = "; ".join(f"{name} holds the value of {reference}" for name, reference in found)
        raise EvidenceError(
            f"{run_dir.name} is not sealed: {said}. Rotate that secret, take the value out of the file, seal again"
        )


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _archive(run_dir: Path, folder: Path, steps: tuple[str, ...]) -> None:
    """Copy the steps' notebooks and evidence as they are now into the seal's own folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        notebook, evidence = run_dir / f"{step}.ipynb", run_dir / "evidence" / step
        if notebook.exists():
            shutil.copyfile(notebook, folder / notebook.name)
        if evidence.is_dir():
            shutil.copytree(evidence, folder / "evidence" / step)


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """One sealer of a run at a time, whoever else has it open."""
    descriptor = os.open(run_dir, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
