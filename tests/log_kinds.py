"""Lines as many programs write them, each kind with what it says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

UPSTREAMS = {"127.0.0.1:18789": "primary", "127.0.0.1:18890": "canary"}
A, B = "127.0.0.1:18789", "127.0.0.1:18890"
AT, LOCAL = "2026-03-01T10:00:{:02d}+00:00", "01/Mar/2026:10:00:{:02d} +0000"


@dataclass(frozen=True)
class Kind:
    """Lines of one kind, and what they say: requests and 5xx by gateway, and p95 by gateway and metric."""

    lines: list[str]
    answers_5xx: int
    attempts: dict[str, int] = field(default_factory=dict)
    p95_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    format: str = "json"


def each(line: str, bad: int = 500, count: int = 60) -> list[str]:
    """The line at `count` seconds, with a `bad` status every twentieth time."""
    made = []
    for number in range(count):
        status = str(bad if number % 20 == 0 else 200)
        found = line.replace("<status>", status).replace("<s>", f"{number:02d}")
        made.append(found.replace("<at>", AT.format(number)).replace("<local>", LOCAL.format(number)))
    return made


def inside(around: str, line: str) -> list[str]:
    """The same lines in an envelope."""
    return [around.replace("<line>", made) for made in each(line)]


HEAD = '192.0.2.1 - - [<local>] "GET /a HTTP/1.1" <status> 12 "-" "probe (x; y)"'
QUOTED = (
    HEAD + ' "198.51.100.1, 203.0.113.9" rt=0.0<s> uct="0.001" uht="0.0<s>" urt="0.0<s>" ua="' + A + '" us="<status>"'
)
PLAIN = HEAD + f" rt=0.0<s> uct=0.001 uht=0.0<s> urt=0.0<s> ua={A} us=<status>"
NGINX = '{"time_iso8601":"<at>","request":"GET /a HTTP/1.1","status":<status>,"request_time":"0.0<s>"'
AGENT = '{"time":"<at>","uri":"/a","status":<status>,"ua":"Mozilla/5.0 (X11; Linux x86_64)","request_time":"0.0<s>"'
CADDY = (
    '{"level":"info","ts":17723592<s>.5241024,"logger":"http.log.access.log0","msg":"handled request","request":{'
    '"method":"GET","uri":"/a","headers":{"User-Agent":["probe"]}},"bytes_read":0,"duration":0.0<s>345,"size":12,"status":<status>}'
)
TRAEFIK = (
    '{"ClientAddr":"192.0.2.1:39490","DownstreamStatus":<status>,"Duration":<s>215563,"OriginDuration":<s>204708,'
    f'"OriginStatus":<status>,"RequestMethod":"GET","ServiceAddr":"{A}","StartUTC":"2026-03-01T10:00:<s>.000000001Z",'
    '"time":"<at>"}'
)
LTSV = "time:<local>\thost:192.0.2.1\treq:GET /a HTTP/1.1\tstatus:<status>\tua:probe\treqtime:0.0<s>\tapptime:0.0<s>"
ALL = {("primary", "request"): 56, ("primary", "header"): 56, ("primary", "response"): 56, ("primary", "connect"): 1}
WHOLE = {("primary", "request"): 56, ("primary", "response"): 56}
INGRESS = HEAD + " 123 0.0<s> [web-80] [] {} {} {} {} abcdef"
MIXED = f"{B}, {A}"
TIMED = (3, {"primary": 60}, ALL, "combined")
SEEN = {("none", "request"): 56}
FAILOVER = (
    f'{{"msec":"17723592<s>.000","status":"200","request_time":"0.030","upstream_addr":"{B}, {A}",'
    '"upstream_status":"502, 200","upstream_connect_time":"-, 0.001","upstream_header_time":"-, 0.020",'
    '"upstream_response_time":"0.000, 0.020"}'
)
KINDS = {
    "combined with named times, quoted": Kind(each(QUOTED), *TIMED),
    "combined with named times, bare": Kind(each(PLAIN), *TIMED),
    "Caddy": Kind(each(CADDY), 3, {}, SEEN),
    "Traefik": Kind(each(TRAEFIK), 3, {"primary": 60}, {("primary", "request"): 56, ("primary", "response"): 56}),
    "nested": Kind(each(NGINX + ',"geo":{"country":"XX"}}'), 3, {}, SEEN),
    "a quote in a value": Kind(each(NGINX + r',"http_user_agent":"probe \"x\""}'), 3, {}, SEEN),
    "short keys": Kind(each('{"ts":"<at>","uri":"/a","status":<status>,"rt":"0.0<s>","urt":"0.011"}'), 3, {}, SEEN),
    "ua is the user agent": Kind(each(AGENT + ',"upstream_response_time":"0.010"}'), 3, {}, SEEN),
    "ua is the user agent, no times of upstreams": Kind(each(AGENT + "}"), 3, {}, SEEN),
    "a time in brackets": Kind(each(NGINX.replace("<at>", "[<local>]") + "}"), 3, {}, SEEN),
    "microseconds since 1970": Kind(
        each('{"ts":17723592<s>.000413,"status":<status>,"request_time":"0.0<s>"}'), 3, {}, SEEN
    ),
    "5xx and no upstream": Kind(each(NGINX + "}"), 3, {}, SEEN),
    "an attempt that failed": Kind(each(FAILOVER), 0, {"canary": 60, "primary": 60}, {("primary", "header"): 20}),
    "a quote in the request": Kind(each(HEAD.replace("/a", r"/a?x=\"y\"")), 3, {}, {}, "combined"),
    "forwarded for first": Kind(each('"198.51.100.1, 203.0.113.9" ' + HEAD), 3, {}, {}, "combined"),
    "an ISO time": Kind(each(HEAD.replace("<local>", "<at>") + " 0.012"), 3, {}, {}, "combined"),
    "a tab and more": Kind(each(HEAD + f"\t0.010\t{A}"), 3, {}, {}, "combined"),
    "ingress": Kind(each(INGRESS.format(A, "12", "0.0<s>", "<status>")), 3, {"primary": 60}, WHOLE, "ingress"),
    "ingress, an attempt that failed": Kind(
        each(INGRESS.format(MIXED, "0, 12", "0.000, 0.0<s>", "502, 200")), 3, {"canary": 60, "primary": 60},
        {("primary", "response"): 56}, "ingress",
    ),
    "a long time of Go": Kind(
        each('{"time":"<at>","status":<status>,"latency":"1m2.5s"}'), 3, {}, {("none", "request"): 62_500}
    ),
    "LTSV": Kind(each(LTSV), 3, {}, SEEN, "ltsv"),
    "docker": Kind([json.dumps({"log": f"{line}\n", "stream": "stdout"}) for line in each(QUOTED)], *TIMED),
    "docker and JSON": Kind([json.dumps({"log": line, "stream": "stdout"}) for line in each(NGINX + "}")], 3, {}, SEEN),
    "containerd": Kind(inside("2026-03-01T10:00:01.5Z stdout F <line>", QUOTED), *TIMED),
    "containerd and JSON": Kind(inside("2026-03-01T10:00:01.5Z stdout F <line>}", NGINX), 3, {}, SEEN),
    "syslog": Kind(inside("<190>Mar  1 10:00:01 mac nginx: <line>", QUOTED), *TIMED),
    "syslog, RFC 5424": Kind(inside("<190>1 2026-03-01T10:00:01Z mac nginx 12 - - <line>}", NGINX), 3, {}, SEEN),
    "kubectl": Kind(inside("[pod/web-1/nginx] 2026-03-01T10:00:01.5Z <line>}", NGINX), 3, {}, SEEN),
    "commas between": Kind(each(PLAIN.replace(" uct", ",uct").replace(" uht", "; uht").replace(" us", "|us")), *TIMED),
    "compose": Kind(inside("proxy-1  | <line>", PLAIN), *TIMED),
}  # fmt: skip
