"""A log with everything that can be in one, and a reader that shares no code with ours.

The reader is plain Python: it splits each line, and counts in dictionaries. It says what is right.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

UPSTREAMS = {"127.0.0.1:18789": "primary", "127.0.0.1:18890": "canary", "[::1]:18890": "canary"}
FIELDS = (
    *("msec", "openclaw_target", "openclaw_revision", "status", "upstream_addr", "upstream_status"),
    *("upstream_connect_time", "upstream_header_time", "upstream_response_time", "request_time"),
    *("connection", "connection_requests", "pid", "request_id", "request_method", "uri"),
)
A, B = "127.0.0.1:18789", "127.0.0.1:18890"
START_MS = 1_778_025_600_000


def seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d}"


def usual(rng: random.Random, at_ms: int) -> list[str]:
    """A request as most are."""
    canary = rng.random() < 0.12
    connect = rng.choice((0, 0, 0, 1, 3, 130))
    header = connect + int(rng.lognormvariate(5, 1))
    response = header + int(rng.lognormvariate(3, 1.5))
    status = "502" if rng.random() < 0.01 else "200"
    return [
        seconds(at_ms), "canary" if canary else "primary", rng.choice(("r7", "r8")), status, B if canary else A,
        status, seconds(connect), seconds(header), seconds(response), seconds(max(0, response - rng.choice((0, 1)))),
        str(rng.randrange(10**6)), "3", str(4711 + rng.randrange(8)), f"{rng.getrandbits(128):032x}", "POST",
        rng.choice(("/webhook/github", "/webhook/stripe", r"/caf\xC3\xA9", "/a b")),
    ]  # fmt: skip


SPECIAL: list[dict[str, str]] = [
    {"upstream_addr": f"{B}, {A}", "upstream_status": "502, 200", "upstream_connect_time": "-, 0.000",
     "upstream_header_time": "-, 0.012", "upstream_response_time": "0.000, 0.012", "openclaw_target": "canary"},
    {"upstream_addr": f"{A} : {A}", "upstream_status": "500 : 200", "upstream_connect_time": "0.001 : 0.000",
     "upstream_header_time": "0.004 : 0.002", "upstream_response_time": "0.004 : 0.002", "openclaw_target": "primary"},
    {"upstream_addr": f"{B}, {B} : {A}", "upstream_status": "504, 502 : 200", "upstream_connect_time": "-, - : 0.000",
     "upstream_header_time": "-, - : 0.002", "upstream_response_time": "60.000, 0.000 : 0.002",
     "openclaw_target": "canary"},
    {"upstream_addr": "openclaw_canary", "upstream_status": "502", "upstream_connect_time": "-",
     "upstream_header_time": "-", "upstream_response_time": "0.000", "openclaw_target": "canary", "status": "502"},
    {"upstream_addr": B, "upstream_status": "-", "upstream_connect_time": "0.000", "upstream_header_time": "-",
     "upstream_response_time": "9.990", "openclaw_target": "canary", "status": "499", "request_time": "9.990"},
    {"upstream_addr": B, "upstream_status": "504", "upstream_connect_time": "0.000", "upstream_header_time": "-",
     "upstream_response_time": "60.001", "openclaw_target": "canary", "status": "504", "request_time": "60.001"},
    {"upstream_addr": "-", "upstream_status": "-", "upstream_connect_time": "-", "upstream_header_time": "-",
     "upstream_response_time": "-", "openclaw_target": "-", "status": "404"},
    {"upstream_addr": "-", "upstream_status": "-", "upstream_connect_time": "-", "upstream_header_time": "-",
     "upstream_response_time": "-", "openclaw_target": "", "openclaw_revision": "", "status": "400", "uri": "-"},
    {"upstream_addr": "", "upstream_status": "-", "upstream_connect_time": "-", "upstream_header_time": "-",
     "upstream_response_time": "0.000", "openclaw_target": "primary", "status": "500"},
    {"status": "000"},
    {"status": "101", "upstream_status": "101", "upstream_response_time": "7008.123", "request_time": "7008.124"},
    {"upstream_response_time": "12345.678", "request_time": "12345.678"},
    {"upstream_addr": "unix:/run/other.sock"},
    {"upstream_addr": "10.0.0.9:80"},
    {"upstream_addr": "[::1]:18890"},
    {"openclaw_target": "somewhere"},
    {"openclaw_revision": "a-revision-with-a-very-long-name-0123456789"},
    {"pid": "123456789"},  # too long to be one
    {"msec": "1778025600"},
    {"msec": "9778025600.000"},  # after 2106
    {"msec": "0000000001.000"},
    {"msec": "4100000000.000"},
    {"status": "20"},
    {"status": "2000"},
    {"status": "-"},
    {"upstream_status": "502, 200"},  # as many attempts as addresses there are not
    {"upstream_connect_time": "0.1"},
    {"upstream_connect_time": "1e-3"},
    {"request_time": "-"},
    {"request_time": "0.0001"},
]  # fmt: skip


def torture(lines_count: int = 20_000, seed: int = 1) -> bytes:
    """Mostly usual lines, in an order in which clocks jump and some come late; the last one is torn."""
    rng = random.Random(seed)
    at_ms, lines = START_MS, []
    for number in range(lines_count):
        at_ms += rng.randrange(400)
        late_ms = rng.choice((0, 0, 0, 0, 3_000, 2_000_000)) if rng.random() < 0.01 else 0
        values = usual(rng, at_ms - late_ms)
        if rng.random() < 0.03:
            values = list((dict(zip(FIELDS, values, strict=True)) | rng.choice(SPECIAL)).values())
        line = "\t".join(values).encode("latin-1")
        if number % 1009 == 0:
            line = rng.choice(
                (
                    line[: rng.randrange(1, len(line))],  # torn
                    line[: rng.randrange(1, 12)] + line,  # torn and written over
                    line + b"\t",
                    line.replace(b"\t", b" "),
                    b"\0" * rng.randrange(1, 200),
                    b"",
                    b"\xff\xfe" + line,
                    line + b"\xff\x80",  # raw bytes where they do no harm
                    line.replace(b"\t", b"\x01", 1),
                    line + b"\r",
                    b"x" * 70_000,
                )
            )
        lines.append(line)
    return b"\n".join(lines) + b"\n" + lines[0][:40]


def as_json(content: bytes) -> bytes:
    """The same as JSON lines, where a line can be said in JSON; with another order of keys now and then."""
    rng, lines = random.Random(2), []
    for line in content.split(b"\n")[:-1]:
        values = line.decode("latin-1").split("\t")
        if len(values) != len(FIELDS):
            lines.append(line)
            continue
        record: dict[str, object] = dict(zip(FIELDS, values, strict=True))
        record["http_user_agent"] = rng.choice(("GitHub-Hookshot/1", 'quoted "agent"', "back\\slash", ""))
        if rng.random() < 0.01:
            record = dict(sorted(record.items()))
        if rng.random() < 0.01 and str(record["pid"]).isdigit():
            record["pid"] = int(str(record["pid"]))
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=rng.random() < 0.5)
        lines.append(text.encode("utf-8") if rng.random() > 0.001 else text.encode("utf-8")[: len(text) // 2])
    return b"\n".join(lines) + b"\n"


@dataclass
class Truth:
    """What a log says, counted one by one."""

    lines_count: int = 0
    unparsed_count: int = 0
    times: dict[tuple[int, str, str, str], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    ticks: dict[tuple[str, str, str], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    workers: dict[tuple[int, str, int, str], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))


def to_ms(text: str) -> int | None:
    """None for nothing; ValueError for rubbish."""
    if text in ("-", ""):
        return None
    if not re.fullmatch(r"[0-9]{1,6}\.[0-9]{3}", text):
        raise ValueError(text)
    return round(float(text) * 1000)


def to_status(text: str) -> int | None:
    if text in ("-", ""):
        return None
    if not re.fullmatch("[0-9]{3}", text):
        raise ValueError(text)
    return int(text)


def record_of_line(line: bytes) -> dict[str, str]:
    """ValueError for what is no record."""
    if line.startswith(b"{"):
        record = json.loads(line.decode("utf-8", "replace"), strict=False)
        whole = ".000" if re.fullmatch("[0-9]{10}", record["msec"]) else ""  # as some write it; ours never does
        return {name: str(record[name]) for name in FIELDS} | {"msec": record["msec"] + whole}
    if any(byte < 32 and byte != 9 for byte in line):
        raise ValueError("control character")
    return dict(zip(FIELDS, line.decode("latin-1").split("\t"), strict=True))


def truth_of(content: bytes, window_s: int, tick_s: int) -> Truth:
    truth = Truth()
    for line in content.split(b"\n")[:-1]:
        if not (line := line.removesuffix(b"\r")):
            continue
        truth.lines_count += 1
        try:
            count_record(truth, record_of_line(line), window_s, tick_s)
        except ValueError:
            truth.unparsed_count += 1
    return truth


def count_record(truth: Truth, record: dict[str, str], window_s: int, tick_s: int) -> None:
    if not re.fullmatch(r"[0-9]{10}\.[0-9]{3}", record["msec"]) or float(record["msec"]) >= 2**32:
        raise ValueError("time")
    status = to_status(record["status"])
    if status is None or not re.fullmatch("[0-9]{1,8}|-", record["pid"]):
        raise ValueError("status or pid")
    at_ms, request_ms = round(float(record["msec"]) * 1000), to_ms(record["request_time"])
    names = ("upstream_addr", "upstream_status", "upstream_connect_time", "upstream_header_time")
    lists = [re.split(", | : ", record[name]) for name in (*names, "upstream_response_time")]
    asked = record["upstream_addr"] not in ("-", "")
    attempts = []
    if asked:
        for address, state, *times in zip(*lists, strict=True):
            attempts.append((address, to_status(state), *(to_ms(text) for text in times)))

    revision = record["openclaw_revision"] or "-"
    target = {"canary": "canary", "primary": "primary", "-": "none", "": "none"}.get(record["openclaw_target"], "other")
    window, tick = at_ms // 1000 // window_s * window_s, at_ms // 1000 // tick_s

    def where(address: str) -> str:
        return {"openclaw_canary": "canary", "openclaw_primary": "primary"}.get(
            address, UPSTREAMS.get(address, "other")
        )

    def mark(gateway: str, what: str, yes: bool = True, at: int = tick) -> None:
        if yes:
            truth.ticks[revision, gateway, what][at] += 1

    def measure(gateway: str, metric: str, ms: int | None) -> None:
        if ms is not None:
            truth.times[window, revision, gateway, metric][ms] += 1

    lasting = status == 101 or (request_ms or 0) > 600_000
    mark(target, "requests")
    mark(target, "started", at=(at_ms - (request_ms or 0)) // 1000 // tick_s)
    mark(target, "answers_5xx", status >= 500)
    mark(target, "aborted_499", status == 499)
    mark(target, "upgraded_101", status == 101)
    mark(target, "own_5xx", not asked and status >= 500)
    mark(target, "taken_over", asked and target != "none" and where(attempts[-1][0]) != target)
    measure(target, "long_lived" if lasting else "request", request_ms)
    for address, state, connect, header, response in attempts:
        gateway = where(address)
        is_group = address in ("openclaw_canary", "openclaw_primary")
        mark(gateway, "attempts")
        mark(gateway, "attempts_5xx", state is not None and state >= 500)
        mark(gateway, "no_live", is_group)
        mark(gateway, "failed_connects", not is_group and connect is None and state is not None)
        mark(gateway, "unanswered", connect is not None and header is None and state is None)
        mark(gateway, "zero_connects", connect == 0)
        measure(gateway, "connect", connect or None)
        measure(gateway, "header", header)
        if header is None and connect is not None:
            measure(gateway, "waited", response)
        if header is not None and response is not None and state != 101 and response <= 600_000:
            measure(gateway, "response", response)
            if record["pid"] != "-":
                kept = response if response < 100 else int(str(response)[:2] + "0" * (len(str(response)) - 2))
                truth.workers[window, revision, int(record["pid"]), gateway][kept] += 1


def nearest_rank(counted: Counter[int], percent: int) -> int:
    """The smallest value with at least that percentage of all at or under it."""
    everything = sorted(counted.elements())
    return everything[max(1, -(-percent * len(everything) // 100)) - 1]


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
