"""An nginx of a test's own, with two tiny gateways behind it that answer what they were asked.

Used as lab_fixture is: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import copy
import getpass
import json
import operator
import os
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import yaml

from runbook_lib.clock import wait_until
from runbook_lib.nginx.configuration import Configuration
from runbook_lib.nginx.rendering import render
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan

HK = (Path(__file__).parents[1] / "parameters/hk.yaml").read_text(encoding="utf-8")
MAIN = """{user}
worker_processes 2;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    keepalive_requests 100000;
    client_body_temp_path {folder}/temp; proxy_temp_path {folder}/temp; fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp; scgi_temp_path {folder}/temp;
{http}
    include servers/*;
}}
"""

SERVER = """server {
    listen 127.0.0.1:PUBLIC;
    set_real_ip_from 127.0.0.0/8;
    real_ip_header X-Practice-Client;
    include who*.inc;  # what the split says, by itself
    location / {
        proxy_pass http://127.0.0.1:PRIMARY;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr;
    }
}
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Gateway(ThreadingHTTPServer):
    """Answers {"gateway": name, "path": …, "headers": …} to everything."""

    daemon_threads = True

    def __init__(self, name: str, port: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # headers and body in one packet

            def do_GET(self) -> None:
                said = {"gateway": name, "path": self.path, "headers": dict(self.headers)}
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class OwnNginx:
    def __init__(self, folder: Path, http: str = "", main: str = MAIN) -> None:
        self.folder = folder
        self.public, self.probe, self.primary, self.canary = free_ports(4)
        self.binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/opt/homebrew/bin") or "nginx"
        (folder / "servers").mkdir()
        user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
        self.conf = folder / "nginx.conf"
        self.conf.write_text(main.format(user=user, folder=folder, http=http, primary=self.primary, public=self.public))
        self.server_file = folder / "servers/openclaw.conf"
        self.process: subprocess.Popen[bytes] | None = None

    def plan(self, **nginx: Any) -> Plan:
        values = copy.deepcopy(yaml.safe_load(HK))
        values["host"]["runbook_dir"] = str(self.folder / "runbook")
        values["primary"]["port"], values["canary"]["port"] = self.primary, self.canary
        values["nginx"] |= {
            "conf": str(self.conf),
            "server_file": str(self.server_file),
            "managed_dir": str(self.folder / "managed"),
            "error_log": str(self.folder / "error.log"),
            "pid_file": str(self.folder / "nginx.pid"),
            "log_dir": str(self.folder),
            "probe_port": self.probe,
            **nginx,
        }
        return reading.build(values, "own nginx")

    def serve(self, block: str) -> None:
        self.server_file.write_text(block.replace("PRIMARY", str(self.primary)).replace("PUBLIC", str(self.public)))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        words = (
            self.binary,
            "-p",
            str(self.folder),
            "-c",
            str(self.conf),
            "-e",
            str(self.folder / "error.log"),
            *words,
        )
        return subprocess.run(words, capture_output=True, text=True, timeout=20)

    def configuration(self) -> Configuration:
        done = self.run("-T", "-q")
        assert done.returncode == 0, done.stderr
        return Configuration(done.stdout, str(self.conf))

    def set_weight(self, plan: Plan, weight_pct: float) -> str:
        """Write what render says, as change_nginx.sh would, and answer the revision; nginx -t must accept it."""
        rendered = render(plan, self.configuration(), weight_pct)
        write(rendered.files)
        says = 'location = /who { return 200 "$openclaw_gateway $openclaw_choice"; }\n'
        (self.folder / "who.inc").write_text(says)  # our variables are known from here on
        done = self.run("-t", "-q")
        assert done.returncode == 0, done.stderr
        if self.process:
            old = psutil.Process(self.process.pid).children()
            self.run("-s", "reload")
            assert wait_until(lambda: [one for one in old if accepts(one)], operator.not_, 20, 0.02) == []
        else:
            self.start()
        self.until_answers(rendered.revision)
        return rendered.revision

    def start(self) -> None:
        words = [self.binary, "-p", str(self.folder), "-c", str(self.conf), "-e", str(self.folder / "error.log")]
        self.process = subprocess.Popen([*words, "-g", "daemon off;"], stderr=subprocess.DEVNULL)

    def until_answers(self, revision: str) -> None:
        """New connections answer this revision, ten times in a row."""
        deadline_s, in_a_row = time.monotonic() + 10, 0
        while in_a_row < 10:
            assert time.monotonic() < deadline_s, f"{revision} never answers"
            try:
                answer = ask(self.probe, ["/__rollout"])[0]
            except OSError:
                answer = b""
            in_a_row = in_a_row + 1 if answer.startswith(revision.encode()) else 0
            if not in_a_row:
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)


def accepts(worker: psutil.Process) -> bool:
    """Whether a worker still takes new connections: for a moment after a reload the old ones do."""
    try:
        return worker.status() != psutil.STATUS_ZOMBIE and "shutting down" not in " ".join(worker.cmdline())
    except psutil.NoSuchProcess:
        return False


def write(files: dict[str, str]) -> None:
    for path, text in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(text.encode())


def ask(port: int, paths: list[str], *headers: dict[str, str]) -> list[bytes]:
    """The bodies of GETs sent one behind the other on one connection, each with its own headers."""
    wanted = []
    for number, path in enumerate(paths):
        own = headers[number] if headers else {}
        lines = "".join(f"{name}: {value}\r\n" for name, value in own.items())
        wanted.append(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    bodies: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as answers:
        for start in range(0, len(wanted), 100):
            connection.sendall(b"".join(wanted[start : start + 100]))
            for _ in wanted[start : start + 100]:
                length = 0
                while (line := answers.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                bodies.append(answers.read(length))
    return bodies


def status(port: int, path: str, **headers: str) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])
