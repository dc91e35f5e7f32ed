"""Logs as people have them: what each says is read, what it does not say is named, and no line is skipped unsaid."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from log_kinds import FAILOVER, KINDS, NGINX, PLAIN, QUOTED, UPSTREAMS, A, B, each

from runbook_lib.accesslog import LogCounts, read
from runbook_lib.analysis import cores
from runbook_lib.analysis.analyse import analyse
from runbook_lib.analysis.log_trial import rehearse
from runbook_lib.analysis.named_log import hints_of
from runbook_lib.errors import EvidenceError, PlanError
from runbook_lib.plan import reading
from runbook_lib.verdict import Answer


def seen(counts: LogCounts) -> tuple[int, dict[str, int], dict[tuple[str, str], int]]:
    totals, quantiles = counts.totals(windows=False), counts.quantiles(windows=False)
    attempts = {row.gateway: row.attempts_count for row in totals.itertuples() if row.attempts_count}
    return (
        int(totals["answers_5xx_count"].sum()),
        attempts,
        {(r.gateway, r.metric): r.p95_ms for r in quantiles.itertuples()},
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_log_is_read(name: str) -> None:
    kind = KINDS[name]
    counts = read(("\n".join(kind.lines) + "\n").encode(), upstreams=UPSTREAMS, window_s=900)
    assert (counts.formats, counts.unparsed_count) == ({kind.format: 60}, 0), counts.samples
    answers_5xx, attempts, p95_ms = seen(counts)
    assert (answers_5xx, attempts) == (kind.answers_5xx, kind.attempts) and kind.p95_ms.items() <= p95_ms.items()
    one_by_one = LogCounts(900)
    for line in kind.lines:
        one_by_one.merge(read(f"{line}\n".encode(), upstreams=UPSTREAMS, window_s=900))
    assert one_by_one.to_bytes() == counts.to_bytes()


def test_a_log_without_times_has_no_line_that_can_be_read(tmp_path: Path) -> None:
    found = analyse([put(tmp_path / "log", '{"level":"info","message":"started"}\n')])
    assert (found.counts.unparsed_count, found.verdict.answer) == (1, Answer.INCONCLUSIVE)
    assert "started" in found.notes[0]


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def judged(path: Path, *words: str) -> tuple[int, dict[str, object]]:
    command = [str(Path(sys.executable).parent / "rollout"), "analyse", str(path), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return done.returncode, json.loads(done.stdout, parse_constant=refuse)


def test_a_unit_is_asked_for_and_never_guessed(tmp_path: Path) -> None:
    lines = each('{"@timestamp":"<at>","method":"GET","status":<status>,"duration":1<s>.25}')
    log = put(tmp_path / "log", "\n".join(lines) + "\n")
    asked = analyse([log])
    assert not len(asked.quantiles) and any("--unit" in note and note.startswith("60 lines") for note in asked.notes)
    assert "request_time" in asked.counts.missing
    for unit, p95_ms in (("ms", 156), ("us", 0), ("s", 156_250)):
        assert seen(analyse([log], hints=hints_of(None, unit)).counts)[2] == {("none", "request"): p95_ms}
    for other in ('"duration_ms":1', '"durationMs":1', '"latency_us":1000'):
        named = [line.replace('"duration":1', other) for line in lines]
        told = seen(analyse([put(tmp_path / "named", "\n".join(named) + "\n")]).counts)[2]
        assert told == {("none", "request"): 156 if "ms" in other.lower() else 100}
    told_by_value = [line.replace('"duration":1', '"duration":"1').replace(".25}", '.25ms"}') for line in lines]
    assert seen(analyse([put(tmp_path / "told", "\n".join(told_by_value) + "\n")]).counts)[2] == {
        ("none", "request"): 156
    }


def test_addresses_that_nobody_named_are_listed_with_how_to_name_them(tmp_path: Path) -> None:
    line = FAILOVER.replace(A, "10.0.0.5:8080").replace(B, "10.0.0.6:8080")
    log = put(tmp_path / "log", "\n".join(each(line)) + "\n")
    code, told = judged(log)
    assert (code, told["upstreams_not_named"]) == (3, {"10.0.0.5:8080": 60, "10.0.0.6:8080": 60})
    assert "--upstream 10.0.0.6:8080=primary" in str(told["notes"])
    assert [check["name"] for check in told["checks"]] == ["log", "upstreams"]  # type: ignore[attr-defined]
    _, told = judged(log, "--upstream", "10.0.0.5:8080=primary", "--upstream", "10.0.0.6:8080=canary")
    by_gateway = {row["gateway"]: row["attempts_count"] for row in told["totals"]}  # type: ignore[attr-defined]
    assert by_gateway == {"primary": 60, "canary": 60} and not told["upstreams_not_named"]


def test_what_was_judged_and_what_not_is_said(tmp_path: Path) -> None:
    code, told = judged(put(tmp_path / "log", "\n".join(each(NGINX + "}")) + "\n"))
    judged_of = {row["what"]: row["judged"] for row in told["judged"]}  # type: ignore[attr-defined]
    assert (code, judged_of["request p95"], judged_of["header p95"]) == (3, "yes", "no")
    assert {row["gateway"]: row["answers_5xx_count"] for row in told["totals"]}["none"] == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("same", ["localhost:18890", "[::1]:18890", "127.0.0.1:18890"])
def test_the_same_port_of_this_machine_is_the_same_gateway(same: str) -> None:
    for line in (FAILOVER.replace(B, same), QUOTED.replace(A, same)):
        counts = read(("\n".join(each(line)) + "\n").encode(), upstreams=UPSTREAMS, window_s=900)
        assert counts.total("canary", "attempts") == 60 and not counts.met


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("name", ["combined with named times, quoted", "5xx and no upstream", "LTSV", "docker"])
def test_marks_blank_lines_and_a_last_line_without_its_end_lose_nothing(name: str) -> None:
    lines = [line.encode() for line in KINDS[name].lines]
    how = {"upstreams": UPSTREAMS, "window_s": 900, "growing": False}
    wanted = read(b"\n".join(lines) + b"\n", **how).to_bytes()
    for content in (
        MARK + b"\n".join(lines) + b"\n",
        b"\n".join(lines),
        b"\n\n".join(lines) + b"\n\n\n",
        b"\r\n".join(lines) + b"\r\n",
        MARK + b"\r\n\r\n".join(lines),
    ):
        assert read(content, **how).to_bytes() == wanted


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_packed_logs_are_read_whatever_their_name(pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    content = ("\n".join(each(QUOTED)) + "\n").encode()
    for name in ("access.log.0.gz", "access.log.0.bz2", "access.log.3"):
        found = analyse([put(tmp_path / name, pack(content))])
        assert (found.counts.lines_count, found.counts.unparsed_count) == (60, 0)
    with pytest.raises(EvidenceError, match=r"access\.log\.3: cut or damaged.*nothing was judged"):
        analyse([put(tmp_path / "access.log.3", pack(content)[:-20])])


@pytest.mark.parametrize("head", [b"\x28\xb5\x2f\xfd", b"\x1f\x9d\x90", b"PK\3\4", b"\x04\x22\x4d\x18", b"\xff\xfe1\0"])
def test_what_is_not_read_is_named(head: bytes, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"access\.log\.0: not read, this is .*nothing was judged"):
        analyse([put(tmp_path / "access.log.0", head + b"rest" * 9)])


HAPROXY = "Mar  1 10:00:01 mac haproxy[12]: 192.0.2.1:4711 [01/Mar/2026:10:00:00.000] front back/s 0/0/0/1/1 200"


@pytest.mark.parametrize(
    ("line", "name", "unparsed"),
    [
        ("2026/03/01 10:00:00 [error] 12#12: *3 connect() failed", "nginx's error log", 0),
        ("#Fields: date time cs-method", "W3C (IIS)", 0),
        ("2026-03-01T10:00:01.5Z stderr F /docker-entrypoint.sh: ready", "stderr of a container", 0),
        (r'{"log":"/docker-entrypoint.sh: ready\n","stream":"stderr"}', "stderr of a container", 0),
        (HAPROXY, "HAProxy", 2),
    ],
)
def test_lines_of_other_kinds_are_counted_and_named(line: str, name: str, unparsed: int, tmp_path: Path) -> None:
    """What is no request is none that was lost."""
    found = analyse([put(tmp_path / "log", f"{line}\n" * 2 + "\n".join(each(QUOTED)) + "\n")])
    assert (found.counts.unparsed_count, found.counts.lines_count) == (unparsed, 62)
    assert f"2 lines: {name}: not read" in found.notes


def test_a_cut_file_is_the_same_sentence_for_analyse_and_rehearse(tmp_path: Path) -> None:
    log = put(tmp_path / "cut.log.gz", gzip.compress("\n".join(each(QUOTED)).encode())[:-30])
    with pytest.raises(EvidenceError, match=r"cut\.log\.gz: cut or damaged: .*; nothing was judged"):
        analyse([log])
    with pytest.raises(EvidenceError, match=r"cut\.log\.gz: cut or damaged: .*; nothing was rehearsed"):
        rehearse(reading.load("hk"), [log])


@pytest.mark.parametrize("helper", ["as it is", "dies at once", "dies later", "is not there"])
def test_all_cores_count_what_one_counts_whoever_dies(
    helper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = put(tmp_path / "log", "\n".join(each(QUOTED) * 500) + "\n")
    packed = put(tmp_path / "log.1", gzip.compress("\n".join(each(PLAIN)).encode()))
    how = {"upstreams": UPSTREAMS, "window_s": 900}
    programs = {
        "dies at once": [sys.executable, "-c", ""],
        "dies later": [sys.executable, "-c", "import sys; sys.stdin.buffer.read(9)"],
        "is not there": ["/no/such/python"],
    }
    monkeypatch.setattr(cores, "HELPER", programs.get(helper, cores.HELPER))
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    whole = read([log, packed], growing=False, **how).to_bytes()
    assert cores.read_on_all_cores([packed, log], how).to_bytes() == whole
    put(packed, packed.read_bytes()[:-9])
    with pytest.raises(EOFError):
        cores.read_on_all_cores([packed, log], how)


OWN = '$remote_addr|$msec|$status|$upstream_addr|$upstream_status|$request_time|"$http_user_agent"'
OWN_LINE = f'192.0.2.1|17723592<s>.000|<status>|{A}|<status>|0.0<s>|"probe"'


@pytest.mark.parametrize("how", ["text", "nginx.conf", "nginx -T"])
def test_a_format_of_ones_own_is_told_as_text_or_by_the_configuration(how: str, tmp_path: Path) -> None:
    log = put(tmp_path / "log", "\n".join(each(OWN_LINE)) + "\n")
    assert analyse([log]).counts.unparsed_count == 60
    conf = f"http {{\n  log_format short '$status';\n  # log_format own 'old';\n  log_format own '{OWN}';\n}}\n"
    dump = f"# configuration file /etc/nginx/nginx.conf:\n{conf}"
    told = {
        "text": OWN,
        "nginx.conf": str(put(tmp_path / "nginx.conf", conf)),
        "nginx -T": str(put(tmp_path / "T", dump)),
    }
    code, found = judged(log, "--format", told[how])
    assert (code, found["lines"][-1]["lines_count"]) == (3, 0), found["notes"]  # type: ignore[index]
    p95 = {(row["gateway"], row["metric"]): row["p95_ms"] for row in found["quantiles"]}  # type: ignore[attr-defined]
    assert p95["primary", "request"] == 56


@pytest.mark.parametrize(
    ("log_format", "unit", "mistakes"),
    [
        ("$remote_addr $request_time", "hours", [r"no \$msec.* and no \$status", "--unit hours"]),
        ("/no/such/nginx.conf", None, ["no log_format", "--upstream A=other"]),
        (__file__.replace("test_any_log", "conftest"), None, ["declares no log_format"]),
    ],
)
def test_wrong_hints_are_wrong_input(log_format: str, unit: str | None, mistakes: list[str]) -> None:
    with pytest.raises(PlanError) as wrong:
        hints_of(log_format, unit, ["A=other"])
    for mistake in mistakes:
        wrong.match(mistake)
