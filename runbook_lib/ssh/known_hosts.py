"""Which host keys are known: known_hosts files read as sshd(8) describes them, line by line.

A line that cannot be read is skipped and said; the others count.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import re
import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

CA, REVOKED = "@cert-authority", "@revoked"


@dataclass(frozen=True)
class Line:
    """One line: whose key it is, and what it is for."""

    where: str
    marker: str
    hosts: str
    kind: str
    blob: bytes

    def names(self, name: str) -> bool:
        """Whether the line is for the host of this name: plain, hashed, with * and ?, or not for it by a !."""
        if self.hosts.startswith("|1|"):
            return _hashed(name, self.hosts) == self.hosts
        patterns = self.hosts.lower().split(",")
        if any(_matches(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
            return False
        return any(_matches(name, pattern) for pattern in patterns if not pattern.startswith("!"))


@dataclass(frozen=True)
class KnownHosts:
    """The lines of all files, and what could not be read of them."""

    lines: list[Line] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def of(self, name: str, marker: str = "") -> list[Line]:
        """The lines for a host with this marker."""
        return [line for line in self.lines if line.marker == marker and line.names(name)]


def read(files: Iterable[str]) -> KnownHosts:
    """All files that are there; one that cannot be opened is said, too."""
    known = KnownHosts()
    for file in dict.fromkeys(files):
        try:
            content = Path(file).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            known.skipped.append(f"{file} cannot be read ({error.strerror})")
            continue
        for number, raw in enumerate(content.splitlines(), 1):
            text = raw.decode("latin-1").strip()
            if not text or text.startswith("#"):
                continue
            try:
                known.lines.append(_line(f"{file} line {number}", text))
            except ValueError as error:
                known.skipped.append(f"{file} line {number} is skipped: {error}")
    return known


def add(file: str, name: str, kind: str, blob: bytes, hashed: bool) -> bool:
    """Keep a host's key in a known_hosts file as ssh does; false where the file keeps nothing (/dev/null)."""
    path = Path(file)
    if path.exists() and not path.is_file():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    salt = base64.b64encode(secrets.token_bytes(20)).decode()
    hosts = _hashed(name, f"|1|{salt}|") if hashed else name
    before = path.read_bytes() if path.exists() else b""
    line = f"{hosts} {kind} {base64.b64encode(blob).decode()}\n".encode()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as target:
        target.write((b"\n" if before and not before.endswith(b"\n") else b"") + line)
    return True


def kind_of(blob: bytes) -> str:
    """The type that a key names itself as. Raises ValueError where it is no key."""
    try:
        (length,) = struct.unpack(">I", blob[:4])
    except struct.error:
        raise ValueError("its key is empty") from None
    return blob[4 : 4 + length].decode("latin-1")


def public_key(kind: str, text: str) -> bytes:
    """The key of `ssh-ed25519 AAAA…`. Raises ValueError where the words are no key of that type."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("its key is no base64") from None
    if kind_of(blob) != kind:
        raise ValueError(f"its key is {kind_of(blob)[:30]!r}, not {kind!r}")
    return blob


def fingerprint(blob: bytes) -> str:
    """A key as ssh shows it to people."""
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def _line(where: str, text: str) -> Line:
    parts = text.split()
    marker = parts.pop(0) if parts[0].startswith("@") else ""
    if marker not in ("", CA, REVOKED):
        raise ValueError(f"{marker[:30]!r} is no marker")
    if len(parts) < 3:
        raise ValueError("it is not host, type, key")
    hosts, kind, key = parts[:3]
    return Line(where, marker, hosts, kind, public_key(kind, key))


def _hashed(name: str, like: str) -> str:
    """A name hashed with the salt of another hashed name (`|1|salt|hash`)."""
    salt = like.split("|")[2]
    try:
        key = base64.b64decode(salt, validate=True)
    except (binascii.Error, ValueError):
        return ""
    digest = hmac.new(key, name.encode(errors="surrogateescape"), hashlib.sha1).digest()
    return f"|1|{salt}|{base64.b64encode(digest).decode()}"


def _matches(name: str, pattern: str) -> bool:
    """Only * and ? are special: [host]:2222 is a name."""
    return fnmatch.fnmatchcase(name, re.sub(r"\[", "[[]", pattern))
