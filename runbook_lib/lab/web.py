"""The practice Mac's nginx: the host's binary, Homebrew's layout, run by launchd as homebrew.mxcl.nginx."""

from __future__ import annotations

import grp
import os
import plistlib
import shutil
from pathlib import Path

from runbook_lib.lab import keys
from runbook_lib.lab.layout import NGINX_LABEL, LabError, Layout, template, user, write
from runbook_lib.lab.ports import Ports

READ_TIMEOUT_S = 30  # above the 15 s a hook may wait and the lab's longest model round trip of 20 s
DEFAULT_LOG = (b"\0/var/log/nginx/access.log\0", b"\0var//log/nginx/access.log\0")
"""Debian's built-in access log, and the same length of text for Homebrew's: relative, so it lies below -p."""


def make(layout: Layout, ports: Ports) -> None:
    """Configuration, certificate, the binary under Homebrew's path, the plist. An edited file stays."""
    etc, var_run = layout.nginx_etc, layout.nginx_pid.parent
    managed = [] if layout.is_stock else [etc / "openclaw-rollout"]
    for folder in (etc / "servers", *managed, layout.nginx_log, var_run / "nginx"):
        folder.mkdir(parents=True, exist_ok=True)
    if not (etc / "tls/server.pem").is_file():
        keys.make_tls(etc / "tls")
    _make_binary(layout)
    values = {"LOG": layout.nginx_log, "PID": layout.nginx_pid, "RUN": var_run / "nginx", **_worker_user()}
    values |= {"PORT": ports.https, "OTHER_PORT": ports.neighbour, "TLS": etc / "tls", "PRIMARY_PORT": ports.primary}
    texts = {
        layout.nginx_server_file: "stock-gateway.conf" if layout.is_stock else "openclaw-server.conf",
        etc / "nginx.conf": "stock-nginx.conf" if layout.is_stock else "nginx.conf",
        **({etc / "servers/wiki.conf": "stock-neighbour.conf"} if layout.is_stock else {}),
    }
    for path, name in texts.items():
        if not path.exists():
            write(path, template(name, **values))
    job = {
        "Label": NGINX_LABEL,
        "ProgramArguments": [str(layout.nginx_binary), "-g", "daemon off;"],
        "RunAtLoad": True,
        "KeepAlive": False,
        "WorkingDirectory": str(layout.home),
    }
    write(layout.nginx_plist, plistlib.dumps(job).decode())


def _make_binary(layout: Layout) -> None:
    """Debian's binary has Debian's paths built in, Homebrew's has Homebrew's: same words, other defaults."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/opt/homebrew/bin:/usr/local/bin")
    if found is None:
        raise LabError("no nginx found; run: sh runbook_lib/lab/setup.sh")
    if not layout.is_stock:
        defaults = f'-p "{layout.nginx_etc}" -c "{layout.nginx_etc}/nginx.conf" -e "{layout.nginx_log}/error.log"'
        write(layout.nginx_binary, f'#!/bin/sh\nexec "{found}" {defaults} "$@"\n', 0o755)
        return
    real = layout.brew / "Cellar/nginx/bin/nginx"
    if not real.exists():
        real.parent.mkdir(parents=True)
        real.write_bytes(Path(found).read_bytes().replace(*DEFAULT_LOG))
        real.chmod(0o755)
    write(layout.nginx_binary, template("stock-nginx.sh", REAL=real, BREW=layout.brew), 0o755)


def _worker_user() -> dict[str, str]:
    """Workers of a root master fall to `nobody`, who may not read the lab; others may not name one."""
    if os.getuid() != 0:
        return {"USER": "", "USER_NOTE": ""}
    return {
        "USER": f"user {user()} {grp.getgrgid(os.getgid()).gr_name};",
        "USER_NOTE": "Workers run as its owner.",
    }
