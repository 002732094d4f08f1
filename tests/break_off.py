"""Breaks a command off inside this process, which has a warm JVM: before or after a step of the product."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from lakehouse.bronze import apply
from lakehouse.lake import change_sets, ledger
from lakehouse.models import refresh, write
from lakehouse.runner import up_to_date
from lakehouse.storage import landing


class Killed(BaseException):
    """The end of a command in place of a kill: no handler of the product catches it."""


STEPS: dict[str, tuple[Any, str]] = {
    "a landed file's manifest": (landing, "write_json"),
    "a change set": (change_sets, "write_batches"),
    "a decision": (ledger, "append"),
    "a refresh of bronze": (apply, "apply_pending"),
    "a merge of bronze": (apply, "merge_changes"),
    "a refresh of a model": (refresh, "refresh"),
    "a merge of a model": (write, "merge_to_match"),
    "the clean mark": (up_to_date, "write_mark"),
}


def break_off(command: Callable[[], Any], step: str, is_before: bool, at: int = 1) -> bool:
    """Run a command and end it at a step; return whether it got there.

    Args:
        command: The command.
        step: One of `STEPS`.
        is_before: Whether the step is not done any more.
        at: At which call of the step.
    """
    module, name = STEPS[step]
    inner, calls = getattr(module, name), count(1)

    def wrapped(*args: Any, **named: Any) -> Any:
        is_end = next(calls) == at
        if is_end and is_before:
            raise Killed
        result = inner(*args, **named)
        if is_end:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, wrapped)
        try:
            command()
        except Killed:
            return True
    return False
