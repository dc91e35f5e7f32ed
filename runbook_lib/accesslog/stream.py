"""A file or a piece of a log as blocks of whole lines, packed or not, with the length of what was read and left."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runbook_lib.accesslog.cursor import Fetch
from runbook_lib.accesslog.fields import PAD, Block

BLOCK_BYTES = 2 << 20
"""Read and parsed at once: as many lines as share the cost of a call, and few enough to stay near a core.
JSON takes a third less time than with 4 MB, and a sixth less than with 1 MB."""
CARRIED_BYTES = 64 << 10
"""Room for the start of a line that the next block ends."""
LONG = b"\0 \0"
"""Put before what is too long for a line: no format begins like this."""
Source = Path | str | bytes | io.FileIO
Content = io.RawIOBase | io.BytesIO
PACKED: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
NOT_READ = {
    b"\x28\xb5\x2f\xfd": "zstd: unpack it with zstd -d",
    b"\x1f\x9d": "compress: unpack it with uncompress",
    b"\x04\x22\x4d\x18": "lz4: unpack it with lz4 -d",
    b"PK\3\4": "zip: unpack it with unzip",
    b"\xff\xfe": "UTF-16: write it anew with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16: write it anew with iconv -f UTF-16 -t UTF-8",
}
"""The first bytes of a file, and what it is; its name does not matter."""


def opened(path: Path) -> Content:
    """A log as it was before it was packed. OSError where it is packed in a way that is not read here."""
    with io.FileIO(path) as file:
        unpack = _unpack_of(file.read(6), str(path))
    return unpack(path) if unpack else io.FileIO(path)


def unpacked(content: bytes, path: str) -> bytes:
    """The same of a file's bytes."""
    unpack = _unpack_of(content[:6], path)
    return unpack(io.BytesIO(content)).read() if unpack else content


def _unpack_of(head: bytes, path: str) -> Callable[[Any], Any] | None:
    for magic, what in NOT_READ.items():
        if head.startswith(magic):
            raise OSError(errno.EINVAL, f"not read, this is {what}", path)
    return next((unpack for magic, unpack in PACKED.items() if head.startswith(magic)), None)


class Slice(io.FileIO):
    """The bytes of a file from `start` up to `end`."""

    def __init__(self, path: Path, start: int, end: int) -> None:
        super().__init__(path)
        self.rest_bytes = end - start
        self.seek(start)

    def readinto(self, room: Any) -> int:
        count = super().readinto(memoryview(room)[: self.rest_bytes])
        self.rest_bytes -= count
        return count


def is_packed(path: Path) -> bool:
    with io.FileIO(path) as file:
        return file.read(6).startswith(tuple(PACKED))


class Stream:
    """One file or piece: blocks of whole lines, and how far it was read."""

    def __init__(self, content: Content, fetch: Fetch | None = None) -> None:
        self.content, self.fetch = content, fetch
        self.read_bytes, self.left_bytes = 0, 0
        if fetch and fetch.start:
            content.seek(fetch.start)

    def blocks(self, leave: bool) -> Iterator[Block]:
        """Whole lines, good until the next block is asked for: new memory costs more than what is read into it."""
        room, carried, swallowed_count = bytearray(), b"", 0
        while True:
            filled = PAD + len(carried)
            if len(room) < filled + BLOCK_BYTES + PAD:
                room = bytearray(filled + CARRIED_BYTES + BLOCK_BYTES + PAD)
            room[PAD:filled] = carried
            filled += (count := self._fill(memoryview(room)[filled : filled + BLOCK_BYTES]))
            if not count:
                break
            end = room.rfind(b"\n", PAD, filled) + 1
            if end:
                self.read_bytes += end - PAD + swallowed_count
                yield Block.of(np.frombuffer(room, np.uint8, end + PAD))
                carried, swallowed_count = bytes(room[end:filled]), 0
            elif count < BLOCK_BYTES:
                carried = bytes(room[PAD:filled])
            else:  # no line is that long: only its length is of interest
                carried, swallowed_count = LONG, swallowed_count + filled - PAD - len(LONG)
        self.left_bytes = len(carried) + swallowed_count
        if carried and not leave:
            self.read_bytes, self.left_bytes = self.read_bytes + self.left_bytes, 0
            yield Block.copy(carried + b"\n")

    def _fill(self, room: memoryview) -> int:
        filled = 0
        while filled < len(room) and (count := self.content.readinto(room[filled:])):
            filled += count
        return filled
