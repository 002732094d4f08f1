"""Handles SIGTERM and Ctrl-C: the first lets the running stage finish, the second ends the process at once.

Ending at once is safe, because the next run gives the result of an uninterrupted one; it only wastes work.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOP_MESSAGE = b"\nstopping at the end of this stage; once more to end at once\n"


class StopRequest:
    """Whether somebody has requested a stop. `forward` receives the signal too, such as a child process."""

    def __init__(self) -> None:
        self.is_requested = False
        self.forward: Callable[[int], None] = lambda signum: None

    def __call__(self) -> bool:
        """Return whether a stop was requested."""
        return self.is_requested

    def handle_signal(self, signum: int, _: FrameType | None) -> None:
        """Handle a signal. It must take no lock, which the interrupted code may have; so it uses no logger."""
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
    """Handle SIGTERM and SIGINT for the time of a `with` block; an inner block shares the request of the outer one.

    Outside the main thread, which receives all signals, a stop is never requested.
    """
    global _active_request  # noqa: PLW0603 - signal handlers belong to the process, and so does their request
    if _active_request is not None or threading.current_thread() is not threading.main_thread():
        yield _active_request or StopRequest()
        return
    _active_request = stop = StopRequest()
    previous_handlers = {signum: signal.signal(signum, stop.handle_signal) for signum in _SIGNALS}
    try:
        yield stop
    finally:
        _active_request = None
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)
