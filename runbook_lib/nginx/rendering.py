"""What nginx gets for one weight: our two files, rendered, and your server block that includes them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from runbook_lib.accesslog import LOG_FORMAT
from runbook_lib.gateway import openclaw
from runbook_lib.nginx.adoption import adopt, is_managed, is_on, receiving_servers
from runbook_lib.nginx.configuration import Configuration, Directive
from runbook_lib.nginx.revision import revision_of
from runbook_lib.plan.models import Plan

TEMPLATES = Environment(loader=PackageLoader("runbook_lib"), undefined=StrictUndefined, keep_trailing_newline=True)


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
    servers = receiving_servers(plan, configuration)
    server_conf = TEMPLATES.get_template("server.conf.j2").render(
        drain_file=plan.folder.drain,
        slim_log=plan.nginx.slim_log,
        inherited_logs=_inherited_logs(plan, servers[0]),
        files_are_cached=any(is_on(server.within[-1].effective("open_file_cache")) for server in servers),
        deny_admin=not any(
            openclaw.ADMIN in location.args and not is_managed(plan, location)
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
            drain_file=plan.folder.drain,
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
    revision = revision_of(weight_pct, f"{content}{attempt}" if attempt else content)
    managed = plan.nginx.managed_dir
    files = {
        f"{managed}/http.conf": http_conf(revision),
        f"{managed}/server.conf": server_conf,
        **adopted,
    }
    return Rendered(weight_pct, revision, files)


def _inherited_logs(plan: Plan, server: Directive) -> list[str]:
    """The access_log lines that our own would hide: one at server level ends inheritance from http level."""
    if any(not is_managed(plan, log) for log in server.find("access_log")):
        return []
    logs = server.within[-1].find("access_log")
    if any(log.args[0] == "off" for log in logs):
        return []
    return [shlex.join(log.args) if " " in log.args[0] else " ".join(log.args) for log in logs]
