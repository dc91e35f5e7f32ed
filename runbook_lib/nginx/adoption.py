"""The edit of your server block: proxy_pass to the split, and two includes; nothing else in it is touched."""

from __future__ import annotations

import re
from collections import defaultdict

from runbook_lib.errors import ActionFailed
from runbook_lib.nginx.configuration import Configuration, Directive, proxies_to
from runbook_lib.plan.models import Plan


def adopt(plan: Plan, configuration: Configuration) -> dict[str, str]:
    """Your server block's files, path to text: proxy_pass to primary replaced by the split, and our two includes.

    What is adopted already stays as it is. Raises ActionFailed with file and line where an edit would not be safe.
    """
    files = _FileEdits(configuration)
    servers = receiving_servers(plan, configuration)
    for proxy, server in _receiving(plan, configuration):
        files.touch(proxy.file)
        if "$openclaw_pool" not in proxy.args[0]:
            files.replace(proxy, _split_proxy(files.line(proxy), proxy))
        _log_too(plan, proxy, server, files)
    for server in servers:
        files.touch(server.file)
        if (cache := next(iter(server.find("open_file_cache")), None)) and is_on(cache) and not is_managed(plan, cache):
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
        logs = [log for log in level.find("access_log") if not is_managed(plan, log)]
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


def receiving_servers(plan: Plan, configuration: Configuration) -> list[Directive]:
    """The server blocks of your server file that send requests to primary. Raises ActionFailed without one."""
    found = list(dict.fromkeys(server for _, server in _receiving(plan, configuration)))
    if not found:
        raise ActionFailed(
            f"{plan.nginx.server_file} has no proxy_pass to primary's {plan.primary.address}; nothing was changed. "
            "Name the file of the server block that serves primary as nginx.server_file"
        )
    return found


def is_managed(plan: Plan, directive: Directive) -> bool:
    """Whether the runbook renders the file that it stands in."""
    return directive.file.startswith(f"{plan.nginx.managed_dir}/")


def is_on(directive: Directive | None) -> bool:
    return directive is not None and directive.args[0] != "off"
