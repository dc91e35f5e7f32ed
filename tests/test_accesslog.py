"""Counts equal to an independent reader's, whatever the format and however the log was cut."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from pathlib import Path

import pytest
import torture_log
from torture_log import FIELDS, UPSTREAMS, Truth, as_json, nearest_rank, torture, truth_of

from runbook_lib import accesslog
from runbook_lib.accesslog import LogCounts, read, stream
from runbook_lib.errors import EvidenceError

WINDOW_S = 900


def counted(tally: object) -> dict[object, dict[int, int]]:
    return {g: dict(zip(v.tolist(), c.tolist(), strict=True)) for g, v, c in tally.items() if len(v)}  # type: ignore[attr-defined]


def assert_true(counts: LogCounts, truth: Truth) -> None:
    assert (counts.lines_count, counts.unparsed_count) == (truth.lines_count, truth.unparsed_count)
    for name in ("ticks", "times", "workers"):
        assert counted(getattr(counts, name)) == {k: dict(v) for k, v in getattr(truth, name).items()}


@pytest.fixture(scope="module")
def content() -> bytes:
    return torture()


def read_bytes(content: bytes) -> LogCounts:
    return read(content, upstreams=UPSTREAMS, window_s=WINDOW_S)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counts_equal_an_independent_reader(seed: int) -> None:
    content = torture(8_000, seed)
    counts = read_bytes(content)
    assert_true(counts, truth_of(content, WINDOW_S, counts.tick_s))
    assert counts.left_bytes == len(content) - content.rfind(b"\n") - 1
    assert counts.unparsed_count > 20


def test_each_special_line_by_itself() -> None:
    for special in torture_log.SPECIAL:
        values = dict(zip(FIELDS, torture_log.usual(random.Random(1), torture_log.START_MS), strict=True)) | special
        line = "\t".join(values.values()).encode() + b"\n"
        assert_true(read_bytes(line), truth_of(line, WINDOW_S, 15))


def test_json_equals_an_independent_reader(content: bytes) -> None:
    records = as_json(content)
    counts = read_bytes(records)
    assert_true(counts, truth_of(records, WINDOW_S, counts.tick_s))
    assert counts.formats["json"] > 0.98 * counts.lines_count


def test_quantiles_equal_an_independent_reader(content: bytes) -> None:
    counts = read_bytes(content)
    truth = truth_of(content, WINDOW_S, counts.tick_s)
    frame = counts.quantiles()
    together: dict[tuple[int, str, str], torture_log.Counter[int]] = {}
    for (window, _, gateway, metric), counter in truth.times.items():
        together.setdefault((window, gateway, metric), torture_log.Counter()).update(counter)
    assert len(frame) == len(together)
    for row in frame.itertuples():
        counter = together[int(row.window_at.timestamp()), row.gateway, row.metric]
        assert row.requests_count == counter.total()
        assert [row.p50_ms, row.p95_ms, row.p99_ms] == [nearest_rank(counter, q) for q in (50, 95, 99)]


def test_any_split_gives_the_same_bytes(content: bytes) -> None:
    whole = read_bytes(content).to_bytes()
    for seed in range(3):
        rng = random.Random(seed)
        lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
        cuts = sorted(rng.sample(range(1, len(lines)), 5))
        pieces = [b"".join(lines[a:b]) for a, b in zip([0, *cuts], [*cuts, len(lines)], strict=True)]
        rng.shuffle(pieces)
        merged = LogCounts(WINDOW_S)
        for piece in pieces:
            merged.merge(read_bytes(piece))
        assert merged.to_bytes() == whole
        assert read(pieces, upstreams=UPSTREAMS, window_s=WINDOW_S).to_bytes() == whole


@pytest.mark.parametrize("block_bytes", [100_000, 300_000, 1_000_003])
def test_block_size_does_not_matter(content: bytes, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_bytes(content).to_bytes()
    monkeypatch.setattr(stream, "BLOCK_BYTES", block_bytes)
    assert read_bytes(content).to_bytes() == whole


def test_a_line_longer_than_a_block_is_one_lost_line(monkeypatch: pytest.MonkeyPatch) -> None:
    content = torture(200)
    good = content[: content.rfind(b"\n") + 1]
    monkeypatch.setattr(stream, "BLOCK_BYTES", 80_000)
    with_giant = read_bytes(good + b"y" * 500_000 + b"\n" + good)
    once = read_bytes(good)
    assert with_giant.lines_count == 2 * once.lines_count + 1
    assert with_giant.unparsed_count == 2 * once.unparsed_count + 1


def test_saved_counts_come_back(content: bytes, tmp_path: Path) -> None:
    counts = read_bytes(content)
    counts.save(tmp_path / "counts.gz")
    again = LogCounts.load(tmp_path / "counts.gz")
    assert again.to_bytes() == counts.to_bytes()
    assert again.quantiles().equals(counts.quantiles())
    assert (tmp_path / "counts.gz").stat().st_size < len(content) / 8
    (tmp_path / "torn.gz").write_bytes(counts.to_bytes()[:-50])
    with pytest.raises(EvidenceError, match=r"torn\.gz"):
        LogCounts.load(tmp_path / "torn.gz")


def test_growing_file_is_read_on_where_the_last_read_ended(content: bytes, tmp_path: Path) -> None:
    whole = read_bytes(content).to_bytes()
    log, counts, cursor = tmp_path / "judge.log", LogCounts(WINDOW_S), None
    log.write_bytes(b"")
    rng, written = random.Random(3), 0
    while written < len(content):
        step = rng.randrange(1, 400_000)
        with log.open("ab") as file:
            file.write(content[written : written + step])
        written += step
        new = read(log, upstreams=UPSTREAMS, window_s=WINDOW_S, cursor=cursor)
        cursor = new.cursor
        assert not new.lost
        counts.merge(new)
    assert counts.to_bytes() == whole


def rotate_by_rename(log: Path) -> None:
    if log.with_name("judge.log.1").exists():
        with log.with_name("judge.log.1").open("rb") as old, gzip.open(log.with_name("judge.log.2.gz"), "wb") as new:
            shutil.copyfileobj(old, new)
    log.rename(log.with_name("judge.log.1"))
    log.touch()


def rotate_by_gzip(log: Path) -> None:
    log.with_name("judge.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    log.touch()


def rotate_by_copytruncate(log: Path) -> None:
    shutil.copy(log, log.with_name("judge.log.1"))
    os.truncate(log, 0)


@pytest.mark.parametrize("rotate", [rotate_by_rename, rotate_by_gzip, rotate_by_copytruncate])
def test_rotation_loses_and_repeats_nothing(rotate: object, content: bytes, tmp_path: Path) -> None:
    assert callable(rotate)
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)[:6000]
    log, counts, cursor = tmp_path / "judge.log", LogCounts(WINDOW_S), None
    log.touch()
    for step in range(12):
        with log.open("ab") as file:
            file.write(b"".join(lines[step * 500 : step * 500 + 300]))
        if step % 3:
            new = read(sorted(tmp_path.iterdir()), upstreams=UPSTREAMS, window_s=WINDOW_S, cursor=cursor)
            assert not new.lost
            cursor = new.cursor
            counts.merge(new)
        with log.open("ab") as file:
            file.write(b"".join(lines[step * 500 + 300 : step * 500 + 500]))
        if step % 4 == 3:
            rotate(log)
            new = read(sorted(tmp_path.iterdir()), upstreams=UPSTREAMS, window_s=WINDOW_S, cursor=cursor)
            cursor = new.cursor
            counts.merge(new)
    assert counts.to_bytes() == read_bytes(b"".join(lines)).to_bytes()


def test_truncation_without_a_copy_is_said(tmp_path: Path) -> None:
    log = tmp_path / "judge.log"
    content = torture(300)
    log.write_bytes(content)
    first = read(log, upstreams=UPSTREAMS, window_s=WINDOW_S)
    log.write_bytes(content[len(content) // 2 :])
    os.utime(log, (log.stat().st_atime, log.stat().st_mtime + 5))
    second = read(log, upstreams=UPSTREAMS, window_s=WINDOW_S, cursor=first.cursor)
    assert second.lost and second.lines_count


def test_gz_and_closed_logs(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "judge.log.gz"
    path.write_bytes(gzip.compress(content, 1))
    assert read(path, upstreams=UPSTREAMS, window_s=WINDOW_S).to_bytes() == read_bytes(content).to_bytes()
    closed = read(path, upstreams=UPSTREAMS, window_s=WINDOW_S, growing=False)
    assert closed.unparsed_count == read_bytes(content).unparsed_count + 1
    assert closed.left_bytes == 0


def test_combined_says_what_it_cannot_say() -> None:
    line = '203.0.113.9 - bob [06/May/2026:12:00:00 +0900] "GET /a HTTP/1.1" {} 12 "-" "curl/8 (x; y)"\n'
    counts = read_bytes((line.format(200) * 3 + line.format(502) + "GET / HTTP\n").encode())
    frame = counts.totals().set_index("gateway")
    assert counts.formats == {"combined": 4} and counts.unparsed_count == 1
    assert frame.loc["none", "requests_count"] == 4 and frame.loc["none", "answers_5xx_count"] == 1
    assert str(frame.loc["none", "window_at"]) == "2026-05-06 03:00:00+00:00"
    assert {"upstream_addr", "request_time", "pid"} <= counts.missing


def test_json_with_other_names_and_times() -> None:
    line = (
        '{"time_iso8601": "2026-05-06T12:00:00+09:00", "status": 200, "upstream_addr": "127.0.0.1:18890", '
        '"request_time": 0.012, "request": "GET / HTTP/1.1"}\n'
    )
    counts = read_bytes(line.encode() * 5)
    frame = counts.totals().set_index("gateway")
    assert frame.loc["canary", "attempts_count"] == frame.loc["canary", "requests_count"] == 5
    assert str(frame.loc["canary", "window_at"]) == "2026-05-06 03:00:00+00:00"
    assert "upstream_status" in counts.missing and "status" not in counts.missing


def test_in_flight_is_counted_from_the_intervals() -> None:
    """Seven requests of ten seconds at once, beside short ones."""
    rng, lines = random.Random(1), []
    for number in range(7):
        values = dict(zip(FIELDS, torture_log.usual(rng, 1_778_025_612_000 + number), strict=True))
        lines.append("\t".join((values | {"openclaw_target": "canary", "request_time": "10.500"}).values()))
    counts = read(("\n".join(lines) + "\n").encode(), upstreams=UPSTREAMS, window_s=5)
    frame = counts.totals()
    assert frame.loc[frame["gateway"] == "canary", "in_flight_count"].max() == 7


def test_totals_have_a_row_for_every_window() -> None:
    rng = random.Random(1)
    lines = ["\t".join(torture_log.usual(rng, 1_778_025_600_000 + at * 900_000)) for at in (0, 0, 3)]
    frame = read_bytes(("\n".join(lines) + "\n").encode()).totals()
    assert list(frame.groupby("window_at")["requests_count"].sum()) == [2, 0, 0, 1]


def test_an_empty_log_has_empty_frames() -> None:
    counts = read_bytes(b"")
    assert counts.totals().empty and counts.quantiles().empty
    assert counts.totals(windows=False).empty
    assert LogCounts.from_bytes(counts.to_bytes()).to_bytes() == counts.to_bytes()


def test_the_format_is_one_that_nginx_accepts() -> None:
    assert accesslog.LOG_FORMAT.startswith("escape=default '$msec\\t$openclaw_target\\t")
    assert accesslog.LOG_FORMAT.count("\\t") == len(accesslog.LOG_FIELDS) - 1 == 15
