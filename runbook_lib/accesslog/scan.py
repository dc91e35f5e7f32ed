"""Where the values of a format are in a block of lines: all regular lines at once.

A line is cut at one byte that stands in the format and, unescaped, in no value: a tab, or a quote. A line with as many
of them as the format has is regular if all text beside each value that is counted is there, too. Between two cuts a
value stands alone, or is found from the left or, where widths are known, from the right. What is not regular, a list
of attempts too, is read one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from runbook_lib.accesslog.fields import FIRST_BYTES, PAD, Block, Ints, Mask, Span, first_byte, word_of
from runbook_lib.accesslog.formats import LogFormat, Value

MARKS = b'\t"| ,;'
"""Bytes to cut at, the best first. nginx escapes a tab and a quote in a value; the others only part tight ones."""


@dataclass(frozen=True)
class Located:
    """Spans of the fields of the regular lines, of these lines, and of the lines to read one by one."""

    columns: dict[str, Span]
    lines: Span
    odd: Span


@dataclass(frozen=True)
class Part:
    """What stands between two cuts: `texts` around `values`; `first` is the number of its first value."""

    first: int
    texts: tuple[bytes, ...]
    values: tuple[Value, ...]

    @property
    def from_right(self) -> int:
        """From this value on all have a known width."""
        widths = [value.width for value in self.values]
        return next((i for i in range(len(widths)) if all(widths[i:])), len(widths)) if len(widths) > 1 else len(widths)

    @property
    def from_left(self) -> int:
        """Up to here values have to be found one after the other."""
        return max((i + 1 for i, value in enumerate(self.values[: self.from_right]) if value.field), default=0)

    @property
    def can_be_found(self) -> bool:
        ahead = list(zip(self.values, self.texts[1:], strict=True))[: self.from_left]
        return len(self.values) < 2 or all(v.is_tight and (v.width or text[:1] in b' "\t') for v, text in ahead)


class Scanner:
    """Finds the counted values of one format. ValueError where no byte cuts its lines well enough."""

    def __init__(self, log: LogFormat) -> None:
        self.log = log
        possible = [(mark, self._cut(mark)) for mark in MARKS if self._can_cut(mark)]
        possible = [(mark, parts) for mark, parts in possible if all(part.can_be_found for part in parts)]
        if not possible:
            raise ValueError(f"{log.name} has no byte to cut at")
        self.mark, self.parts = max(possible, key=lambda cut: sum(len(part.values) == 1 for part in cut[1]))
        between = re.findall(self._pattern(self.mark), b"".join(log.texts))
        self.between = np.frombuffer(b"".join(between), np.uint8)
        self.is_uniform = set(between) == {bytes([self.mark])}

    @staticmethod
    def _pattern(mark: int) -> re.Pattern[bytes]:
        return re.compile(b"[\\x00-\\x1f%b]" % re.escape(bytes([mark])))

    def _can_cut(self, mark: int) -> bool:
        texts, values = self.log.texts, self.log.values
        apart = mark in b"".join(texts) and all(texts[1:-1])
        return apart and (mark in b'\t"' or all(value.is_tight for value in values)) and self.log.escape != "none"

    def _cut(self, mark: int) -> list[Part]:
        parts: list[Part] = []
        texts, values, first = [b""], list[Value](), 0
        for number, text in enumerate(self.log.texts):
            texts[-1], *pieces = self._pattern(mark).split(text)
            for piece in pieces:
                parts.append(Part(first, tuple(texts), tuple(values)))
                texts, values, first = [piece], [], number
            values += self.log.values[number : number + 1]
            texts.append(b"")
        return [*parts, Part(first, tuple(texts[:-1]), tuple(values))]

    def locate(self, block: Block) -> Located:
        text, width = block.text, len(self.parts)
        inner = text[PAD:-PAD]
        marks = np.flatnonzero((inner == self.mark) | (inner < 32) if self.mark > 31 else inner < 32) + PAD
        newline = marks[width - 1 :: width]
        whole = self.is_uniform and len(newline) * width == len(marks) and bool((text[newline] == 10).all())
        if whole and np.count_nonzero(inner == self.mark) == len(marks) - len(newline):
            good, full, ends = np.ones(len(newline), bool), np.arange(len(newline)), newline
            grid = marks.reshape(-1, width)
        else:
            newline = np.flatnonzero(text[marks] == 10)
            full, ends = np.flatnonzero(np.diff(newline, prepend=-1) == width), marks[newline]
            grid = marks[newline[full][:, None] + np.arange(1 - width, 1)]
            good = (text[grid[:, :-1]] == self.between).all(axis=1)
        starts = np.concatenate((np.array([PAD], np.int64), ends[:-1] + 1))[: len(ends)]
        found, left = _Found(block, self.log, good, {}), starts[full] - 1
        found.check(0, left + 1)
        found.check(len(self.log.values), grid[:, -1] - len(self.log.texts[-1]))
        for part, right in zip(self.parts, grid.T, strict=True):
            if any(value.field for value in part.values):
                right = np.ascontiguousarray(right)
                found.take(part, left + 1, right)
            left = right
        if len(full) == len(ends) and good.all():
            return Located(found.columns, (starts, ends), (ends[:0], ends[:0]))
        columns = {name: (start[good], end[good]) for name, (start, end) in found.columns.items()}
        odd = np.ones(len(ends), bool)
        odd[full[good]] = False
        return Located(columns, (starts[~odd], ends[~odd]), (starts[odd], ends[odd]))


@dataclass
class _Found:
    """The spans found so far; `good` are the lines with all the text where it has to be."""

    block: Block
    log: LogFormat
    good: Mask
    columns: dict[str, Span]

    def __post_init__(self) -> None:
        self.checked = {number for number, text in enumerate(self.log.texts) if len(text) == 1 and text in MARKS[:2]}

    def check(self, number: int, at: Ints) -> None:
        """All of a text of the format, once."""
        text, last = self.log.texts[number], len(self.block.words) - 1
        if number in self.checked:
            return
        self.checked.add(number)
        for offset in range(0, len(text), 8):
            piece = text[offset : offset + 8]
            word = self.block.words[np.clip(at + offset, 0, last)]
            np.logical_and(self.good, word & FIRST_BYTES[len(piece)] == word_of(piece), out=self.good)

    def take(self, part: Part, at: Ints, end: Ints) -> None:
        """The spans of one part's values."""
        if len(part.values) == 1 and part.texts == (b"", b"") and not part.values[0].width:
            self.columns[part.values[0].field] = (at, end)  # its ends are cuts
            self.check(part.first, at - len(self.log.texts[part.first]))
            self.check(part.first + 1, end)
            return
        at, end = at + len(part.texts[0]), end - len(part.texts[-1])
        for i, value in enumerate(part.values[: part.from_left]):
            behind = part.texts[i + 1]
            if i == len(part.values) - 1:
                stop = end
            elif value.width:
                stop = at + value.width
            else:
                stop = _end_of_value(self.block, at, behind[0], end)
                if behind[:1] == b" ":  # the first of several attempts ends like this
                    before = self.block.text[stop - 1]
                    np.logical_and(self.good, (before != ord(",")) & (before != ord(":")), out=self.good)
            self._note(part.first + i, value, at, stop)
            at = stop + len(behind)
        for i in reversed(range(part.from_right, len(part.values))):
            at = end - part.values[i].width
            self._note(part.first + i, part.values[i], at, end)
            end = at - len(part.texts[i])

    def _note(self, number: int, value: Value, at: Ints, end: Ints) -> None:
        self.check(number, at - len(self.log.texts[number]))
        self.check(number + 1, end)
        np.logical_and(self.good, end - at == value.width if value.width else at <= end, out=self.good)
        if value.field:
            self.columns[value.field] = (at, end)


def _end_of_value(block: Block, at: Ints, delimiter: int, ends: Ints) -> Ints:
    """Where the delimiter is, or the end of the part."""
    end, rest = np.minimum(at, ends), np.arange(len(at))
    while len(rest):
        found = first_byte(block.words[end[rest]], delimiter)
        end[rest] = np.minimum(end[rest] + found, ends[rest])
        rest = rest[(found == 8) & (end[rest] < ends[rest])]
    return end
