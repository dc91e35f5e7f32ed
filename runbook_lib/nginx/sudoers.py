"""What the scripts run with `sudo -n`, as a file for /etc/sudoers.d: these commands on these files, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runbook_lib.errors import PlanError
from runbook_lib.plan.models import Plan

HEAD = """# For /etc/sudoers.d/openclaw-rollout on the Mac; check it first: visudo -cf FILE
# By `rollout plan {region} --sudoers`. Needs sudo 1.9.10: arguments between ^ and $ are regular expressions, since a *
# would match blanks and slashes, too. Who may change the configuration of an nginx that root runs can become root.
"""
STAGED = "[^ ]*/rollout[.][A-Za-z0-9]+/[0-9]+"
NOTHING = "# nginx.sudo is false for {region}: nothing is run with sudo\n"


def render(plan: Plan) -> str:
    """The file. Raises PlanError where the plan does not say whose it is."""
    if not plan.nginx.sudo:
        return NOTHING.format(region=plan.region)
    uid = plan.runtime.launchd_domain.partition("/")[2]
    if not uid:
        raise PlanError("sudoers", ["runtime.launchd_domain: system does not say which user logs in; write user/UID"])
    rules = (f"#{uid} ALL = (root) NOPASSWD: {command} ^{arguments}$" for command, arguments in commands(plan))
    return "\n".join([HEAD.format(region=plan.region) + next(rules), *rules, ""])


def commands(plan: Plan) -> Iterator[tuple[str, str]]:
    """Each command with a regular expression of its arguments, as ask_nginx.sh and change_nginx.sh run it."""
    section = plan.nginx
    conf, pending = _exact(section.conf), _exact(plan.folder.pending)
    yield section.binary, "-V"
    yield section.binary, f"-T -q -e stderr -c {conf}"
    yield section.binary, f"-t -q -e stderr -c {conf}"
    yield "/bin/kill", "-HUP [0-9]+"
    yield "/bin/cp", f"-p {STAGED}[.]before {pending}[.]next/"
    managed = [f"{section.managed_dir}/{name}.conf" for name in ("http", "server", "logs", "admin")]
    targets = [*managed, section.server_file]
    for folder in dict.fromkeys(target.rpartition("/")[0] for target in targets):
        yield "/bin/mkdir", f"-p {_exact(folder)}"
    for target in targets:
        folder, _, name = target.rpartition("/")
        file, following = _exact(target), f"{_exact(folder)}/[.]{_exact(name)}[.]next"
        source = f"({STAGED}([.]before)?|{pending}[.]back/[0-9]+[.]before)"
        yield "/bin/cp", f"-p {file} {STAGED}[.]before"
        yield "/bin/cp", f"-p {file} {following}"
        yield "/bin/cp", f"{source} {following}"
        yield "/bin/mv", f"-f {following} {file}"
        yield "/usr/bin/cmp", f"-s {source} {file}"
        yield "/bin/rm", f"-f {file}"


def _exact(path: str) -> str:
    """A path as a regular expression without a backslash, which sudoers would read by itself."""
    return re.sub(r"[.+]", lambda found: f"[{found[0]}]", path)
