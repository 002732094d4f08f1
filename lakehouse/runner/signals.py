"""An orderly end: SIGTERM or Ctrl-C lets the running stage finish, the second one ends the process at once.

Ending at once does no harm (the next run ends where an unbroken one would have); it only wastes what was begun.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WORD = b"stopping at the end of this stage; once more to end at once\n"


class Stop:
    """Whether somebody has asked for an end, and who else is to hear of it."""

    def __init__(self) -> None:
        self.asked = False
        self.pass_on: Callable[[int], None] = lambda signum: None

    def __call__(self) -> bool:
        return self.asked

    def hear(self, signum: int, _: FrameType | None) -> None:
        """The signal handler. It takes no lock, since what it interrupts may hold one: hence no logger here."""
        self.pass_on(signal.SIGTERM)
        if self.asked:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self.asked = True
        if os.isatty(2):
            os.write(2, _WORD)


_heeded: Stop | None = None


@contextmanager
def heeded() -> Iterator[Stop]:
    """SIGTERM and SIGINT are heard by the `Stop` that is given; inside another such block, by that one.

    Outside the main thread, where no signal arrives, it is never asked.
    """
    global _heeded  # noqa: PLW0603 - signal handlers belong to the process, and so does who hears them
    if _heeded is not None or threading.current_thread() is not threading.main_thread():
        yield _heeded or Stop()
        return
    _heeded = stop = Stop()
    before = {each: signal.signal(each, stop.hear) for each in _SIGNALS}
    try:
        yield stop
    finally:
        _heeded = None
        for each, handler in before.items():
            signal.signal(each, handler)
