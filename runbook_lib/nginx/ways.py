"""The ways through your nginx to a gateway: which proxy_pass leads there, and from which server block."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runbook_lib.nginx.configuration import (
    Configuration,
    Directive,
    address_of,
    groups_of,
    is_local,
    proxies_to,
)
from runbook_lib.plan.models import Plan


@dataclass(frozen=True, eq=False)
class Way:
    """One proxy_pass to primary, the server block it stands in, and the location that its settings belong to."""

    proxy: Directive
    server: Directive
    home: Directive

    @property
    def is_split(self) -> bool:
        return address_of(self.proxy) == "$openclaw_pool"

    @property
    def address(self) -> str:
        """What `$proxy_host` is here: the address or the group, as written."""
        return address_of(self.proxy)

    @property
    def scheme(self) -> str:
        """`http://`, as written: nginx compares it to the letter."""
        return self.proxy.args[0].partition(self.address)[0]

    @property
    def path(self) -> str:
        """What the proxy_pass names after the address; with a variable in it, it is the whole path."""
        return re.sub(r"^https?://", "", self.proxy.args[0], flags=re.IGNORECASE).removeprefix(self.address)


def ways(plan: Plan, configuration: Configuration) -> list[Way]:
    """The ways that are split: those of nginx.server_file, and of other servers that include the same lines."""
    found = [way for proxy in proxies_to(configuration, plan.primary.port) if (way := _way(plan, proxy))]
    ours = [way for way in found if way.server.file == plan.nginx.server_file]
    lines = {(way.proxy.file, way.proxy.at) for way in ours}
    return [way for way in found if way in ours or (way.proxy.file, way.proxy.at) in lines]


def _way(plan: Plan, proxy: Directive) -> Way | None:
    server = proxy.around("server")
    if server is None or is_managed(plan, proxy):
        return None
    return Way(proxy, server, proxy.around("location") or server)


def unsplit(plan: Plan, configuration: Configuration) -> list[Directive]:
    """Lines that lead to primary past the split: other files' servers, and a stream's."""
    split = [way.proxy for way in ways(plan, configuration)]
    http = [p for p in proxies_to(configuration, plan.primary.port) if p not in split and not is_managed(plan, p)]
    groups = groups_of(configuration, plan.primary.port)
    streams = [p for p in configuration.walk("proxy_pass") if p.around("stream")]
    return [*http, *(p for p in streams if is_local(at := address_of(p), plan.primary.port) or at in groups)]


def unfollowed(plan: Plan, configuration: Configuration) -> list[Directive]:
    """The proxy_pass lines whose address is a variable that may be primary, by what the configuration gives it."""
    return [p for p in variable_proxies(plan, configuration) if _may_be_primary(plan, configuration, p)]


def variable_proxies(plan: Plan, configuration: Configuration) -> list[Directive]:
    """The proxy_pass lines of your server file whose address is a variable."""
    return [
        proxy
        for proxy in configuration.walk("proxy_pass")
        if address_of(proxy).startswith("$")
        and address_of(proxy) != "$openclaw_pool"
        and (server := proxy.around("server"))
        and server.file == plan.nginx.server_file
    ]


def _may_be_primary(plan: Plan, configuration: Configuration, proxy: Directive) -> bool:
    """Whether anything that sets its variable, or a variable of that one, names primary."""
    groups = groups_of(configuration, plan.primary.port)
    names, seen = re.findall(r"\$\{?(\w+)", address_of(proxy)), set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        for setting in configuration.walk("set", "map", "geo", "split_clients"):
            if f"${name}" not in setting.args:
                continue
            values = [word for one in (setting, *(setting.block or [])) for word in one.args]
            bare = [re.sub(r"^https?://", "", value).partition("/")[0] for value in values]
            if any(
                is_local(value, plan.primary.port) or value in groups or value == str(plan.primary.port)
                for value in bare
            ):
                return True
            names += [inner for value in values for inner in re.findall(r"\$\{?(\w+)", value)]
    return False


def is_managed(plan: Plan, directive: Directive) -> bool:
    """Whether the runbook renders the file that it stands in."""
    return directive.file.startswith(f"{plan.nginx.managed_dir}/")
