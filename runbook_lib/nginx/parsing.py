"""nginx's configuration language, read as nginx reads it: each directive with its line and its place in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from runbook_lib.errors import EvidenceError

TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+) | (?P<comment>\#[^\n]*) | (?P<sign>[;{}])
    | (?P<quoted>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<word>(?:\\.|\$\{|[^ \t\r\n;{\\])+)""",
    re.VERBOSE | re.DOTALL,
)
LUA = re.compile(
    r"""--\[(?P<a>=*)\[.*?\](?P=a)\] | --[^\n]* | \[(?P<b>=*)\[.*?\](?P=b)\]
    | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | (?P<sign>[{}]) | .""",
    re.VERBOSE | re.DOTALL,
)
ESCAPED = {"t": "\t", "r": "\r", "n": "\n"}


@dataclass
class Parsed:
    """One directive: `words` are its name and arguments, `spans` where they stand, `ends` is after its ; or {.

    `closes` is after the } of its block, or where it ends.
    """

    words: list[str]
    spans: list[tuple[int, int]]
    line: int
    ends: int = 0
    closes: int = 0
    block: list[Parsed] | None = field(default=None)


def parse(text: str, name: str) -> list[Parsed]:
    """The directives of one file. Raises EvidenceError, with the line, where it is not what nginx accepts."""
    blocks: list[list[Parsed]] = [[]]
    opened: list[Parsed] = []
    current: Parsed | None = None
    position, line = 0, 1
    while position < len(text):
        found = TOKEN.match(text, position)
        if found is None:
            raise EvidenceError(f"{name}: a quote is not closed, or a \\ ends the file, in line {line}")
        kind, token, end = found.lastgroup, found[0], found.end()
        if kind in ("quoted", "word"):
            if current is None:
                current = Parsed([], [], line)
            current.words.append(_value(token, kind == "quoted"))
            current.spans.append((position, end))
        elif token == "}":
            if current is not None or len(blocks) == 1:
                raise EvidenceError(f'{name}: unexpected "}}" in line {line}')
            blocks.pop()
            opened.pop().closes = end
        elif kind == "sign":
            if current is None:
                raise EvidenceError(f'{name}: unexpected "{token}" in line {line}')
            blocks[-1].append(current)
            if token == "{" and current.words[0].endswith("_by_lua_block"):
                end, current.block = _after_lua(text, end, f"{name}: line {line}"), []
            elif token == "{":
                current.block = []
                blocks.append(current.block)
                opened.append(current)
            current.ends, current.closes, current = found.end(), end, None
        line += text.count("\n", position, end)
        position = end
    if current is not None or len(blocks) > 1:
        raise EvidenceError(f'{name}: the file ends, but a ";" or "}}" is missing')
    return blocks[0]


def _value(token: str, is_quoted: bool) -> str:
    """The word as nginx stores it."""
    inside = token[1:-1] if is_quoted else token
    return re.sub(r"""\\(["'\\trn])""", lambda found: ESCAPED.get(found[1], found[1]), inside)


def _after_lua(text: str, start: int, where: str) -> int:
    """The end of a block of Lua: braces in its strings and comments are not counted."""
    depth = 1
    for found in LUA.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(found["sign"] or "", 0)
        if not depth:
            return found.end()
    raise EvidenceError(f"{where}: this block of Lua has no end")
