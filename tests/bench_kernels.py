"""What eight notebooks cost: `python tests/bench_kernels.py [--rounds 2] [--runs 100]`.

Each way is a process of its own, imports included, the best of the rounds; on a machine with other work trust the
ratios. Ours writes the HTML page of each notebook too, the others do not. Ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOKS_COUNT = 8
FASTER_RATIO = 4.0
STALL_LIMIT_S = 2.0
CELLS = (
    "from runbook_lib import probes\nfrom runbook_lib.show import plots, report\n"
    "from runbook_lib.plan.thresholds import Thresholds\n"
    "from runbook_lib.step import open_step\nfrom runbook_lib.steps import promotion, collect",
    "import pandas as pd\n"
    "frame = pd.DataFrame({'gateway': ['primary', 'canary'], 'before_ms': [20.0, 21.0], 'after_ms': [22.0, 23.0]})\n"
    "report.table(frame, word)",
    "report.picture(plots.plot_quantiles(frame, Thresholds()), 'response p95 before and after the reload')",
)
PYTHON_CALL = """
import papermill
for number in range(8):
    papermill.execute_notebook(f"notebooks/n{number}.ipynb", "out.ipynb", {"word": "call"}, progress_bar=False)
"""
OURS = """
import sys, time
from pathlib import Path
from runbook_lib.execution.execute import execute
for number in range(int(sys.argv[1])):
    started = time.perf_counter()
    assert execute(f"n{number % 8}", {"word": "ours"}, Path("out")) == ""
    print(time.perf_counter() - started)
"""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--runs", type=int, default=100)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        desk = Path(folder)
        lay_out(desk)
        by_command(desk, 1)  # bytecode and the font cache are made now, and not in anybody's time
        ours(desk, 1)
        ways = {
            "the papermill command": lambda: by_command(desk, NOTEBOOKS_COUNT),
            "papermill's Python call": lambda: call(desk, sys.executable, "-c", PYTHON_CALL),
            "ours": lambda: ours(desk, NOTEBOOKS_COUNT)[0],
        }
        took_s, cpu_s = {}, {}
        for way, run in ways.items():
            rounds = [with_cpu(run) for _ in range(given.rounds)]
            took_s[way], cpu_s[way] = (min(seconds) for seconds in zip(*rounds, strict=True))
        ratio = took_s["the papermill command"] / took_s["ours"]
        for way in ways:
            wall = f"{took_s[way]:6.1f} s, {took_s[way] / took_s['ours']:.1f} times ours"
            cpu = f"{cpu_s[way]:6.1f} s, {cpu_s[way] / cpu_s['ours']:.1f} times"
            print(f"{NOTEBOOKS_COUNT} notebooks by {way:<23} {wall}; of CPU {cpu}")
        _, runs_s = ours(desk, given.runs)
        warm_s = runs_s[1:]  # the first one waits for the imports
        print(
            f"{given.runs} runs: the first {runs_s[0]:.1f} s, then median {statistics.median(warm_s):.2f} s, "
            f"longest {max(warm_s):.2f} s, over {STALL_LIMIT_S:g} s: {sum(s > STALL_LIMIT_S for s in warm_s)}"
        )
    return int(ratio < FASTER_RATIO or max(warm_s) > STALL_LIMIT_S)


def with_cpu(run: Callable[[], float]) -> tuple[float, float]:
    """What `run` answers, and the CPU seconds of all processes that ended in it."""
    before = os.times()
    answered, after = run(), os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return answered, cpu_s


def lay_out(desk: Path) -> None:
    """A project folder with eight notebooks that import what ours import and draw a picture."""
    (desk / "parameters").mkdir()
    (desk / "notebooks").mkdir()
    v4: Any = nbformat.v4
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    first = v4.new_code_cell("word: str = ''  # a caption", metadata={"tags": ["parameters"]})
    for number in range(NOTEBOOKS_COUNT):
        book = v4.new_notebook(cells=[first, *map(v4.new_code_cell, CELLS)], metadata=spec)
        nbformat.write(book, desk / "notebooks" / f"n{number}.ipynb")  # type: ignore[no-untyped-call]


def by_command(desk: Path, count: int) -> float:
    papermill = str(Path(sys.executable).with_name("papermill"))
    names = [f"notebooks/n{number}.ipynb" for number in range(count)]
    return sum(call(desk, papermill, name, "out.ipynb", "-p", "word", "command", "--no-progress-bar") for name in names)


def ours(desk: Path, count: int) -> tuple[float, list[float]]:
    """Seconds of the whole process, and of each run in it."""
    started = time.perf_counter()
    answered = output(desk, sys.executable, "-c", OURS, str(count))
    return time.perf_counter() - started, [float(line) for line in answered.split()]


def call(desk: Path, *command: str) -> float:
    started = time.perf_counter()
    output(desk, *command)
    return time.perf_counter() - started


def output(desk: Path, *command: str) -> str:
    """Run a command in the project folder, with bytecode kept there: everybody has it after the first run."""
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(desk / "bytecode"), "MPLBACKEND": "agg"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, cwd=desk, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
