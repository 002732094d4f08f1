"""Reads the sizes of the pages of a Parquet file in their headers: what a reader of the file will hold at once.

PyArrow does not show them. A header is a struct in Thrift's compact protocol, of which two fields are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

import pyarrow.parquet as pq

_UNPACKED, _PACKED = 2, 3  # the fields of a header with the sizes of its page, in bytes
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MAX_DEPTH = 8


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
        header = _read_header(source)
        yield header.unpacked
        position = source.tell() + header.packed


def _read_header(source: IO[bytes]) -> _Header:
    sizes = {_UNPACKED: -1, _PACKED: -1}
    for field, kind in _fields(source):
        if field in sizes and kind == _I32:
            sizes[field] = _zigzag(source)
        else:
            _skip(source, kind)
    if min(sizes.values()) < 0:
        raise ValueError("a page without a size")
    return _Header(sizes[_UNPACKED], sizes[_PACKED])


def _fields(source: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Yield the number and the type of each field of a struct, whose value is then to be read."""
    field = 0
    while head := _byte(source):
        step, kind = head >> 4, head & 15
        field = field + step if step else _zigzag(source)
        yield field, kind


def _skip(source: IO[bytes], kind: int, is_element: bool = False, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("a header with too many levels")
    if kind in (_TRUE, _FALSE):
        source.read(1 if is_element else 0)  # the type of a field is its value
    elif kind in (_BYTE, _DOUBLE):
        source.read(1 if kind == _BYTE else 8)
    elif kind in (_I16, _I32, _I64):
        _varint(source)
    elif kind == _BINARY:
        source.seek(_varint(source), 1)
    elif kind in (_LIST, _SET):
        head = _byte(source)
        for _ in range(_varint(source) if head >> 4 == 15 else head >> 4):
            _skip(source, head & 15, True, depth + 1)
    elif kind == _STRUCT:
        for _, inner in _fields(source):
            _skip(source, inner, False, depth + 1)
    else:  # a page's header has no map
        raise ValueError(f"a field of type {kind}")


def _byte(source: IO[bytes]) -> int:
    if not (byte := source.read(1)):
        raise ValueError("the file ends in a header")
    return byte[0]


def _varint(source: IO[bytes]) -> int:
    value = shift = 0
    while True:
        byte = _byte(source)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _zigzag(source: IO[bytes]) -> int:
    value = _varint(source)
    return value >> 1 ^ -(value & 1)
