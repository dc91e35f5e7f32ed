"""How fast an access log is read: `python tests/bench_accesslog.py [--requests 5000000] [--huge]`.

The logs are generated once and kept in the folder of `--logs`. Times are of whole processes, imports
included, the best of `--repeat`; a long log is read on all cores. On a machine with other work trust the
ratios: a limit is met if the clock or the cpu meets it. `--huge` adds 25 million lines.
"""

from __future__ import annotations

import argparse
import calendar
import functools
import gzip
import itertools
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
UPSTREAMS = {"127.0.0.1:18789": "primary", "127.0.0.1:18890": "canary"}
CHUNK_COUNT = 200_000
START_S, RUN_S = 1_778_025_600, 172_800
READ = f"""
import hashlib, os, resource, sys
from pathlib import Path
from runbook_lib.analysis.named_log import read_log
counts = read_log([Path(name) for name in sys.argv[1:]], {UPSTREAMS}, 900)
own, each = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(own + each * (os.cpu_count() - 1))
print(counts.lines_count, counts.unparsed_count)
"""
HASHED = READ + "print(hashlib.sha256(counts.to_bytes()).hexdigest())"
DUCKDB = """
import sys, duckdb
path, *names = sys.argv[1:]
db = duckdb.connect()
if path.endswith(".json"):
    columns = dict.fromkeys(names, "VARCHAR")
    log = f"read_json('{path}', format='newline_delimited', columns={columns}, ignore_errors=true)"
else:
    plain = "delim='\\t', header=false, quote='', escape='', all_varchar=true, ignore_errors=true"
    log = f"read_csv('{path}', {plain}, names={names})"
db.execute(f'''create temp table log as select msec::double::bigint // 900 w, msec::double::bigint // 15 tick,
    openclaw_target target, openclaw_revision revision, pid, upstream_addr addr, status >= '500' bad,
    upstream_status >= '500' bad_attempt, upstream_connect_time = '-' refused,
    (try_cast(upstream_connect_time as double) * 1000)::int c, (try_cast(upstream_header_time as double) * 1000)::int h,
    (try_cast(upstream_response_time as double) * 1000)::int r, (try_cast(request_time as double) * 1000)::int q
    from {log}''')
for metric in "chrq":
    db.execute(f"select w, revision, addr, {metric}, count(*) from log group by all").fetchall()
db.execute("select w, revision, pid, addr, r // 10, count(*) from log group by all").fetchall()
db.execute('''select tick, revision, target, addr, count(*), sum(bad::int), sum(bad_attempt::int), sum(refused::int)
    from log group by all''').fetchall()
"""
NEW_LINES_COUNT = 20_000


def chunk(requests_count: int) -> list[list[str]]:
    """The first requests of two days, as fields; most are plain, some were retried, aborted or upgraded."""
    rng, rows, at = random.Random(1), [], START_S * 1000.0
    for i in range(CHUNK_COUNT):
        at += 2 * rng.random() * RUN_S * 1000 / requests_count
        at_ms = int(at)
        canary = rng.random() < 0.1
        address = "127.0.0.1:18890" if canary else "127.0.0.1:18789"
        header = int(rng.lognormvariate(5.5, 0.8)) + 1
        response = header + int(rng.lognormvariate(4, 1))
        times = [f"{ms // 1000}.{ms % 1000:03d}" for ms in (rng.choice((0, 0, 0, 1, 2)), header, response, response)]
        status = "502" if rng.random() < 0.001 else "200"
        upstream = [address, status, *times[:3]]
        kind = rng.random()
        if kind < 0.002:
            upstream = [f"{address}, 127.0.0.1:18789", "502, 200", "-, 0.000", f"-, {times[1]}", f"0.000, {times[2]}"]
        elif kind < 0.004:
            status, upstream = "499", [address, "-", "0.000", "-", times[2]]
        elif kind < 0.006:
            upstream = ["-"] * 5
        elif kind < 0.007:
            status, upstream[1] = "101", "101"
        seconds, name = f"{at_ms // 1000}.{at_ms % 1000:03d}", "canary" if canary else "primary"
        tail = [times[3], str(1000 + i // 3), str(i % 7), str(4711 + i % 8), f"{rng.getrandbits(128):032x}"]
        rows.append([seconds, name, "w010.00-3f2a", status, *upstream, *tail, "POST", f"/webhook/{i % 50}"])
    return rows


def slim(rows: list[list[str]]) -> bytes:
    return ("\n".join("\t".join(row) for row in rows) + "\n").encode()


KEYS = (
    *("msec", "openclaw_target", "openclaw_revision", "status", "upstream_addr", "upstream_status"),
    *("upstream_connect_time", "upstream_header_time", "upstream_response_time", "request_time"),
    *("connection", "connection_requests", "pid", "request_id", "request_method", "uri"),
)


def as_json(rows: list[list[str]]) -> bytes:
    rest = '"remote_addr":"203.0.113.9","http_user_agent":"GitHub-Hookshot/044aadd","body_bytes_sent":"1234"}\n'
    return "".join(
        "{" + "".join(f'"{k}":"{v}",' for k, v in zip(KEYS, row, strict=True)) + rest for row in rows
    ).encode()


def combined(rows: list[list[str]]) -> bytes:
    lines = []
    for row in rows:
        at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(int(row[0][:10])))
        lines.append(
            f'203.0.113.9 - - [{at}] "{row[14]} {row[15]} HTTP/1.1" {row[3]} 1234 "-" "GitHub-Hookshot/044aadd"\n'
        )
    return "".join(lines).encode()


def with_times(rows: list[list[str]]) -> bytes:
    """Combined with what many people add: rt= uct= uht= urt= ua= us=."""
    lines = []
    for line, row in zip(combined(rows).decode().splitlines(), rows, strict=True):
        times = f'rt={row[9]} uct="{row[6]}" uht="{row[7]}" urt="{row[8]}" ua="{row[4]}" us="{row[5]}"'
        lines.append(f'{line} "198.51.100.1, 203.0.113.9" {times}\n')
    return "".join(lines).encode()


def later(content: bytes, offset: int, seconds: int, combined_log: bool) -> bytes:
    """The same lines some time later: the ten digits (or the date) at `offset` of each line are rewritten."""
    text = np.frombuffer(content, np.uint8).copy()
    starts = np.concatenate(([0], np.flatnonzero(text == 10)[:-1] + 1)) + offset
    if combined_log:
        stamps: dict[bytes, bytes] = {}
        width = 20
        fields = text[starts[:, None] + np.arange(width)].tobytes()
        for i in range(0, len(fields), width):
            stamp = fields[i : i + width]
            if stamp not in stamps:
                at = calendar_s(stamp) + seconds
                stamps[stamp] = time.strftime("%d/%b/%Y:%H:%M:%S", time.gmtime(at)).encode()
        new = b"".join(stamps[fields[i : i + width]] for i in range(0, len(fields), width))
    else:
        width = 10
        digits = text[starts[:, None] + np.arange(width)].astype(np.int64) - 48
        values = (digits * 10 ** np.arange(9, -1, -1)).sum(axis=1) + seconds
        new = "".join(map(str, values.tolist())).encode()
    text[starts[:, None] + np.arange(width)] = np.frombuffer(new, np.uint8).reshape(-1, width)
    return text.tobytes()


def calendar_s(stamp: bytes) -> int:
    return calendar.timegm(time.strptime(stamp.decode(), "%d/%b/%Y:%H:%M:%S"))


FORMS: dict[str, tuple[Callable[[list[list[str]]], bytes], int]] = {
    "log": (slim, 0),
    "json": (as_json, len('{"msec":"')),
    "combined": (combined, len("203.0.113.9 - - [")),
    "rt": (with_times, len("203.0.113.9 - - [")),
}


def generate(folder: Path, requests_count: int, name: str) -> Path:
    """The log of that many requests in one format; made once."""
    path = folder / f"{requests_count}.{name}"
    if not path.exists():
        print(f"generating {path}", flush=True)
        form, offset = FORMS[name]
        rows = chunk(requests_count)
        first, span_s = form(rows), RUN_S * CHUNK_COUNT / requests_count
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            for copy in range(requests_count // CHUNK_COUNT):
                file.write(later(first, offset, round(copy * span_s), name in ("combined", "rt")) if copy else first)
        part.rename(path)
    return path


@dataclass(frozen=True)
class Run:
    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str

    @property
    def all_mb(self) -> float:
        """What READ says: its own peak, and for each other core as much as the largest of its processes had."""
        return float(self.output.split("\n")[0]) / (2**20 if sys.platform == "darwin" else 2**10)


def run(command: list[str], repeat: int = 3) -> Run:
    """The quickest of some runs of a whole process: the machine may have other work."""
    runs = []
    for _ in range(repeat):
        with tempfile.TemporaryFile() as output:
            began = time.perf_counter()
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=PROJECT)
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read().decode(errors="replace")
        if process.returncode:
            raise SystemExit(f"{command[0]} ended with {process.returncode}: {text[-2000:]}")
        scale = 2**20 if sys.platform == "darwin" else 2**10
        runs.append(Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale, text.strip()))
    return min(runs, key=lambda r: r.wall_s)


def apart(function: Callable[..., T], *arguments: object) -> T:
    """In a process of its own: a child's peak memory begins with its parent's, so this one stays small."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def read(*paths: Path, program: str = READ) -> list[str]:
    return [sys.executable, "-c", program, *map(str, paths)]


GOACCESS = {
    "combined": ["--log-format=COMBINED"],
    "rt": [
        '--log-format=%h %^[%d:%t %^] "%r" %s %b "%R" "%u" "%^" rt=%T %^',
        *("--date-format=%d/%b/%Y", "--time-format=%T"),
    ],
    "json": [
        '--log-format={"msec":"%x.%^","status":"%s","upstream_response_time":"%^","request_time":"%T","request_method":"%m",'
        '"uri":"%U","remote_addr":"%h","http_user_agent":"%u","body_bytes_sent":"%b"}',
        "--datetime-format=%s",
    ],
}


def goaccess(path: Path, name: str, folder: Path) -> list[str]:
    """All panels but one off: the fastest that it can do."""
    panels = (
        *("VISITORS", "REQUESTS", "REQUESTS_STATIC", "NOT_FOUND", "HOSTS", "OS", "BROWSERS", "VISIT_TIMES"),
        *("VIRTUAL_HOSTS", "REFERRERS", "REFERRING_SITES", "KEYPHRASES", "REMOTE_USER", "CACHE_STATUS"),
        *("GEO_LOCATION", "MIME_TYPE", "TLS_TYPE"),
    )
    off = [f"--ignore-panel={panel}" for panel in panels]
    output = ["-o", str(folder / "goaccess.json"), "--no-progress", "--no-global-config"]
    return ["goaccess", str(path), *GOACCESS[name], *off, *output]


def bare_scan_s(path: Path) -> float:
    """Cpu of the numpy scan of the same table by itself: no start of a process, nothing added up, nothing kept."""
    from runbook_lib.accesslog.blocks import rows_of
    from runbook_lib.accesslog.counting import parts_of
    from runbook_lib.accesslog.detection import line_reader, scanner_of
    from runbook_lib.accesslog.formats import TABLE
    from runbook_lib.accesslog.names import Names
    from runbook_lib.accesslog.stream import Stream

    names, scanner, reader, began = Names(UPSTREAMS), None, line_reader(TABLE, None), time.process_time()
    with path.open("rb", buffering=0) as file:
        for block in Stream(file).blocks(leave=False):
            scanner = scanner or scanner_of(block, TABLE)
            list(parts_of(rows_of(block, scanner, reader, names)[0], names, 900))
    return time.process_time() - began


def stages_ns(path: Path, blocks_count: int = 40) -> tuple[float, float, float]:
    """Nanoseconds of cpu a line, at the beginning of a log: to find its fields, to make numbers of them, to count."""
    from runbook_lib.accesslog.blocks import rows_of
    from runbook_lib.accesslog.counting import parts_of
    from runbook_lib.accesslog.detection import line_reader, scanner_of
    from runbook_lib.accesslog.formats import TABLE
    from runbook_lib.accesslog.names import Names
    from runbook_lib.accesslog.stream import Stream

    names, scanner, reader = Names(UPSTREAMS), None, line_reader(TABLE, None)
    lines_count, spent_s = 0, np.zeros(3)
    with path.open("rb", buffering=0) as file:
        for block in itertools.islice(Stream(file).blocks(leave=False), blocks_count):
            scanner = scanner or scanner_of(block, TABLE)
            assert scanner
            times = [time.process_time()]
            scanner.locate(block)
            times.append(time.process_time())
            rows = rows_of(block, scanner, reader, names)[0]
            times.append(time.process_time())
            list(parts_of(rows, names, 900))
            times.append(time.process_time())
            spent_s += np.diff(times)
            lines_count += len(rows.at_ms)
    found, both, counted = spent_s / lines_count * 1e9
    return float(found), float(both - found), float(counted)


def cut(path: Path, folder: Path, count: int) -> list[Path]:
    """The log cut into files at some lines."""
    content, found = path.read_bytes(), []
    cuts = [content.find(b"\n", len(content) * i // count - 7 * i) + 1 for i in range(1, count)]
    for number, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(content)], strict=True)):
        found.append(folder / f"{count}-{number}.log")
        found[-1].write_bytes(content[a:b])
    return found


def first_lines(path: Path, target: Path, count: int) -> None:
    with path.open("rb") as file:
        target.write_bytes(b"".join(next(file) for _ in range(count)))


def pack(path: Path, target: Path) -> None:
    with path.open("rb") as source, gzip.open(target, "wb", 6) as file:
        shutil.copyfileobj(source, file, 1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000_000)
    parser.add_argument("--logs", type=Path, default=Path(tempfile.gettempdir()) / "openclaw-bench")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is run")
    parser.add_argument("--huge", action="store_true", help="25 million lines too, deleted afterwards (4 GB)")
    options = parser.parse_args()
    best = functools.partial(run, repeat=options.repeat)
    options.logs.mkdir(parents=True, exist_ok=True)
    million = options.requests // 10**6
    paths = {name: apart(generate, options.logs, options.requests, name) for name in FORMS}
    missed: list[str] = []

    def report(what: str, measured: str, limit: str = "", good: bool | None = None) -> None:
        missed.extend([what] if good is False else [])
        mark = "" if good is None else "ok" if good else "MISSED"
        print(f"{what:<44}{measured:>48}  {limit:<14}{mark}", flush=True)

    words = {name: best(["wc", "-l", str(path)]) for name, path in paths.items()}
    times = {name: best(read(path)) for name, path in paths.items()}
    for name, path in paths.items():
        r, size = times[name], path.stat().st_size / options.requests
        report(f"{name}, {size:.0f} bytes a line", f"{r.wall_s:.2f} s, cpu {r.cpu_s:.2f} s, {r.all_mb:.0f} MB")
        report(f"{name} against wc -l", f"{r.wall_s / words[name].wall_s:.1f} times")
        report(f"{name}, memory of all processes at their peaks", f"{r.all_mb:.0f} MB", "<= 300 MB", r.all_mb <= 300)

    for name in ("log", "json"):
        found, made, counted = apart(stages_ns, paths[name])
        report(f"{name}, cpu a line", f"{found:.0f} ns to find, {made:.0f} to convert, {counted:.0f} to count")

    bare_s = min(apart(bare_scan_s, paths["log"]) for _ in range(options.repeat))
    ratio = times["log"].cpu_s / bare_s
    report("log against its scan by itself, cpu", f"{ratio:.2f} times {bare_s:.2f} s", "<= 1.5", ratio <= 1.5)
    engines = {name: best([sys.executable, "-c", DUCKDB, str(paths[name]), *KEYS]) for name in ("log", "json")}
    for name, engine in engines.items():
        ratio = times[name].wall_s / engine.wall_s
        text = f"{ratio:.2f} times {engine.wall_s:.2f} s, cpu {engine.cpu_s:.2f} s, {engine.peak_mb:.0f} MB"
        by_cpu = times[name].cpu_s / engine.cpu_s
        report(f"{name} against DuckDB for the same table", text, "<= 1.3", min(ratio, by_cpu) <= 1.3)

    if shutil.which("goaccess"):
        others = {name: run(goaccess(paths[name], name, options.logs), 1) for name in GOACCESS}
        for name, other in others.items():
            text = f"{other.wall_s:.1f} s, cpu {other.cpu_s:.1f} s, {other.peak_mb:.0f} MB"
            report(f"GoAccess, {name}, one panel", text)
        for name, twin, wanted in (("combined", "", 5), ("rt", "", 5), ("json", "", 8), ("log", "combined", 20)):
            other = others[twin or name]
            ratio, by_cpu = other.wall_s / times[name].wall_s, other.cpu_s / times[name].cpu_s
            text = f"{ratio:.1f} times faster, {by_cpu:.1f} by cpu"
            what = f"{name} against GoAccess on {'its combined twin' if twin else 'the same file'}"
            report(what, text, f">= {wanted}", max(ratio, by_cpu) >= wanted)
    else:
        report("GoAccess", "not installed")

    with tempfile.TemporaryDirectory(dir=options.logs) as scratch:
        folder = Path(scratch)
        apart(pack, paths["log"], folder / "packed.log.gz")
        zipped = best(read(folder / "packed.log.gz"))
        ratio = zipped.cpu_s / times["log"].cpu_s
        report("gz (one process) against plain, cpu", f"{ratio:.2f} times", "<= 2.3", ratio <= 2.3)
        apart(first_lines, paths["log"], folder / "fresh.log", NEW_LINES_COUNT)
        few = run(read(folder / "fresh.log"), 9)
        text = f"{few.wall_s:.2f} s, cpu {few.cpu_s:.2f} s"
        report(f"{NEW_LINES_COUNT} new lines, the whole process", text, "<= 0.3 s", few.wall_s <= 0.3)
        pieces = [[paths["log"]], *(apart(cut, paths["log"], folder, count) for count in (2, 7))]
        found = {run(read(*some, program=HASHED), 1).output.partition("\n")[2] for some in pieces}
        same = len(found) == 1
        report("split into 2 and into 7 files", "the same bytes" if same else str(found), "identical", same)

    for count in [1_000_000] + ([25_000_000] if options.huge else []):
        path = apart(generate, options.logs, count, "log")
        other = run(read(path), 1)
        grown = other.all_mb / times["log"].all_mb
        text = f"{other.all_mb:.0f} MB, {grown:.2f} times that of {million} million, {other.wall_s:.1f} s"
        good = other.all_mb <= 300 and 0.5 <= grown <= 1.5  # more distinct times, not more lines
        report(f"{count // 10**6} million lines, peak memory", text, "the same", good)
        if count > options.requests:
            path.unlink()
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
