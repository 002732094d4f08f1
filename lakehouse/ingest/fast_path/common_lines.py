"""Which stretches of lines two files have alike, in the same order: compared byte by byte, never read as lines.

Rows of a snapshot mostly come in the order of the last one. What is left after its stretches were passed over is small,
and is what has to be looked at line by line. Where that is not so, this says so early.
"""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

_NEWLINE = b"\n"
_FIRST_CHUNK, _MAX_CHUNK = 1 << 12, 1 << 20  # bytes compared at once: to begin with, and at most
_MAX_MATCH = 1 << 26  # bytes passed over at once, then no longer held in memory: whole pages, and longer than any line
_SEARCH_WINDOWS = (1 << 10, 1 << 16)  # bytes in which two files that went apart are to meet again
# Beyond, hashing every line takes less than finding where two files meet again: a turn takes some 10 microseconds.
_MIN_BYTES_PER_TURN = 1 << 12
_MIN_TURNS = 100  # before the two are judged


def remove_common_lines(before: Path, after: Path, folder: Path) -> tuple[Path, Path] | None:
    """Both files without lines that stand in the same order in both: new files in `folder`.

    Lines are taken away in pairs, so that the two differ by the same lines as before. None: it is not worth it, or the
    files do not even begin alike.
    """
    if not before.stat().st_size or not after.stat().st_size:
        return None
    left = folder / "before", folder / "after"
    with ExitStack() as stack:
        old, new = (_open_mmap(stack, path) for path in (before, after))
        kept = [stack.enter_context(path.open("wb")) for path in left]
        return left if _write_differences(old, new, kept[0], kept[1]) else None


def _open_mmap(stack: ExitStack, path: Path) -> mmap.mmap:
    file = stack.enter_context(path.open("rb"))
    mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    mapped.madvise(mmap.MADV_SEQUENTIAL)
    return mapped


def _write_differences(old: mmap.mmap, new: mmap.mmap, left: BinaryIO, right: BinaryIO) -> bool:
    """Write what is left of both; False: given up."""
    i = j = turns = kept = 0
    while True:
        # What both have alike ends with the last line end in it, if it has one.
        alike = _common_length(old, i, new, j)
        length = old.rfind(_NEWLINE, i, i + alike) + 1 - i
        if length > 0:
            _release_pages(old, i, i + length)
            _release_pages(new, j, j + length)
            i, j = i + length, j + length
            if alike == _MAX_MATCH:
                continue
        elif not i:
            return False
        if i == len(old) or j == len(new):
            break
        turns += 1
        if turns >= _MIN_TURNS and (turns * _MIN_BYTES_PER_TURN > i + j or kept > (i + j) / 2):
            return False
        skipped, added = _next_common_line(old, i, new, j)
        left.write(old[i : i + skipped])
        right.write(new[j : j + added])
        i, j, kept = i + skipped, j + added, kept + skipped + added
    rest = len(old) - i + len(new) - j
    if kept + rest > (len(old) + len(new)) / 2:
        return False
    for source, at, file in ((old, i, left), (new, j, right)):
        for start in range(at, len(source), _MAX_CHUNK):
            file.write(source[start : start + _MAX_CHUNK])
    return True


def _release_pages(text: mmap.mmap, before: int, now: int) -> None:
    """Hold whole stretches that were passed no longer: the system has them still, as long as it has room."""
    start, end = before // _MAX_MATCH * _MAX_MATCH, now // _MAX_MATCH * _MAX_MATCH
    if end > start:
        text.madvise(mmap.MADV_DONTNEED, start, end - start)


def _common_length(old: mmap.mmap, i: int, new: mmap.mmap, j: int) -> int:
    """How many bytes both have alike from there, `_STRETCH` at most."""
    most = min(len(old) - i, len(new) - j, _MAX_MATCH)
    low, step = 0, _FIRST_CHUNK
    while low < most and old[i + low : i + low + step] == new[j + low : j + low + step]:
        low, step = low + step, min(2 * step, _MAX_CHUNK)
    if low >= most:
        return most
    high = min(low + step, most) + 1  # the first length that is surely not alike, or out of room
    while high - low > 1:
        middle = (low + high) // 2
        if old[i + low : i + middle] == new[j + low : j + middle]:
            low = middle
        else:
            high = middle
    return low


def _next_common_line(old: mmap.mmap, i: int, new: mmap.mmap, j: int) -> tuple[int, int]:
    """How many bytes of each are before the next line that both have; where none is near, what was looked at."""
    for size in _SEARCH_WINDOWS:
        lines, others = old[i : i + size].split(_NEWLINE)[:-1], new[j : j + size].split(_NEWLINE)[:-1]
        at: dict[bytes, int] = {}
        place = 0
        for line in others:
            at.setdefault(line, place)
            place += len(line) + 1
        place = 0
        for line in lines:
            if line in at:
                return place, at[line]
            place += len(line) + 1
    return _line_end(old, i + _SEARCH_WINDOWS[-1]) - i, _line_end(new, j + _SEARCH_WINDOWS[-1]) - j


def _line_end(text: mmap.mmap, place: int) -> int:
    """Where the line that has this place ends; its line end is part of it."""
    return text.find(_NEWLINE, place) + 1 or len(text)
