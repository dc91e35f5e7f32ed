"""Logs whose format nobody declared: JSON, LTSV, and nginx's combined format with whatever stands behind it.

A line of them says what it is: its keys, or its time, request and status. So each is read by itself, and one of them
is the format of all lines made like it (`learned`), which are then read in blocks. Envelopes that docker, Kubernetes,
syslog and compose put around a line are taken off.
"""

from __future__ import annotations

import json
import re
from typing import Any

from runbook_lib.accesslog.formats import ISO, LOCAL, Fields, LogFormat, Value
from runbook_lib.accesslog.keys import fields_of_record, keys_of, told_by_shape

STRING = rb'"((?:[^"\\]|\\.)*+)"'
STRINGS = re.compile(STRING)
HEAD = re.compile(
    rb'(?:"(?:[^"\\]|\\.)*+"|[^"])*?\[(' + ISO + rb"|" + LOCAL + rb')\] "((?:[^"\\]|\\.)*+)" (\d{3})(?=\s|$)'
)
TOKEN = re.compile(
    rb'([A-Za-z_]\w*)=(?:"((?:[^"\\]|\\.)*+)"|([^\s",;|]*+(?:(?:, | : )(?!\w+=)[^\s",;|]++)*+))|'
    + STRING
    + rb'|((?:[^\s",;|]|[,;|](?![A-Za-z_]\w*=))++)|[\s,;|]++'
)
LABEL = re.compile(rb"(?:^|(?<=\t))([A-Za-z_][\w.-]*):([^\t]*)")
VALUE = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\[\]\s]+))')
UNQUOTED = re.compile(rb'":\s*(-|0\d+)(?=\s*[,}])')
ENVELOPE = re.compile(
    rb"\d{4}-\d\d-\d\dT\S+ (?:stdout|stderr) F |"  # containerd and CRI-O
    rb"(?:\[[\w./-]+\] )?(?:\d{4}-\d\d-\d\dT\S+ )?(?=\{)|"  # kubectl logs --prefix --timestamps
    rb"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|1? ?\d{4}-\d\d-\d\dT\S+) \S+ [\w./-]+(?:\[\d+\])?: |"
    rb"<\d{1,3}>1 \S+ \S+ \S+ \S+ \S+ (?:-|\[[^\]]*\]) (?:\xef\xbb\xbf)?|"  # both are syslog's
    rb"[\w.-]+ +\| "  # docker compose
)
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f]")
WRAPPED = ("log", "message", "MESSAGE")
"""Where docker, filebeat and journald keep the line that nginx wrote."""
UNREAD = {"HAProxy": re.compile(rb".*haproxy\[\d+\]: \S+:\d+ \[\d\d/")}
NO_REQUEST = {
    "nginx's error log": re.compile(rb"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] \d+#\d+: "),
    "W3C (IIS)": re.compile(rb"#(?:Software|Version|Date|Fields|Start-Date|End-Date|Remark):"),
    "stderr of a container": re.compile(rb"\d{4}-\d\d-\d\dT\S+ stderr [FP] "),
}
"""Lines that stand beside requests: counted, named, and no request that was lost."""
Spans = list[tuple[int, int, str]]


class Number(str):
    """A number as the log writes it: 0.010 is not 0.01."""


def learned(line: bytes) -> LogFormat | None:
    """The format of the lines made like this one; None where such lines have to be read by themselves."""
    name, spans = _spans(line)
    keys = keys_of(tuple(label for _, _, label in spans or () if label))
    field_of = {key.name: field for field, key in keys.items()}
    if not spans or not {"msec", "status"} <= set(keys) or not read_line(line, None)[1]:
        return None
    if not all(
        told_by_shape(field_of[label], keys[field_of[label]], line[a:b]) for a, b, label in spans if label in field_of
    ):
        return None
    edges = [0, *(edge for start, end, _ in spans for edge in (start, end)), len(line)]
    values = []
    for start, end, label in spans:
        field = field_of.get(label, "")
        width = end - start if field in ("msec", "status") else 0
        values.append(
            Value(field, b"", width, is_tight=b" " not in line[start:end] and line[start - 1 : start] != b'"')
        )
    texts = tuple(line[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    return LogFormat(name, texts, tuple(values))


def read_line(line: bytes, unit: str | None) -> tuple[str, Fields, frozenset[str]]:
    """The name of a line's format, its fields (none if it cannot be read), and what was not read of it and why."""
    bare = line[found.end() :] if (found := ENVELOPE.match(line)) else line
    if bare.startswith(b"{"):
        record = _record_of(bare) or {}
        inner = next((record[key] for key in WRAPPED if isinstance(record.get(key), str)), "")
        if inner and "status" not in keys_of(tuple(record)):
            read = read_line(inner.rstrip("\r\n").encode("utf-8", "replace"), unit)
            return read if read[1] or record.get("stream") != "stderr" else _named("stderr of a container")
        return "json", *fields_of_record(record, unit)
    name, spans = _spans(bare)
    if spans is None or CONTROL.search(bare):
        return _named(next((name for name, like in (UNREAD | NO_REQUEST).items() if like.match(line)), ""))
    record = {label: bare[start:end].decode("utf-8", "replace") for start, end, label in spans if label}
    return name, *fields_of_record(record, unit)


def _named(what: str) -> tuple[str, Fields, frozenset[str]]:
    """A line that is not read, and what it is if that is known."""
    return what or "unknown", {}, frozenset({f"{what}: not read"} if what else ())


def _record_of(line: bytes) -> dict[str, Any] | None:
    """The object of a line. What nginx writes without quotes and JSON does not know (000, -) is let pass."""
    line = line.rstrip(b" ,")
    for text in (line, UNQUOTED.sub(rb'":"\1"', line)):
        try:
            record = json.loads(text.decode("utf-8", "replace"), strict=False, parse_float=Number)
        except (ValueError, RecursionError):
            continue
        return record if isinstance(record, dict) else None
    return None


def _spans(line: bytes) -> tuple[str, Spans | None]:
    """The name of a line's format, and where its values are, each with its label, if it has one."""
    prefix = found.end() if (found := ENVELOPE.match(line)) else 0
    ahead: Spans = [(0, prefix, "")] if prefix else []
    if line.startswith(b"{", prefix):
        name, spans = "json", _json_spans(line, prefix)
    elif labels := _labels(line, prefix):
        name, spans = "ltsv", [(*label.span(2), label[1].decode()) for label in labels]
    else:
        name, spans, ahead = "combined", _text_spans(line), []
    named = [label for _, _, label in spans or () if label]
    return name, [*ahead, *spans] if spans and len(set(named)) == len(named) else None


def _labels(line: bytes, prefix: int) -> list[re.Match[bytes]]:
    """The label:value of an LTSV line, or nothing."""
    labels = list(LABEL.finditer(line, prefix))
    return labels if len(labels) == line.count(b"\t", prefix) + 1 > 1 and labels[0].start() == prefix else []


def _text_spans(line: bytes) -> Spans | None:
    """Time and status, and each key=value behind them; None if a line is torn."""
    head = HEAD.match(line)
    if not head:
        return None
    edge, spans = 0, []
    for found in STRINGS.finditer(line, 0, head.start(1) - 1):
        spans += [(edge, found.start(), ""), (*found.span(1), "")]
        edge = found.end()
    spans += [
        (edge, head.start(1) - 1, ""),
        (*head.span(1), "time_local"),
        (*head.span(2), ""),
        (*head.span(3), "status"),
    ]
    at = head.end()
    while at < len(line) and (token := TOKEN.match(line, at)):
        at = token.end()
        if group := next((group for group in (2, 3, 4, 5) if token[group] is not None), 0):
            spans.append((*token.span(group), token[1].decode() if token[1] else ""))
    return [span for span in spans if span[1]] if at == len(line) else None


def _json_spans(line: bytes, prefix: int) -> Spans | None:
    """The values of a flat object; None where it is not one, or a string has escapes in it."""
    found = list(VALUE.finditer(line, prefix))
    spans = [match.span(2) if match[2] is not None else match.span(3) for match in found]
    edges = [prefix, *(edge for span in spans for edge in span), len(line)]
    between = b"".join(line[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    if set(b"{[]") & set(between[1:]) or b"\\" in line:
        return None
    return [(*span, match[1].decode("utf-8", "replace")) for match, span in zip(found, spans, strict=True)]
