"""`lakehouse forget` asks before it erases if somebody can answer, and never waits for an answer otherwise."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import Project

import lakehouse.forget
from lakehouse.cli import main
from lakehouse.errors import ExitCode

FOUND, ERASED, LIFTED = "found", "erased", "lifted"


class Terminal(io.StringIO):
    """A stream that a person reads or writes."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("options", "answer", "calls", "code"),
    [
        ([], "y\n", [FOUND, ERASED], ExitCode.OK),
        ([], "n\n", [FOUND], ExitCode.USAGE),
        ([], "\n", [FOUND], ExitCode.USAGE),
        ([], None, [ERASED], ExitCode.OK),
        (["--yes"], "", [ERASED], ExitCode.OK),
        (["--json"], "", [ERASED], ExitCode.OK),
        (["--dry-run"], "", [FOUND], ExitCode.OK),
        (["--dry-run"], None, [FOUND], ExitCode.OK),
        (["--dry-run", "--yes"], "", [FOUND], ExitCode.OK),
        (["--lift"], "", [LIFTED], ExitCode.OK),
        (["--lift", "--dry-run"], "", [], ExitCode.USAGE),
        (["--lift", "--vacuum"], None, [], ExitCode.USAGE),
    ],
)
def test_forget_shows_and_asks_on_a_terminal_and_asks_nothing_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    answer: str | None,
    calls: list[str],
    code: ExitCode,
) -> None:
    """An answer of None is a command without a terminal: nothing can be read there."""
    seen, confirmed, errors = list[str](), list[Any](), Terminal()
    for function, name in (("find_key", FOUND), ("forget_key", ERASED), ("lift_key", LIFTED)):

        def call(*arguments: Any, name: str = name) -> dict[str, Any]:
            seen.append(name)
            confirmed.extend(arguments[4:])
            return {name: 3, "exit_code": 0}

        monkeypatch.setattr(lakehouse.forget, function, call)
    monkeypatch.setattr(sys, "stdin", io.StringIO() if answer is None else Terminal(answer))
    if answer is not None:
        monkeypatch.setattr(sys, "stderr", errors)

    assert main(["forget", str(Project(tmp_path).pipeline), "items", "000ff655", "--verbose", *options]) == code

    assert seen == calls
    assert confirmed == ([3] if calls == [FOUND, ERASED] else [])  # erased is only what was shown
    has_asked = "Erase these rows?" in errors.getvalue() + capsys.readouterr().err
    assert has_asked == (len(answer or "") > 0)
