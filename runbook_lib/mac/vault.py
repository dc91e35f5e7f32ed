"""Secrets: references in the parameters, values only in memory.

`env:NAME` and `keyring:NAME` are on the operator's machine. On the Mac, `file:/path#NAME` is a line of a 0600 file and
`json:/path#a.b` a value in a JSON5 file, such as `gateway.auth.token` of openclaw.json.
"""

from __future__ import annotations

import functools
import html
import json
import operator
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

import json5
import keyring
import keyring.errors

from runbook_lib.errors import CommandFailed, HostError, PlanError
from runbook_lib.onmac import script
from runbook_lib.ssh.host import Host

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

    def __init__(self, host: Host | None) -> None:
        self._host, self._known = host, dict[str, Secret]()
        self.unknown: list[str] = []
        """The references that resolve_all could not resolve."""

    def resolve(self, reference: str) -> Secret:
        """The secret behind a reference. Raises PlanError where there is none."""
        if reference not in self._known:
            value = self._look_up(reference)
            if not value:
                raise PlanError("secrets", [f"{reference} is empty or not there; set it where the reference points"])
            self._known[reference] = Secret(reference, value)
        return self._known[reference]

    def resolve_all(self, references: Iterable[str]) -> None:
        """Resolve what can be resolved, with one question to the Mac for all its files; the rest is `unknown`."""
        wanted = sorted({reference for reference in references if reference not in self._known})
        on_mac = [reference for reference in wanted if reference.startswith(("file:", "json:"))]
        for reference, value in self._read_together(on_mac).items():
            self._known[reference] = Secret(reference, value)
        self.unknown = [reference for reference in on_mac if reference not in self._known]
        for reference in (reference for reference in wanted if reference not in on_mac):
            try:
                self.resolve(reference)
            except PlanError:
                self.unknown.append(reference)

    @property
    def known(self) -> list[str]:
        """The references whose values `leaked` looks for."""
        return sorted(s.reference for s in self._known.values() if len(s.value) >= SHORTEST)

    def redact(self, text: str) -> str:
        """The text with every known value replaced by its reference, also where it was escaped or quoted."""
        for form, secret in self._forms():
            text = text.replace(form, f"[{secret.reference}]")
        return text

    def leaked(self, content: bytes) -> list[str]:
        """The references whose values stand in `content`."""
        return sorted({secret.reference for form, secret in self._forms() if form.encode() in content})

    def _forms(self) -> list[tuple[str, Secret]]:
        """Every spelling of every known value, the longest first: one value may stand inside another."""
        found = [(f, s) for s in self._known.values() if len(s.value) >= SHORTEST for f in spellings(s.value)]
        return sorted(found, key=lambda pair: len(pair[0]), reverse=True)

    def _look_up(self, reference: str) -> str:
        kind, _, name = reference.partition(":")
        if kind == "env":
            return os.environ.get(name, "")
        if kind == "keyring":
            return self._from_keyring(name)
        path, _, key = name.partition("#")
        if self._host is None:
            raise PlanError("secrets", [f"{reference} is on the Mac, and there is no connection"])
        try:
            content = self._host.read(path)
        except CommandFailed as error:
            said = error.output.strip() or f"exit {error.exit_status}"
            raise PlanError("secrets", [f"{reference} cannot be read on the Mac: {said}"]) from None
        return _parser(reference)(content.decode(errors="replace"), key)

    def _read_together(self, references: list[str]) -> dict[str, str]:
        """The values of `file:` references that are there, in one round trip; none where the Mac cannot be asked."""
        named = {reference: reference.partition(":")[2].partition("#") for reference in references}
        paths, mark = sorted({path for path, _, _ in named.values()}), secrets.token_hex(16)
        if self._host is None or not paths:
            return {}
        try:
            told = self._host.run(script("ask_env_files.sh"), mark, *paths).stdout.split(f"{mark}\n")[1:]
        except HostError:
            return {}
        files = dict(zip(paths, told, strict=True))
        return {ref: value for ref, (path, _, key) in named.items() if (value := _parser(ref)(files[path], key))}

    def _from_keyring(self, name: str) -> str:
        try:
            return keyring.get_password("openclaw-rollout", name) or ""
        except keyring.errors.KeyringError as error:
            said = f"this machine's keyring does not answer ({type(error).__name__}: {error})"
            raise PlanError("secrets", [f"keyring:{name}: {said}; unlock it, or use env:NAME"]) from None


def _parser(reference: str) -> Callable[[str, str], str]:
    return json_value if reference.startswith("json:") else lambda text, name: parse_env(text).get(name, "")


def json_value(text: str, where: str) -> str:
    """The text at `a.b` in a JSON5 file; empty where there is none, or only the name of a variable (`${NAME}`)."""
    try:
        found = functools.reduce(operator.getitem, where.split("."), json5.loads(text))
    except (ValueError, KeyError, TypeError, IndexError):
        return ""
    return found if isinstance(found, str) and not found.startswith("${") else ""


def parse_env(text: str) -> dict[str, str]:
    """An env file as with-env.sh reads it: NAME=VALUE lines, one pair of quotes taken off, the last of a name wins."""
    values = {}
    for line in text.splitlines():
        name, separator, value = line.removeprefix("export ").partition("=")
        if separator and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            values[name] = _unquoted(value)
    return values


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return value
    return value[1:-1].replace("'\\''", "'") if value[0] == "'" else value[1:-1]


def spellings(value: str) -> Iterator[str]:
    """A value as it may stand in a text: plain, in JSON once and twice, in a URL, in HTML, in shell quotes."""
    escaped = json.dumps(value)[1:-1]
    yield from {
        value,
        escaped,
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(escaped)[1:-1],
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        html.escape(value),
        value.replace("'", "'\\''"),
    }
