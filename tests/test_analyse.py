"""rollout analyse: any log to the judge's tables, offline, with the exit code of its verdict."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_judge import mixed
from torture_log import UPSTREAMS

from runbook_lib.analysis.analyse import analyse
from runbook_lib.errors import EvidenceError
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import Answer

COMBINED = '203.0.113.9 - - [06/May/2026:12:00:00 +0900] "GET /a HTTP/1.1" {} 12 "-" "curl/8"'


def written(path: Path, lines: list[str]) -> Path:
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "rollout"), "analyse", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_tables_of_a_log(tmp_path: Path) -> None:
    lines = mixed(rate=50)
    found = analyse([written(tmp_path / "log", [*lines, "rubbish"])], UPSTREAMS, Thresholds(), 5)
    assert found.lines.to_dict("records") == [
        {"format": "slim", "lines_count": len(lines)}, {"format": "unparsed", "lines_count": 1},
    ]  # fmt: skip
    totals = found.totals.set_index("gateway")
    canary_count = sum("\tcanary\t" in line for line in lines)
    assert totals["requests_count"].to_dict() == {"primary": len(lines) - canary_count, "canary": canary_count}
    assert totals["share_ratio"].sum() == pytest.approx(1)
    quantiles = found.quantiles.set_index(["gateway", "metric"])
    headers = sorted(int(line.split("\t")[7].replace(".", "")) for line in lines if "\tcanary\t" in line)
    assert quantiles.loc[("canary", "header"), "p95_ms"] == headers[-(-95 * len(headers) // 100) - 1]


def test_a_rotated_set_in_any_order_is_one_log(tmp_path: Path) -> None:
    lines = mixed(rate=50)
    whole = analyse([written(tmp_path / "whole", lines)], UPSTREAMS, None, 5)
    parts = [
        written(tmp_path / "log", lines[700:]),
        written(tmp_path / "log.2.gz", lines[:300]),
        written(tmp_path / "log.1", lines[300:700]),
    ]
    assert analyse(parts, UPSTREAMS, None, 5).as_json() == whole.as_json()


def test_another_format_says_what_cannot_be_judged(tmp_path: Path) -> None:
    found = analyse([written(tmp_path / "access.log", [COMBINED.format(200)] * 500)])
    assert found.verdict.answer is Answer.INCONCLUSIVE
    assert any("the combined log has no" in reason and "upstream_addr" in reason for reason in found.verdict.reasons)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="nothing was judged"):
        analyse([tmp_path / "missing"])


def test_the_command_and_its_exit_codes(tmp_path: Path) -> None:
    healthy = written(tmp_path / "healthy.log", mixed())
    passed = run(healthy, "--window-s", 5, "--json")
    told = json.loads(passed.stdout)
    assert (passed.returncode, told["answer"]) == (0, "pass"), told["reasons"]
    assert {"checks", "lines", "missing", "totals", "quantiles"} <= set(told)
    bad = [line.replace("\t200\t", "\t502\t") if "\tcanary\t" in line else line for line in mixed()]
    failed = run(written(tmp_path / "bad.log", bad), "--window-s", 5)
    assert failed.returncode == 1 and "canary 5xx" in failed.stdout and "gateway canary" in failed.stdout
    assert run(written(tmp_path / "combined.log", [COMBINED.format(200)] * 9)).returncode == 3
    missing = run(tmp_path / "none.log")
    assert missing.returncode == 2 and "none.log" in missing.stderr
