"""One log read by a process a core: this one, and helpers that count the partitions they are given.

A helper that dies, for want of memory or of a file, loses nothing: this process reads its partition as well.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from runbook_lib.accesslog import LogCounts
from runbook_lib.analysis.partitions import Partition, count_partition, partitions

HELPER = [sys.executable, "-c", "from runbook_lib.analysis.cores import help_out; help_out()"]
A_CORE = 8
"""Partitions a core: so many that nobody waits long for the last one."""


def read_on_all_cores(paths: Sequence[Path], how: Mapping[str, Any]) -> LogCounts:
    """The counts of a log that is no longer growing; `how` is as for accesslog.read. Raises what that raises."""
    cores = os.cpu_count() or 1
    left = deque(partitions(paths, A_CORE * cores))
    found: list[LogCounts] = []
    counts = LogCounts(how["window_s"])
    asking = [Thread(target=_ask, args=(left, how, found), daemon=True) for _ in range(cores - 1)]
    for thread in asking:
        thread.start()
    _count(left, how, counts)
    for thread in asking:
        thread.join()
    _count(left, how, counts)
    for part in found:
        counts.merge(part)
    return counts


def _count(left: deque[Partition], how: Mapping[str, Any], counts: LogCounts) -> None:
    try:
        while part := _next(left):
            counts.merge(count_partition(part, **how))
    except BaseException:
        left.clear()  # so that no helper goes on
        raise


def _ask(left: deque[Partition], how: Mapping[str, Any], found: list[LogCounts]) -> None:
    """Give one helper a partition after the other; what a dead one was given is left for somebody else."""
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with suppress(OSError), subprocess.Popen(HELPER, stdin=pipe, stdout=pipe, stderr=quiet) as helper:
        assert helper.stdin and helper.stdout
        while part := _next(left):
            try:
                pickle.dump((part, how), helper.stdin)
                helper.stdin.flush()
                found.append(pickle.load(helper.stdout))
            except (OSError, EOFError, pickle.UnpicklingError):
                left.append(part)
                return


def _next(left: deque[Partition]) -> Partition | None:
    try:
        return left.popleft()
    except IndexError:
        return None


def help_out() -> None:
    """Count what comes on standard input, until its end: what a helper does."""
    with suppress(EOFError):
        while True:
            part, how = pickle.load(sys.stdin.buffer)
            pickle.dump(count_partition(part, **how), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
            sys.stdout.flush()
