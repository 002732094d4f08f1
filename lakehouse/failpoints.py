"""Breaks a command off at a named place, to test what the next one makes of it.

    LAKEHOUSE_FAILPOINT=after_ledger_append:kill lakehouse run PIPELINE

`NAME[@WHERE]:ACTION[:N]` chooses the N-th time (by default the first) that a command reaches the point NAME, or reaches
it at a path or table that ends with WHERE. The actions:

    kill            SIGKILL: no clean-up and no exit code, as after a power failure
    raise           `Interruption`, which no handler of the package catches; each later point raises it as well
    sleep:SECONDS   wait, for example for another command
    stop            SIGSTOP: the process waits for SIGCONT

Without the variable a point costs one comparison. Only the command line reads the variable, and a command with one
starts with a warning (docs/decisions/0034-failpoints.md).
"""

from __future__ import annotations

import ast
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from threading import Lock
from typing import TYPE_CHECKING

from lakehouse.errors import ConfigError

if TYPE_CHECKING:
    from importlib.abc import Traversable

VARIABLE = "LAKEHOUSE_FAILPOINT"
ACTIONS = ("kill", "raise", "sleep", "stop")

Handler = Callable[[str, str], None]

_handler: Handler | None = None


class Interruption(BaseException):
    """The end of a command in place of a kill, in a process that goes on."""


def failpoint(name: str, where: object = "") -> None:
    """Mark a place at which a command may be broken off.

    Args:
        name: The name of the point: a literal, since `list_points` reads it from the code.
        where: The file or table that is worked on.
    """
    if _handler is not None:
        _handler(name, str(where))


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Call a function with the name and place of each point that is reached in the block.

    Args:
        handler: The function.
    """
    global _handler  # noqa: PLW0603 - a parameter would go through every function of the package
    before, _handler = _handler, handler
    try:
        yield
    finally:
        _handler = before


def activate_from_environment() -> str:
    """Turn on the failpoint that the environment names.

    Returns:
        The setting; empty if there is none.

    Raises:
        ConfigError: It names no point or no action.
    """
    global _handler  # noqa: PLW0603
    text = os.environ.get(VARIABLE, "")
    if text:
        _handler = parse(text)
    return text


@dataclass
class Failpoint:
    """A point that is turned on.

    Attributes:
        name: The name of the point.
        action: One of `ACTIONS`.
        where: The end of the path or table; empty for any.
        number: The time at which it acts, from 1.
        seconds: How long to sleep.
    """

    name: str
    action: str
    where: str = ""
    number: int = 1
    seconds: float = 0.0
    _reached: int = 0
    _is_broken: bool = False
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __call__(self, name: str, where: str) -> None:
        """Act, if this is the point, the place and the time."""
        with self._lock:
            if not self._is_broken:
                if name != self.name or not where.endswith(self.where):
                    return
                self._reached += 1
                if self._reached != self.number:
                    return
                self._is_broken = self.action == "raise"
        self._act(where)

    def _act(self, where: str) -> None:
        if self.action == "raise":
            raise Interruption(f"{self.name} {where}")
        if self.action == "sleep":
            time.sleep(self.seconds)
            return
        os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)
        if self.action == "kill":
            time.sleep(60)  # until the signal arrives, nothing else must happen


def parse(text: str) -> Failpoint:
    """Return the failpoint that a setting names.

    Args:
        text: As `NAME[@WHERE]:ACTION[:N]`, or `NAME[@WHERE]:sleep:SECONDS[:N]`.

    Raises:
        ConfigError: It names no point or no action, or a number is none.
    """
    place, _, rest = text.partition(":")
    name, _, where = place.partition("@")
    action, *numbers = rest.split(":")
    points = list_points()
    if name not in points:
        close = get_close_matches(name, points, 1)
        raise _usage_error(text, f"{name} is no failpoint", f"did you mean {close[0]}?" if close else "")
    if action not in ACTIONS:
        raise _usage_error(text, f"{action or 'nothing'} is no action of a failpoint", f"use {', '.join(ACTIONS)}")
    try:
        seconds = float(numbers.pop(0)) if action == "sleep" else 0.0
        number = int(numbers.pop(0)) if numbers else 1
    except (ValueError, IndexError):
        raise _usage_error(text, "a number of the failpoint is missing or none", "") from None
    if numbers or number < 1 or seconds < 0:
        raise _usage_error(text, "the numbers of the failpoint are too many or too small", "")
    return Failpoint(name, action, where, number, seconds)


def _usage_error(text: str, found: str, hint: str) -> ConfigError:
    return ConfigError(
        f"{VARIABLE}={text}: {found}",
        expected="NAME[@WHERE]:kill|raise|stop|sleep:SECONDS[:N]" + (f"; {hint}" if hint else ""),
        next_step=f"unset {VARIABLE}: it is for tests, and breaks commands off",
    )


def list_points() -> list[str]:
    """Return the names of all failpoints, as the code of the package has them."""
    return sorted({name for source in _sources(files("lakehouse")) for name in points_of(source)})


def points_of(source: str) -> Iterator[str]:
    """Yield the names of the failpoints in a module.

    Args:
        source: Its code.
    """
    if "failpoint(" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
            (first, *_) = node.args
            if not isinstance(first, ast.Constant):
                raise TypeError(f"line {node.lineno}: the name of a failpoint is a literal")
            yield str(first.value)


def _sources(folder: Traversable) -> Iterator[str]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _sources(path)
        elif path.name.endswith(".py"):
            yield path.read_text(encoding="utf-8")
