"""Any log_format: the lines that nginx writes in it are read back as nginx meant them, at once and one by one."""

from __future__ import annotations

import base64
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from own_nginx import Gateway, free_ports

from runbook_lib.accesslog import Hints, LogCounts, read
from runbook_lib.accesslog.formats import COUNTED, LogFormat, declared
from runbook_lib.accesslog.times import at_of

AT = ("msec", "time_iso8601", "time_local")
VARIABLES = (
    *AT,
    *("status", "upstream_addr", "upstream_status", "upstream_connect_time", "upstream_header_time"),
    *("upstream_response_time", "request_time", "openclaw_target", "openclaw_revision", "pid", "connection"),
    *("remote_addr", "remote_user", "request", "request_uri", "request_method", "http_user_agent", "http_referer"),
    *("http_x_a", "http_x_b", "host", "body_bytes_sent", "server_protocol", "request_id", "scheme", "arg_q"),
    *("upstream_response_length", "upstream_bytes_received"),
)
ESCAPES = ("default", "json", "none")
CONF = """
{user}pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    upstream alive {{ server 127.0.0.1:{alive}; }}
    upstream failing {{ server 127.0.0.1:{dead} max_fails=0; server 127.0.0.1:{alive} backup; }}
    upstream none {{ server 127.0.0.1:{dead} max_fails=0; }}
    map $arg_t $openclaw_target {{ default primary; c canary; n ""; }}
    map $arg_t $openclaw_revision {{ default w010.00-3f2a; n ""; }}
    {formats}
    server {{
        listen 127.0.0.1:{port};
        {logs}
        location / {{ proxy_pass http://alive; }}
        location /failing {{ proxy_pass http://failing; }}
        location /none {{ proxy_pass http://none; }}
        location /moved {{ proxy_pass http://none; error_page 502 = /; }}
        location /own {{ return 404; }}
    }}
}}
"""
ODD = (
    "curl/8", "-", "", 'a "quoted" one', r"back\slash", r"\"", "tab\there", "two  blanks", " a [x] ", "200", "x 200 y",
    "caf\u00e9", "127.0.0.1:1, 127.0.0.1:2", "1 : 2", "[01/Jan/2026:00:00:00 +0000]", "rt=9.999", "0.001", "a|b;c,d",
)  # fmt: skip
PATHS = ("/", "/failing", "/none?t=c", "/moved?t=c", "/own", "/a%20b?q=1", "/?t=n&q=%22x%22", "/?q=a=b,c:d")


@dataclass(frozen=True)
class Written:
    """A log_format as it stands in nginx.conf: literals around variables."""

    escape: str
    texts: list[str]
    variables: list[str]

    def directive(self, name: str) -> str:
        body = "".join(
            text.translate(QUOTING) + (f"${{{variable}}}" if variable else "")
            for text, variable in zip(self.texts, [*self.variables, ""], strict=True)
        )
        return f"log_format {name} escape={self.escape} '{body}';"

    def line(self, values: dict[str, bytes]) -> bytes:
        """The line with these values: what nginx has to write, or this test does not know nginx."""
        return b"".join(
            text.encode() + values.get(variable, b"")
            for text, variable in zip(self.texts, [*self.variables, ""], strict=True)
        )

    def is_plain(self, values: dict[str, bytes]) -> bool:
        """Whether no value has a byte in it with which the text behind some value begins."""
        first, inside = {text.encode()[:1] for text in self.texts[1:]}, b"".join(values[v] for v in self.variables)
        return self.escape != "none" and b"" not in first and not any(byte in inside for byte in first)


QUOTING = str.maketrans({"'": r"\'", "\\": r"\\", "\t": r"\t"})
LITERALS = st.one_of(
    st.sampled_from(
        [" ", '" "', " - ", "\t", "|", '","', " [", "] ", '" ', ' "', " rt=", ";", ", ", " : ", '":"', "=\u00e9"]
    ),
    st.text(" \t\"'[]{}|,;:=-.\\abz09\u00e9", max_size=4),
)


@st.composite
def log_formats(draw: st.DrawFn) -> Written:
    variables = draw(st.lists(st.sampled_from(VARIABLES), min_size=1, max_size=12))
    variables += [draw(st.sampled_from(AT)), "status"]
    variables = draw(st.permutations(variables))
    texts = draw(st.lists(LITERALS, min_size=len(variables) + 1, max_size=len(variables) + 1))
    return Written(draw(st.sampled_from(ESCAPES)), texts, list(variables))


def requests() -> Iterator[bytes]:
    for number, odd in enumerate(ODD):
        user = base64.b64encode(f"{odd.replace(':', '')}:secret".encode()).decode()
        path = PATHS[number % len(PATHS)]
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            f"User-Agent: {odd}",
            f"X-A: {odd}",
            f"Referer: {odd[::-1]}",
        ]
        lines += [f"Authorization: Basic {user}"] if number % 3 == 0 else [f"X-B: {ODD[number - 1]}"]
        yield ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("utf-8")
    yield b'GET /"\x03 nonsense\r\n\r\n'


@contextlib.contextmanager
def serving(folder: Path, formats: dict[str, str]) -> Iterator[int]:
    """nginx that logs every request in all of these formats, each to a file of its name."""
    port, alive, dead = free_ports(3)
    gateway = Gateway("primary", alive)
    conf = CONF.format(
        user=f"user {getpass.getuser()};\n" if os.getuid() == 0 else "",
        folder=folder, port=port, alive=alive, dead=dead,
        formats="\n    ".join(formats.values()),
        logs="\n        ".join(f"access_log {folder}/{name}.log {name};" for name in formats),
    )  # fmt: skip
    (folder / "nginx.conf").write_text(conf)
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/opt/homebrew/bin") or "nginx"
    words = [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "start.log")]
    process = subprocess.Popen([*words, "-g", "daemon off;"])
    try:
        until_listening(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(20)
        gateway.end()


def until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("nginx did not start")


def written_by_nginx(folder: Path, formats: dict[str, str]) -> dict[str, list[bytes]]:
    with serving(folder, formats) as port:
        for request in requests():
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(request)
                while connection.recv(65_536):
                    pass
    found = {name: (folder / f"{name}.log").read_bytes().split(b"\n")[:-1] for name in formats}
    assert len({len(lines) for lines in found.values()}) == 1 and len(found["truth_json"]) >= len(ODD)
    return found


TRUTHS = {
    f"truth_{escape}": f"log_format truth_{escape} escape={escape} '" + "\x01".join(f"${v}" for v in VARIABLES) + "';"
    for escape in ESCAPES
}


@settings(
    max_examples=12, derandomize=True, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck)
)
@given(written=st.lists(log_formats(), min_size=25, max_size=25))
def test_any_log_format_is_read_back(written: list[Written], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nginx")
    directives = {f"f{number}": one.directive(f"f{number}") for number, one in enumerate(written)}
    lines = written_by_nginx(folder, TRUTHS | directives)
    formats = {log.name: log for log in declared((folder / "nginx.conf").read_text())}
    for name, one in zip(directives, written, strict=True):
        truths = [dict(zip(VARIABLES, t.split(b"\x01"), strict=True)) for t in lines[f"truth_{one.escape}"]]
        for line, values in zip(lines[name], truths, strict=True):
            assert line == one.line(values), directives[name]
            assert_read_back(formats[name], one, line, values)
        assert_at_once_is_one_by_one(formats[name], lines[name])


def assert_read_back(log: LogFormat, one: Written, line: bytes, values: dict[str, bytes]) -> None:
    """Every field that is counted, or none at all where a line could mean something else."""
    at = next(variable for variable in AT if variable in one.variables)
    wanted = {v: values[v] for v in COUNTED & set(one.variables)} | {"msec": at_of(values[at])}
    found = log.fields(line)
    assert found == wanted or (not found and not one.is_plain(values)), (one, line)


def assert_at_once_is_one_by_one(log: LogFormat, lines: list[bytes]) -> None:
    content = b"".join(line + b"\n" for line in lines)
    how = {"upstreams": {}, "window_s": 900, "hints": Hints((log,))}
    counts = LogCounts(900)
    for line in lines:
        counts.merge(read(line + b"\n", **how))
    assert read(content, **how).to_bytes() == counts.to_bytes()
