"""nginx as it was found: its master, what is built in, and the server blocks that lead to the gateway."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from runbook_lib.discovery.machine import Job, Machine
from runbook_lib.discovery.recording import rows
from runbook_lib.errors import PlanError
from runbook_lib.nginx.configuration import Configuration, Directive, proxies_to

MASTER = "nginx: master process "
COMPILED = re.compile(r"--(prefix|conf-path|error-log-path|http-log-path|pid-path)=(\S+)")
OURS = "/openclaw-rollout/"
READ_TIMEOUT_S = 60.0  # nginx's own, where nothing is written
TEST_CLIENT = "203.0.113.9"  # RFC 5737: an address for documentation


@dataclass(frozen=True)
class Master:
    """A running nginx."""

    pid: int
    user: str
    binary: str
    words: tuple[str, ...]
    started: tuple[str, ...]
    job: Job | None


def masters(machine: Machine) -> list[Master]:
    """Every nginx that runs: how it was started, and by which job of launchd."""
    found = []
    for process in machine.processes:
        if not process.command.startswith(MASTER):
            continue
        started = _words(process.command.removeprefix(MASTER))
        job = machine.job_of(process.pid)
        binary, *rest = _until_g(job.words) if job and job.words else started
        found.append(Master(process.pid, process.user, binary, tuple(rest), tuple(started[1:]), job))
    return found


def _words(command: str) -> list[str]:
    try:
        return _until_g(shlex.split(command.partition(" -g ")[0]))
    except ValueError:
        return _until_g(command.split())


def _until_g(words: list[str]) -> list[str]:
    return words[: words.index("-g")] if "-g" in words else words


def _after(words: tuple[str, ...], option: str) -> str:
    return words[words.index(option) + 1] if option in words[:-1] else ""


@dataclass
class Front:
    """What ask_front.sh printed of one nginx."""

    master: Master
    compiled: dict[str, str] = field(default_factory=dict)
    version: str = ""
    owner: str = ""
    test_exit: int | None = None
    test_text: str = ""
    writable: dict[str, bool] = field(default_factory=dict)
    configuration: Configuration | None = None

    @property
    def conf(self) -> str:
        return self.whole(_after(self.master.started, "-c") or self.compiled.get("conf-path", ""))

    @property
    def error_log(self) -> str:
        return self._main("error_log") or self.whole(
            _after(self.master.started, "-e") or self.compiled.get("error-log-path", "")
        )

    @property
    def pid_file(self) -> str:
        return self._main("pid") or self.whole(self.compiled.get("pid-path", ""))

    @property
    def access_log(self) -> str:
        """What is built in, for who writes no access_log."""
        beside = self.error_log.rpartition("/")[0]  # a wrapper's -e says where its logs are, and nothing of this one
        told = self.compiled.get("http-log-path", "")
        return f"{beside}/access.log" if _after(self.master.started, "-e") else self.whole(told)

    def _main(self, name: str) -> str:
        found = self.configuration.root.find(name) if self.configuration else []
        return self.whole(found[-1].args[0]) if found else ""

    def whole(self, path: str) -> str:
        """A path as nginx takes it: what is not absolute begins at its prefix."""
        prefix = _after(self.master.started, "-p") or self.compiled.get("prefix", "")
        return path if path.startswith("/") or not path else f"{prefix.rstrip('/')}/{path}"


def parse(text: str, master: Master) -> Front:
    """ask_front.sh's lines and nginx's dump as a Front. Raises EvidenceError for a dump that cannot be read."""
    head, _, dump = text.partition("dump\tfollows\n")
    front = Front(master)
    for name, *values in rows(head):
        match name, values:
            case "version", [said]:
                front.version = said.partition("nginx/")[2].partition(" ")[0]
                front.compiled = dict(COMPILED.findall(said))
            case "owner", [owner]:
                front.owner = owner
            case "test_exit", [status]:
                front.test_exit = int(status)
            case "test_text", [said]:
                front.test_text = said
            case "file", [path, whose]:
                front.writable[path] = whose == "ours"
    if front.test_exit == 0:
        front.configuration = Configuration(dump, front.conf)
    return front


@dataclass(frozen=True)
class Way:
    """A server block that leads to the gateway."""

    front: Front
    server: Directive
    proxy: Directive
    """The first proxy_pass to the gateway in it."""
    name: str
    port: int
    is_tls: bool

    @property
    def url(self) -> str:
        plain = 443 if self.is_tls else 80
        return f"{'https' if self.is_tls else 'http'}://{self.name}" + (f":{self.port}" if self.port != plain else "")

    @property
    def read_timeout_s(self) -> float:
        found = self.proxy.within[-1].effective("proxy_read_timeout")
        return _seconds(found.args[0]) if found else READ_TIMEOUT_S

    @property
    def logs(self) -> list[str]:
        """The access logs that its requests are written to."""
        for level in (self.proxy.within[-1], *reversed(self.proxy.within[-1].within)):
            if found := [log for log in level.find("access_log") if OURS not in log.file]:
                return [self.front.whole(log.args[0]) for log in found if log.args[0] != "off"]
        return [self.front.access_log]

    @property
    def listens(self) -> list[str]:
        """The addresses that it listens on, `*` for all."""
        words = [listen.args[0] for listen in self.server.find("listen")] or ["*:80"]
        return [word.rpartition(":")[0] or ("*" if word.isdigit() else word) for word in words]

    @property
    def trusted_header(self) -> str:
        """The header by which a request from loopback says which client it stands for; empty where none is trusted."""
        header = self.server.effective("real_ip_header")
        loopback = any(d.args[0].startswith("127.") for d in _levels(self.server, "set_real_ip_from"))
        return header.args[0] if header and loopback and header.args[0] != "proxy_protocol" else ""


def ways(front: Front, port: int) -> list[Way]:
    """The server blocks of one nginx that lead to a gateway's port, those with TLS first."""
    if front.configuration is None:
        return []
    found: dict[Directive, Directive] = {}
    for proxy in proxies_to(front.configuration, port):
        server = next((d for d in reversed(proxy.within) if d.name == "server"), None)
        if server is not None and OURS not in proxy.file:
            found.setdefault(server, proxy)
    several = [_way(front, server, proxy) for server, proxy in found.items()]
    return sorted(several, key=lambda way: not way.is_tls)


def choose(found: list[Way], port: int, url: str = "") -> Way:
    """The way that customers take. Raises PlanError where there is none, or more than one and none is named."""
    named = [way for way in found if way.url == url.rstrip("/")] if url else found
    if url and not named:
        told = ", ".join(way.url for way in found) or "none"
        raise PlanError("--way", [f"{url} does not lead to port {port}; found: {told}"])
    secure = [way for way in named if way.is_tls] or named
    if not secure:
        raise PlanError(
            "discover",
            [
                f"no server block of a running nginx leads to the gateway's port {port}: the canary gets its share of "
                "the traffic in nginx. Put nginx in front of the gateway first, or start it if it is there"
            ],
        )
    if len({way.url for way in secure}) > 1:
        told = ", ".join(f"{way.url} ({way.server.file} line {way.server.line})" for way in secure)
        raise PlanError(
            "discover", [f"{len(secure)} ways lead to port {port}: {told}; name your customers': --way URL"]
        )
    return secure[0]


def _way(front: Front, server: Directive, proxy: Directive) -> Way:
    listens = server.find("listen")
    secure = next((listen for listen in listens if "ssl" in listen.args), None)
    listen = secure or next(iter(listens), None)
    word = listen.args[0] if listen else "80"
    tail = word.rpartition(":")[2]
    port = int(tail) if tail.isdigit() else (443 if secure else 80)
    names = [name for d in server.find("server_name") for name in d.args if re.fullmatch(r"[A-Za-z0-9.-]+", name)]
    real = [name for name in names if name != "localhost"] or names or ["localhost"]
    return Way(front, server, proxy, real[0], port, secure is not None)


def _levels(directive: Directive, name: str) -> list[Directive]:
    for level in (directive, *reversed(directive.within)):
        if found := level.find(name):
            return found
    return []


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000, "": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwMy]|)", text) if number)
