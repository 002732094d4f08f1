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
_STOP_MESSAGE = b"stopping at the end of this stage; once more to end at once\n"


class StopRequest:
    """Whether somebody has asked for an end, and who else is to hear of it."""

    def __init__(self) -> None:
        self.is_requested = False
        self.forward: Callable[[int], None] = lambda signum: None

    def __call__(self) -> bool:
        return self.is_requested

    def handle_signal(self, signum: int, _: FrameType | None) -> None:
        """The signal handler. It takes no lock, since what it interrupts may hold one: hence no logger here."""
        self.forward(signal.SIGTERM)
        if self.is_requested:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self.is_requested = True
        if os.isatty(2):
            os.write(2, _STOP_MESSAGE)


_active_request: StopRequest | None = None


@contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """SIGTERM and SIGINT are heard by the `Stop` that is given; inside another such block, by that one.

    Outside the main thread, where no signal arrives, it is never asked.
    """
    global _active_request  # noqa: PLW0603 - signal handlers belong to the process, and so does who hears them
    if _active_request is not None or threading.current_thread() is not threading.main_thread():
        yield _active_request or StopRequest()
        return
    _active_request = stop = StopRequest()
    before = {each: signal.signal(each, stop.handle_signal) for each in _SIGNALS}
    try:
        yield stop
    finally:
        _active_request = None
        for each, handler in before.items():
            signal.signal(each, handler)
