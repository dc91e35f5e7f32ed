"""Where everything of a practice Mac lies: one folder, with a tree in it that looks like a Mac's."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runbook_lib.errors import RunbookError

CANARY_LABEL = "ai.openclaw.canary"
PRIMARY_LABEL = "ai.openclaw.gateway"
NGINX_LABEL = "homebrew.mxcl.nginx"
LayoutName = Literal["tidy", "stock"]


class LabError(RunbookError):
    """The practice Mac cannot be built or changed as asked."""


@dataclass(frozen=True)
class Layout:
    """
    root/
      mac.yaml        what `rollout` reads: ports, paths and references to secrets
      ssh_config      `Host practice-mac`
      bin/            launchctl and plutil: first on the Mac's PATH
      run/            our own side: records of processes, sockets, logs, keys
      registry/       the npm packages of the stand-in gateway
      cache/          npm's cache, kept by `down`
      mac/            Users/openclaw, opt/homebrew, var/lib/openclaw-*
    """

    root: Path
    is_stock = False

    def __post_init__(self) -> None:
        if any(character.isspace() or character in "'\"\\#$;{}" for character in str(self.root)):
            raise LabError(f"{self.root} holds a blank or a quote: sshd and nginx read paths without them")

    @property
    def yaml(self) -> Path:
        return self.root / "mac.yaml"

    @property
    def ssh_config(self) -> Path:
        return self.root / "ssh_config"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def thinking(self) -> Path:
        """There while the model thinks."""
        return self.run / "thinking"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def mac(self) -> Path:
        return self.root / "mac"

    @property
    def home(self) -> Path:
        return self.mac / "Users/openclaw"

    @property
    def launch_agents(self) -> Path:
        return self.home / "Library/LaunchAgents"

    @property
    def tmp(self) -> Path:
        return self.mac / "private/tmp"

    @property
    def staging(self) -> Path:
        return self.home / "staging"

    @property
    def brew(self) -> Path:
        return self.mac / "opt/homebrew"

    @property
    def node_bin(self) -> Path:
        return self.brew / "opt/node@24/bin"

    @property
    def nginx_binary(self) -> Path:
        return self.brew / "opt/nginx/bin/nginx"

    @property
    def nginx_etc(self) -> Path:
        return self.brew / "etc/nginx"

    @property
    def nginx_server_file(self) -> Path:
        return self.nginx_etc / "servers/openclaw.conf"

    @property
    def nginx_log(self) -> Path:
        return self.brew / "var/log/nginx"

    @property
    def nginx_pid(self) -> Path:
        return self.brew / "var/run/nginx.pid"

    def state_dir(self, name: str) -> Path:
        return self.mac / "var/lib" / {"primary": "openclaw-prod", "canary": "openclaw-canary"}[name]

    def prefix(self, name: str) -> Path:
        return self.home / "gateways" / name

    def env_file(self, name: str) -> Path:
        label = {"primary": PRIMARY_LABEL, "canary": CANARY_LABEL}[name]
        return self.state_dir(name) / "service-env" / f"{label}.env"

    def plist(self, label: str) -> Path:
        return self.launch_agents / f"{label}.plist"

    @property
    def nginx_domain(self) -> str:
        return launchd_domain()

    @property
    def nginx_plist(self) -> Path:
        return self.plist(NGINX_LABEL)

    @property
    def gateway_log(self) -> Path:
        """Where primary's standard error goes."""
        return self.state_dir("primary") / "logs/gateway.stderr.log"

    def mac_environment(self) -> dict[str, str]:
        """What a command finds in a non-interactive SSH session on a Mac: no Homebrew on the PATH."""
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "USER": user(),
            "LOGNAME": user(),
            "SHELL": "/bin/zsh",
            "TMPDIR": f"{self.tmp}/",
        }


class StockLayout(Layout):
    """As OpenClaw's docs and Homebrew leave a Mac: nothing was laid out for a second gateway.

    mac/
      opt/homebrew/lib/node_modules/          openclaw, and other packages of the same Node
      Users/openclaw/.openclaw/               state, openclaw.json with its tokens, service-env
      Users/openclaw/Library/Logs/openclaw/   gateway.log
      Library/LaunchDaemons/                  nginx, where root started it
    """

    is_stock = True

    def state_dir(self, name: str) -> Path:
        return self.home / {"primary": ".openclaw", "canary": ".openclaw-canary"}[name]

    def prefix(self, name: str) -> Path:
        return self.brew / "lib" if name == "primary" else super().prefix(name)

    @property
    def nginx_domain(self) -> str:
        return "system" if os.getuid() == 0 else launchd_domain()

    @property
    def nginx_plist(self) -> Path:
        if self.nginx_domain == "system":
            return self.mac / "Library/LaunchDaemons" / f"{NGINX_LABEL}.plist"
        return super().nginx_plist

    @property
    def nginx_server_file(self) -> Path:
        return self.nginx_etc / "servers/gateway.conf"

    @property
    def gateway_log(self) -> Path:
        return self.home / "Library/Logs/openclaw/gateway.log"


LAYOUTS: dict[LayoutName, type[Layout]] = {"tidy": Layout, "stock": StockLayout}


def user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def launchd_domain() -> str:
    return f"gui/{os.getuid()}"


def template(name: str, **values: object) -> str:
    """A file of templates/ with each @NAME@ filled in; nginx and sh keep their own $ and {}."""
    text = (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    """Put a whole file there with exactly this mode, whatever the umask, also while the old one is being run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    return part.replace(path)


def python_script(name: str, *arguments: object) -> str:
    """A /bin/sh file that runs one of our scripts without site-packages: 20 ms instead of 60 a call."""
    words = " ".join(f'"{argument}"' for argument in arguments)
    script = Path(__file__).with_name(name)
    return f'#!/bin/sh\nexec "{sys.executable}" -I -S "{script}" {words} "$@"\n'
