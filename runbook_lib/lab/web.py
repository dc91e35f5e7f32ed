"""The practice Mac's nginx: the host's binary, Homebrew's layout, run by launchd as homebrew.mxcl.nginx."""

from __future__ import annotations

import grp
import os
import plistlib
import shutil

from runbook_lib.lab import keys
from runbook_lib.lab.layout import NGINX_LABEL, LabError, Layout, template, user, write

READ_TIMEOUT_S = 30  # above the 15 s a hook may wait and the lab's longest model round trip of 20 s


def make(layout: Layout, port: int, primary_port: int) -> None:
    """Configuration, certificate, the binary under Homebrew's path, the plist. An edited file stays."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/opt/homebrew/bin:/usr/local/bin")
    if found is None:
        raise LabError("no nginx found; run: sh runbook_lib/lab/setup.sh")
    etc, var_run = layout.nginx_etc, layout.nginx_pid.parent
    for folder in (etc / "servers", etc / "openclaw-rollout", layout.nginx_log, var_run / "nginx"):
        folder.mkdir(parents=True, exist_ok=True)
    if not (etc / "tls/server.pem").is_file():
        keys.make_tls(etc / "tls")
    # Debian's binary has Debian's paths built in, Homebrew's has Homebrew's: same words, other defaults
    defaults = f'-p "{etc}" -c "{etc}/nginx.conf" -e "{layout.nginx_log}/error.log"'
    write(layout.nginx_binary, f'#!/bin/sh\nexec "{found}" {defaults} "$@"\n', 0o755)
    values = {"LOG": layout.nginx_log, "PID": layout.nginx_pid, "RUN": var_run / "nginx", **_worker_user()}
    server = template("openclaw-server.conf", PORT=port, TLS=etc / "tls", PRIMARY_PORT=primary_port)
    for path, text in (
        (etc / "nginx.conf", template("nginx.conf", **values)),
        (etc / "servers/openclaw.conf", server),
    ):
        if not path.exists():
            write(path, text)
    job = {
        "Label": NGINX_LABEL,
        "ProgramArguments": [str(layout.nginx_binary), "-g", "daemon off;"],
        "RunAtLoad": True,
        "KeepAlive": False,
        "WorkingDirectory": str(layout.home),
    }
    write(layout.plist(NGINX_LABEL), plistlib.dumps(job).decode())


def _worker_user() -> dict[str, str]:
    """Workers of a root master fall to `nobody`, who may not read the lab; others may not name one."""
    if os.getuid() != 0:
        return {"USER": "", "USER_NOTE": ""}
    return {
        "USER": f"user {user()} {grp.getgrgid(os.getgid()).gr_name};",
        "USER_NOTE": "Workers run as its owner.",
    }
