"""Mistakes in parameters as sentences: where, what is wrong, what to write; never a value that may be a secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from runbook_lib.plan.models import Plan, Section, Where, is_section
from runbook_lib.plan.yaml_file import Lines

REFERENCE = (
    "write a reference: env:NAME, keyring:NAME, file:/path/on/the/mac#NAME or json:/path/on/the/mac/openclaw.json#a.b"
)
SECRET_KEYS = {"secrets", "hooks_token", "github_secret", "stripe_secret", "notify", "url", "probe_headers"}
LOOKS_SECRET = re.compile(
    r"(sk|pk|rk|gh[a-z]|github_pat|xox[a-z]|whsec|AKIA|eyJ)[-_A-Za-z0-9]{6,}|-----BEGIN|://[^/]*@"
    r"|^(?=[^ ]*\d)(?=[^ ]*[A-Za-z])[A-Za-z0-9+=_-]{24,}$"
)
HIDDEN = "(not shown: it may be a secret)"
EXAMPLES = {
    "region": "hk",
    "topology": "active_active",
    "alias": "openclaw-hk",
    "runbook_dir": "/Users/openclaw/rollout",
    "node": "/opt/homebrew/opt/node@24/bin/node",
    "npm": "/opt/homebrew/opt/node@24/bin/npm",
    "package": "openclaw",
    "canary_version": '"2026.9.6"',
    "launchd_domain": "gui/501",
    "longest_model_round_trip_s": "600",
    "label": "ai.openclaw.canary",
    "plist": "/Users/openclaw/Library/LaunchAgents/ai.openclaw.canary.plist",
    "port": "18890",
    "prefix": "/Users/openclaw/gateways/canary",
    "state_dir": "/var/lib/openclaw-canary",
    "log_file": "/var/lib/openclaw-canary/logs/gateway.log",
    "env_file": "/var/lib/openclaw-canary/service-env/ai.openclaw.canary.env",
    "secrets": "OPENCLAW_GATEWAY_TOKEN: keyring:openclaw-canary-gateway-token",
    "binary": "/opt/homebrew/opt/nginx/bin/nginx",
    "conf": "/opt/homebrew/etc/nginx/nginx.conf",
    "server_file": "/opt/homebrew/etc/nginx/servers/openclaw.conf",
    "managed_dir": "/opt/homebrew/etc/nginx/openclaw-rollout",
    "error_log": "/opt/homebrew/var/log/nginx/error.log",
    "pid_file": "/opt/homebrew/var/run/nginx.pid",
    "log_dir": "/opt/homebrew/var/log/nginx",
    "public_url": "https://hk.gateway.example.com",
    "confirm_url": "https://pager.example.com/confirmed",
    "probe_port": "18700",
    "probe_address": "192.0.2.10",
    "proxy_read_timeout_s": "630",
    "hooks_token": "keyring:openclaw-hooks-token",
    "github_secret": "keyring:openclaw-staging-github-secret",
    "stripe_secret": "keyring:openclaw-staging-stripe-secret",
    "split_keys": "[$http_idempotency_key, $http_x_github_delivery]",
    "pinned_paths": "[/hooks/stripe]",
    "notify": "keyring:openclaw-incident-channel",
    "signing_key": "~/.ssh/id_ed25519",
    "allowed_signers": "~/.ssh/allowed_signers",
    "before": "[6, 8]",
    "url": "keyring:openclaw-chat",
    "severities": "[warning, failure]",
}


def located(where: Where, text: str, lines: Lines) -> str:
    """`line N: key: text`, with the line of the key or of the nearest one above it that the file has."""
    nearest = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)
    return f"{f'line {nearest}: ' if nearest else ''}{'.'.join(where)}: {text}"


def sentence(error: Any, lines: Lines) -> str:
    """One of pydantic's errors in the words of whoever writes the file."""
    where = tuple(str(part) for part in error["loc"] if part != "[key]")
    kind, value = error["type"], error["input"]
    leaf = next((part for part in reversed(where) if not part.isdigit()), "")
    pattern = str(error.get("ctx", {}).get("pattern"))
    instead = f"write e.g. {leaf}: {EXAMPLES[leaf]}" if leaf in EXAMPLES else ""
    if kind == "extra_forbidden":
        return located(where, unknown(leaf, _known_keys(where[:-1])), lines)
    known = ", ".join(_known_keys(where))
    if kind == "missing":
        return located(where, f"is missing; {instead or f'write it with its keys: {known}'}", lines)
    if kind == "value_error":
        return located(where, str(error["ctx"]["error"]), lines)
    if kind in ("model_type", "dict_type"):
        return located(where, f"is not a section; write its keys below it, indented: {instead or known}", lines)
    if "[key]" in error["loc"]:
        where = tuple(part if n < len(where) - 1 else "a key" for n, part in enumerate(where))
        return located(
            where, f"a name here has the form {pattern.strip('^$')}; write e.g. {EXAMPLES['secrets']}", lines
        )
    if "keyring:" in pattern or set(where) & (SECRET_KEYS - {"probe_headers"}):
        return located(where, f"is not a reference to a secret; {REFERENCE}", lines)
    wrong = {
        "string_pattern_mismatch": f"does not have the form {pattern.strip('^$')}",
        "string_type": "is not text: put it in quotes",
        "int_type": "is not a whole number",
        "int_from_float": "is not a whole number",
        "float_type": "is not a number",
        "finite_number": "is not a finite number",
        "bool_type": "is neither true nor false",
        "list_type": "is not a list",
    }.get(kind, str(error["msg"]).removeprefix("Input "))
    return located(where, f"{_short(value)} {wrong}{f'; {instead}' if instead else ''}", lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def without_secrets(sentences: list[str], values: Any) -> list[str]:
    """The sentences without any value that may be a secret: parameters hold references, and mistakes are logged."""
    literals = {text for text, where in _texts(values, ()) if _may_be_secret(text, where)}
    for text in sorted(literals, key=len, reverse=True):
        for form in (repr(text), _short(text), text):
            sentences = [sentence.replace(form, HIDDEN) for sentence in sentences]
    return sentences


def _may_be_secret(text: str, where: Where) -> bool:
    if re.match(r"(env|keyring):[^\s]+$|(file|json):/", text):
        return False
    return bool(len(text) >= 4 and set(where) & SECRET_KEYS or LOOKS_SECRET.search(text))


def _texts(values: Any, where: Where) -> Iterator[tuple[str, Where]]:
    """Every text in the values, keys included, with the keys above it."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield str(key), ()
            yield from _texts(value, (*where, str(key)))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value, where)
    elif values is not None and not isinstance(values, bool):
        yield str(values), where


def _known_keys(where: Where) -> list[str]:
    model: type[BaseModel] = Plan
    for part in where:
        if part not in model.model_fields:
            continue  # a name of one's own choosing
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if is_section(c)), Section)
    return list(model.model_fields)


def unknown(name: str, known: list[str]) -> str:
    """What to say of a name that is no parameter."""
    near = difflib.get_close_matches(name, known, n=1)
    return "is not a parameter" + (
        f"; did you mean {near[0]}?" if near else f"; leave it out, known are {', '.join(known)}"
    )
