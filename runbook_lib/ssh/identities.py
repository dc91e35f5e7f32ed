"""The keys that a host is offered, in the order in which ssh offers them (sshconnect2.c, pubkey_prepare):
certificates that are named, keys of the agent that ssh_config names, its other keys, keys on disk.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from paramiko.agent import AgentKey

from runbook_lib.ssh.certificates import Certificate
from runbook_lib.ssh.known_hosts import public_key
from runbook_lib.ssh.settings import Settings

MAGIC = b"openssh-key-v1\0"
OPENSSH = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", re.DOTALL)
SUFFIX = "-cert.pub"


@dataclass(frozen=True)
class Identity:
    """A key that can sign, by its own or through the agent, and what people call it."""

    name: str
    key: paramiko.PKey

    @property
    def is_held(self) -> bool:
        """Whether an agent holds it, and may ask its owner before it signs."""
        return isinstance(self.key, AgentKey)


class Identities:
    """The keys for one host; `unusable` says of each that cannot be used why, and what to do."""

    def __init__(self, hop: Settings, held: list[AgentKey]) -> None:
        self.unusable: list[str] = []
        self._only = hop.says("identitiesonly")
        self._files = hop.files("identityfile")
        self._held = held
        named = hop.files("certificatefile")
        self._certificates = named or [f"{file}{SUFFIX}" for file in self._files if Path(f"{file}{SUFFIX}").is_file()]
        self._named = bool(named)

    def in_order(self) -> Iterator[Identity]:
        """Each key once. Those on disk are read when it is their turn: most logins need none of them."""
        publics = {file: public for file in self._files if (public := _public(file))}
        named = [key for key in self._held if key.blob in publics.values()]
        others = [key for key in self._held if key not in named and not self._only]
        in_agent = [Identity(f"{key.comment or key.name} (agent)", key) for key in (*named, *others)]
        on_disk = [file for file in self._files if publics.get(file) not in [key.blob for key in named]]
        if self._named:
            yield from self._certified(publics)
        yield from in_agent
        for file in on_disk:
            if key := self._load(file):
                yield Identity(file, key)
        if not self._named:
            yield from self._certified(publics)

    def _certified(self, publics: dict[str, bytes]) -> Iterator[Identity]:
        """Certificates, each with the key that it is for."""
        for file in self._certificates:
            try:
                blob = _public_line(Path(file).read_text(errors="replace"))
                plain = Certificate.read(blob).key
            except (OSError, ValueError) as error:
                self.unusable.append(f"certificate {file} cannot be read ({_said(error)})")
                continue
            key = self._signer(plain, publics)
            if key is None:
                self.unusable.append(
                    f"certificate {file}: its key is in no agent and in no IdentityFile that can be read"
                )
                continue
            key.load_certificate(paramiko.Message(blob))
            yield Identity(file, key)

    def _signer(self, public: bytes, publics: dict[str, bytes]) -> paramiko.PKey | None:
        """A copy of the key for a certificate: the plain key stays one to try by itself."""
        for held in self._held:
            if held.blob == public:
                return AgentKey(held.agent, held.blob, held.comment)
        return next((key for file in self._files if publics.get(file) == public and (key := self._load(file))), None)

    def _load(self, file: str) -> paramiko.PKey | None:
        """A private key of a file; None where there is none, and why in `unusable`."""
        path = Path(file)
        try:
            content = path.read_text(errors="replace")
            mode = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._not_used(
                f"{file} cannot be read ({error.strerror}); give it to {os.environ.get('USER', 'you')}"
            )
        public = _public(file)
        kind = paramiko.Message(public).get_text() if public else ""
        if "PRIVATE KEY" not in content:
            if public:  # a .pub with IdentitiesOnly: the private key is in the agent, or should be
                return self._not_used(f"{file} is a public key that your agent does not hold; ssh-add its private key")
            return self._not_used(f"{file} is no key")
        if mode.st_uid == os.getuid() and stat.S_IMODE(mode.st_mode) & 0o077:
            return self._not_used(f"{file} can be read by others, so ssh does not use it either; chmod 600 {file}")
        if kind.startswith("sk-"):
            return self._not_used(f"{file} is a FIDO key, which cannot sign here by itself; ssh-add {file}")
        try:
            return _private(content.encode())
        except TypeError:  # as cryptography says it
            return self._not_used(f"{file} is encrypted and in no agent; ssh-add {file}")
        except (UnsupportedAlgorithm, paramiko.SSHException, ValueError) as error:
            return self._not_used(f"{file} cannot be used ({_said(error)})")

    def _not_used(self, why: str) -> paramiko.PKey | None:
        if why not in self.unusable:
            self.unusable.append(why)
        return None


def _public(file: str) -> bytes:
    """The public key of an IdentityFile: in it, in it before what is encrypted, or in the .pub beside it."""
    for path in (Path(file), Path(f"{file}.pub")):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if found := _public_line(text) or _public_part(text):
            return found
    return b""


def _public_line(text: str) -> bytes:
    """The key of `ssh-ed25519 AAAA…`; empty where there is none."""
    for line in text.splitlines():
        parts = line.split()
        if len(parts) > 1 and not line.startswith(("#", "-")):
            try:
                return public_key(*parts[:2])
            except ValueError:
                return b""
    return b""


def _public_part(text: str) -> bytes:
    """The public key of a private one in OpenSSH's format, where it is never encrypted (PROTOCOL.key)."""
    if not (found := OPENSSH.search(text)):
        return b""
    try:
        content = base64.b64decode("".join(found[1].split()), validate=True)
    except (binascii.Error, ValueError):
        return b""
    if not content.startswith(MAGIC):
        return b""
    message = paramiko.Message(content[len(MAGIC) :])
    for _ in range(3):  # the cipher, how the key for it is derived, with which options
        message.get_binary()
    return message.get_binary() if message.get_int() == 1 else b""


def _private(content: bytes) -> paramiko.PKey:
    """A private key of any format that ssh reads. Raises TypeError where it is encrypted."""
    key: Any
    kind: type[paramiko.PKey] = paramiko.Ed25519Key
    try:
        key = serialization.load_ssh_private_key(content, None)
    except ValueError:
        key = serialization.load_pem_private_key(content, None)
    if isinstance(key, rsa.RSAPrivateKey):
        kind = paramiko.RSAKey
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        kind = paramiko.ECDSAKey
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return kind.from_private_key(io.StringIO(plain.decode()))


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
