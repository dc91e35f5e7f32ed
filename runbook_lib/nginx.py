"""nginx's configuration as text: what the host dumped, what we render, and the edit of your server block."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from tempfile import TemporaryDirectory
from pathlib import Path
from typing import Any

import crossplane
from jinja2 import Environment, PackageLoader, StrictUndefined

from runbook_lib.accesslog import LOG_FORMAT
from runbook_lib.errors import ActionFailed, EvidenceError
from runbook_lib.plan import Plan

TEMPLATES = Environment(loader=PackageLoader("runbook_lib"), undefined=StrictUndefined, keep_trailing_newline=True)


@dataclass(frozen=True, eq=False)
class Directive:
    """One directive of the configuration, with the blocks it stands in, outermost first."""

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    within: tuple[Directive, ...]
    block: list[Directive] | None

    def text(self) -> str:
        return " ".join([self.name, *self.args])

    def find(self, name: str) -> list[Directive]:
        """The directives of that name directly in this block."""
        return [child for child in self.block or [] if child.name == name]

    def effective(self, name: str) -> Directive | None:
        """What holds here: the nearest directive of that name, in this block or one around it."""
        for level in (self, *reversed(self.within)):
            if found := level.find(name):
                return found[-1]
        return None


class Configuration:
    """The whole configuration as `nginx -T` dumps it, includes followed, every directive with file and line."""

    def __init__(self, dump: str, main: str) -> None:
        self.files = self.split(dump)
        if main not in self.files:
            raise EvidenceError(f"nginx's dump holds no {main}, only {', '.join(self.files) or 'nothing'}")
        self.main = main
        root = Directive("main", (), main, 0, (), [])
        root.block.extend(self._directives(main, (root,)))  # type: ignore[union-attr]
        self.root = root

    @staticmethod
    def split(dump: str) -> dict[str, str]:
        """The files of a dump: path to text."""
        parts = re.split(r"^# configuration file (.+):\n", dump, flags=re.MULTILINE)
        return dict(zip(parts[1::2], (text.removesuffix("\n") for text in parts[2::2]), strict=True))

    def walk(self, *names: str) -> Iterator[Directive]:
        """Every directive of these names, in file order."""
        yield from (d for d in _walk(self.root) if not names or d.name in names)

    def _directives(self, file: str, within: tuple[Directive, ...]) -> list[Directive]:
        return list(self._expand(_parse(self.files[file], file), file, within))

    def _expand(self, parsed: list[dict[str, Any]], file: str, within: tuple[Directive, ...]) -> Iterator[Directive]:
        for item in parsed:
            if item["directive"] == "include":
                pattern = item["args"][0]
                pattern = pattern if pattern.startswith("/") else f"{self.main.rpartition('/')[0]}/{pattern}"
                for included in (name for name in self.files if fnmatch(name, pattern)):
                    yield from self._directives(included, within)
                continue
            here = Directive(
                item["directive"],
                tuple(item["args"]),
                file,
                item["line"],
                within,
                [] if "block" in item else None,
            )
            if here.block is not None:
                here.block.extend(self._expand(item["block"], file, (*within, here)))
            yield here


def _walk(directive: Directive) -> Iterator[Directive]:
    for child in directive.block or []:
        yield child
        yield from _walk(child)


def _parse(text: str, name: str) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "nginx.conf"
        file.write_text(text)
        payload = crossplane.parse(str(file), single=True, check_ctx=False, check_args=False, strict=False)
    if payload["errors"]:
        raise EvidenceError(f"{name}: {payload['errors'][0]['error']}")
    parsed: list[dict[str, Any]] = payload["config"][0]["parsed"]
    return parsed


def proxies_to(configuration: Configuration, port: int) -> list[Directive]:
    """The proxy_pass directives that end at this loopback port, directly or through an upstream block."""
    local = re.compile(rf"(127\.0\.0\.1|localhost|\[::1\]):{port}$")
    groups = {
        u.args[0] for u in configuration.walk("upstream") if any(local.match(s.args[0]) for s in u.find("server"))
    }
    found = []
    for proxy in configuration.walk("proxy_pass"):
        target = re.sub(r"^https?://", "", proxy.args[0]).partition("/")[0]
        if local.match(target) or target in groups or target == "$openclaw_pool":
            found.append(proxy)
    return found


@dataclass(frozen=True)
class Rendered:
    """The files of one weight: path on the Mac to text; `revision` is what a new connection must answer."""

    weight_pct: float
    revision: str
    files: dict[str, str]


def render(plan: Plan, configuration: Configuration, weight_pct: float, slow_start: bool = False) -> Rendered:
    """The configuration for one weight: our two files, and your server block that includes them.

    Weight 0 is the absence of the canary from the split (nginx refuses `0%`). The revision is made from the
    content, so the same weight of the same plan is the same revision. Raises ActionFailed where your server
    block cannot be edited safely.
    """
    servers = _servers(plan, configuration)
    server_conf = TEMPLATES.get_template("server.conf.j2").render(
        drain_file=plan.drain_file,
        slim_log=plan.nginx.slim_log,
        inherited_logs=_inherited_logs(plan, servers[0]),
        deny_admin=not any(
            "/api/v1/admin/" in location.args and not location.file.startswith(plan.nginx.managed_dir)
            for location in servers[0].find("location")
        ),
    )
    adopted = adopt(plan, configuration)
    template = TEMPLATES.get_template("http.conf.j2")

    def http_conf(revision: str) -> str:
        text: str = template.render(
            revision=revision,
            weight_pct=weight_pct,
            split_keys=plan.webhooks.split_keys,
            pinned_paths=plan.webhooks.pinned_paths,
            primary=plan.primary.address,
            canary=plan.canary.address,
            probe_port=plan.nginx.probe_port,
            slow_start=slow_start,
            log_format=LOG_FORMAT,
        )
        return text

    content = http_conf("") + server_conf + adopted
    revision = f"w{weight_pct:06.2f}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    managed = plan.nginx.managed_dir
    files = {
        f"{managed}/http.conf": http_conf(revision),
        f"{managed}/server.conf": server_conf,
        plan.nginx.server_file: adopted,
    }
    return Rendered(weight_pct, revision, files)


def adopt(plan: Plan, configuration: Configuration) -> str:
    """Your server file with proxy_pass to primary replaced by the split, and our two includes; else unchanged.

    Raises ActionFailed where a proxy_pass has a URI part (variables change its meaning) or shares its line.
    """
    name = plan.nginx.server_file
    text = configuration.files[name]
    if "$openclaw_pool" in text:
        return text
    lines = text.split("\n")
    edits: dict[int, list[str]] = {}
    for proxy in (p for p in proxies_to(configuration, plan.primary.port) if p.file == name):
        old = lines[proxy.line - 1]
        target = proxy.args[0]
        prefix_is_root = proxy.within[-1].name == "location" and proxy.within[-1].args[-1] == "/"
        without_uri = target.removesuffix("/") if prefix_is_root else target
        if re.sub(r"^https?://", "", without_uri).count("/") or old.count(";") != 1:
            raise ActionFailed(
                f"{name} line {proxy.line}: `{old.strip()}` has a URI part or shares its line; nothing was changed. "
                f"Write `proxy_pass {target.rstrip('/')};` on a line of its own, with a rewrite for the path"
            )
        edits[proxy.line - 1] = [old.replace(f"proxy_pass {target}", "proxy_pass http://$openclaw_pool")]
    for server in {
        p.within[-2] if p.within[-1].name == "location" else p.within[-1] for p in _in_file(plan, configuration)
    }:
        first = (server.block or [])[0]
        if first.line == server.line:
            raise ActionFailed(f"{name} line {server.line}: write each directive of the server block on its own line")
        indent = re.match(r"\s*", lines[first.line - 1])[0]  # type: ignore[index]
        own = edits.get(first.line - 1, [lines[first.line - 1]])
        edits[first.line - 1] = [f"{indent}include {plan.nginx.managed_dir}/server.conf;", *own]
    at_http = min(s.line for s in _servers(plan, configuration)) - 1
    edits[at_http] = [f"include {plan.nginx.managed_dir}/http.conf;", *edits.get(at_http, [lines[at_http]])]
    return "\n".join(line for number, old in enumerate(lines) for line in edits.get(number, [old]))


def _in_file(plan: Plan, configuration: Configuration) -> list[Directive]:
    return [p for p in proxies_to(configuration, plan.primary.port) if p.file == plan.nginx.server_file]


def _servers(plan: Plan, configuration: Configuration) -> list[Directive]:
    found = [next(d for d in reversed(p.within) if d.name == "server") for p in _in_file(plan, configuration)]
    if not found:
        raise ActionFailed(
            f"{plan.nginx.server_file} has no proxy_pass to primary's {plan.primary.address}; nothing was changed. "
            "Name the file of the server block that serves primary as nginx.server_file"
        )
    return found


def _inherited_logs(plan: Plan, server: Directive) -> list[str]:
    """The access_log lines that our own would hide: one at server level ends inheritance from http level."""
    own = [log for log in server.find("access_log") if not log.file.startswith(plan.nginx.managed_dir)]
    if own:
        return []
    return [
        shlex.join(log.args) if " " in log.args[0] else " ".join(log.args)
        for log in server.within[-1].find("access_log")
    ]
