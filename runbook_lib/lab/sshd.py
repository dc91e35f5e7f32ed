"""The practice Mac's SSH: a real sshd, pinned keys, and sessions that look like a Mac's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from runbook_lib.lab import keys, processes
from runbook_lib.lab.layout import LabError, Layout, python_script, template, user, write

NAME = "sshd"
PRIVILEGE_SEPARATION = Path("/run/sshd")  # Debian's sshd wants it when root starts it; its package makes it at boot
SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/libexec/openssh/sftp-server",
)
NOT_ON_A_MAC = (
    *(
        "timeout",
        "setsid",
        "flock",
        "gsed",
        "gdate",
        "nproc",
        "ss",
        "ip",
        "free",
        "pidof",
        "systemctl",
        "service",
    ),
    *("tac", "shuf", "numfmt", "sha256sum", "sha1sum", "md5sum", "gtar", "watch", "getent", "ldd", "strace"),
)
LIKE_A_MAC = (
    *("stat", "date", "sed", "readlink", "xargs", "mv", "ln", "cp", "du", "df", "grep", "find", "awk", "head", "tail"),
    *("ls", "rm", "mkdir", "rmdir", "touch", "chmod", "chown", "wc", "cut", "tr", "uniq", "tee", "basename", "dirname"),
    *("cat", "ps", "mktemp"),
)


def make(layout: Layout, port: int) -> None:
    """Keys, configuration and the commands a session finds before all others."""
    run = layout.run
    if not (run / "ssh_host_ed25519_key").is_file():
        host = keys.make_ssh_key(run / "ssh_host_ed25519_key")
        write(run / "known_hosts", f"[127.0.0.1]:{port} {host}\n")
        write(run / "authorized_keys", f"{keys.make_ssh_key(run / 'user_ed25519_key')}\n", 0o600)
    values = {"PORT": port, "RUN": run, "BIN": layout.bin, "USER": user(), "SFTP": _first(SFTP_SERVERS)}
    write(run / "sshd_config", template("sshd_config", **values))
    write(layout.ssh_config, template("ssh_config", **values))
    environment = " ".join(f'"{key}={value}"' for key, value in layout.mac_environment().items())
    zsh = shutil.which("zsh", path=f"{os.defpath}:/bin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if zsh is None:
        raise LabError("zsh is not installed, and a Mac's login shell is zsh; run: sh runbook_lib/lab/setup.sh")
    session = template("mac-session.sh", ENVIRONMENT=environment, HOME=layout.home, ZSH=zsh)
    write(layout.bin / "mac-session", session, 0o755)
    write(layout.bin / "launchctl", python_script("launchctl.py", layout.root), 0o755)
    write(layout.bin / "plutil", python_script("plutil.py"), 0o755)
    if os.uname().sysname != "Darwin":
        for commands, text in ((NOT_ON_A_MAC, "not-on-a-mac.sh"), (LIKE_A_MAC, "like-a-mac.sh")):
            for command in commands:
                write(layout.bin / command, template(text), 0o755)


def start(layout: Layout) -> None:
    if os.getuid() == 0 and os.uname().sysname == "Linux":
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if sshd is None:
        raise LabError("no sshd found; run: sh runbook_lib/lab/setup.sh")
    processes.start(layout.run, NAME, [sshd, "-D", "-e", "-f", str(layout.run / "sshd_config")])


def _first(paths: tuple[str, ...]) -> str:
    return next((path for path in paths if Path(path).is_file()), "internal-sftp")
