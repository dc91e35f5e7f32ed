"""nginx's configuration as text: what the host dumped, what we render, and the edit of your server block."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
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
                for included in (name for name in self.files if _globbed(name, pattern)):
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


def _globbed(path: str, pattern: str) -> bool:
    """Whether nginx's include finds a file: * stays inside a folder and skips hidden files."""
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(
        fnmatchcase(name, want) and (not name.startswith(".") or want.startswith("."))
        for name, want in zip(names, wanted, strict=True)
    )


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


def render(
    plan: Plan, configuration: Configuration, weight_pct: float, slow_start: bool = False, attempt: int = 0
) -> Rendered:
    """The configuration for one weight: our two files, and your server block that includes them.

    Weight 0 is the absence of the canary from the split (nginx refuses `0%`). The revision is made from the
    content, so the same weight of the same plan is the same revision; another `attempt`, after a drain, is another,
    so that it is judged by its own requests. Raises ActionFailed where your server block cannot be edited safely.
    """
    servers = _servers(plan, configuration)
    server_conf = TEMPLATES.get_template("server.conf.j2").render(
        drain_file=plan.drain_file,
        slim_log=plan.nginx.slim_log,
        inherited_logs=_inherited_logs(plan, servers[0]),
        files_are_cached=any(_is_on(server.within[-1].effective("open_file_cache")) for server in servers),
        deny_admin=not any(
            "/api/v1/admin/" in location.args and not _is_managed(plan, location)
            for server in servers
            for location in server.find("location")
        ),
    )
    adopted = adopt(plan, configuration)
    template = TEMPLATES.get_template("http.conf.j2")

    def http_conf(revision: str) -> str:
        text: str = template.render(
            revision=revision,
            weight_pct=weight_pct,
            drain_file=plan.drain_file,
            split_keys=plan.webhooks.split_keys,
            pinned_paths=plan.webhooks.pinned_paths,
            primary=plan.primary.address,
            canary=plan.canary.address,
            probe_port=plan.nginx.probe_port,
            slow_start=slow_start,
            log_format=LOG_FORMAT,
        )
        return text

    content = http_conf("") + server_conf + "".join(adopted.values())
    unique = f"{content}{attempt}" if attempt else content
    revision = f"w{weight_pct:06.2f}-{hashlib.sha256(unique.encode()).hexdigest()[:8]}"
    managed = plan.nginx.managed_dir
    files = {
        f"{managed}/http.conf": http_conf(revision),
        f"{managed}/server.conf": server_conf,
        **adopted,
    }
    return Rendered(weight_pct, revision, files)


def adopt(plan: Plan, configuration: Configuration) -> dict[str, str]:
    """Your server block's files, path to text: proxy_pass to primary replaced by the split, and our two includes.

    What is adopted already stays as it is. Raises ActionFailed with file and line where an edit would not be safe.
    """
    files = _FileEdits(configuration)
    servers = _servers(plan, configuration)
    for proxy, server in _receiving(plan, configuration):
        files.touch(proxy.file)
        if "$openclaw_pool" not in proxy.args[0]:
            files.replace(proxy, _split_proxy(files.line(proxy), proxy))
        _log_too(plan, proxy, server, files)
    for server in servers:
        files.touch(server.file)
        if (
            (cache := next(iter(server.find("open_file_cache")), None))
            and _is_on(cache)
            and not _is_managed(plan, cache)
        ):
            raise ActionFailed(
                f"{cache.file} line {cache.line}: open_file_cache in the server block hides the drain file from nginx "
                "for as long as it is valid; nothing was changed. Remove it there"
            )
        if not any(child.file == f"{plan.nginx.managed_dir}/server.conf" for child in server.block or []):
            files.open_with(server, f"include {plan.nginx.managed_dir}/server.conf;")
    if not any(d.file == f"{plan.nginx.managed_dir}/http.conf" for d in configuration.walk("split_clients")):
        first = min(servers, key=lambda server: server.line)
        files.insert_before(first, f"include {plan.nginx.managed_dir}/http.conf;")
    return files.texts()


class _FileEdits:
    """Edits of whole lines in several files of a configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._files = configuration.files
        self._lines: dict[str, list[str]] = {}
        self._before: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        self._after: defaultdict[tuple[str, int], list[str]] = defaultdict(list)

    def touch(self, file: str) -> list[str]:
        text = self._files[file]
        if "\ufffd" in text:
            raise ActionFailed(
                f"{file} is not UTF-8 and would not survive an edit; nothing was changed. Save it as UTF-8"
            )
        return self._lines.setdefault(file, text.split("\n"))

    def line(self, directive: Directive) -> str:
        return self.touch(directive.file)[directive.line - 1]

    def replace(self, directive: Directive, text: str) -> None:
        self.touch(directive.file)[directive.line - 1] = text

    def insert_before(self, directive: Directive, text: str) -> None:
        old = self.line(directive)
        indent = old[: len(old) - len(old.lstrip())]
        if not old.lstrip().startswith(directive.name):
            raise ActionFailed(_one_liner(directive))
        self._before[directive.file, directive.line - 1].append(f"{indent}{text}")

    def open_with(self, block: Directive, text: str) -> None:
        """Put a line first into a block."""
        lines = self.touch(block.file)
        at = next(n for n in range(block.line - 1, len(lines)) if "{" in lines[n])
        following = lines[at].partition("{")[2].strip()
        if following and not following.startswith("#"):
            raise ActionFailed(_one_liner(block))
        indent = re.match(r"\s*", lines[at])[0]  # type: ignore[index]
        self._after[block.file, at].append(f"{indent}    {text}")

    def texts(self) -> dict[str, str]:
        found = {}
        for file, lines in sorted(self._lines.items()):
            edited = [
                part
                for number, line in enumerate(lines)
                for part in (*self._before[file, number], line, *self._after[file, number])
            ]
            text = "\n".join(edited)
            found[file] = text if text.endswith("\n") else f"{text}\n"
        return found


def _one_liner(directive: Directive) -> str:
    where = f"{directive.file} line {directive.line}"
    return f"{where}: write each directive of the {directive.name} block on its own line; nothing was changed"


def _split_proxy(old: str, proxy: Directive) -> str:
    """The line with `proxy_pass` to the split; a URI part would change its meaning with a variable."""
    target = proxy.args[0]
    location = next((d for d in reversed(proxy.within) if d.name == "location"), None)
    prefix_is_root = location is not None and location.args[-1] == "/"
    without_uri = target.removesuffix("/") if prefix_is_root else target
    written = re.compile(rf"""(proxy_pass\s+)(["']?){re.escape(target)}\2(\s*;)""")
    one_line = old.partition("#")[0].count(";") == 1 and written.search(old)
    if re.sub(r"^http://", "", without_uri).count("/") or not one_line:
        plain = re.sub(r"^https?://", "", target).partition("/")[0]
        raise ActionFailed(
            f"{proxy.file} line {proxy.line}: `{old.strip()}` is https, has a URI part or shares its line; nothing was "
            f"changed. Write `proxy_pass http://{plain};` on a line of its own, with a rewrite for the path"
        )
    return written.sub(r"\1http://$openclaw_pool\3", old)


def _log_too(plan: Plan, proxy: Directive, server: Directive, files: _FileEdits) -> None:
    """A location with an access_log of its own hides the server's, ours among them: it gets ours too."""
    for level in reversed(proxy.within[proxy.within.index(server) :]):
        logs = [log for log in level.find("access_log") if not _is_managed(plan, log)]
        if not logs:
            continue
        if log := next((log for log in logs if log.args[0] == "off"), None):
            raise ActionFailed(
                f"{log.file} line {log.line}: access_log off hides these requests from the runbook's log, and nothing "
                "could be judged; nothing was changed. Remove it"
            )
        files.touch(logs[0].file)
        if level is not server and not any("openclaw_rollout" in log.args for log in logs):
            files.insert_before(logs[0], f'access_log "{plan.nginx.slim_log}" openclaw_rollout;')
        return


def _receiving(plan: Plan, configuration: Configuration) -> list[tuple[Directive, Directive]]:
    """Each proxy_pass to primary with the server block it stands in, for the blocks in your server file."""
    found = []
    for proxy in proxies_to(configuration, plan.primary.port):
        server = next((d for d in reversed(proxy.within) if d.name == "server"), None)
        if server is not None and server.file == plan.nginx.server_file:
            found.append((proxy, server))
    return found


def _servers(plan: Plan, configuration: Configuration) -> list[Directive]:
    found = list(dict.fromkeys(server for _, server in _receiving(plan, configuration)))
    if not found:
        raise ActionFailed(
            f"{plan.nginx.server_file} has no proxy_pass to primary's {plan.primary.address}; nothing was changed. "
            "Name the file of the server block that serves primary as nginx.server_file"
        )
    return found


def _is_managed(plan: Plan, directive: Directive) -> bool:
    return directive.file.startswith(f"{plan.nginx.managed_dir}/")


def _is_on(directive: Directive | None) -> bool:
    return directive is not None and directive.args[0] != "off"


def _inherited_logs(plan: Plan, server: Directive) -> list[str]:
    """The access_log lines that our own would hide: one at server level ends inheritance from http level."""
    if any(not _is_managed(plan, log) for log in server.find("access_log")):
        return []
    logs = server.within[-1].find("access_log")
    if any(log.args[0] == "off" for log in logs):
        return []
    return [shlex.join(log.args) if " " in log.args[0] else " ".join(log.args) for log in logs]
