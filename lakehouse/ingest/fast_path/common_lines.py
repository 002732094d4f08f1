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
_NEAR, _FAR = 1 << 12, 1 << 20  # bytes compared at once: to begin with, and at most
_STRETCH = 1 << 26  # bytes passed over at once, then no longer held in memory: whole pages, and longer than any line
_WINDOWS = (1 << 10, 1 << 16)  # bytes in which two files that went apart are to meet again
# Beyond, hashing every line takes less than finding where two files meet again: a turn takes some 10 microseconds.
_LEAST_BYTES_A_TURN = 1 << 12
_FIRST_TURNS = 100  # before the two are judged


def without_alike(before: Path, after: Path, folder: Path) -> tuple[Path, Path] | None:
    """Both files without lines that stand in the same order in both: new files in `folder`.

    Lines are taken away in pairs, so that the two differ by the same lines as before. None: it is not worth it, or the
    files do not even begin alike.
    """
    if not before.stat().st_size or not after.stat().st_size:
        return None
    left = folder / "before", folder / "after"
    with ExitStack() as stack:
        old, new = (_mapped(stack, path) for path in (before, after))
        kept = [stack.enter_context(path.open("wb")) for path in left]
        return left if _passed(old, new, kept[0], kept[1]) else None


def _mapped(stack: ExitStack, path: Path) -> mmap.mmap:
    file = stack.enter_context(path.open("rb"))
    mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    mapped.madvise(mmap.MADV_SEQUENTIAL)
    return mapped


def _passed(old: mmap.mmap, new: mmap.mmap, left: BinaryIO, right: BinaryIO) -> bool:
    """Write what is left of both; False: given up."""
    i = j = turns = kept = 0
    while True:
        # What both have alike ends with the last line end in it, if it has one.
        alike = _alike(old, i, new, j)
        length = old.rfind(_NEWLINE, i, i + alike) + 1 - i
        if length > 0:
            _let_go(old, i, i + length)
            _let_go(new, j, j + length)
            i, j = i + length, j + length
            if alike == _STRETCH:
                continue
        elif not i:
            return False
        if i == len(old) or j == len(new):
            break
        turns += 1
        if turns >= _FIRST_TURNS and (turns * _LEAST_BYTES_A_TURN > i + j or kept > (i + j) / 2):
            return False
        skipped, added = _apart(old, i, new, j)
        left.write(old[i : i + skipped])
        right.write(new[j : j + added])
        i, j, kept = i + skipped, j + added, kept + skipped + added
    rest = len(old) - i + len(new) - j
    if kept + rest > (len(old) + len(new)) / 2:
        return False
    for source, at, file in ((old, i, left), (new, j, right)):
        for start in range(at, len(source), _FAR):
            file.write(source[start : start + _FAR])
    return True


def _let_go(text: mmap.mmap, before: int, now: int) -> None:
    """Hold whole stretches that were passed no longer: the system has them still, as long as it has room."""
    start, end = before // _STRETCH * _STRETCH, now // _STRETCH * _STRETCH
    if end > start:
        text.madvise(mmap.MADV_DONTNEED, start, end - start)


def _alike(old: mmap.mmap, i: int, new: mmap.mmap, j: int) -> int:
    """How many bytes both have alike from there, `_STRETCH` at most."""
    most = min(len(old) - i, len(new) - j, _STRETCH)
    low, step = 0, _NEAR
    while low < most and old[i + low : i + low + step] == new[j + low : j + low + step]:
        low, step = low + step, min(2 * step, _FAR)
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


def _apart(old: mmap.mmap, i: int, new: mmap.mmap, j: int) -> tuple[int, int]:
    """How many bytes of each are before the next line that both have; where none is near, what was looked at."""
    for size in _WINDOWS:
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
    return _end(old, i + _WINDOWS[-1]) - i, _end(new, j + _WINDOWS[-1]) - j


def _end(text: mmap.mmap, place: int) -> int:
    """Where the line that has this place ends; its line end is part of it."""
    return text.find(_NEWLINE, place) + 1 or len(text)
