"""How often each whole number was seen in each group: the only state that the judge keeps.

Exact, and the same for any order and any split of what was added.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runbook_lib.accesslog.fields import Ints, Mask

Group = tuple[int | str, ...]
Parts = list[tuple[npt.NDArray[np.uint32], npt.NDArray[Any]]]
PENDING_COUNT = 2_048
DENSE_COUNT = 4096
"""Values below this are counted in a table, the rest by sorting, which is ten times slower: 4 s cover most."""


class Tally:
    """Groups (tuples of equal shape) -> {value: count}; values from 0 up to 2**32 - 1."""

    def __init__(self) -> None:
        self._parts: dict[Group, Parts] = {}
        self._sizes: dict[Group, int] = {}

    def add(self, group: Group, values: Ints, counts: Ints) -> None:
        """Add `counts` times each of `values`; values may repeat and come in any order."""
        if not len(values):
            return
        if (values[1:] <= values[:-1]).any():
            values, counts = _each_once(values, counts)
        self._take(group, [(values.astype(np.uint32), _small(counts))], len(values))

    def _take(self, group: Group, some: Parts, count: int) -> None:
        parts = self._parts.setdefault(group, [])
        parts.extend(some)
        size = self._sizes[group] = self._sizes.get(group, 0) + count
        if size > 2 * max(len(parts[0][0]), PENDING_COUNT):
            self._reduced(group)

    def _reduced(self, group: Group) -> tuple[npt.NDArray[np.uint32], npt.NDArray[Any]]:
        """The values of a group, each once and in rising order, and their counts."""
        parts = self._parts[group]
        if len(parts) > 1:
            values, counts = _each_once(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
            parts[:] = [(values, _small(counts))]
            self._sizes[group] = len(values)
        return parts[0]

    def items(self) -> Iterator[tuple[Group, Ints, Ints]]:
        """(group, its values in rising order, their counts), the groups sorted."""
        for group in sorted(self._parts):
            values, counts = self._reduced(group)
            yield group, values.astype(np.int64), counts.astype(np.int64)

    def update(self, other: Tally) -> None:
        for group, parts in other._parts.items():
            self._take(group, parts, other._sizes[group])

    def dump(self) -> tuple[list[list[Any]], bytes]:
        """The groups, each with its number of values at the end, and all values and counts as bytes.

        Values are kept as differences and bytes of equal weight lie together, which gz likes.
        """
        table = [item for item in self.items() if len(item[1])]
        groups = [[*group, len(values)] for group, values, _ in table]
        rises = [np.diff(values, prepend=0) for _, values, _ in table]
        return groups, _pack(rises) + _pack([counts for _, _, counts in table])

    def load(self, groups: Sequence[Sequence[Any]], content: bytes) -> None:
        """The inverse of dump."""
        total_count = sum(group[-1] for group in groups)
        half = _width(content) * total_count + 1
        rises, counts = _unpack(content[:half], total_count), _unpack(content[half:], total_count)
        position = 0
        for *group, count in groups:
            values = np.cumsum(rises[position : position + count])
            self.add(tuple(group), values, counts[position : position + count])
            position += count


def _each_once(values: npt.NDArray[Any], counts: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Ints]:
    """The values in rising order, and the sum of the counts of each."""
    order = np.argsort(values, kind="stable")
    values = values[order]
    first = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return values[first], np.add.reduceat(counts[order], first, dtype=np.int64)


def _small(counts: Ints) -> npt.NDArray[Any]:
    """In as few bytes as will hold the largest: most counts of a millisecond are under 256."""
    return counts.astype(np.min_scalar_type(int(counts.max())))


def _pack(columns: list[Ints]) -> bytes:
    """One byte that says how many bytes a number has, then the lowest byte of all numbers, the next, ..."""
    numbers = np.concatenate(columns) if columns else np.zeros(0, np.int64)
    width = max(1, (int(numbers.max()).bit_length() + 7) // 8) if len(numbers) else 1
    planes = numbers.astype("<i8").view(np.uint8).reshape(-1, 8).T[:width]
    return bytes([width]) + planes.tobytes()


def _width(content: bytes) -> int:
    return content[0]


def _unpack(content: bytes, count: int) -> Ints:
    planes = np.zeros((8, count), np.uint8)
    planes[: content[0]] = np.frombuffer(content, np.uint8, offset=1).reshape(content[0], count)
    return planes.T.copy().view("<i8").reshape(count)


@dataclass(frozen=True)
class Cells:
    """Which combination of some columns each row has, as one small number: what rows are counted by.

    `table` has the combinations in sorted order, a column each.
    """

    code: Ints
    table: list[Ints]

    @classmethod
    def of(cls, columns: Sequence[Ints]) -> Cells:
        if not len(columns[0]):
            return cls(columns[0], list(columns))
        lows = [int(column.min()) for column in columns]
        spans = [int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True)]
        size = math.prod(spans)
        if size >= 1 << 62:  # clocks that jump by decades: too wide for one number
            rows, code = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
            return cls(code.reshape(-1), list(rows.T))
        key = np.zeros(len(columns[0]), np.int64)
        for column, low, span in zip(columns, lows, spans, strict=True):
            if span > 1:
                key = key * span + (column - low)
        if size <= DENSE_COUNT:
            return cls(key, _digits(np.arange(size), lows, spans))
        used, code = np.unique(key, return_inverse=True)
        return cls(code, _digits(used, lows, spans))

    def groups(self) -> list[tuple[tuple[int, ...], slice]]:
        """The combinations without their last column, and where each lies in the table."""
        if not len(self.table[0]):
            return []
        front = np.stack(self.table[:-1])
        changes = (np.diff(front, axis=1) != 0).any(axis=0)
        edges = [0, *(np.flatnonzero(changes) + 1).tolist(), front.shape[1]]
        return [(tuple(front[:, a].tolist()), slice(a, b)) for a, b in itertools.pairwise(edges)]

    def count(self, mask: Mask | None) -> Ints:
        """How many of the rows in `mask` (None: all) have each combination."""
        return np.bincount(self.code if mask is None else self.code[mask], minlength=len(self.table[0]))

    def histograms(self, values: Ints, mask: Mask) -> Iterator[tuple[tuple[int, ...], Ints, Ints]]:
        """(combination, values in rising order, how often each) of the rows in `mask`; may come in two parts."""
        rows = np.flatnonzero(mask)
        code, values = self.code.take(rows), values.take(rows)
        small = values < DENSE_COUNT
        whole = bool(small.all())
        dense = np.bincount((code * DENSE_COUNT + values) if whole else (code * DENSE_COUNT + values)[small])
        for cell in range(-(-len(dense) // DENSE_COUNT)):
            every = dense[cell * DENSE_COUNT : (cell + 1) * DENSE_COUNT]
            found = np.flatnonzero(every)
            if len(found):
                yield tuple(int(column[cell]) for column in self.table), found, every[found]
        if not whole:
            keys, counts = np.unique((code[~small] << 32) | values[~small], return_counts=True)
            cells = keys >> 32
            edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(keys)]
            for a, b in itertools.pairwise(edges):
                yield tuple(int(column[cells[a]]) for column in self.table), keys[a:b] & 0xFFFFFFFF, counts[a:b]


def _digits(keys: Ints, lows: list[int], spans: list[int]) -> list[Ints]:
    found: list[Ints] = []
    for low, span in zip(reversed(lows), reversed(spans), strict=True):
        keys, digit = np.divmod(keys, span)
        found.insert(0, digit + low)
    return found
