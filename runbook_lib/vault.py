"""Secrets: references in the parameters, values only in memory.

`env:NAME` and `keyring:NAME` are on the operator's machine, `file:/path#NAME` is a line of a 0600 file on the Mac.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import keyring

from runbook_lib.errors import PlanError
from runbook_lib.host import Host

SHORTEST = 8  # shorter values would redact ordinary words


@dataclass(frozen=True)
class Secret:
    """A resolved secret; it prints as its reference."""

    reference: str
    value: str = field(repr=False)

    def __str__(self) -> str:
        return self.reference


class Vault:
    """Resolves references, each once, and knows every value it gave out, to keep them out of what is written."""

    def __init__(self, host: Host) -> None:
        self._host, self._known = host, dict[str, Secret]()

    def resolve(self, reference: str) -> Secret:
        """The secret behind a reference. Raises PlanError where there is none."""
        if reference not in self._known:
            value = self._look_up(reference)
            if not value:
                raise PlanError(
                    "secrets", [f"{reference} is empty or not there; set it where the reference points"]
                )
            self._known[reference] = Secret(reference, value)
        return self._known[reference]

    def redact(self, text: str) -> str:
        """The text with every known value replaced by its reference."""
        for secret in self._known.values():
            if len(secret.value) >= SHORTEST:
                text = text.replace(secret.value, f"[{secret.reference}]")
        return text

    def leaked(self, content: bytes) -> list[str]:
        """The references whose values stand in `content`."""
        return [
            s.reference
            for s in self._known.values()
            if len(s.value) >= SHORTEST and s.value.encode() in content
        ]

    def _look_up(self, reference: str) -> str:
        kind, _, name = reference.partition(":")
        if kind == "env":
            return os.environ.get(name, "")
        if kind == "keyring":
            return keyring.get_password("openclaw-rollout", name) or ""
        path, _, key = name.partition("#")
        for line in self._host.read(path).decode().splitlines():
            found, separator, value = line.removeprefix("export ").partition("=")
            if separator and found == key:
                return value[1:-1] if value[:1] in ("'", '"') and value[-1:] == value[:1] else value
        return ""
