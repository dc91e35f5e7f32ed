"""What has to be written beside a proxy_pass to the split, so that all but its target stays as it was.

With a variable as its address nginx neither replaces a path, nor rewrites redirects by itself, and `$proxy_host` is
the split's own name (nginx's documentation of proxy_pass, proxy_redirect and proxy_set_header).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runbook_lib.nginx.configuration import Configuration, Directive, address_of, groups_of, is_local
from runbook_lib.nginx.ways import Way
from runbook_lib.plan.models import Plan

SHOWN = ("add_header", "proxy_cache_key", "proxy_set_body", "proxy_cookie_path")
PLAIN_PATH = re.compile(r"/[A-Za-z0-9/_.~-]*")
OF_THE_PATH = re.compile(r"\$\{?(uri|document_uri|\d)\b")
OF_THE_TARGET = re.compile(r"\$\{?(proxy_host|proxy_port)\b\}?")


@dataclass(frozen=True)
class Refusal:
    """Why the server block cannot be edited with everything else as it was; `fix` is what to write."""

    rule: str
    file: str
    line: int
    finding: str
    fix: str


def refusal(rule: str, directive: Directive, finding: str, fix: str) -> Refusal:
    return Refusal(rule, directive.file, directive.line, finding, fix)


def headers_beside(way: Way, text_of: Callable[[Directive], str]) -> list[str]:
    """The Host header that primary gets today, where nobody sets one; with the headers that it would hide."""
    held = way.home.effective_all("proxy_set_header")
    if any(header.args[0].lower() == "host" for header in held):
        return []
    inherited = [] if not held or held[0] in (way.home.block or []) else held
    return [*(" ".join(text_of(header).split()) for header in inherited), f"proxy_set_header Host {way.address};"]


def redirects_beside(way: Way) -> list[str]:
    """The redirects that nginx rewrites by itself where proxy_pass names an address."""
    outer = [level for level in way.home.within if level.name == "location" and level.find("proxy_pass")]
    if outer or "$" in way.path or way.home.effective_all("proxy_redirect"):
        return []
    return [f"proxy_redirect {default_redirect(way)};"]


def default_redirect(way: Way) -> str:
    """`proxy_redirect default`, written out."""
    location = way.home.args[-1] if way.path else "/"
    return f"{way.scheme}{way.address}{way.path or '/'} {location}"


def rewrites_beside(way: Way) -> list[str]:
    """A path after the address replaces the location's."""
    if not way.path or "$" in way.path:
        return []
    location = re.sub(r"([.])", r"\\\1", way.home.args[-1])
    return [f'rewrite "(?is)^{location}(.*)$" {way.path}$1 break;']


def refusals(plan: Plan, configuration: Configuration, way: Way) -> Iterator[Refusal]:
    """Each reason why this way cannot be split with all else as it was."""
    if way.is_split:
        return
    proxy, home = way.proxy, way.home
    plain = f"proxy_pass http://{way.address};"
    if proxy.args[0].lower().startswith("https://"):
        yield refusal("https", proxy, f"`{proxy.text()}` is https, which a gateway does not speak", f"Write `{plain}`")
    yield from _of_group(plan, groups_of(configuration, plan.primary.port).get(way.address), plan.primary.port)
    held = home.effective_all("proxy_set_header")
    for header in held:
        if named := OF_THE_TARGET.search(" ".join(header.args[1:])):
            host, _, port = way.address.partition(":")
            value = way.address if named[1] == "proxy_host" else port or "80"
            yield refusal(
                "proxy_host",
                header,
                f"`{header.text()}`: ${named[1]} would be the split's own",
                f"Write {value} instead of ${named[1]} there",
            )
    if headers_beside(way, lambda header: ""):
        for other in _nested(home, "proxy_pass"):
            if address_of(other) != way.address and _takes_headers_of(home, other):
                yield refusal(
                    "nested",
                    other,
                    f"`{other.text()}` would get the Host header that is written for the location around it",
                    "Write a proxy_set_header Host in its own location",
                )
    if way.path and "$" not in way.path:
        yield from _of_path(configuration, way, plain, held)


def _of_path(configuration: Configuration, way: Way, plain: str, held: list[Directive]) -> Iterator[Refusal]:
    home, proxy = way.home, way.proxy
    odd = next((path for path in (way.path, home.args[-1]) if not PLAIN_PATH.fullmatch(path)), None)
    if odd:
        yield refusal(
            "path", proxy, f"`{proxy.text()}` has a URI part, and {odd} in it is more than a plain path",
            f"Write `{plain}` with a rewrite for the path",
        )  # fmt: skip
    steps = [*_nested(home, "rewrite", "break", "try_files")]
    steps += [d for d in way.server.block or [] if d.name == "break" or (d.name == "rewrite" and d.args[-1] == "break")]
    for step in steps[:1]:
        yield refusal(
            "path", step, f"`{step.text()}` changes the path, and so does the URI part of `{proxy.text()}`",
            f"Write `{plain}`, and the path in the rewrite",
        )  # fmt: skip
    for shown in [*held, *(one for name in SHOWN for one in home.effective_all(name)), *_formats(configuration, home)]:
        if OF_THE_PATH.search(" ".join(shown.args[1:])) or (shown.name in SHOWN and OF_THE_PATH.search(shown.args[0])):
            yield refusal(
                "path",
                shown,
                f"`{shown.name} {shown.args[0]}` would show the path that the URI part of `{proxy.text()}` makes",
                "Write $request_uri there, or do without the URI part",
            )


def _formats(configuration: Configuration, home: Directive) -> Iterator[Directive]:
    """The formats of the logs that are written at a location."""
    names = {log.args[1] for log in home.effective_all("access_log") if len(log.args) > 1}
    yield from (one for one in configuration.walk("log_format") if one.args[0] in names)


def _of_group(plan: Plan, group: Directive | None, port: int) -> Iterator[Refusal]:
    """The split sends to the gateways alone, so what else a group does would end."""
    for server in group.find("server") if group else []:
        if not is_local(server.args[0], port):
            if "down" not in server.args:
                yield refusal(
                    "group", server, f"`{server.text()}`: this other server of the group would get no request any more",
                    f"Write a group of {plan.primary.address} alone for the gateway",
                )  # fmt: skip
        elif limits := [word for word in server.args[1:] if word.startswith(("max_conns=", "slow_start="))]:
            yield refusal(
                "group", server, f"`{server.text()}`: {limits[0]} would not hold any more",
                f"Remove {limits[0]}, or limit with limit_conn",
            )  # fmt: skip


def _takes_headers_of(home: Directive, proxy: Directive) -> bool:
    """Whether a proxy_pass inside a location has no proxy_set_header nearer than the location itself."""
    between = proxy.within[proxy.within.index(home) + 1 :]
    return not any(level.find("proxy_set_header") for level in between)


def _nested(block: Directive, *names: str) -> Iterator[Directive]:
    for child in block.block or []:
        if child.name in names:
            yield child
        yield from _nested(child, *names)
