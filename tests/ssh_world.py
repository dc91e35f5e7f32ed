"""Two sshd on loopback, keys, certificates and an agent: what other people's ssh configurations lead to.

An outcome is a sentence: with which key one got in, through which host, or who refused. `ssh` and ours are asked the
same, each with files of its own. Used as lab_fixture is: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab_fixture import until

from runbook_lib.errors import HostKeyRefused, HostUnreachable, RouteRefused
from runbook_lib.lab.layout import user
from runbook_lib.lab.sshd import PRIVILEGE_SEPARATION
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.host import Host

ASK = 'cut -d " " -f 2-3 "$SSH_USER_AUTH"'  # sshd_config(5), ExposeAuthInfo
KEYS = {"a": "ed25519", "b": "ed25519", "locked": "ed25519", "certified": "ed25519", "stranger": "ed25519"} | {
    "rsa": "rsa",
    "ecdsa": "ecdsa",
    "user_ca": "ed25519",
    "host_ca": "ed25519",
}
LET_IN = ("a", "b", "locked", "rsa", "ecdsa")


def keygen(*words: object) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True, capture_output=True, stdin=subprocess.DEVNULL)


@dataclass
class World:
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def key(self, name: str) -> Path:
        return self.folder / "keys" / name

    def public(self, name: str) -> str:
        """`ssh-ed25519 AAAA…`"""
        return " ".join(self.key(name).with_name(f"{name}.pub").read_text().split()[:2])

    def host_key(self, server: str = "mac", kind: str = "ed25519") -> str:
        return " ".join((self.folder / server / f"host_{kind}.pub").read_text().split()[:2])

    def known(self, server: str = "mac", kind: str = "ed25519") -> str:
        """A line of known_hosts."""
        return f"[127.0.0.1]:{self.ports[server]} {self.host_key(server, kind)}"

    def name_of(self, blob: str) -> str:
        """The key that sshd says it let in; a certificate by the key that it is for."""
        names = {self.public(name).split()[1]: name for name in KEYS}
        found = names.get(blob)
        certificate = (self.folder / "keys/certified-cert.pub").read_text().split()[1]
        return found or ("the certificate" if blob == certificate else "an unknown key")

    def gate_count(self) -> int:
        return (self.folder / "gate/log").read_text().count("Accepted publickey")


@contextmanager
def sshd(world: World, name: str, *lines: str) -> Iterator[None]:
    folder = world.folder / name
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = world.ports[name] = free.getsockname()[1]
    for kind in ("ed25519", "rsa"):
        keygen("-t", kind, "-N", "", "-f", folder / f"host_{kind}")
    keygen("-s", world.key("host_ca"), "-I", name, "-h", "-n", "127.0.0.1,certified-name", folder / "host_ed25519.pub")
    allowed = folder / "authorized_keys"
    allowed.write_text("".join(f"{world.public(one)}\n" for one in LET_IN))
    text = f"""ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_ed25519
HostKey {folder}/host_rsa
AuthorizedKeysFile {allowed}
TrustedUserCAKeys {world.key("user_ca")}.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
PrintMotd no
MaxStartups 64:30:128
ExposeAuthInfo yes
LogLevel VERBOSE
"""
    (folder / "sshd_config").write_text("\n".join([text, *(line.format(dir=folder) for line in lines), ""]))
    if os.getuid() == 0 and os.uname().sysname == "Linux":
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    binary = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert binary
    words = [binary, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port))
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def agent(path: Path, *keys: Path) -> Iterator[None]:
    """An agent with keys in this order; the encrypted one's word is `secret`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        try:
            until(path.exists)
            says = path.with_name("says")
            says.write_text("#!/bin/sh\necho secret\n")
            says.chmod(0o700)
            env = os.environ | {"SSH_AUTH_SOCK": str(path), "SSH_ASKPASS": str(says), "SSH_ASKPASS_REQUIRE": "force"}
            subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True, capture_output=True, env=env)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssh-", dir="/tmp") as name, ExitStack() as running:
        world = World(Path(name).resolve())
        (world.folder / "keys").mkdir()
        for key, kind in KEYS.items():
            form = ("-m", "PEM") if key == "rsa" else ()
            keygen("-t", kind, *form, "-N", "secret" if key == "locked" else "", "-f", world.key(key))
        keygen("-s", world.key("user_ca"), "-I", "us", "-n", user(), world.key("certified.pub"))
        running.enter_context(sshd(world, "mac", "HostCertificate {dir}/host_ed25519-cert.pub", "MaxAuthTries 4"))
        running.enter_context(sshd(world, "gate"))
        main = world.folder / "Group Containers/agent.sock"
        running.enter_context(agent(main, world.key("stranger"), world.key("b"), world.key("locked")))
        many = world.folder / "many/agent.sock"
        extra = [world.folder / f"extra{n}" for n in range(5)]
        for file in extra:
            keygen("-t", "ed25519", "-N", "", "-f", file)
        running.enter_context(agent(many, *extra, world.key("locked")))
        yield world


def by_ssh(world: World, config: Path, alias: str) -> str:
    """What `ssh` makes of it."""
    before, kept = world.gate_count(), _known(config.parent)
    words = ["ssh", "-F", str(config), "-o", "BatchMode=yes", alias, ASK]
    said = ""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and every ssh that it started
            raise
    if process.returncode == 0:
        return _in(world, output, before, kept, config.parent)
    for pattern, outcome in (
        (
            r"Bad configuration option|terminating, \d+ bad|Can't open user config|jumphost loop|has no value",
            "configuration",
        ),
        (r"Host key verification failed|REVOKED", "host key"),
        (r"Permission denied|Too many authentication failures", "user"),
    ):
        if re.search(pattern, said):
            return f"{outcome} refused"
    return "no connection"


def by_ours(world: World, config: Path, alias: str) -> str:
    """What ours makes of it."""
    before, kept = world.gate_count(), _known(config.parent)
    section = HostSection(alias=alias, ssh_config=str(config), runbook_dir="/tmp/rollout")
    try:
        with Host(section) as host:
            said = host.run(ASK).stdout
    except RouteRefused:
        return "configuration refused"
    except HostKeyRefused:
        return "host key refused"
    except HostUnreachable as error:
        return "user refused" if "refused user" in str(error) else "no connection"
    return _in(world, said, before, kept, config.parent)


def _in(world: World, said: str, gates: int, kept: str, folder: Path) -> str:
    keys = " and ".join(f"`{world.name_of(line.split()[1])}`" for line in said.splitlines()) or "no key"
    through = world.gate_count() - gates
    ways = {0: "", 1: ", through the gate"}.get(through, f", through {through} gates")
    return f"in with {keys}{ways}{', host key kept' if _known(folder) != kept else ''}"


def _known(folder: Path) -> str:
    file = folder / "known_hosts"
    return file.read_bytes().decode("latin-1") if file.is_file() else ""
