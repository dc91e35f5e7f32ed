"""A log that somebody named, read whole: its formats, on all cores where it is long, and what stops it said."""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from runbook_lib import accesslog
from runbook_lib.accesslog import Hints, LogCounts
from runbook_lib.accesslog.formats import LogFormat, declared
from runbook_lib.accesslog.reader import NO_HINTS
from runbook_lib.analysis.cores import read_on_all_cores
from runbook_lib.analysis.partitions import read_partitions
from runbook_lib.errors import EvidenceError, PlanError

LONG_BYTES = 100_000_000
"""From here on a second process pays: it takes a third of a second to begin."""
UPSTREAM = re.compile(r"(\S+)=(primary|canary)")
UNITS = ("s", "ms", "us", "ns")


def hints_of(log_format: str | None, unit: str | None, upstreams: Sequence[str] = ()) -> Hints:
    """`log_format` is the format itself, or a file that declares some: nginx.conf, or what `nginx -T` printed.

    Raises PlanError with all mistakes, those in `upstreams` as well (see named_upstreams).
    """
    formats = list[LogFormat]()
    mistakes = [
        f"--upstream {o}: it is ADDRESS=primary or ADDRESS=canary" for o in upstreams if not UPSTREAM.fullmatch(o)
    ]
    if unit not in (None, *UNITS):
        mistakes.append(f"--unit {unit}: it is one of {', '.join(UNITS)}")
    try:
        if log_format is not None:
            is_file = "$" not in log_format
            formats = declared(Path(log_format).read_text("utf-8", "replace") if is_file else log_format, is_file)
    except OSError as error:
        mistakes.append(f"--format {log_format}: {error.strerror}, and without a $ in it it is no log_format")
    except ValueError as error:
        mistakes.append(f"--format {log_format}: {error}")
    if mistakes:
        raise PlanError("the log", mistakes)
    return Hints(tuple(formats), unit)


def named_upstreams(options: Sequence[str]) -> dict[str, str]:
    """{ADDRESS: gateway} of some ADDRESS=primary and ADDRESS=canary that hints_of let pass."""
    return {found[1]: found[2] for option in options if (found := UPSTREAM.fullmatch(option))}


def read_log(
    paths: Sequence[Path],
    upstreams: Mapping[str, str],
    window_s: int,
    hints: Hints = NO_HINTS,
    executor: Executor | None = None,
    undone: str = "nothing was judged",
) -> LogCounts:
    """The counts of one log: its rotated files in any order; with an executor, in partitions that it reads.

    EvidenceError says which file cannot be read and why, and what was left `undone`.
    """
    try:
        if executor:
            return read_partitions(executor, paths, upstreams, window_s, hints=hints)
        if sum(path.stat().st_size for path in paths) > LONG_BYTES:
            return read_on_all_cores(paths, {"upstreams": dict(upstreams), "window_s": window_s, "hints": hints})
        return accesslog.read(list(paths), upstreams=upstreams, window_s=window_s, growing=False, hints=hints)
    except OSError as error:
        named = error.filename or ", ".join(map(str, paths))
        raise EvidenceError(f"{named}: {error.strerror or error}; {undone}") from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise EvidenceError(f"{', '.join(map(str, paths))}: cut or damaged: {error}; {undone}") from None
