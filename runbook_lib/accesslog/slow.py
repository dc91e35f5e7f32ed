"""The slowest requests of a log themselves."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runbook_lib.accesslog.blocks import lines_in
from runbook_lib.accesslog.detection import fields_of, format_of
from runbook_lib.accesslog.fields import NOTHING, ODD, Block, read_ms
from runbook_lib.accesslog.formats import LOG_FIELDS, LogFormat
from runbook_lib.accesslog.lines import SEPARATOR, LineReader, ms_of
from runbook_lib.accesslog.stream import Source, Stream, opened

if TYPE_CHECKING:
    import pandas as pd


def slowest(
    sources: Iterable[Source] | Source, *, field: str = "request_time", over_ms: int = 0, limit_count: int = 1000
) -> pd.DataFrame:
    """The slowest requests themselves: what makes a p95 jump.

    One row a request, the slowest first, at most `limit_count`: at (datetime64[UTC]), ms (int64, of `field`),
    and as text the other LOG_FIELDS as far as the log has them. `field` is request_time, or one of the upstream
    times; of several attempts the longest counts. Only requests over `over_ms` are looked at.
    """
    import pandas as pd

    wanted = [sources] if isinstance(sources, Path | str | bytes) else list(sources)
    found: list[tuple[int, bytes]] = []
    for source in wanted:
        stream = Stream(io.BytesIO(source) if isinstance(source, bytes) else opened(Path(source)))
        log: LogFormat | None = None
        with closing(stream.content):
            for batch in stream.batches(leave=False):
                log = log or format_of(batch[0])
                for block in batch:
                    found += _slow_lines(block, log, fields_of, field, over_ms)
                found = sorted(found, reverse=True)[:limit_count]
    rows = []
    for ms, line in found:
        fields = {name: text.decode("utf-8", "replace") for name, text in fields_of(line)[1].items()}
        if not fields.get("msec", "").replace(".", "").isdigit():
            continue
        rows.append({"at": pd.Timestamp(round(float(fields["msec"]) * 1000), unit="ms", tz="UTC"), "ms": ms} | fields)
    return pd.DataFrame(rows, columns=["at", "ms", *LOG_FIELDS[1:]])


def _slow_lines(block: Block, log: LogFormat, reader: LineReader, field: str, over_ms: int) -> list[tuple[int, bytes]]:
    """(milliseconds of `field`, line) of the good lines over `over_ms`; of several attempts the longest."""
    located = log.locate(block)
    if field in located.columns:
        ms = read_ms(block, located.columns[field])
        fast, odd = np.flatnonzero(ms > over_ms), np.flatnonzero(ms == ODD)
    else:
        ms, fast, odd = np.zeros(0, np.int64), np.zeros(0, np.int64), np.arange(len(located.lines[0]))
    start, end = located.lines
    found = list(zip(ms[fast].tolist(), lines_in(block, (start[fast], end[fast])), strict=True))
    for line in lines_in(block, (start[odd], end[odd])) + lines_in(block, located.odd):
        values = [ms_of(text) or NOTHING for text in SEPARATOR.split(reader(line)[1].get(field, b"-"))]
        if max(values) > over_ms:
            found.append((max(values), line))
    return found
