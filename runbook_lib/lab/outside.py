"""What lies outside the Mac, on loopback: the incident channel that is paged, an npm registry, a chat model.

POST /notify        apprise's json://: the page is stored
GET  /pages?id=ID   200 once a page holding ID arrived, else 404; without id, every page
POST /v1/chat/completions   the model of agent runs: it answers "ok", at once or after "think for 5 s"
GET  /npm/NAME      the registry's document on a package; /npm/NAME/-/FILE.tgz the package
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from runbook_lib.lab import npm

LONGEST_PAGE_BYTES = 1 << 20
LONGEST_THOUGHT_S = 120


def _completion() -> bytes:
    """What a model that only ever says ok streams, in the form of OpenAI's chat completions."""
    chunk = {"id": "practice", "object": "chat.completion.chunk", "created": 1, "model": "echo"}
    said: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": "ok"}, None), ({}, "stop")]
    lines = [
        json.dumps({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": why}]}) for delta, why in said
    ]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


COMPLETION = _completion()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Path
    pages_file: Path
    thinking: Path
    port: int
    lock = threading.Lock()

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        if size > LONGEST_PAGE_BYTES:
            self.close_connection = True
            return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "too long"})
        body = self.rfile.read(size).decode("utf-8", "replace")
        path = urllib.parse.urlsplit(self.path).path
        if path == "/v1/chat/completions":
            self._think(body)
            return self._answer(HTTPStatus.OK, COMPLETION, "text/event-stream")
        if path != "/notify":
            return self._answer(HTTPStatus.NOT_FOUND, {"error": "not found"})
        try:
            page = json.loads(body)
        except ValueError:
            return self._answer(HTTPStatus.BAD_REQUEST, {"error": "not JSON"})
        with self.lock, self.pages_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(page) + "\n")
        return self._answer(HTTPStatus.OK, {"ok": True})

    def _think(self, asked: str) -> None:
        """Keep a run in flight for as long as it says, or until the file that is there meanwhile is taken away."""
        if wanted := re.findall(r"think for (\d+) s", asked):
            self.thinking.touch()
            until_s = time.monotonic() + min(int(wanted[-1]), LONGEST_THOUGHT_S)
            while self.thinking.exists() and time.monotonic() < until_s:
                time.sleep(0.05)
            self.thinking.unlink(missing_ok=True)

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        if address.path == "/pages":
            wanted = urllib.parse.parse_qs(address.query).get("id", [""])[0]
            text = self.pages_file.read_text(encoding="utf-8") if self.pages_file.exists() else ""
            pages = [json.loads(line) for line in text.splitlines()]
            # compared as values, not as the stored JSON, where a quote in an id would be escaped
            found = [page for page in pages if any(wanted in str(value) for value in page.values())]
            return self._answer(HTTPStatus.OK if found or not wanted else HTTPStatus.NOT_FOUND, {"pages": found})
        if address.path.startswith("/npm/"):
            return self._package(urllib.parse.unquote(address.path.removeprefix("/npm/")))
        return self._answer(HTTPStatus.NOT_FOUND, {"error": "not found"})

    def _package(self, wanted: str) -> None:
        name, tarball, file = wanted.partition("/-/")
        path = self.registry / Path(file).name
        if tarball and path.is_file():
            return self._answer(HTTPStatus.OK, path.read_bytes())
        found = (
            None if tarball or "/" in name else npm.packument(self.registry, name, f"http://127.0.0.1:{self.port}/npm/")
        )
        return self._answer(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, found or {"error": "not found"})

    def _answer(self, status: HTTPStatus, body: bytes | dict[str, Any], content_type: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        plain = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        self.send_response(status)
        self.send_header("Content-Type", content_type or plain)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: what arrived is in the pages file."""


def serve(registry: Path, pages_file: Path, thinking: Path) -> None:
    """Serve on the listening socket that `up` claimed for us and passed as descriptor 3."""
    claimed = socket.socket(fileno=3)
    Handler.registry, Handler.pages_file, Handler.thinking = registry, pages_file, thinking
    Handler.port = claimed.getsockname()[1]
    server = ThreadingHTTPServer(claimed.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = claimed
    server.serve_forever()


if __name__ == "__main__":
    serve(*(Path(word) for word in sys.argv[1:4]))
