"""What a line of a log is made of: literals and named values in turn, as nginx's `log_format` says it.

The judge's own format and some that many people have are in TABLE; the user's own comes from nginx's configuration or
from the command line. From one format come a scan of whole blocks (scan.py) and one regex for the lines unlike the
others. Formats of other programs are learned from a line (learning.py) and have no regex.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from runbook_lib.accesslog.times import at_of

LOG_FIELDS = (
    "msec",
    "openclaw_target",
    "openclaw_revision",
    "status",
    "upstream_addr",
    "upstream_status",
    "upstream_connect_time",
    "upstream_header_time",
    "upstream_response_time",
    "request_time",
    "connection",
    "connection_requests",
    "pid",
    "request_id",
    "request_method",
    "uri",
)
"""One line of the judge's log, in order."""

LOG_FORMAT = "escape=default '" + r"\t".join("$" + name for name in LOG_FIELDS) + "'"
"""Goes between `log_format NAME` and `;`: nginx reads the two characters \\t as a tab."""

COUNTED = frozenset(LOG_FIELDS) - {"connection", "connection_requests", "request_id", "request_method", "uri"}
Fields = dict[str, bytes]

ISO = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)"
LOCAL = rb"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"
TIMES = {"msec": (rb"\d{10}\.\d{3}", 14), "time_iso8601": (ISO, 25), "time_local": (LOCAL, 26)}
"""The variables that say when, the best first: their shape and width."""
MORE, SOME, NONE = b"\0", b"\1", b"\2"
"""In a shape: as little or as much as possible; SOME … NONE may be `-` or nothing as well."""
SHORT = {MORE: b"?", SOME: b"(?:|-|", NONE: b")"}
LONG = {MORE: b"", SOME: b"(?:", NONE: b"|-|)"}
NO_BLANK, SECONDS, CODE = rb'[^\s"]*' + MORE, SOME + rb"\d{1,6}" + MORE + rb"\.\d{3}" + NONE, SOME + rb"\d{3}" + NONE
SHAPES = {"status": rb"\d{3}", "pid": rb"\d+" + MORE, "request_time": SECONDS}
LISTS = {"upstream_status": CODE, "upstream_addr": rb'[^\s",]*' + MORE, "upstream_response_time": SECONDS}
LENGTH = SOME + rb"\d+" + MORE + NONE
LISTS |= dict.fromkeys(("upstream_response_length", "upstream_bytes_received", "upstream_bytes_sent"), LENGTH)
LISTS |= {"upstream_connect_time": SECONDS, "upstream_header_time": SECONDS}
SEPARATORS = (b", ", b" : ")
"""Between the attempts of a request: within a group, and after an internal redirect."""
SHAPES |= {name: shape + rb"(?:(?:, | : )" + shape + b")*" + MORE for name, shape in LISTS.items()}
TIGHT = re.compile(
    "pipe|connection|connection_requests|remote_addr|remote_port|server_port|server_protocol|request_id|request_method|"
    "scheme|hostname|https|openclaw_.*|bytes_sent|body_bytes_sent|.*_length|connection_time|gzip_ratio"
)
"""Variables without a blank in them."""
FREE = dict.fromkeys(("default", "json"), rb'(?:[^"\\\x00-\x1f]|\\.)') | {"none": rb"[\x00-\xff]"}
LONGEST_MATCHES = 10**6
"""How many ways to cut a line may have to be tried; one with more is not read."""


@dataclass(frozen=True)
class Value:
    """One value of a format: the field of ours that it is, if it is counted; its regex; its width, if it has one."""

    field: str = ""
    shape: bytes = b""
    width: int = 0
    is_tight: bool = False

    @property
    def is_list(self) -> bool:
        return self.shape.endswith(b")*" + MORE)

    def can_go_on(self, text: bytes, free: bytes) -> bool:
        """Whether the text behind this value could as well be a part of it."""
        if self.width:
            return False
        inside = rb'[^"\t]' if self.is_list else rb'[^\s"]' if self.is_tight else free
        return not text or bool(re.match(inside, text[:1] + b"."))


@dataclass(frozen=True)
class LogFormat:
    """`texts` stand before, between and behind `values`."""

    name: str
    texts: tuple[bytes, ...]
    values: tuple[Value, ...]
    escape: str = "default"

    @property
    def names(self) -> frozenset[str]:
        """The fields that this log has, by our names."""
        return frozenset(value.field for value in self.values) - {""}

    def fields(self, line: bytes) -> Fields | None:
        """The fields of one line; None where it is not of this format, no fields where it can be read in two ways."""
        short, long, ends = self._regexes
        ways = prod(1 + sum(line.count(text) for text in end) for end in ends)
        if ways > LONGEST_MATCHES or not (found := short.fullmatch(line)):
            return None
        if ends and (other := long.fullmatch(line)) and other.regs != found.regs:
            return {}
        return found.groupdict() | {"msec": at_of(found["msec"])}

    @cached_property
    def _regexes(self) -> tuple[re.Pattern[bytes], re.Pattern[bytes], list[tuple[bytes, ...]]]:
        """Values as short and as long as possible, and what may end or part those whose end is not certain.

        What stands between two fields of ours is one group: how it is cut within does not matter.
        """
        free, parts, ends = FREE[self.escape], [b"(", re.escape(self.texts[0])], list[tuple[bytes, ...]]()
        for number, (value, text) in enumerate(zip(self.values, self.texts[1:], strict=True), 1):
            if value.can_go_on(text, free) and (text or number < len(self.values)):
                ends.append(SEPARATORS if value.is_list and text[:1] == b" " else (text,))
                shape = value.shape or free + b"*" + MORE
            else:
                shape = value.shape or free + b"*+"
            parts += [b")(?P<%b>%b)(" % (value.field.encode(), shape) if value.field else shape, re.escape(text)]
        whole = b"".join([*parts, b")"])
        return _regex(whole, SHORT), _regex(whole, LONG), ends


def _regex(shape: bytes, marks: Mapping[bytes, bytes]) -> re.Pattern[bytes]:
    for mark, meaning in marks.items():
        shape = shape.replace(mark, meaning)
    return re.compile(shape, re.DOTALL)


VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
ARGUMENT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s;'"](?:[^\s;\\]|\\.)*"""
ARGUMENTS = re.compile(ARGUMENT, re.DOTALL)
DIRECTIVE = re.compile(rf"(?:^|[;{{}}])[ \t]*log_format\s+(\S+)((?:\s+(?:{ARGUMENT}))+)\s*;", re.MULTILINE | re.DOTALL)
ESCAPE = re.compile(r"escape=(default|json|none)\s+")
ESCAPED = {"t": "\t", "n": "\n", "r": "\r"}


def declared(text: str, is_file: bool = True) -> list[LogFormat]:
    """The formats of all `log_format NAME …;` in a text; if it is no file, else that of the text, an `escape=…` first.

    ValueError says what a format lacks; of several, those that lack something are left out.
    """
    found = [(name, list(_arguments(arguments))) for name, arguments in DIRECTIVE.findall(text)]
    if is_file and not found:
        raise ValueError("it declares no log_format")
    formats, mistakes = [], []
    for name, arguments in found or [("log_format", [text.strip()])]:
        escape = ESCAPE.match(f"{arguments[0]} ")
        words = (
            arguments[1:]
            if found and escape
            else [arguments[0][escape.end() :] if escape else arguments[0], *arguments[1:]]
        )
        try:
            formats.append(_compiled("".join(words), escape[1] if escape else "default", name))
        except ValueError as mistake:
            mistakes.append(f"{name}: {mistake}")
    if not formats:
        raise ValueError("; ".join(mistakes))
    return formats


def _arguments(text: str) -> Iterator[str]:
    for word in ARGUMENTS.findall(text):
        yield word[1:-1] if word[0] in "'\"" else word


def _compiled(body: str, escape: str, name: str) -> LogFormat:
    """The format of a string as it stands between quotes."""
    body = re.sub(r"\\([tnr\"'\\])", lambda match: ESCAPED.get(match[1], match[1]), body)
    matches = list(VARIABLE.finditer(body))
    cuts = [0, *(edge for match in matches for edge in match.span()), len(body)]
    texts = tuple(body[a:b].encode() for a, b in zip(cuts[::2], cuts[1::2], strict=True))
    variables = [(match[1] or match[2]).lower() for match in matches]
    at = next((variable for variable in TIMES if variable in variables), None)
    lacking = [] if at else ["$msec, $time_iso8601 or $time_local"]
    lacking += [] if "status" in variables else ["$status"]
    if lacking:
        raise ValueError(f"the format has no {' and no '.join(lacking)}: without it no request can be counted")
    first = {variable: variables.index(variable) for variable in variables}
    values = [_value(v, v == at or v in COUNTED - set(TIMES), number == first[v]) for number, v in enumerate(variables)]
    return LogFormat(name, texts, tuple(values), escape)


def _value(variable: str, is_counted: bool, is_first: bool) -> Value:
    field = ("msec" if variable in TIMES else variable) if is_counted and is_first else ""
    if variable in TIMES:
        return Value(field, *TIMES[variable], is_tight=True)
    shape = SHAPES.get(variable, NO_BLANK if TIGHT.fullmatch(variable) else b"")
    return Value(field, shape, 3 if variable == "status" else 0, is_tight=bool(shape))


INGRESS = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr "
    "$upstream_response_length $upstream_response_time $upstream_status $req_id"
)
TABLE = [*declared(f"log_format slim {LOG_FORMAT};"), *declared(f"log_format ingress '{INGRESS}';")]
