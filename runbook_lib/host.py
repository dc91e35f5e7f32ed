"""One SSH connection to the Mac: run a script, read a file, speak HTTP through it.

Each question is one script on standard input of `/bin/sh -s`: one round trip, no quoting through zsh, nothing
in the process list. Host keys are pinned; an unknown or changed one is refused.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx
import paramiko

from runbook_lib.errors import CommandFailed, CommandTimeout, ConnectionLost, HostKeyRefused, HostUnreachable
from runbook_lib.plan import HostSection

CHUNK = 1 << 16
KEEPALIVE_S = 15


@dataclass(frozen=True)
class Completed:
    """What a remote script answered."""

    stdout: str
    stderr: str
    exit_status: int
    duration_s: float

    def fields(self) -> dict[str, str]:
        """The `name<TAB>value` lines of the answer; a later line of the same name wins."""
        return dict(self.rows(2))

    def rows(self, width: int) -> list[list[str]]:
        """The lines that have exactly `width` tab-separated parts."""
        parts = (line.split("\t") for line in self.stdout.splitlines())
        return [row for row in parts if len(row) == width]


@dataclass(frozen=True)
class _Hop:
    """One host on the way to the Mac, itself included."""

    alias: str
    address: str
    port: int
    user: str | None
    options: Any


class Host:
    """A connected Mac. Use as a context manager."""

    def __init__(self, section: HostSection, shell: str = "/bin/sh") -> None:
        self.name, self._section, self._shell = section.alias, section, shell
        self.round_trips_count = 0
        self._clients: list[paramiko.SSHClient] = []
        self._opened_ahead: list[paramiko.Channel] = []
        self._counting = threading.Lock()
        try:
            self._transport = self._connect()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self, script: str, *args: str, timeout_s: float | None = None, check: bool = True) -> Completed:
        """Run a POSIX sh script on the Mac with `args` as $1, $2, …

        The whole script is parsed before its first command runs, so a connection cut while it is sent runs
        nothing. Raises CommandFailed (unless `check` is false), CommandTimeout, ConnectionLost.
        """
        wrapped = f'__main() {{\n{script}\n}}\n__main "$@" </dev/null\n'
        done = self._exec([self._shell, "-s", "--", *args], wrapped.encode(), timeout_s)
        stdout, stderr, status, duration_s = done
        completed = Completed(stdout.decode(errors="replace"), stderr.decode(errors="replace"), status, duration_s)
        if check and status != 0:
            raise CommandFailed(self.name, _title(script), status, completed.stderr or completed.stdout)
        return completed

    def change(self, script: str, *args: str, timeout_s: float | None = None) -> Completed:
        """Run a script that changes the Mac. Only actions.py calls this, and a test holds it to that."""
        return self.run(script, *args, timeout_s=timeout_s, check=False)

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes of a file from `offset` on. Raises CommandFailed where it cannot be read."""
        stdout, stderr, status, _ = self._exec(["/usr/bin/tail", "-c", f"+{offset + 1}", path], b"", None)
        if status != 0:
            raise CommandFailed(self.name, f"reading {path}", status, stderr.decode(errors="replace"))
        return stdout

    def http(self, base_url: str, timeout_s: float = 30) -> httpx.Client:
        """A client whose connections leave from the Mac, through this SSH connection."""
        transport = httpx.HTTPTransport()
        transport._pool = httpcore.ConnectionPool(network_backend=_ThroughSSH(self), max_connections=8)
        return httpx.Client(base_url=base_url, transport=transport, timeout=timeout_s, trust_env=False)

    def open_channel(self, address: tuple[str, int], timeout_s: float | None) -> paramiko.Channel:
        """A TCP connection from the Mac to `address`. Raises paramiko.ChannelException when refused there."""
        return self._transport.open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=timeout_s)

    def _exec(self, argv: list[str], stdin: bytes, timeout_s: float | None) -> tuple[bytes, bytes, int, float]:
        with self._counting:
            self.round_trips_count += 1
        limit_s = timeout_s or self._section.command_timeout_s
        started = time.monotonic()
        title = _title(stdin.decode(errors="replace")) if stdin else argv[-1]
        channel: paramiko.Channel | None = None

        def left_s() -> float:
            return max(0.001, limit_s - (time.monotonic() - started))

        try:
            channel = self._session(limit_s)
            channel.settimeout(limit_s)
            _begin(channel, argv, limit_s)
            errors: list[bytes] = []
            reader = threading.Thread(target=self._listen, args=(channel, errors), daemon=True)
            reader.start()
            channel.sendall(stdin)
            channel.shutdown_write()
            output: list[bytes] = []
            while block := channel.recv(CHUNK):
                output.append(block)
                if time.monotonic() - started > limit_s:
                    raise TimeoutError  # a command that never stops talking would never let recv time out
                channel.settimeout(left_s())
            reader.join(left_s())
            status = self._status(channel, left_s())
        except TimeoutError:
            raise self._unanswered(title, started, limit_s, channel) from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._lost(title, started, error) from error
        finally:
            if channel is not None:
                channel.close()
        if status == -1:
            raise self._lost(title, started, None)
        return b"".join(output), b"".join(errors), status, time.monotonic() - started

    def _session(self, limit_s: float) -> paramiko.Channel:
        """A channel for a command: the one that was opened while the last command ran saves a round trip."""
        while self._opened_ahead:
            with suppress(IndexError):  # another thread took it
                if not (channel := self._opened_ahead.pop()).closed:
                    return channel
        return self._transport.open_session(timeout=limit_s)

    def _listen(self, channel: paramiko.Channel, errors: list[bytes]) -> None:
        if not self._opened_ahead:
            with suppress(paramiko.SSHException, EOFError, OSError):  # the next command asks again, and says so
                self._opened_ahead.append(self._transport.open_session(timeout=self._section.connect_timeout_s))
        _drain(channel, errors)

    def _status(self, channel: paramiko.Channel, limit_s: float) -> int:
        if not channel.status_event.wait(max(0.001, limit_s)):
            raise TimeoutError
        return channel.recv_exit_status()

    def _unanswered(
        self, title: str, started: float, limit_s: float, channel: paramiko.Channel | None
    ) -> CommandTimeout | ConnectionLost:
        """Whether the command is slow or the connection is dead is asked of the connection itself."""
        if channel is not None:
            channel.close()
        if not self._answers():
            return self._lost(title, started, None)
        return CommandTimeout(
            self.name,
            f"{title}: no end after {limit_s:g} s (it may still run there)",
            "look on the Mac before you run the step again, or raise host.command_timeout_s",
        )

    def _answers(self) -> bool:
        try:
            self._transport.open_session(timeout=self._section.connect_timeout_s).close()
        except paramiko.ChannelException:
            return True  # refused, and that is an answer
        except (paramiko.SSHException, EOFError, OSError):
            return False
        return True

    def _close(self) -> None:
        for client in reversed(self._clients):
            client.close()

    def _lost(self, title: str, started: float, error: Exception | None) -> ConnectionLost:
        after_s = time.monotonic() - started
        return ConnectionLost(
            self.name,
            f"the connection was lost {after_s:.1f} s into {title!r} ({error or 'no answer, no exit status'})",
            "run the step again: it asks the Mac first what was done",
        )

    def _connect(self) -> paramiko.Transport:
        config_file = Path(self._section.ssh_config).expanduser()
        config = paramiko.SSHConfig.from_path(str(config_file)) if config_file.is_file() else paramiko.SSHConfig()
        hops = _route(config, self.name)
        sock = None
        for hop, following in zip(hops, [*hops[1:], None], strict=True):
            sock = self._open(hop, sock, following)
        transport = self._clients[-1].get_transport()
        if transport is None:
            raise ConnectionLost(self.name, "the connection was closed at once", "try again")
        transport.set_keepalive(KEEPALIVE_S)
        return transport

    def _open(self, hop: _Hop, sock: Any, following: _Hop | None) -> Any:
        """Connect one hop; answer a channel towards the following one, if there is one."""
        options, address, port = hop.options, hop.address, hop.port
        if "proxycommand" in options:
            raise HostUnreachable(
                self.name, f"{hop.alias} has a ProxyCommand, which is not read here", "write a ProxyJump instead"
            )
        client = paramiko.SSHClient()
        self._clients.append(client)
        keys: Any = [file for file in options.get("identityfile", []) if Path(file).is_file()]
        known = options.get("userknownhostsfile", "~/.ssh/known_hosts").split()
        for file in (Path(name).expanduser() for name in known):
            if file.is_file():
                client.load_host_keys(str(file))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            client.connect(
                address,
                port=port,
                username=hop.user,
                key_filename=keys,
                sock=sock,
                timeout=self._section.connect_timeout_s,
                banner_timeout=self._section.connect_timeout_s,
                auth_timeout=self._section.connect_timeout_s,
                allow_agent=options.get("identitiesonly", "no") != "yes",
                look_for_keys="identityfile" not in options,  # as ssh does: ~/.ssh/id_*
            )
        except paramiko.BadHostKeyException as error:
            raise HostKeyRefused(
                self.name,
                f"{address}:{port} shows another host key ({error.key.fingerprint}) than {' '.join(known)} holds "
                f"({error.expected_key.fingerprint})",
                "ask the hoster whether the Mac was reinstalled before you replace the key",
            ) from None
        except paramiko.AuthenticationException as error:
            raise HostUnreachable(
                self.name,
                f"{address}:{port} refused user {hop.user!r}: {error}",
                "check the key or agent",
            ) from None
        except (paramiko.SSHException, OSError) as error:
            if "not found in known_hosts" in str(error):
                raise HostKeyRefused(
                    self.name,
                    f"the host key of {address}:{port} is not in {' '.join(known)}",
                    f"compare its fingerprint with the hoster's, then: ssh-keyscan -p {port} {address} >> {known[0]}",
                ) from None
            raise HostUnreachable(
                self.name,
                f"no SSH connection to {address}:{port} within {self._section.connect_timeout_s:g} s ({error})",
                f"try: ssh -F {self._section.ssh_config} {hop.alias}",
            ) from None
        transport = client.get_transport()
        if following is None or transport is None:
            return None
        transport.set_keepalive(KEEPALIVE_S)
        target = (following.address, following.port)
        try:
            return transport.open_channel(
                "direct-tcpip", target, ("127.0.0.1", 0), timeout=self._section.connect_timeout_s
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise HostUnreachable(
                self.name,
                f"{hop.alias} cannot reach {following.address}:{following.port} "
                f"within {self._section.connect_timeout_s:g} s ({error})",
                f"try: ssh -F {self._section.ssh_config} {self.name}",
            ) from None


class _ThroughSSH(httpcore.NetworkBackend):
    """httpcore connections as channels of the SSH connection."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            return _ChannelStream(self._host.open_channel((host, port), timeout))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise httpcore.ConnectError(f"from {self._host.name} to {host}:{port}: {error}") from error


class _ChannelStream(httpcore.NetworkStream):
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._channel.settimeout(timeout)
        try:
            return self._channel.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._channel.settimeout(timeout)
        try:
            self._channel.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._channel.close()

    def get_extra_info(self, info: str) -> Any:
        return not self._channel.closed if info == "is_readable" and self._channel.recv_ready() else None


def _begin(channel: paramiko.Channel, argv: list[str], limit_s: float) -> None:
    """exec_command, which waits for ever where nothing answers."""
    too_late = threading.Timer(limit_s, channel.close)
    too_late.start()
    try:
        channel.exec_command(" ".join(shlex.quote(word) for word in argv))
    finally:
        too_late.cancel()


def _drain(channel: paramiko.Channel, into: list[bytes]) -> None:
    try:
        while block := channel.recv_stderr(CHUNK):
            into.append(block)
    except TimeoutError:
        return  # the reader of standard output meets the same limit and reports it


def _hop(config: paramiko.SSHConfig, spec: str) -> _Hop:
    """`[user@]host[:port]`, as in ProxyJump, with what the ssh_config says of that host."""
    user, _, rest = spec.strip().removeprefix("ssh://").rpartition("@")
    alias, _, port = rest.partition(":")
    options = config.lookup(alias)
    return _Hop(
        alias, options["hostname"], int(port or options.get("port", "22")), user or options.get("user"), options
    )


def _route(config: paramiko.SSHConfig, spec: str, seen: tuple[str, ...] = ()) -> list[_Hop]:
    """Every host on the way, in the order in which they are connected; the last is the Mac."""
    hop = _hop(config, spec)
    jumps = [jump for jump in hop.options.get("proxyjump", "none").split(",") if jump.strip().lower() != "none"]
    if not jumps or hop.alias in seen:
        return [hop]
    first, *others = jumps
    if _hop(config, first).alias in (*seen, hop.alias):  # `Host *` with a ProxyJump means all but the jump host
        return [hop]
    return [*_route(config, first, (*seen, hop.alias)), *(_hop(config, other) for other in others), hop]


def _title(script: str) -> str:
    """The first comment of a script, by which it is named in errors."""
    return next((line.strip("# ").strip() for line in script.splitlines() if line.startswith("# ")), "a command")
