"""Which format a line or a log is of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from runbook_lib.accesslog.fields import PAD, Block
from runbook_lib.accesslog.formats import Fields, LogFormat
from runbook_lib.accesslog.learning import learned, read_line
from runbook_lib.accesslog.lines import LineReader
from runbook_lib.accesslog.scan import Scanner

SAMPLE_BYTES, SAMPLE_COUNT = 65_536, 20


@dataclass(frozen=True)
class Hints:
    """What a log does not say itself: its log_format, and the unit (s, ms, us, ns) of times that do not tell theirs."""

    formats: tuple[LogFormat, ...] = ()
    unit: str | None = None


def line_reader(formats: Sequence[LogFormat], unit: str | None) -> LineReader:
    """Reads a line by the first of these formats that it is of, else by what it says itself.

    Each line is looked at by itself, so that a log whose format changed half-way is read, and so that it
    does not matter where the log was cut.
    """

    def read(line: bytes) -> tuple[str, Fields, Collection[str]]:
        for log in formats:
            if (fields := log.fields(line)) is not None:
                return log.name, fields, () if fields else (f"{log.name}: can be read in more than one way",)
        return read_line(line, unit)

    return read


def scanner_of(block: Block, formats: Sequence[LogFormat]) -> Scanner | None:
    """The scan that finds most of the first lines, only a matter of speed; None where all are read one by one."""
    head = block.text[PAD:-PAD][:SAMPLE_BYTES].tobytes()
    lines = head[: head.rfind(b"\n") + 1].split(b"\n")[:-1]
    some = lines[:: len(lines) // SAMPLE_COUNT + 1]
    found = [learned(line) for line in some if all(log.fields(line) is None for log in formats)]
    sample = Block.copy(b"".join(line + b"\n" for line in lines))
    scanners = [s for log in dict.fromkeys([*formats, *found]) if log and (s := _scanner(log))]
    counted = [(len(scanner.locate(sample).lines[0]), -number) for number, scanner in enumerate(scanners)]
    count, number = max(counted, default=(0, 0))
    return scanners[-number] if count else None


@lru_cache(maxsize=64)
def _scanner(log: LogFormat) -> Scanner | None:
    try:
        return Scanner(log)
    except ValueError:
        return None
