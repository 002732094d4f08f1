"""Reads the sizes of the pages of a Parquet file in their headers: what a reader of the file will hold at once.

PyArrow does not show them. A header is a struct in Thrift's compact protocol, of which two fields are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

import pyarrow.parquet as pq

_UNPACKED, _PACKED = 2, 3  # the fields of a header with the sizes of its page, in bytes
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_SIZES = {_BYTE: 1, _DOUBLE: 8}  # of values that have always the same number of bytes
_MAX_DEPTH = 64
_MAX_PARTS = 1 << 16  # bytes of a header that are looked at; texts of any length are not


class _Header(NamedTuple):
    unpacked: int
    packed: int


def page_sizes(source: IO[bytes], chunk: pq.ColumnChunkMetaData) -> Iterator[int]:
    """Yield the size of each page of a chunk, unpacked.

    Args:
        source: The file.
        chunk: The chunk, from the file's footer.

    Raises:
        ValueError: A header cannot be read.
    """
    starts = (chunk.dictionary_page_offset, chunk.data_page_offset)
    position = min(start for start in starts if start)
    end = position + chunk.total_compressed_size
    while position < end:
        source.seek(position)
        reader = _HeaderReader(source, end)
        header = reader.read()
        yield header.unpacked
        position = source.tell() + header.packed


class _HeaderReader:
    """Reads one header, whatever fields it has, without holding its texts.

    Args:
        source: The file, at the beginning of the header.
        end: Where the chunk ends.
    """

    def __init__(self, source: IO[bytes], end: int) -> None:
        self._source, self._end, self._parts = source, end, 0

    def read(self) -> _Header:
        sizes = {_UNPACKED: -1, _PACKED: -1}
        for field, kind in self._fields():
            if field in sizes and kind == _I32:
                sizes[field] = self._zigzag()
            else:
                self._skip(kind)
        if min(sizes.values()) < 0:
            raise ValueError("a page without a size")
        return _Header(sizes[_UNPACKED], sizes[_PACKED])

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Yield the number and the type of each field of a struct, whose value is then to be read."""
        field = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            field = field + step if step else self._zigzag()
            yield field, kind

    def _skip(self, kind: int, depth: int = 0) -> None:
        """Skip the value of a field."""
        if depth > _MAX_DEPTH:
            raise ValueError("a header with too many levels")
        if kind in (_LIST, _SET):
            head = self._byte()
            self._skip_elements(self._varint() if head >> 4 == 15 else head >> 4, (head & 15,), depth)
        elif kind == _MAP:
            if count := self._varint():
                kinds = self._byte()
                self._skip_elements(count, (kinds >> 4, kinds & 15), depth)
        elif kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        elif kind in _SIZES:
            self._skip_bytes(_SIZES[kind])
        elif kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _BINARY:
            self._skip_bytes(self._varint())
        elif kind not in (_TRUE, _FALSE):  # the type of such a field is its value
            raise ValueError(f"a field of type {kind}")

    def _skip_elements(self, count: int, kinds: tuple[int, ...], depth: int) -> None:
        """Skip the elements of a list, or the entries of a map."""
        sizes = [1 if kind in (_TRUE, _FALSE) else _SIZES.get(kind) for kind in kinds]
        if None not in sizes:
            self._skip_bytes(count * sum(size or 0 for size in sizes))
            return
        for _ in range(count):
            for kind in kinds:
                if kind in (_TRUE, _FALSE):
                    self._skip_bytes(1)
                else:
                    self._skip(kind, depth + 1)

    def _skip_bytes(self, count: int) -> None:
        if self._source.tell() + count > self._end:
            raise ValueError("a header that ends behind its chunk")
        self._source.seek(count, 1)

    def _byte(self) -> int:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise ValueError("a header with too many parts")
        if not (byte := self._source.read(1)):
            raise ValueError("the file ends in a header")
        return byte[0]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
