"""What `ssh` makes of a host: the answer of `ssh -G`, with the user's ssh_config, its Include and its Match.

Values that `ssh -G` leaves as they were written (~, %-tokens, ${VARIABLES}) are filled in here as ssh_config(5) says.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shlex
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import HostUnreachable, RouteRefused
from runbook_lib.plan.models import HostSection

USUAL_CONFIG = HostSection.model_fields["ssh_config"].default
LONGEST_S = 30  # for a `Match exec` and the names that CanonicalizeHostname asks for
EXCEPT_IT = "take it out where the ProxyJump stands, e.g. Host * !that-host"
NO_NAME = re.compile(r"^-|[\s'\"`$\\;&<>|(){}]")  # what ssh refuses on its command line (ssh.c, valid_hostname)


@dataclass(frozen=True)
class Address:
    """A host as it is asked for: an alias, or `[user@]host[:port]` as in ProxyJump."""

    host: str
    user: str = ""
    port: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        user, _, rest = text.strip().removeprefix("ssh://").rstrip("/").rpartition("@")
        if found := re.fullmatch(r"\[(.+)\](?::(\d+))?", rest):
            return cls(found[1], user, found[2] or "")
        host, _, port = rest.partition(":") if rest.count(":") == 1 else (rest, "", "")
        return cls(host, user, port)

    @property
    def words(self) -> list[str]:
        """As words of an ssh command; `--` because a name may begin with a dash."""
        options = (("-l", self.user), ("-p", self.port))
        return [*(word for option, value in options if value for word in (option, value)), "--", self.host]


@dataclass(frozen=True)
class Settings:
    """One host on the way, the Mac included, with all that `ssh -G` says of it."""

    address: Address
    values: dict[str, list[str]]

    @property
    def alias(self) -> str:
        return self.address.host

    @property
    def hostname(self) -> str:
        return self.one("hostname")

    @property
    def port(self) -> int:
        return int(self.one("port", "22"))

    @property
    def user(self) -> str:
        return self.one("user")

    @property
    def place(self) -> str:
        """Address and port, as messages name them."""
        return f"{self.hostname}:{self.port}"

    @property
    def key_name(self) -> str:
        """The name that known_hosts has for this host."""
        if alias := self.one("hostkeyalias"):
            return alias
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"

    def one(self, name: str, default: str = "") -> str:
        """A setting of one value; empty where it is `none`."""
        value = self.values.get(name, [default])[0]
        return "" if value.lower() == "none" else value

    def says(self, name: str) -> bool:
        """Whether a setting is on."""
        return self.one(name).lower() in ("yes", "true")

    def algorithms(self, name: str) -> list[str]:
        return [word for word in self.one(name).split(",") if word]

    def file(self, name: str) -> str:
        """A setting of one file."""
        return self.filled(self.one(name))

    def files(self, name: str) -> list[str]:
        """The files of a setting that may stand there several times."""
        values = self.values.get(name, [])
        return [self.filled(value) for value in values if value.lower() != "none"]

    def files_in_one(self, name: str) -> list[str]:
        """The files of a setting that holds several on one line.

        `ssh -G` takes the quotes off: a blank belongs to a name where a file of that name is there, or where what
        follows it cannot begin a path.
        """
        words, found = [word for word in self.one(name).split(" ") if word], []
        while words:
            names = [self.filled(" ".join(words[:count])) for count in range(1, len(words) + 1)]
            longest = next((count for count in range(len(words), 0, -1) if Path(names[count - 1]).exists()), 0)
            next_path = next((n for n, word in enumerate(words) if n and word[0] in "/~%$"), len(words))
            count = longest or next_path
            found.append(names[count - 1])
            words = words[count:]
        return found

    def filled(self, text: str) -> str:
        """~, %-tokens and ${VARIABLES}. Raises RouteRefused where a variable is not set, as ssh does."""
        home = pwd.getpwuid(os.getuid()).pw_dir  # ssh does not ask $HOME either
        if text == "~" or text.startswith("~/"):
            text = home + text[1:]
        for name in re.findall(r"\$\{(\w+)\}", text):
            if name not in os.environ:
                raise RouteRefused(
                    self.alias, f"host.ssh_config: ${{{name}}} in {text} is not set", f"export {name} where this runs"
                )
            text = text.replace(f"${{{name}}}", os.environ[name])
        tokens = {
            "%": "%",
            "d": home,
            "h": self.hostname,
            "i": str(os.getuid()),
            "j": self.one("proxyjump"),
            "k": self.one("hostkeyalias") or self.alias,
            "L": socket.gethostname().partition(".")[0],
            "l": socket.gethostname(),
            "n": self.alias,
            "p": str(self.port),
            "r": self.user,
            "u": getpass.getuser(),
        }
        return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def ask(section: HostSection, address: Address) -> Settings:
    """All settings of a host. Raises RouteRefused where ssh is not there or refuses its configuration."""
    config = _config(section)
    words = [*_ssh(section), "-G", *address.words]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST_S)
    except FileNotFoundError:
        raise RouteRefused(
            section.alias, "host.alias: no `ssh` is on this machine's PATH", "install OpenSSH's client"
        ) from None
    except subprocess.TimeoutExpired:
        raise HostUnreachable(
            section.alias,
            f"host.ssh_config: `ssh -G {address.host}` did not end within {LONGEST_S} s",
            f"look for a `Match exec` in {config} that waits, or names that CanonicalizeHostname asks for",
        ) from None
    said = " ".join(done.stderr.decode(errors="replace").split())
    if done.returncode != 0 and "loop" in said:
        raise RouteRefused(
            section.alias, f"host.ssh_config: {address.host} has itself as ProxyJump ({said})", EXCEPT_IT
        )
    if done.returncode != 0:
        raise RouteRefused(
            section.alias,
            f"host.ssh_config: ssh refuses {config} for {address.host}: {said}",
            f"mend it, or name another file; {by_hand(section, host=address, options=('-G',))} says the same",
        )
    values: dict[str, list[str]] = {}
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        name, _, value = line.partition(" ")
        values.setdefault(name.lower(), []).append(value)
    settings = Settings(address, values)
    for what, name in (("HostName", settings.hostname), ("User", settings.user)):
        if NO_NAME.search(name):
            raise RouteRefused(
                section.alias, f"host.ssh_config: {what} {name!r} of {address.host} is no plain name", "write one"
            )
    return settings


def by_hand(section: HostSection, *words: str, host: Address | None = None, options: tuple[str, ...] = ()) -> str:
    """The ssh command that a person types for the same host."""
    address = host or Address(section.alias)
    named = [word for word in address.words if word != "--"]
    return " ".join(shlex.quote(word) for word in [*_ssh(section), *options, *named, *words])


def _config(section: HostSection) -> str:
    return str(Path(section.ssh_config).expanduser())


def _ssh(section: HostSection) -> list[str]:
    """`-F` only where the parameters name a file: with it, ssh leaves out the one of the whole system."""
    return ["ssh"] if section.ssh_config == USUAL_CONFIG else ["ssh", "-F", _config(section)]
