"""When a request ended: $msec, $time_iso8601, $time_local and what other programs write, as milliseconds since 1970."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

import numpy as np

from runbook_lib.accesslog.fields import FIRST_BYTES, ODD, Block, Ints, Span, digits, read_epoch_ms, word_of

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MSEC = re.compile(rb"\d{10}\.\d{3}")
SINCE_1970 = re.compile(r"(\d{10})(?:\.(\d+))?|(?:\d{13}|\d{16}|\d{19})(?:\.\d+)?")
"""Seconds, milli-, micro- or nanoseconds, with or without decimals: until the year 2286 their lengths tell which."""
COLONS, ZEROS = word_of(b"\0\0\xff\0\0\xff\0\0"), word_of(b"\0\x000\0\x000\0\0")
HMS_AT = {ord("/"): 12, ord("-"): 11}  # where HH:MM:SS stands in 06/May/2026:12:00:00 and in 2026-05-06T12:00:00


@lru_cache(maxsize=4096)
def epoch_ms(text: str) -> int:
    """Any of these as milliseconds since 1970; ODD for anything else, a time without its zone too."""
    text = text.strip("[]")
    if found := SINCE_1970.fullmatch(text):
        if found[1]:
            return int(found[1]) * 1000 + int(f"{found[2] or '':0<3}"[:3])
        return int(text[:13])
    try:
        known = "%d/%b/%Y:%H:%M:%S %z" if text[2:3] == "/" else None
        at = dt.datetime.strptime(text, known) if known else dt.datetime.fromisoformat(text)
        return (at - EPOCH) // dt.timedelta(milliseconds=1)
    except (ValueError, TypeError, OverflowError):  # TypeError: no zone
        return ODD


def at_of(text: bytes) -> bytes:
    """The same written as $msec; empty where it is none of them."""
    if MSEC.fullmatch(text):
        return text
    at_ms = epoch_ms(text.decode("ascii", "replace"))
    return b"%010d.%03d" % divmod(at_ms, 1000) if at_ms >= 0 else b""


def read_times(block: Block, span: Span) -> Ints:
    """A column of times in milliseconds since 1970, ODD for what is none.

    Neighbours mostly share their day and zone: these are looked at once, hours, minutes and seconds as numbers.
    """
    start, end = span
    length = end - start
    if not len(start) or bool((length == 14).all()):
        return read_epoch_ms(block, span)
    first = int(block.text[start[0] + (2 if block.text[start[0] + 2] == ord("/") else 4)])
    at, width = HMS_AT.get(first, 0), int(length[0])
    if not at or width > at + 16 or width < at + 8:
        return _one_by_one(block, start, end)
    regular = length == width
    if not regular.all():
        found = np.full(len(start), ODD)
        found[regular] = read_times(block, (start[regular], end[regular]))
        found[~regular] = _one_by_one(block, start[~regular], end[~regular])
        return found
    clock = block.words[start + at]
    value, ok = digits((clock & ~COLONS) | ZEROS)
    same = np.ones(len(start) - 1, bool)
    for offset in (0, at - 8, at + 8):
        word = block.words[start + offset] & FIRST_BYTES[min(8, width - offset)]
        same &= word[1:] == word[:-1]
    run = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(~same) + 1))
    texts = [block.text[a : a + width].tobytes().decode("latin-1") for a in start[run].tolist()]
    midnight = np.array([epoch_ms(f"{text[:at]}00:00:00{text[at + 8 :]}") for text in texts], np.int64)
    midnight = np.repeat(midnight, np.diff(run, append=len(start)))
    hours, rest = np.divmod(value, 1_000_000)
    minutes, seconds = np.divmod(rest, 1000)
    ok &= (clock & COLONS) == word_of(b"\0\0:\0\0:\0\0")
    ok &= (midnight != ODD) & (hours < 24) & (minutes < 60) & (seconds < 60)
    return np.where(ok, midnight + (hours * 3600 + minutes * 60 + seconds) * 1000, ODD)


def _one_by_one(block: Block, start: Ints, end: Ints) -> Ints:
    pairs = zip(start.tolist(), np.minimum(end, start + 40).tolist(), strict=True)
    return np.array([epoch_ms(block.text[a:b].tobytes().decode("latin-1")) for a, b in pairs], np.int64)
