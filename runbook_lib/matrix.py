"""The curl matrix: every hop asked by itself, in one remote curl, and once more from outside with httpx."""

from __future__ import annotations

import ssl
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pandas as pd

from runbook_lib.gateway import openclaw
from runbook_lib.mac.vault import Secret
from runbook_lib.plan.models import Plan
from runbook_lib.ssh.host import Completed
from runbook_lib.verdict import Answer, Check, Hop

COLUMNS = [
    "hop",
    "gateway",
    "request",
    "status",
    "connect_ms",
    "tls_ms",
    "first_byte_ms",
    "total_ms",
    "content_type",
    "body",
    "ok",
]
BODY_LIMIT = 2000
AT_ONCE = 8


@dataclass(frozen=True)
class Expected:
    """One request and what a healthy gateway answers to it."""

    method: str
    path: str
    status: int
    body: str
    content_type: str = "application/json"
    data: str = ""
    token: bool = True

    @property
    def title(self) -> str:
        return f"{self.method} {self.path}"


# /healthz is green while all real traffic is refused with 403, so a POST that needs the token is asked too.
# An unknown hook is answered 404 after authentication: it proves the way to the handler and queues nothing.
REQUESTS = (
    Expected("GET", openclaw.LIVE, 200, '"status":"live"'),
    Expected("GET", openclaw.STARTED, 200, '"status":"started"'),
    Expected("GET", openclaw.READY, 200, '"ready":true'),
    Expected("POST", f"{openclaw.HOOKS}rollout-matrix", 404, "", "", data="{}"),
)
# Operator power: nginx must refuse it by itself, so no gateway answers, neither with 401 nor with its own 403.
ADMIN_IS_CLOSED = Expected("POST", openclaw.RPC, 403, "", "", data="{}", token=False)
OUTSIDE = (*REQUESTS, ADMIN_IS_CLOSED)


@dataclass(frozen=True)
class Row:
    hop: str
    gateway: str
    url: str
    expected: Expected
    connect_to: str = ""


def rows(plan: Plan, gateways: tuple[str, ...] = ("primary", "canary"), through_nginx: bool = True) -> list[Row]:
    """The rows asked on the Mac: each gateway directly and through nginx, and the public address by TLS."""
    found = [Row("direct", g, plan.gateways[g].url, e) for g in gateways for e in REQUESTS]
    if through_nginx:
        probe = f"http://127.0.0.1:{plan.nginx.probe_port}"
        found += [Row("nginx", g, f"{probe}/{g}", e) for g in gateways for e in REQUESTS]
        public = urlsplit(plan.nginx.public_url)
        port = public.port or 443
        connect_to = f"{public.hostname}:{port}:{plan.nginx.probe_address}:{port}"
        found += [Row("nginx tls", "public", plan.nginx.public_url, e, connect_to) for e in OUTSIDE]
    return found


def script(plan: Plan, asked: list[Row], hooks_token: Secret) -> str:
    """One script with one curl for all rows; the token is on standard input, never in the process list."""
    transfers = "next\n".join(_transfer(plan, number, row, hooks_token) for number, row in enumerate(asked))
    return f"""# run the curl matrix
dir=$(mktemp -d "${{TMPDIR:-/tmp}}/matrix.XXXXXX") || return 1
export dir
cd "$dir" || return 1
curl -K - 2>/dev/null <<'END_OF_MATRIX'
{transfers}END_OF_MATRIX
for number in {" ".join(str(n) for n in range(len(asked)))}; do
    printf 'body\\t%s\\t%s\\n' "$number" "$(head -c {BODY_LIMIT} "$number" 2>/dev/null | tr '\\n\\t' '  ')"
done
cd / && rm -rf "$dir"
"""


def _path(plan: Plan, expected: Expected) -> str:
    """Hooks may have another path than OpenClaw's default."""
    hooks = "/hooks/"
    return (
        expected.path.replace(hooks, f"{plan.webhooks.hooks_path}/", 1)
        if expected.path.startswith(hooks)
        else expected.path
    )


def _transfer(plan: Plan, number: int, row: Row, token: Secret) -> str:
    names = ["http_code", "time_connect", "time_appconnect", "time_starttransfer", "time_total", "content_type"]
    options: list[tuple[str, str]] = [
        ("url", row.url + _path(plan, row.expected)),
        ("request", row.expected.method),
        ("output", str(number)),
        ("max-time", "3"),
        ("noproxy", "*"),  # an option on the command line is for the first of them alone
        ("header", "Connection: close"),  # each row connects anew, so that each has a connect time
        ("write-out", "\t".join(["row", str(number), *(f"%{{{name}}}" for name in names)]) + "\n"),
    ]
    if row.expected.method == "POST":
        if row.expected.token:
            options += [("header", f"Authorization: Bearer {token.value}")]
        options += [("header", "Content-Type: application/json"), ("data", row.expected.data)]
    if row.connect_to:
        options += [("connect-to", row.connect_to)]
        options += [("header", f"{name}: {value}") for name, value in plan.nginx.probe_headers.items()]
    lines = [f'{name} = "{_quoted(value)}"' for name, value in options]
    # The certificate is judged from outside, where clients are; here TLS is only timed.
    return "\n".join([*lines, "silent", *(["insecure"] if row.connect_to else []), ""])


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")


def parse(asked: list[Row], done: Completed) -> pd.DataFrame:
    """The matrix as a table: COLUMNS, times in ms (tls_ms is the handshake alone, NaN without TLS), ok as bool."""
    timings = {int(row[1]): row[2:] for row in done.rows(8) if row[0] == "row"}
    bodies = {int(row[1]): row[2] for row in done.rows(3) if row[0] == "body"}
    table = []
    for number, row in enumerate(asked):
        status, connect, appconnect, first_byte, total, content_type = timings.get(
            number, ["0", "0", "0", "0", "0", ""]
        )
        connect_ms, app_ms = float(connect) * 1000, float(appconnect) * 1000
        body = bodies.get(number, "")
        table.append(
            {
                "hop": row.hop,
                "gateway": row.gateway,
                "request": row.expected.title,
                "status": int(status),
                "connect_ms": connect_ms,
                "tls_ms": app_ms - connect_ms if app_ms else float("nan"),
                "first_byte_ms": float(first_byte) * 1000,
                "total_ms": float(total) * 1000,
                "content_type": content_type,
                "body": body,
                "ok": _as_expected(row.expected, int(status), content_type, body),
            }
        )
    return pd.DataFrame(table, columns=COLUMNS)


def ask_from_outside(
    plan: Plan, hooks_token: Secret, requests: tuple[Expected, ...] = OUTSIDE, timeout_s: float = 10
) -> pd.DataFrame:
    """The same requests from the operator's machine, at once, each on a new connection; same columns, hop `outside`."""
    with ThreadPoolExecutor(len(requests)) as threads:
        asked = threads.map(lambda expected: _ask(plan, expected, hooks_token, timeout_s), requests)
        return pd.DataFrame(asked, columns=COLUMNS)


def _ask(plan: Plan, expected: Expected, token: Secret, timeout_s: float) -> dict[str, Any]:
    marks: dict[str, float] = {}

    def trace(event: str, info: Any) -> None:
        marks[event] = time.perf_counter()

    headers = dict(plan.nginx.probe_headers)
    if expected.method == "POST":
        headers |= {"Content-Type": "application/json"}
        if expected.token:
            headers |= {"Authorization": f"Bearer {token.value}"}
    verify = plan.nginx.ca_file or True
    started = time.perf_counter()
    row: dict[str, Any] = {"hop": "outside", "gateway": "public", "request": expected.title}
    try:
        with httpx.Client(verify=_tls(verify), timeout=timeout_s, trust_env=False) as client:
            answer = client.request(
                expected.method,
                plan.nginx.public_url + _path(plan, expected),
                headers=headers,
                content=expected.data or None,
                extensions={"trace": trace},
            )
    except httpx.HTTPError as error:
        return {
            **row,
            "status": 0,
            "content_type": "",
            "body": f"{type(error).__name__}: {error}",
            "ok": False,
        }

    def between_ms(first: str, last: str) -> float:
        return (marks[last] - marks[first]) * 1000 if first in marks and last in marks else float("nan")

    content_type = answer.headers.get("content-type", "")
    return {
        **row,
        "status": answer.status_code,
        "connect_ms": between_ms("connection.connect_tcp.started", "connection.connect_tcp.complete"),
        "tls_ms": between_ms("connection.start_tls.started", "connection.start_tls.complete"),
        "first_byte_ms": between_ms("connection.connect_tcp.started", "http11.receive_response_headers.complete"),
        "total_ms": (time.perf_counter() - started) * 1000,
        "content_type": content_type,
        "body": answer.text[:BODY_LIMIT],
        "ok": _as_expected(expected, answer.status_code, content_type, answer.text),
    }


def send_keys(plan: Plan, count: int, timeout_s: float = 10) -> None:
    """Send `count` requests through the public address, each with a delivery key of its own."""
    url, verify = plan.nginx.public_url + openclaw.STARTED, _tls(plan.nginx.ca_file or True)
    headers = [{**plan.nginx.probe_headers, "Idempotency-Key": f"rollout-{uuid.uuid4()}"} for _ in range(count)]
    with httpx.Client(verify=verify, timeout=timeout_s, trust_env=False) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda own: client.get(url, headers=own), headers))


def _tls(verify: str | bool) -> Any:
    return ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify


def _as_expected(expected: Expected, status: int, content_type: str, body: str) -> bool:
    if expected is ADMIN_IS_CLOSED:  # your own server block may hide it with 404 instead
        return status in (403, 404) and openclaw.UNATTRIBUTED not in body
    return status == expected.status and content_type.startswith(expected.content_type) and expected.body in body


def judge_matrix(table: pd.DataFrame) -> list[Check]:
    """One check a hop and gateway; a bad canary beside a green primary says so, and a known refusal is explained."""
    checks = []
    for (hop, name), part in table.groupby(["hop", "gateway"], sort=False):
        bad = part[~part["ok"]]
        at_fault = _at_fault(table, str(hop), str(name))
        if bad.empty:
            slowest = part["total_ms"].max()
            reason = f"{name} {hop}: {len(part)} of {len(part)} requests as expected, the slowest took {slowest:.0f} ms"
        else:
            first = bad.iloc[0]
            known = openclaw.explain(int(first["status"]), str(first["body"]))
            if first["request"] == ADMIN_IS_CLOSED.title and first["status"]:
                known = (
                    f"{first['status']}, not nginx's 403: the operator's RPC is open, deny {openclaw.ADMIN} in nginx"
                )
            said = known or f"{first['status'] or 'no answer'} {str(first['body'])[:120]}".strip()
            reason = f"{name} {hop}: {len(bad)} of {len(part)} requests not as expected; {first['request']} got {said}"
        checks.append(
            Check(
                f"matrix {hop} {name}",
                Answer.PASS if bad.empty else Answer.FAIL,
                reason,
                at_fault,
                measured=float(len(bad)),
                threshold=0.0,
                unit="requests",
                samples_count=len(part),
            )
        )
    return checks


def _at_fault(table: pd.DataFrame, hop: str, name: str) -> Hop:
    """The innermost hop on this way that does not answer by itself: a dead gateway is not nginx's fault."""

    def well(inner: str) -> bool:
        return bool(table[(table["hop"] == inner) & (table["gateway"] == name)]["ok"].all())

    if hop == "outside":
        return Hop.PATH if well("nginx tls") else Hop.NGINX
    if hop == "direct" or (name != "public" and not well("direct")):
        return Hop.CANARY if name == "canary" else Hop.PRIMARY
    return Hop.NGINX
