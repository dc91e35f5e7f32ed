"""One nginx before and after the adoption at weight 0, with gateways that answer what they were asked.

Used as lab_fixture is: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from own_nginx import MAIN, Gateway, OwnNginx, free_ports, write

from runbook_lib.lab import keys
from runbook_lib.nginx.rendering import render
from runbook_lib.plan.models import Plan

PATHS = (
    "/",
    "/x",
    "/x/y?a=1&b=%20",
    "/a%2Fb//c",
    "/openclaw/x",
    "/claw/x?q",
    "/health",
    "/healthz",
    "/api/x",
    "/moved",
)
ADDED = (
    r"include \S+/managed/(http|server|logs|admin)\.conf",
    r"proxy_redirect (?i:http)://\S+ /\S*",
    r"proxy_set_header Host \S+",
    r"rewrite \"\(\?is\)\^[^\"]*\(\.\*\)\$\" /\S*\$1 break",
    r"access_log \"\S+/openclaw-rollout\.tsv\" openclaw_rollout",
    r"proxy_pass [\"']?http://\$openclaw_pool.*",
)


class Echo(Gateway):
    """Says its name, the path and the headers, in the order they came; /moved redirects to itself by the Host."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name, port)
        handler = self.RequestHandlerClass
        assert issubclass(handler, BaseHTTPRequestHandler)

        def answer(self: BaseHTTPRequestHandler) -> None:
            body = json.dumps([name, self.command, self.path, sorted(self.headers.items())]).encode()
            self.send_response(302 if self.path.endswith("moved") else 200)
            if self.path.endswith("moved"):
                self.send_header("Location", f"http://{self.headers['Host']}{self.path}/there")
                self.send_header("Set-Cookie", "a=b; Path=/x")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        handler.do_GET = answer  # type: ignore[attr-defined]


@dataclass
class Site:
    """A configuration with its ports and folder put in, and what nginx has before it is adopted."""

    own: OwnNginx
    ports: dict[str, int]
    texts: dict[str, str]

    @property
    def plan(self) -> Plan:
        return self.own.plan()

    def adopt(self) -> dict[str, str]:
        """Write weight 0 as change_nginx.sh would; the files of yours that it changed."""
        files = render(self.plan, self.own.configuration(), 0, default_log=str(self.own.folder / "default.log")).files
        write(files)
        done = self.own.run("-t", "-q")
        assert done.returncode == 0, done.stderr
        return {path: text for path, text in files.items() if "/managed/" not in path}

    def answers(self, hosts: Sequence[str], paths: Sequence[str]) -> dict[tuple[str, str, str], Any]:
        """Each way's answer: the status, the headers without the date, and what the gateway was asked."""
        found: dict[tuple[str, str, str], Any] = {}
        for name in ("PUBLIC", "SECOND"):
            if name not in "".join(self.texts.values()):
                continue
            is_tls = re.search(rf"listen [^;]*{self.ports[name]} [^;]*ssl", self.own.run("-T", "-q").stdout)
            for host in hosts:
                connection = self.connect(self.ports[name], bool(is_tls))
                for path in paths:
                    found[name, host, path] = asked(connection, host, path)
                connection.close()
        return found

    def connect(self, port: int, is_tls: bool) -> http.client.HTTPConnection:
        if not is_tls:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.own.start()
        try:
            deadline_s = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.ports["PUBLIC"])).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline_s, (self.own.folder / "error.log").read_text()
                    time.sleep(0.01)
            yield
        finally:
            self.own.stop()


def asked(connection: http.client.HTTPConnection, host: str, path: str) -> Any:
    try:
        connection.request("GET", path, headers={"Host": host, "X-Mine": "1", "User-Agent": "test"})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.RemoteDisconnected:  # return 444
        return "closed"
    headers = sorted((k, v) for k, v in answer.getheaders() if k not in ("Date", "ETag", "Last-Modified"))
    told = json.loads(body) if body.startswith(b"[") else body
    return answer.status, headers, told


@contextmanager
def site(folder: Path, texts: dict[str, str], http_level: str = "", main: str = MAIN) -> Iterator[Site]:
    """An nginx with these files: `site.conf` is servers/openclaw.conf, other .conf lie beside it."""
    own = OwnNginx(folder, http=http_level.replace("FOLDER", str(folder)), main=main)
    other, second = free_ports(2)
    ports = {"PRIMARY": own.primary, "CANARY": own.canary, "PUBLIC": own.public, "OTHER": other, "SECOND": second}
    if any("cert.pem" in text for text in texts.values()):
        keys.make_tls(folder)
        (folder / "server.pem").rename(folder / "cert.pem")
        (folder / "server.key").rename(folder / "key.pem")
    made = {}
    for name, text in texts.items():
        for word, port in ports.items():
            text = text.replace(word, str(port))
        path = (
            own.server_file if name == "site.conf" else folder / ("servers" if name.endswith(".conf") else ".") / name
        )
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.replace("FOLDER", str(folder)).encode())
        made[str(path)] = text.replace("FOLDER", str(folder))
    (folder / "static").mkdir()
    gateways = [Echo("primary", own.primary), Echo("other", other)]
    try:
        yield Site(own, ports, texts)
    finally:
        for gateway in gateways:
            gateway.end()


def statements(text: str) -> Counter[str]:
    bare = re.sub(r"(?m)(^|\s)#[^\n]*", r"\1", text)
    return Counter(" ".join(one.split()) for one in re.split(r"[;{}]", bare))


def only_the_target_changed(before: dict[str, str], after: dict[str, str]) -> None:
    """Nothing is gone but the old target; what is new keeps what the old target meant, or is ours to include."""
    for path, text in after.items():
        old, new = statements(before[path]), statements(text)
        for gone in old - new:
            assert re.match(r"proxy_pass\s|proxy_redirect default$", gone), gone
        for added in new - old:
            assert added in old or any(re.fullmatch(pattern, added) for pattern in ADDED), added
        comments = re.findall(r"#[^\n]*", before[path])
        assert [c for c in comments if c not in text] == []
        assert ("\r\n" in before[path]) == ("\r\n" in text)
