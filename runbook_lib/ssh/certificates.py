"""Certificates of OpenSSH (PROTOCOL.certkeys), of users and of hosts: whose key each is for, and who vouches for it."""

from __future__ import annotations

import base64
import fnmatch
import time
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, ssh

from runbook_lib.ssh.known_hosts import kind_of


@dataclass(frozen=True)
class Certificate:
    """A certificate that can be read; `key` and `signer` are public keys as known_hosts has them."""

    _parts: ssh.SSHCertificate

    @classmethod
    def read(cls, blob: bytes) -> Certificate:
        """Raises ValueError where it is none."""
        try:
            parts = ssh.load_ssh_public_identity(f"{kind_of(blob)} {base64.b64encode(blob).decode()}".encode())
        except (UnsupportedAlgorithm, ValueError) as error:
            raise ValueError(str(error) or "it is damaged") from None
        if not isinstance(parts, ssh.SSHCertificate):
            raise ValueError("it is a key, and no certificate")
        return cls(parts)

    @property
    def key(self) -> bytes:
        return _blob(self._parts.public_key())

    @property
    def signer(self) -> bytes:
        return _blob(self._parts.signature_key())

    def objection(self, host: str) -> str:
        """Why it does not vouch for a host of this name now; empty where it does. Who signed it is not judged here."""
        parts = self._parts
        try:
            parts.verify_cert_signature()
        except (InvalidSignature, ValueError):
            return "has a wrong signature"
        if parts.type is not ssh.SSHCertificateType.HOST or parts.critical_options:
            return "is no certificate of a host"
        if not parts.valid_after <= time.time() < parts.valid_before:
            return "is not valid now"
        principals = [principal.decode(errors="replace") for principal in parts.valid_principals]
        if principals and not any(fnmatch.fnmatchcase(host, principal) for principal in principals):
            return f"is for {', '.join(principals)}, not for {host}"
        return ""


def _blob(key: ssh.SSHCertPublicKeyTypes) -> bytes:
    return base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
