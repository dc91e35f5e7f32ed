"""What other people call our fields, in JSON, LTSV and `key=value`, and in which unit their times are.

A unit is told by the name (duration_ms), by the shape (nginx writes seconds with three decimals; "12ms"), or by the
program that writes the log; else it is asked for. A name that others use for something else counts only where its
value has the shape: `ua` is mostly the user agent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from runbook_lib.accesslog.formats import Fields
from runbook_lib.accesslog.names import ADDRESSES, TARGETS
from runbook_lib.accesslog.times import at_of

ALIASES = {
    "msec": (
        *("msec", "time_msec", "time_iso8601", "@timestamp", "timestamp", "time_local", "time", "ts", "date"),
        *("EdgeEndTimestamp", "StartUTC", "start_time"),
    ),
    "openclaw_target": ("openclaw_target", "openclaw_gateway", "target", "gateway"),
    "openclaw_revision": ("openclaw_revision", "revision"),
    "status": (
        "status",
        "response_status",
        "DownstreamStatus",
        "EdgeResponseStatus",
        "elb_status_code",
        "response_code",
    ),
    "upstream_addr": ("upstream_addr", "upstream_address", "ServiceAddr", "upstream_host", "upstream", "ua"),
    "upstream_status": ("upstream_status", "OriginStatus", "OriginResponseStatus", "target_status_code", "us"),
    "upstream_connect_time": ("upstream_connect_time", "uct"),
    "upstream_header_time": ("upstream_header_time", "uht"),
    "upstream_response_time": (
        *("upstream_response_time", "urt", "apptime", "OriginDuration", "OriginResponseDuration"),
        "target_processing_time",
    ),
    "request_time": (
        *("request_time", "rt", "reqtime", "duration", "Duration", "latency", "response_time", "responseTime"),
        *("elapsed", "took"),
    ),
    "pid": ("pid", "worker_pid"),
}
"""Our name of a field, and what a log may call it, the best first."""

NGINX_TIMES = {
    "request_time",
    "rt",
    "reqtime",
    "apptime",
    "upstream_connect_time",
    "uct",
    "upstream_header_time",
    "uht",
}
NGINX_TIMES |= {"upstream_response_time", "urt", "target_processing_time"}
SHAPED = {"upstream", "ua", "us", "target", "gateway"}
SECONDS_IN = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
UNIT_NAMES = {"msec": "ms", "millis": "ms", "micros": "us", "microsec": "us", "usec": "us", "µs": "us", "nanos": "ns"}
UNIT_NAMES |= {"seconds": "s", "sec": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
UNIT = "|".join(sorted([*SECONDS_IN, *UNIT_NAMES], key=len, reverse=True))
SUFFIX = re.compile(rf"(.+?)(?:_({UNIT})|({'|'.join(u.capitalize() for u in UNIT.split('|'))}))")
AMOUNT = re.compile(rf"(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?) ?({UNIT})?")
NGINX_NUMBER = re.compile(r"\d{1,6}\.\d{1,3}|0")
NGINX_SECONDS = re.compile(r"(?:-|\d{1,6}\.\d{3})(?:(?:, | : )(?:-|\d{1,6}\.\d{3}))*")
GO_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)(\d+(?:\.\d+)?)s")
LONGEST_S = 1e6  # eleven days: nobody's request
LISTED = re.compile(r", | : ")


class Key(NamedTuple):
    """What a log calls a field of ours, the name without its unit, and the unit that the name or the program tells."""

    name: str
    alias: str
    unit: str | None


Keys = Mapping[str, Key]


@lru_cache(maxsize=256)
def keys_of(there: tuple[str, ...]) -> Keys:
    """Our fields, and which of these labels is which."""
    aliases: dict[str, Key] = {}
    for label in reversed(there):
        aliases[label] = Key(label, label, None)
        if found := SUFFIX.fullmatch(label):
            unit = (found[2] or found[3]).lower()
            aliases.setdefault(found[1], Key(label, found[1], UNIT_NAMES.get(unit, unit)))
    found_keys = {field: next((aliases[a] for a in names if a in aliases), None) for field, names in ALIASES.items()}
    keys = {field: key for field, key in found_keys.items() if key and (not key.unit or field.endswith("_time"))}
    if "ua" in there and not {"us", "uct", "uht"} & set(there) and keys.get("upstream_addr", ("",))[0] == "ua":
        del keys["upstream_addr"]  # alone it is the user agent
    known_unit = "ns" if {"DownstreamStatus", "StartUTC"} <= set(there) else None  # Traefik
    known_unit = "s" if {"logger", "msg", "bytes_read", "duration"} <= set(there) else known_unit  # Caddy
    return {
        field: key._replace(unit=key.unit or known_unit) if field.endswith("_time") else key
        for field, key in keys.items()
    }


def told_by_shape(field: str, key: Key, value: bytes) -> bool:
    """Whether a column of such values can be read as nginx writes them; what does not look so is read by itself."""
    if field.endswith("_time"):
        return key.unit is None and key.alias in NGINX_TIMES
    return key.alias not in SHAPED or (field != "openclaw_target" and _is_shaped(field, value))


def fields_of_record(record: Mapping[str, Any], unit: str | None) -> tuple[Fields, frozenset[str]]:
    """The fields of one record, written as nginx writes them, and what was left out of it and why."""
    fields: Fields = {}
    left_out: set[str] = set()
    for field, key in keys_of(tuple(record)).items():
        value = record[key.name]
        text = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
        content = text.encode("utf-8", "replace")
        if field == "msec":
            fields[field] = at_of(content)
            left_out |= set() if fields[field] else {f"{key.name}: not a time, or one without its zone"}
        elif field == "status":
            fields[field] = b"000" if text == "0" else content
        elif field == "upstream_status":
            fields[field] = b"-" if text == "0" else content
        elif not field.endswith("_time"):
            if key.alias not in SHAPED or _is_shaped(field, content):
                fields[field] = content
        elif (told := _seconds(text, key, unit, is_number=type(value) is not str)) is not None:
            fields[field] = told
        else:
            left_out.add(f"{key.name}: its unit is not told; name it with --unit (ms, s, us or ns)")
    return fields, frozenset(left_out)


def _is_shaped(field: str, value: bytes) -> bool:
    if field == "upstream_addr":
        return bool(ADDRESSES.fullmatch(value))
    return field != "openclaw_target" or value in TARGETS


def _seconds(text: str, key: Key, asked: str | None, is_number: bool) -> bytes | None:
    """A time, or a list of them, as nginx writes it; None where its unit is not known. What is none stays as it is."""
    as_it_is = text.encode("utf-8", "replace")
    is_nginx = key.alias in NGINX_TIMES and key.unit is None
    if text == "" or (is_nginx and not is_number and NGINX_SECONDS.fullmatch(text)):
        return as_it_is
    if is_nginx and is_number and NGINX_NUMBER.fullmatch(text):
        return f"{float(text):.3f}".encode()
    if not is_number and (go := GO_DURATION.fullmatch(text)):
        text = f"{int(go[1] or 0) * 3600 + int(go[2] or 0) * 60 + float(go[3])}s"
    matches = [AMOUNT.fullmatch(part) for part in LISTED.split(text)]
    amounts = [(float(match[1]), match[2]) for match in matches if match]
    if len(amounts) < len(matches) or (is_nginx and not is_number and not (asked or amounts[0][1])):
        return as_it_is
    parts = []
    for amount, suffix in amounts:
        unit = UNIT_NAMES.get(suffix, suffix) or key.unit or asked
        if unit is None and amount:
            return None
        seconds = amount * SECONDS_IN[unit or "s"]
        if seconds >= LONGEST_S:
            return as_it_is
        parts.append("-" if seconds < 0 else f"{int(seconds * 1000 + 1e-6) / 1000:.3f}")
    return ", ".join(parts).encode()
