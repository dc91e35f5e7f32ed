"""The edit of your server block: proxy_pass to the split, what keeps all else as it was, and our includes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runbook_lib.errors import ActionFailed
from runbook_lib.gateway import openclaw
from runbook_lib.nginx import keeping
from runbook_lib.nginx.configuration import Configuration, Directive
from runbook_lib.nginx.edits import FileEdits
from runbook_lib.nginx.keeping import Refusal, refusal
from runbook_lib.nginx.ways import Way, is_managed, unfollowed, variable_proxies, ways
from runbook_lib.plan.models import Plan


def adopt(plan: Plan, configuration: Configuration, default_log: str = "") -> dict[str, str]:
    """Your server block's files, path to text: proxy_pass to primary replaced by the split, and our includes.

    What is adopted already stays as it is. `default_log` is where nginx logs when nothing says where. Raises
    ActionFailed with each file and line where an edit would not be safe.
    """
    edits, found = _edited(plan, configuration, default_log)
    if found:
        said = (f"{one.file}{f' line {one.line}' * (one.line > 0)}: {one.finding}. {one.fix}" for one in found)
        raise ActionFailed("; ".join(said) + "; nothing was changed")
    return edits.texts()


def refusals(plan: Plan, configuration: Configuration) -> list[Refusal]:
    """Everything that adopt would refuse, at once."""
    return _edited(plan, configuration, "")[1]


def includes(plan: Plan, configuration: Configuration, server: Directive, default_log: str) -> list[str]:
    """Which of our files a server block needs, or has."""
    managed = plan.nginx.managed_dir
    wanted = {
        "server.conf": True,
        "logs.conf": bool(inherited_logs(plan, server, default_log)),
        "admin.conf": _admin_reaches_primary(plan, server, ways(plan, configuration)),
    }
    paths = {f"{managed}/{name}": is_needed for name, is_needed in wanted.items()}
    return [path for path, is_needed in paths.items() if is_needed or _has(server, path)]


def inherited_logs(plan: Plan, server: Directive, default_log: str) -> list[str]:
    """The access_log lines that our own would hide: one at server level ends inheritance from http level."""
    if any(not is_managed(plan, log) for log in server.find("access_log")):
        return []
    logs = server.within[-1].find("access_log")
    if not logs:
        return [_quoted(default_log)] if default_log else []
    if any(log.args[0] == "off" for log in logs):
        return []
    return [" ".join(_quoted(word) for word in log.args) for log in logs]


def _quoted(word: str) -> str:
    if not re.search(r"""[\s;{}"'\\#]""", word):
        return word
    return '"' + re.sub(r'(["\\\\])', r"\\\1", word) + '"'


def _edited(plan: Plan, configuration: Configuration, default_log: str) -> tuple[FileEdits, list[Refusal]]:
    edits, split = FileEdits(configuration), ways(plan, configuration)
    found = list(_refused(plan, configuration, split))
    for way in split:
        edits.touch(way.proxy.file)
        found += _log_too(plan, way, edits)
    homes: dict[Directive, list[Way]] = {}
    for way in split:
        homes.setdefault(way.home, []).append(way)
    for beside in homes.values():
        found += _split(beside, edits)
    servers = list(dict.fromkeys(way.server for way in split))
    for server in servers:
        edits.touch(server.file)
        wanted = includes(plan, configuration, server, default_log)
        if missing := [f"include {path};" for path in wanted if not _has(server, path)]:
            edits.inside(server, missing)
    if servers and not any(is_managed(plan, d) for d in configuration.walk("split_clients")):
        edits.before(servers[0], [f"include {plan.nginx.managed_dir}/http.conf;"])
    for at in edits.conflicts:
        fix = "Write these lines where they are included, with the settings of that place"
        found.append(refusal("included twice", at, f"`{at.text()}` is included where different settings hold", fix))
    for file in edits.files:
        if "\ufffd" in configuration.files[file]:
            found.append(
                Refusal("encoding", file, 1, "the file is not UTF-8 and would not survive an edit", "Save it as UTF-8")
            )
    return edits, list(dict.fromkeys(found))


def _has(server: Directive, path: str) -> bool:
    return any(child.file == path for child in server.block or [])


def _split(beside: list[Way], edits: FileEdits) -> Iterator[Refusal]:
    """Edit one location: the targets of its proxy_pass lines, and what keeps the rest as it was."""
    way, home = beside[0], beside[0].home
    for other in beside:
        if other.address != way.address:
            yield refusal(
                "two addresses",
                other.proxy,
                f"this location names primary as {way.address} and as {other.address}",
                "Write one of them in both",
            )
        if not other.is_split:
            rest = other.path if "$" in other.path else ""
            edits.replace(other.proxy, 0, f"http://$openclaw_pool{rest}")
    if way.is_split:
        return
    steps = [
        way.proxy,
        *(d for d in home.block or [] if d.name in ("set", "if", "return") and d.file == way.proxy.file),
    ]
    lines = [*keeping.headers_beside(way, edits.text_of), *keeping.redirects_beside(way)]
    rewrites, last = keeping.rewrites_beside(way), max(steps, key=lambda step: step.closes)
    for log in home.find("proxy_redirect"):
        if log.args == ("default",):
            edits.replace(log, 0, keeping.default_redirect(way))
    if way.proxy not in (home.block or []):
        edits.before(next(d for d in home.block or [] if d in way.proxy.within), lines)
    elif last is way.proxy:
        edits.after(way.proxy, [*lines, *rewrites])
    else:
        edits.after(way.proxy, lines)
        edits.after(last, rewrites)


def _log_too(plan: Plan, way: Way, edits: FileEdits) -> Iterator[Refusal]:
    """A location with an access_log of its own hides the server's, ours among them: it gets ours too."""
    for level in reversed(way.proxy.within[way.proxy.within.index(way.server) :]):
        logs = [log for log in level.find("access_log") if not is_managed(plan, log)]
        if not logs:
            continue
        if log := next((log for log in logs if log.args[0] == "off"), None):
            finding = "access_log off hides these requests from the runbook's log too: nothing could be judged"
            yield refusal("hidden log", log, finding, "Remove it")
        elif level is not way.server and not any("openclaw_rollout" in log.args for log in logs):
            edits.before(logs[0], [f'access_log "{plan.nginx.slim_log}" openclaw_rollout;'])
        return


def _refused(plan: Plan, configuration: Configuration, split: list[Way]) -> Iterator[Refusal]:
    """What stops every edit: no way at all, ways that cannot be followed, and what would not stay as it was."""
    unknown = unfollowed(plan, configuration)
    if not split and not unknown:
        unknown = variable_proxies(plan, configuration)
    for proxy in unknown:
        yield refusal(
            "variable",
            proxy,
            f"`{proxy.text()}` cannot be followed: what the variable holds is known only to nginx",
            f"Write `proxy_pass http://{plan.primary.address};`",
        )
    if not split and not unknown:
        yield Refusal(
            "no way",
            plan.nginx.server_file,
            0,
            f"it has no proxy_pass to primary's {plan.primary.address}",
            "Name the file of the server block that serves primary as nginx.server_file",
        )
    for server in dict.fromkeys(way.server for way in split):
        cache = next((one for one in server.find("open_file_cache") if not is_managed(plan, one)), None)
        if cache and is_on(cache):
            finding = "open_file_cache in the server block hides the drain file from nginx while it is valid"
            yield refusal("open_file_cache", cache, finding, "Move it to the http block, or remove it")
    for way in split:
        yield from keeping.refusals(plan, configuration, way)


def _admin_reaches_primary(plan: Plan, server: Directive, split: list[Way]) -> bool:
    """Whether the gateway's admin path comes out at the gateway here, and no location of yours says what to do."""
    locations = [one for one in server.find("location") if not is_managed(plan, one)]
    if any(openclaw.ADMIN in one.args for one in locations):
        return False
    homes = [way.home for way in split if way.server is server]
    serving = [one for one in locations if _may_serve(one, openclaw.ADMIN)]
    plain = max((one for one in serving if not _is_regex(one)), key=lambda one: len(one.args[-1]), default=None)
    chosen = [one for one in serving if _is_regex(one) or one is plain]
    return any(one is home or one in home.within for one in chosen for home in homes)


def _is_regex(location: Directive) -> bool:
    return location.args[0].startswith("~")


def _may_serve(location: Directive, path: str) -> bool:
    """Whether a location can be the one for a path; where a regular expression is beyond us, it can."""
    modifier, pattern = location.args[0], location.args[-1]
    if modifier == "=" or pattern.startswith("@"):
        return False
    if _is_regex(location):
        try:
            return re.search(pattern.removeprefix(modifier), path, re.IGNORECASE if "*" in modifier else 0) is not None
        except re.error:
            return True
    return path.startswith(pattern)


def is_on(directive: Directive | None) -> bool:
    return directive is not None and directive.args[0] != "off"
