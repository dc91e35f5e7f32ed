"""Reading parameters/<region>.yaml into a Plan: all mistakes at once, each with its line and what to write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError

from runbook_lib import rules
from runbook_lib.errors import PlanError
from runbook_lib.plan import Plan, Section

Where = tuple[str, ...]
Lines = dict[Where, int]
STEP_PARAMETERS = {"again", "dry_run", "restore_primary"}
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}
REFERENCE = "write a reference: env:NAME, keyring:NAME or file:/path/on/the/mac#NAME"
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


@dataclass(frozen=True)
class _File:
    """A parameters file: its values, the line of each key, and what is wrong with its text."""

    name: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    lines: Lines = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def project_root(start: Path | None = None) -> Path:
    """The folder that holds parameters/ and notebooks/, from the working directory upward."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "parameters").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return Path(__file__).resolve().parents[1]


def parameters_file(region: str) -> Path:
    path = project_root() / "parameters" / f"{region}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise PlanError(str(path.name), [f"there is no region {region!r}; there are: {known}"])
    return path


def load(region: str) -> Plan:
    """The plan of one region from its file.

    Raises PlanError with every mistake, each as `line N: key: what is wrong and what to write`.
    """
    path = parameters_file(region)
    file = _read(path)
    wrong = list(file.wrong)
    if file.values.get("region", region) != region:
        wrong.append(_located(("region",), f"the file is {path.name}; write {region}", file.lines))
    return _build(file.values, f"parameters/{path.name}", file.lines, wrong)


def from_notebook(namespace: Mapping[str, Any]) -> Plan:
    """The plan as a notebook's parameters give it; what they leave out comes from parameters/<region>.yaml.

    Every plain value in the namespace counts as a parameter, so that a misspelt one, which papermill only
    warns about, is refused here before any connection is made. Raises PlanError.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in ("In", "Out")
        and (value is None or isinstance(value, str | bool | int | float | list | tuple | dict))
    }
    unknown = sorted(set(given) - set(Plan.model_fields) - STEP_PARAMETERS)
    if unknown:
        raise PlanError(
            "notebook parameters",
            [f"{name}: {_unknown(name, [*Plan.model_fields, *STEP_PARAMETERS])}" for name in unknown],
        )
    sections = {n: value for n, value in given.items() if n in Plan.model_fields and value not in ({}, "", None)}
    region = str(sections.get("region", ""))
    whole = all(field in sections for field, info in Plan.model_fields.items() if info.is_required())
    file = _File() if whole else _read(parameters_file(region))
    lines = {where: line for where, line in file.lines.items() if not _is_given(where, sections)}
    return _build(_merged(file.values, sections), f"notebook parameters for {region}", lines, file.wrong)


def build(values: dict[str, Any], source: str, lines: Lines | None = None) -> Plan:
    """A checked plan from plain values; `lines` says where each key stands. Raises PlanError."""
    return _build(values, source, lines or {}, [])


def _build(values: dict[str, Any], source: str, lines: Lines, wrong: list[str]) -> Plan:
    values = _with_practice_mac(values, source)
    try:
        plan = Plan.model_validate(values)
    except ValidationError as refused:
        errors = refused.errors()
        bad = {tuple(str(part) for part in error["loc"] if part != "[key]") for error in errors}
        wrong = [*wrong, *(_sentence(error, lines) for error in errors), *_rules_beside(values, bad, lines)]
        raise PlanError(source, _without_secrets(wrong, values)) from None
    wrong = [*wrong, *(_located(where, text, lines) for where, text in rules.mistakes(plan))]
    if wrong:
        raise PlanError(source, _without_secrets(wrong, values))
    return plan


def _rules_beside(values: dict[str, Any], bad: set[Where], lines: Lines) -> Iterator[str]:
    """What the rules say of the keys that are sound: a rule that needs a refused one ends there."""
    sound = _sound(Plan, values, bad, ())
    for rule in rules.RULES:
        with suppress(AttributeError):
            yield from (_located(where, text, lines) for where, text in rule(sound))


def _sound(model: type[BaseModel], values: Mapping[str, Any], bad: set[Where], at: Where) -> Any:
    """A model of the keys that were accepted; asking it for another raises AttributeError."""
    kept: dict[str, Any] = {}
    refused = []
    for name, info in model.model_fields.items():
        inner, here = info.annotation, (*at, name)
        value = values.get(name, {} if isinstance(inner, type) and issubclass(inner, BaseModel) else None)
        if any(where[: len(here)] == here for where in bad) and not (_is_section(inner) and isinstance(value, dict)):
            refused.append(name)
        elif _is_section(inner) and isinstance(value, dict):
            kept[name] = _sound(cast(type[BaseModel], inner), value, bad, here)
        elif name in values:
            kept[name] = value
    model_of_sound = model.model_construct(**kept)
    for name in refused:
        model_of_sound.__dict__.pop(name, None)
    return model_of_sound


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two levels of values, section by section; what `above` says wins."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = {**under, **value} if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _is_given(where: Where, sections: Mapping[str, Any]) -> bool:
    """Whether a notebook says this key itself, so that no line of the file is to blame."""
    section = sections.get(where[0])
    return where[0] in sections and (len(where) == 1 or not isinstance(section, dict) or where[1] in section)


def _with_practice_mac(values: dict[str, Any], source: str) -> dict[str, Any]:
    """The lab finds free ports when it comes up; what it found is merged under what lab.yaml says."""
    host = values.get("host")
    named = host.get("practice_mac") if isinstance(host, dict) else None
    if not isinstance(named, str):
        return values
    path = project_root() / named
    if not path.is_file():
        raise PlanError(
            source, [f"host.practice_mac: {named} is not there; start the practice Mac first: rollout lab up"]
        )
    return _merged(_read(path).values, values)


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise PlanError(path.name, [f"byte {error.start + 1} is not UTF-8; save the file as UTF-8"]) from None
    except yaml.YAMLError as error:
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise PlanError(
            path.name, [f"{_place(error)}not YAML: {said}; mend this line first, then the rest is checked"]
        ) from None
    if not isinstance(node, yaml.MappingNode):
        raise PlanError(path.name, ["line 1: a mapping of sections is expected, e.g. `region: hk`"])
    file = _File(path.name)
    _walk(node, (), file, ())
    try:
        file.values.update(loader.construct_document(node))
    except yaml.YAMLError as error:
        raise PlanError(path.name, [*file.wrong, f"{_place(error)}{getattr(error, 'problem', error)}"]) from None
    return file


def _place(error: yaml.YAMLError) -> str:
    """Where a text stops being YAML: for an open quote or bracket, where it was opened."""
    opened = any(word in str(getattr(error, "context", "")) for word in ("quoted", "flow"))
    mark = getattr(error, "context_mark" if opened else "problem_mark", None)
    return f"line {mark.line + 1}: " if mark else ""


def _walk(node: yaml.Node, where: Where, file: _File, inside: tuple[int, ...]) -> None:
    """Note the line of each key; refuse repeated keys, values that YAML reads as something odd, and circles."""
    line = node.start_mark.line + 1
    if id(node) in inside:
        raise PlanError(file.name, [f"line {line}: {'.'.join(where)}: an alias leads back to itself; write it out"])
    inside = (*inside, id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, str(key.value))
            at = key.start_mark.line + 1
            if here in file.lines and "<<" not in here:
                file.wrong.append(
                    f"line {at}: {'.'.join(here)}: stands on line {file.lines[here]} already; keep one of them"
                )
            file.lines[here] = at
            key.tag = key.tag if key.tag.endswith(":merge") else "tag:yaml.org,2002:str"
            _walk(value, here, file, inside)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _walk(value, (*where, str(number)), file, inside)
    elif not _is_plain(node):
        kind = node.tag.rpartition(":")[2].lstrip("!")
        file.wrong.append(f"line {line}: {'.'.join(where)}: YAML reads this as {kind}; write it in quotes")
        node.tag = "tag:yaml.org,2002:str"


def _is_plain(node: yaml.Node) -> bool:
    """Whether a scalar is what it looks like: text, a number, true or false, or nothing."""
    if node.tag not in PLAIN_TAGS:
        return False
    try:
        yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, KeyError):
        return False
    return not (node.tag.endswith(":int") and ":" in str(node.value))  # 18:90 is 1170 in YAML 1.1


def _located(where: Where, text: str, lines: Lines) -> str:
    nearest = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)
    return f"{f'line {nearest}: ' if nearest else ''}{'.'.join(where)}: {text}"


def _sentence(error: Any, lines: Lines) -> str:
    where = tuple(str(part) for part in error["loc"] if part != "[key]")
    kind, value = error["type"], error["input"]
    leaf = next((part for part in reversed(where) if not part.isdigit()), "")
    pattern = str(error.get("ctx", {}).get("pattern"))
    instead = f"write e.g. {leaf}: {EXAMPLES[leaf]}" if leaf in EXAMPLES else ""
    if kind == "extra_forbidden":
        return _located(where, _unknown(leaf, _known_keys(where[:-1])), lines)
    known = ", ".join(_known_keys(where))
    if kind == "missing":
        return _located(where, f"is missing; {instead or f'write it with its keys: {known}'}", lines)
    if kind == "value_error":
        return _located(where, str(error["ctx"]["error"]), lines)
    if kind in ("model_type", "dict_type"):
        return _located(where, f"is not a section; write its keys below it, indented: {instead or known}", lines)
    if "[key]" in error["loc"]:
        where = tuple(part if n < len(where) - 1 else "a key" for n, part in enumerate(where))
        return _located(
            where, f"a name here has the form {pattern.strip('^$')}; write e.g. {EXAMPLES['secrets']}", lines
        )
    if "keyring:" in pattern or set(where) & (SECRET_KEYS - {"probe_headers"}):
        return _located(where, f"is not a reference to a secret; {REFERENCE}", lines)
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
    return _located(where, f"{_short(value)} {wrong}{f'; {instead}' if instead else ''}", lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _without_secrets(sentences: list[str], values: Any) -> list[str]:
    """The sentences without any value that may be a secret: parameters hold references, and mistakes are logged."""
    literals = {text for text, where in _texts(values, ()) if _may_be_secret(text, where)}
    for text in sorted(literals, key=len, reverse=True):
        for form in (repr(text), _short(text), text):
            sentences = [sentence.replace(form, HIDDEN) for sentence in sentences]
    return sentences


def _may_be_secret(text: str, where: Where) -> bool:
    if re.match(r"(env|keyring):[^\s]+$|file:/", text):
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
        model = next((c for c in candidates if _is_section(c)), Section)
    return list(model.model_fields)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return "is not a parameter" + (
        f"; did you mean {near[0]}?" if near else f"; leave it out, known are {', '.join(known)}"
    )
