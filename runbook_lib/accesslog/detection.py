"""Which format a line or a log is of."""

from __future__ import annotations

from collections import Counter

from runbook_lib.accesslog.fields import PAD, Block
from runbook_lib.accesslog.foreign import Combined, Json, json_fields, record_of
from runbook_lib.accesslog.formats import Fields, LogFormat, Slim

SAMPLE_BYTES = 65_536
SLIM, COMBINED = Slim(), Combined()


def fields_of(line: bytes) -> tuple[str, Fields]:
    """The format of one line and its fields; no fields if it is of no format that we know.

    Each line is looked at by itself, so that a log whose format changed half-way is read, and so that it
    does not matter where the log was cut.
    """
    if line.startswith(b"{"):
        return Json.name, json_fields(line) or {}
    log = SLIM if b"\t" in line else COMBINED
    return log.name, log.fields(line) or {}


def format_of(block: Block) -> LogFormat:
    """What most of the first lines are: only a matter of speed."""
    lines = block.text[PAD:-PAD][:SAMPLE_BYTES].tobytes().split(b"\n")[:-1]
    names = Counter(name for name, fields in map(fields_of, lines) if fields)
    if not names or names.most_common(1)[0][0] != Json.name:
        return COMBINED if names[COMBINED.name] > names[SLIM.name] else SLIM
    objects = [line for line in lines if line.startswith(b"{") and record_of(line)]
    usual = Counter(line.count(b'"') for line in objects).most_common(1)[0][0]
    return Json(next(line for line in objects if line.count(b'"') == usual))
