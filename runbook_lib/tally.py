"""How often each whole number was seen in each group: the only state that the judge keeps.

Exact, and the same for any order and any split of what was added.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from runbook_lib.logfields import Ints, Mask

Group = tuple[int | str, ...]
PENDING_COUNT = 1_000_000
DENSE_COUNT = 4096
"""Values below this are counted in a table, the rest by sorting, which is ten times slower."""


class Tally:
    """Groups (tuples of equal shape) -> {value: count}; values from 0 up to 2**32 - 1."""

    def __init__(self) -> None:
        self._numbers: dict[Group, int] = {}
        self._keys: list[Ints] = []
        self._counts: list[Ints] = []
        self._pending_count = 0

    def add(self, group: Group, values: Ints, counts: Ints) -> None:
        """Add `counts` times each of `values`; values may repeat."""
        if not len(values):
            return
        number = self._numbers.setdefault(group, len(self._numbers))
        self._keys.append((number << 32) | values)
        self._counts.append(counts)
        self._pending_count += len(values)
        if self._pending_count > PENDING_COUNT:
            self._reduce()

    def _reduce(self) -> tuple[Ints, Ints]:
        """One sorted array of (group number, value), and their counts."""
        if not self._keys:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if len(self._keys) > 1:
            keys, counts = np.concatenate(self._keys), np.concatenate(self._counts)
            order = np.argsort(keys, kind="stable")
            keys, counts = keys[order], counts[order]
            first = np.flatnonzero(np.diff(keys, prepend=-1))
            self._keys, self._counts = [keys[first]], [np.add.reduceat(counts, first)]
        self._pending_count = 0
        return self._keys[0], self._counts[0]

    def items(self) -> Iterator[tuple[Group, Ints, Ints]]:
        """(group, its values in rising order, their counts), the groups sorted."""
        keys, counts = self._reduce()
        for group in sorted(self._numbers):
            number = self._numbers[group]
            low, high = np.searchsorted(keys, [number << 32, (number + 1) << 32])
            yield group, keys[low:high] & 0xFFFFFFFF, counts[low:high]

    def update(self, other: Tally) -> None:
        for group, values, counts in other.items():
            self.add(group, values, counts)

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


def seen(where: Sequence[Ints], values: Ints, mask: Mask) -> Iterator[tuple[tuple[int, ...], Ints, Ints]]:
    """(one combination of the columns `where`, the values met with it in rising order, how often each).

    Only rows in `mask` count. A combination may come twice, with different values.
    """
    low = mask & (values < values[mask].min(initial=0) + DENSE_COUNT) if mask.any() else mask
    for part in (low, mask & ~low):
        rows = np.flatnonzero(part)
        if len(rows):
            yield from _seen([column[rows] for column in where], values[rows])


def _seen(where: list[Ints], values: Ints) -> Iterator[tuple[tuple[int, ...], Ints, Ints]]:
    table, counts = _distinct([*where, values])
    combination = np.stack(table[:-1])
    changes = (np.diff(combination, axis=1) != 0).any(axis=0)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(counts)]
    for start, end in itertools.pairwise(edges):
        yield tuple(combination[:, start].tolist()), table[-1][start:end], counts[start:end]


def _distinct(columns: list[Ints]) -> tuple[list[Ints], Ints]:
    """The distinct rows in rising order, as columns, and how often each was there."""
    lows = [int(column.min()) for column in columns]
    spans = [int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True)]
    size = math.prod(spans)
    if size >= 1 << 62:  # clocks that jump by decades: too wide for one number
        table, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
        return list(table.T), counts
    key = np.zeros(len(columns[0]), np.int64)
    for column, low, span in zip(columns, lows, spans, strict=True):
        key = key * span + (column - low)
    if size <= 16 * DENSE_COUNT or size <= 4 * len(key):
        every = np.bincount(key, minlength=size)
        key = np.flatnonzero(every)
        counts = every[key]
    else:
        key, counts = np.unique(key, return_counts=True)
    found: list[Ints] = []
    for low, span in zip(reversed(lows), reversed(spans), strict=True):
        key, digit = np.divmod(key, span)
        found.insert(0, digit + low)
    return found, counts
