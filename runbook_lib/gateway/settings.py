"""Settings and secrets of a gateway's env file: two things. Settings are carried over to a canary and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from runbook_lib.plan.models import GatewaySection

SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_?KEY|CREDENTIALS?|AUTHORIZATION|COOKIE)$", re.I
)
SECRET_VALUE = re.compile(r"^(sk|pk|rk|gh[a-z]|github_pat|xox[a-z]|whsec)[-_][-_A-Za-z0-9]{6,}|-----BEGIN|^AKIA|^eyJ")
WITH_PASSWORD = re.compile(r"://[^/@\s]+@")
SERVICES_OWN = re.compile(
    r"^OPENCLAW_(GATEWAY_PORT|LAUNCHD_LABEL|SERVICE_\w+|SYSTEMD_UNIT|WINDOWS_\w+|STATE_DIR|CONFIG_PATH|PROFILE|"
    r"SUPERVISOR_MODE|SKIP_\w+)$"
)
"""What OpenClaw's installer writes to name one service; a canary has its own of these."""
HIDDEN = "(holds a password: copied on the Mac, not shown)"


def is_secret(name: str, value: str) -> bool:
    """Whether a line of an env file is a secret: by its name, or by a value that looks like a key."""
    return bool(SECRET_NAME.search(name) or SECRET_VALUE.search(value))


def settings_of(env: Mapping[str, str]) -> dict[str, str]:
    """The settings among the variables of an env file."""
    return {name: value for name, value in env.items() if not is_secret(name, value)}


def carried(env: Mapping[str, str], primary: GatewaySection, canary: GatewaySection) -> dict[str, str]:
    """Primary's settings as a canary has them: places in primary's state become the canary's, the service's own names
    are left out."""
    secrets = {*primary.secrets, *canary.secrets}
    kept = {n: value for n, value in settings_of(env).items() if n not in secrets and not SERVICES_OWN.match(n)}
    return {name: _moved(name, value, primary, canary) for name, value in kept.items()}


def shown(value: str) -> str:
    """A setting for people: a proxy's password is no setting."""
    return HIDDEN if WITH_PASSWORD.search(value) else value


def _moved(name: str, value: str, primary: GatewaySection, canary: GatewaySection) -> str:
    """A PATH may lead to tools in primary's state and stays; every other place there is the canary's own."""
    if name == "PATH":
        return value
    return re.sub(rf"{re.escape(primary.state_dir)}(?=/|$)", canary.state_dir, value)
