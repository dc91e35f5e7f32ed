"""What nginx gets for one weight: our files, rendered, and your server block that includes them."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from runbook_lib.accesslog import LOG_FORMAT
from runbook_lib.gateway import openclaw
from runbook_lib.nginx.adoption import adopt, includes, inherited_logs, is_on
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.nginx.revision import revision_of
from runbook_lib.nginx.ways import ways
from runbook_lib.plan.models import Plan

TEMPLATES = Environment(loader=PackageLoader("runbook_lib"), undefined=StrictUndefined, keep_trailing_newline=True)


@dataclass(frozen=True)
class Rendered:
    """The files of one weight: path on the Mac to text; `revision` is what a new connection must answer."""

    weight_pct: float
    revision: str
    files: dict[str, str]


def render(
    plan: Plan,
    configuration: Configuration,
    weight_pct: float,
    slow_start: bool = False,
    attempt: int = 0,
    default_log: str = "",
) -> Rendered:
    """The configuration for one weight: our files, and your server block that includes them.

    Weight 0 is the absence of the canary from the split (nginx refuses `0%`). The revision is made from the
    content, so the same weight of the same plan is the same revision; another `attempt`, after a drain, is another,
    so that it is judged by its own requests. `default_log` is where nginx logs when nothing says where. Raises
    ActionFailed where your server block cannot be edited safely.
    """
    adopted = adopt(plan, configuration, default_log)
    servers = list(dict.fromkeys(way.server for way in ways(plan, configuration)))
    wanted = sorted({path for server in servers for path in includes(plan, configuration, server, default_log)})
    logs = [line for server in servers for line in inherited_logs(plan, server, default_log)]
    included = {
        path: TEMPLATES.get_template(f"{path.rpartition('/')[2]}.j2").render(
            drain_file=plan.folder.drain,
            slim_log=plan.nginx.slim_log,
            inherited_logs=list(dict.fromkeys(logs)),
            files_are_cached=any(is_on(server.within[-1].effective("open_file_cache")) for server in servers),
            admin=openclaw.ADMIN,
        )
        for path in wanted
    }
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

    content = http_conf("") + "".join(included.values()) + "".join(adopted.values())
    revision = revision_of(weight_pct, f"{content}{attempt}" if attempt else content)
    files = {f"{plan.nginx.managed_dir}/http.conf": http_conf(revision), **included, **adopted}
    return Rendered(weight_pct, revision, files)
