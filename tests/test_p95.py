"""The p95 hunt: from a log with a known culprit to its hop, worker, path and requests; as functions and as notebook."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from project_fixture import Project
from test_judge import request
from torture_log import START_MS

from runbook_lib.analysis import p95
from runbook_lib.errors import EvidenceError

pytest_plugins = ["project_fixture"]
PROJECT = Path(__file__).parents[1]
JUMP_AT = pd.Timestamp(START_MS + 600_000, unit="ms", tz="UTC")


def jumping() -> list[str]:
    """Twenty minutes; from the tenth on the canary is five times as slow on one path, in one worker."""
    rng, lines = random.Random(4), []
    for number in range(20 * 60 * 4):
        at_ms = START_MS + number * 250
        gateway, pid, path = (
            rng.choice(("primary", "canary")),
            rng.randrange(4711, 4715),
            rng.choice(("/a", "/b")),
        )
        slow = at_ms >= START_MS + 600_000 and gateway == "canary" and path == "/b" and pid == 4713
        header_ms = rng.randrange(40, 60) * (5 if slow else 1)
        lines.append(request(gateway, at_ms, header_ms, pid=str(pid), uri=path, request_id=f"id-{number}"))
    return lines


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hunt") / "judge.tsv"
    path.write_text("\n".join([*jumping(), "torn li"]) + "\n")
    return path


@pytest.fixture(scope="module")
def requests(log: Path) -> pd.DataFrame:
    return p95.read_requests([log])


def test_every_request_is_a_row_and_torn_lines_are_not(requests: pd.DataFrame) -> None:
    assert (len(requests), requests.attrs["skipped_count"]) == (4800, 1)
    assert str(requests["at"].dtype).endswith("UTC]") and requests["at"].is_monotonic_increasing
    first = requests.iloc[0]
    assert first["sends_ms"] == pytest.approx(first["response_ms"] - first["header_ms"])
    assert first["nginx_ms"] == pytest.approx(first["request_ms"] - first["response_ms"])


def test_of_several_attempts_the_last_counts(tmp_path: Path) -> None:
    retried = request(
        "canary", START_MS, upstream_addr="127.0.0.1:18890, 127.0.0.1:18789", upstream_status="502, 200",
        upstream_connect_time="-, 0.000", upstream_header_time="-, 0.050", upstream_response_time="0.000, 0.051",
    )  # fmt: skip
    (tmp_path / "log.gz").write_bytes(gzip.compress(f"{retried}\n".encode()))
    row = p95.read_requests([tmp_path / "log.gz"]).iloc[0]
    assert (row["attempts_count"], row["header_ms"], row["address"]) == (2, 50, "127.0.0.1:18789")


def test_the_jump_is_found_where_it_is(requests: pd.DataFrame) -> None:
    before, after = p95.find_jump(requests)
    assert after["at"].min() == JUMP_AT and len(before) + len(after) == len(requests)


def test_no_jump_has_nothing_before_it(requests: pd.DataFrame) -> None:
    steady = requests[requests["gateway"] == "canary"].assign(request_ms=50.0)
    before, after = p95.find_jump(steady)
    assert before.empty and len(after) == len(steady)


def test_the_culprit_is_named_by_hop_worker_and_path(requests: pd.DataFrame) -> None:
    before, after = p95.find_jump(requests)
    worst = p95.by_hop(before, after).iloc[0]
    assert (worst["gateway"], worst["hop"]) == ("canary", "gateway thinks") and worst["rise_ms"] > 100
    for column, culprit in (("worker_pid", "4713"), ("path", "/b"), ("gateway", "canary")):
        assert p95.by(before, after, column).iloc[0][column] == culprit
    slowest = p95.slowest(after, 10)
    assert set(slowest["path"]) == {"/b"} and set(slowest["worker_pid"]) == {"4713"}
    assert slowest["request_ms"].is_monotonic_decreasing and slowest["request_id"].str.startswith("id-").all()


def test_another_format_says_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text('203.0.113.9 - - [06/May/2026:12:00:00 +0900] "GET /a HTTP/1.1" 200 12\n' * 3)
    with pytest.raises(EvidenceError, match="rollout analyse"):
        p95.read_requests([tmp_path / "access.log"])


def outputs(path: Path) -> str:
    cells = json.loads(path.read_text())["cells"]
    return "".join(json.dumps(cell.get("outputs", [])) for cell in cells)


def test_the_notebook_on_a_log(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    command = [str(Path(sys.executable).parent / "papermill"), str(PROJECT / "notebooks/debug_p95.ipynb"), str(out)]
    done = subprocess.run(
        [*command, "-p", "log", str(log), "--no-progress-bar"], cwd=PROJECT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = outputs(out)
    assert "4,800 requests" in shown and "gateway thinks" in shown and "4713" in shown and "image/" in shown


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_notebook_on_a_live_host(own_project: Project) -> None:
    """It fetches what nginx wrote since the last step, and changes nothing on the Mac."""
    assert own_project.run("rollout", "run", "lab", "--through", "4").returncode == 0
    weights = len(own_project.events("weight"))
    words = ["-p", "region", "lab", "-p", "live", "True", "-p", "every", "10s", "--no-progress-bar"]
    done = own_project.run("papermill", "notebooks/debug_p95.ipynb", "debug_p95.out.ipynb", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "gateway thinks" in outputs(own_project.root / "debug_p95.out.ipynb")
    assert len(own_project.events("weight")) == weights
