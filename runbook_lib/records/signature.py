"""Signatures as OpenSSH makes them: `ssh-keygen -Y sign` beside a file, checked by anybody who has the public key."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

from runbook_lib.errors import EvidenceError

NAMESPACE = "openclaw-rollout"
"""A signature made for another purpose does not count here, nor one of ours elsewhere (ssh-keygen(1), -n)."""
LIMIT_S = 60


def sign(file: Path, key: str) -> Path:
    """Write `<file>.sig`. Raises EvidenceError where the key is not there, or asks for a passphrase."""
    path = Path(key).expanduser()
    done = _keygen("-Y", "sign", "-f", str(path), "-n", NAMESPACE, str(file))
    if done.returncode != 0:
        raise EvidenceError(
            f"{file.name} could not be signed with {key}: {done.stderr.strip()[-300:]}. "
            "Name a key without a passphrase, or the public half of one that your agent holds (evidence.signing_key)"
        )
    return signature_of(file)


def signature_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.sig")


def signer_of(file: Path, allowed_signers: Path | None) -> str:
    """Who signed a file: the name in `allowed_signers`, or only the key's fingerprint where that is not given.

    Raises EvidenceError, naming the file of the signature, where it is not this file's, not whole, or nobody's there.
    """
    signature = signature_of(file)
    _refuse_unusual(signature)
    words = ["-n", NAMESPACE, "-s", str(signature)]
    if allowed_signers is None:
        done = _keygen("-Y", "check-novalidate", *words, content=file)
    else:
        found = _keygen("-Y", "find-principals", "-s", str(signature), "-f", str(allowed_signers))
        who = found.stdout.strip().splitlines()
        if found.returncode != 0 or not who:
            raise EvidenceError(f"{signature.name} was made by nobody in {allowed_signers}: {found.stderr.strip()}")
        done = _keygen("-Y", "verify", "-f", str(allowed_signers), "-I", who[0], *words, content=file)
    if done.returncode != 0:
        raise EvidenceError(f"{signature.name} is not the signature of {file.name}: {done.stderr.strip()[-300:]}")
    key = re.search(r"SHA256:\S+", done.stdout)
    return f"{who[0] if allowed_signers else 'a key that was not compared'} ({key[0] if key else 'no fingerprint'})"


def _refuse_unusual(signature: Path) -> None:
    """ssh-keygen passes over white space and what follows the armour; here each byte counts."""
    text = signature.read_bytes().decode(errors="replace")
    lines = text.splitlines()
    try:
        again = base64.b64encode(base64.b64decode("".join(lines[1:-1]), validate=True)).decode()
    except ValueError:
        again = ""
    wrapped = [again[at : at + 70] for at in range(0, len(again), 70)]
    if not again or "\n".join([lines[0], *wrapped, lines[-1], ""]) != text:
        raise EvidenceError(f"{signature.name} is not as ssh-keygen writes signatures; it was edited or damaged")


def _keygen(*words: str, content: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        given = content.read_bytes() if content else b""
        done = subprocess.run(["ssh-keygen", *words], input=given, capture_output=True, timeout=LIMIT_S, check=False)
    except FileNotFoundError:
        raise EvidenceError("ssh-keygen is not there; install OpenSSH's client") from None
    except subprocess.TimeoutExpired:
        raise EvidenceError(f"ssh-keygen did not answer within {LIMIT_S} s; does the key ask for something?") from None
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)
