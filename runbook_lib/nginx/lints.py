"""What the article's advice and open-source nginx disagree on: each finding with file, line and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from runbook_lib.nginx.adoption import adopt, refusals
from runbook_lib.nginx.asking import Nginx
from runbook_lib.nginx.configuration import Configuration, Directive, proxies_to
from runbook_lib.nginx.ways import is_managed, unsplit
from runbook_lib.plan.models import Plan
from runbook_lib.verdict import Answer, Check, Hop

COLUMNS = ["severity", "rule", "file", "line", "finding", "fix"]


@dataclass(frozen=True)
class Finding:
    """`error` stops the rollout, `advice` does not."""

    severity: str
    rule: str
    file: str
    line: int
    finding: str
    fix: str


def lint(plan: Plan, nginx: Nginx) -> pd.DataFrame:
    """Every finding about nginx's configuration as it is on disk; COLUMNS, one row each, errors first."""
    if nginx.configuration is None:
        found = [_refused(plan, nginx.test_text)]
    else:
        found = [finding for rule in RULES for finding in rule(plan, nginx, nginx.configuration)]
    frame = pd.DataFrame([vars(finding) for finding in dict.fromkeys(found)], columns=COLUMNS)
    return frame.sort_values("severity", key=lambda s: s != "error", kind="stable", ignore_index=True)


def judge(findings: pd.DataFrame) -> list[Check]:
    """One check for the whole configuration, naming the first error."""
    errors = findings[findings["severity"] == "error"]
    advice_count = len(findings) - len(errors)
    if errors.empty:
        return [Check("nginx configuration", Answer.PASS, f"0 errors and {advice_count} pieces of advice", Hop.NGINX)]
    first = errors.iloc[0]
    return [
        Check(
            "nginx configuration",
            Answer.FAIL,
            f"{len(errors)} errors; {first['file']} line {first['line']}: {first['finding']}",
            Hop.NGINX,
            remedy=str(first["fix"]),
        )
    ]


def _refused(plan: Plan, text: str) -> Finding:
    """What `nginx -t` says, at the file and line it names."""
    place = re.search(r" in (\S+):(\d+)", text)
    file, line = (place[1], int(place[2])) if place else (plan.nginx.conf, 0)
    if 'invalid parameter "slow_start=' in text:
        fix = "remove slow_start: this nginx has none, the runbook ramps the weight instead"
        return Finding("error", "slow_start", file, line, text.strip(), fix)
    return Finding("error", "nginx -t", file, line, text.strip(), "mend this before anything else")


def _at(severity: str, rule: str, directive: Directive, finding: str, fix: str) -> Finding:
    return Finding(severity, rule, directive.file, directive.line, finding, fix)


def _lone_server(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    for upstream in _groups(plan, conf):
        servers = upstream.find("server")
        for server in servers:
            if len(servers) == 1 and any(a.startswith(("max_fails=", "fail_timeout=")) for a in server.args):
                if is_managed(plan, upstream):
                    continue
                yield _at(
                    "advice",
                    "lone max_fails",
                    server,
                    f"max_fails and fail_timeout of the only server in {upstream.args[0]} are ignored: nginx never "
                    "considers a lone server unavailable",
                    "add a backup server, or do without them",
                )


def _slow_start(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    for server in conf.walk("server"):
        if any(a.startswith("slow_start=") for a in server.args) and not nginx.has_slow_start:
            yield _at(
                "error", "slow_start", server, "this nginx has no slow_start", "remove it: the runbook ramps the weight"
            )


def _localhost(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    for directive in [s for u in _groups(plan, conf) for s in u.find("server")] + _ways(plan, conf):
        if re.match(r"(https?://)?localhost\b", directive.args[0]):
            yield _at(
                "error",
                "localhost",
                directive,
                f"{directive.text()}: localhost is 127.0.0.1 and ::1, and a gateway on one of them resets the other",
                "write 127.0.0.1",
            )


def _attribution(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    for proxy in proxies_to(conf, plan.primary.port):
        if is_managed(plan, proxy):
            continue
        headers = {h.args[0].lower(): h for h in _headers(proxy)}
        forwarded = headers.get("x-forwarded-for")
        if forwarded is None or forwarded.args[1] not in ("$remote_addr", "${remote_addr}"):
            yield _at(
                "error",
                "attribution",
                forwarded or proxy,
                "X-Forwarded-For is not overwritten with $remote_addr: OpenClaw answers 403 proxy_attribution_required "
                "to everything but /healthz, so health is green while all real traffic is refused",
                "proxy_set_header X-Forwarded-For $remote_addr;",
            )
        version = proxy.within[-1].effective("proxy_http_version")
        if version is None or version.args[0] != "1.1":
            yield _at("advice", "keepalive", proxy, "upstream keepalive needs HTTP/1.1", "proxy_http_version 1.1;")
        if "upgrade" not in headers:
            yield _at(
                "advice",
                "websocket",
                proxy,
                "no Upgrade header: WebSockets do not pass",
                "proxy_set_header Upgrade $http_upgrade;",
            )


def _headers(proxy: Directive) -> list[Directive]:
    """The proxy_set_header lines that hold at a location: the nearest level that has any."""
    for level in (proxy.within[-1], *reversed(proxy.within[-1].within)):
        if found := level.find("proxy_set_header"):
            return found
    return []


def _read_timeout(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    wanted_s = plan.runtime.longest_model_round_trip_s
    for proxy in proxies_to(conf, plan.primary.port):
        if is_managed(plan, proxy):
            continue
        timeout = proxy.within[-1].effective("proxy_read_timeout")
        seconds = _seconds(timeout.args[0]) if timeout else 60.0
        if seconds < wanted_s:
            yield _at(
                "error",
                "proxy_read_timeout",
                timeout or proxy,
                f"{seconds:g} s is below the longest model round trip of {wanted_s:g} s",
                f"proxy_read_timeout {plan.nginx.proxy_read_timeout_s:g}s;",
            )


def _retries(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    ways = [proxy.within[-1].effective("proxy_next_upstream") for proxy in _ways(plan, conf)]
    for directive in dict.fromkeys(way for way in ways if way is not None):
        if "non_idempotent" in directive.args:
            yield _at(
                "error",
                "non_idempotent",
                directive,
                "a webhook that a gateway has begun is sent to the other one as well, and runs twice",
                "remove non_idempotent",
            )


def _connections(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    found = next(iter(conf.walk("worker_connections")), None)
    connections = int(found.args[0]) if found else 512
    limit = next(iter(conf.walk("worker_rlimit_nofile")), None)
    files = limit.args[0] if limit else nginx.open_files
    at = found or conf.root
    if files.isdigit() and int(files) < connections:
        yield _at(
            "error",
            "open files",
            limit or at,
            f"worker_connections is {connections}, but a worker may open {files} files",
            f"worker_rlimit_nofile {connections * 2};",
        )
    if not files:
        yield _at(
            "advice",
            "open files",
            at,
            f"worker_connections is {connections}; how many files a worker may open is not known: neither "
            "worker_rlimit_nofile nor the job's plist says it, and macOS gives a job 256",
            f"worker_rlimit_nofile {connections * 2};",
        )
    keepalive = sum(int(d.args[0]) for d in conf.walk("keepalive") if d.args[0].isdigit()) or 64
    if connections < 4 * keepalive:
        yield _at(
            "advice",
            "worker_connections",
            at,
            f"{connections} connections a worker, of which {keepalive} may lie idle in upstream keepalive; a proxied "
            "request needs two: a burst of replays starves the workers",
            f"worker_connections {max(1024, 4 * keepalive)};",
        )


def _tls(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    """Of servers that speak TLS: "so you do not accidentally enable a slower path only on the canary chain"."""
    servers = {
        next(d for d in reversed(p.within) if d.name == "server")
        for port in (plan.primary.port, plan.canary.port)
        for p in proxies_to(conf, port)
        if not is_managed(plan, p)
    }
    servers = {s for s in servers if any("ssl" in listen.args for listen in s.find("listen")) or _is_on(s, "ssl")}
    for name in ("ssl_protocols", "ssl_ciphers"):
        values = {s: d.text() if (d := s.effective(name)) else "the default" for s in servers}
        if len(set(values.values())) > 1:
            server = max(servers, key=lambda s: (s.file, s.line))
            yield _at(
                "error",
                "tls",
                server,
                f"{name} differs between the ways to the gateways: {sorted(set(values.values()))}",
                f"write one {name} for both",
            )


def _logs(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    wanted = ("upstream_status", "upstream_connect_time", "upstream_header_time")
    formats = [" ".join(f.args) for f in conf.walk("log_format") if not is_managed(plan, f)]
    if not any(all(name in text for name in wanted) for text in formats):
        yield _at(
            "advice",
            "log format",
            next(iter(conf.walk("log_format")), conf.root),
            "no log format of yours has upstream status, connect and header time: hops cannot be told apart in it",
            "nothing: the runbook writes a log of its own beside yours",
        )


def _adoption(plan: Plan, nginx: Nginx, conf: Configuration) -> Iterator[Finding]:
    """What the first weight would be refused for, and what it would leave past the split."""
    refused = refusals(plan, conf)
    for one in refused:
        yield Finding("error", one.rule, one.file, one.line, one.finding, one.fix)
    if plan.nginx.sudo and not refused:
        for file, text in adopt(plan, conf).items():
            if file != plan.nginx.server_file and text != conf.files[file]:
                finding = "this file is edited, too, and the printed sudoers file allows nginx.server_file alone"
                yield Finding("advice", "sudo", file, 1, finding, "allow it as the printed file allows that one")
    for proxy in unsplit(plan, conf):
        finding = f"`{proxy.text()}` leads to primary past the split: its requests are never the canary's"
        yield _at("advice", "not split", proxy, finding, "nothing, or serve it from nginx.server_file")


def _ways(plan: Plan, conf: Configuration) -> list[Directive]:
    """The proxy_pass lines of yours that lead to a gateway."""
    found = [p for port in (plan.primary.port, plan.canary.port) for p in proxies_to(conf, port)]
    return [proxy for proxy in dict.fromkeys(found) if not is_managed(plan, proxy)]


def _groups(plan: Plan, conf: Configuration) -> list[Directive]:
    """The upstream groups of yours that lead to a gateway."""
    named = {re.sub(r"^https?://", "", proxy.args[0]).partition("/")[0] for proxy in _ways(plan, conf)}
    return [group for group in conf.walk("upstream") if group.args[0] in named and not is_managed(plan, group)]


def _is_on(server: Directive, name: str) -> bool:
    found = server.effective(name)
    return found is not None and found.args[0] == "on"


def _seconds(text: str) -> float:
    """A time as nginx writes it: ms, s, m, h, d, w; a bare number is seconds."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw]|)", text))


RULES = (
    _lone_server,
    _slow_start,
    _localhost,
    _attribution,
    _read_timeout,
    _retries,
    _connections,
    _tls,
    _logs,
    _adoption,
)
