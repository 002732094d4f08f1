"""Removes the sections of lines that two files have in common, in the same order, comparing them byte by byte.

The rows of a snapshot mostly have the order of the last one. So the rest is small, and only the rest has to be compared
line by line. If it is not small, this stops early.
"""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

_NEWLINE = b"\n"
_FIRST_CHUNK, _MAX_CHUNK = 1 << 12, 1 << 20  # bytes compared at once: to begin with, and at most
_MAX_MATCH = 1 << 26  # bytes skipped at once, whose memory is then released: full pages, and longer than any line
_SEARCH_WINDOWS = (1 << 10, 1 << 16)  # bytes in which the next common line is searched after a difference
# With fewer bytes between differences, hashing every line is faster: a search takes about 10 microseconds.
_MIN_BYTES_PER_SEARCH = 1 << 12
_MIN_SEARCHES = 100  # before this is checked


def remove_common_lines(before: Path, after: Path, folder: Path) -> tuple[Path, Path] | None:
    """Copy both files without lines that are in both, in the same order.

    Lines are removed in pairs, so that the copies differ by the same lines as the files.

    Args:
        before: A file.
        after: The file to compare it with.
        folder: Where to write the copies.

    Returns:
        The copies; None if they would not be small, or if the files do not begin with the same line.
    """
    if not before.stat().st_size or not after.stat().st_size:
        return None
    copies = folder / "before", folder / "after"
    with ExitStack() as stack:
        old, new = (_open_mmap(stack, path) for path in (before, after))
        old_rest, new_rest = (stack.enter_context(path.open("wb")) for path in copies)
        return copies if _write_differences(old, new, old_rest, new_rest) else None


def _open_mmap(stack: ExitStack, path: Path) -> mmap.mmap:
    file = stack.enter_context(path.open("rb"))
    mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    mapped.madvise(mmap.MADV_SEQUENTIAL)
    return mapped


def _write_differences(old: mmap.mmap, new: mmap.mmap, old_rest: BinaryIO, new_rest: BinaryIO) -> bool:
    """Write the sections in which the two differ; return False if that was given up."""
    i = j = searches = written = 0
    while True:
        # The common section ends with the last line end in it, if it has one.
        common = _common_length(old, i, new, j)
        length = old.rfind(_NEWLINE, i, i + common) + 1 - i
        if length > 0:
            _release_pages(old, i, i + length)
            _release_pages(new, j, j + length)
            i, j = i + length, j + length
            if common == _MAX_MATCH:
                continue
        elif not i:
            return False
        if i == len(old) or j == len(new):
            break
        searches += 1
        is_slow = searches * _MIN_BYTES_PER_SEARCH > i + j or written > (i + j) / 2
        if searches >= _MIN_SEARCHES and is_slow:
            return False
        removed, added = _next_common_line(old, i, new, j)
        old_rest.write(old[i : i + removed])
        new_rest.write(new[j : j + added])
        i, j, written = i + removed, j + added, written + removed + added
    if written + len(old) - i + len(new) - j > (len(old) + len(new)) / 2:
        return False
    for source, position, file in ((old, i, old_rest), (new, j, new_rest)):
        for start in range(position, len(source), _MAX_CHUNK):
            file.write(source[start : start + _MAX_CHUNK])
    return True


def _release_pages(text: mmap.mmap, before: int, now: int) -> None:
    """Release the memory of sections that were skipped; the system caches them while it has memory to spare."""
    start, end = before // _MAX_MATCH * _MAX_MATCH, now // _MAX_MATCH * _MAX_MATCH
    if end > start:
        text.madvise(mmap.MADV_DONTNEED, start, end - start)


def _common_length(old: mmap.mmap, i: int, new: mmap.mmap, j: int) -> int:
    """Return how many bytes from these positions are equal, up to `_MAX_MATCH`."""
    limit = min(len(old) - i, len(new) - j, _MAX_MATCH)
    low, step = 0, _FIRST_CHUNK
    while low < limit and old[i + low : i + low + step] == new[j + low : j + low + step]:
        low, step = low + step, min(2 * step, _MAX_CHUNK)
    if low >= limit:
        return limit
    high = min(low + step, limit) + 1  # the first length that is certainly not equal, or beyond the limit
    while high - low > 1:
        middle = (low + high) // 2
        if old[i + low : i + middle] == new[j + low : j + middle]:
            low = middle
        else:
            high = middle
    return low


def _next_common_line(old: mmap.mmap, i: int, new: mmap.mmap, j: int) -> tuple[int, int]:
    """Return how many bytes of each are before the next common line; if none is near, the searched bytes."""
    for size in _SEARCH_WINDOWS:
        old_lines, new_lines = old[i : i + size].split(_NEWLINE)[:-1], new[j : j + size].split(_NEWLINE)[:-1]
        offsets: dict[bytes, int] = {}
        offset = 0
        for line in new_lines:
            offsets.setdefault(line, offset)
            offset += len(line) + 1
        offset = 0
        for line in old_lines:
            if line in offsets:
                return offset, offsets[line]
            offset += len(line) + 1
    return _line_end(old, i + _SEARCH_WINDOWS[-1]) - i, _line_end(new, j + _SEARCH_WINDOWS[-1]) - j


def _line_end(text: mmap.mmap, position: int) -> int:
    """Return where the line at a position ends, after its line end."""
    return text.find(_NEWLINE, position) + 1 or len(text)
