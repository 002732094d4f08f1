"""Defines the result of one check of `lakehouse doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lakehouse.errors import ExitCode, LakehouseError

OK, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was checked, such as `java` or `table`.
        of: The table, file or variable; empty if there is only one.
        result: `ok`, `warning` (the next run goes on) or `wrong` (it does not).
        found: What was found.
        next_step: The remedy: a command, or the change to make.
        code: The exit code of what is wrong; 0 for the others.
        repair: Does the remedy, if it is safe; returns what it did. None: a person has to do it.
    """

    check: str
    of: str
    result: str
    found: str
    next_step: str = ""
    code: int = ExitCode.OK
    repair: Callable[[], str] | None = field(default=None, compare=False, repr=False)

    def document(self) -> dict[str, Any]:
        """Return the finding for `--json`."""
        parts = {"check": self.check, "of": self.of, "result": self.result, "found": self.found, "next": self.next_step}
        return parts | {"code": int(self.code), "can_be_fixed": self.repair is not None}


@dataclass(frozen=True)
class Subject:
    """The thing that a check is about. The attributes are those of `Finding`."""

    check: str
    of: str = ""

    def ok(self, found: str) -> Finding:
        """Return that nothing is wrong."""
        return Finding(self.check, self.of, OK, found)

    def warning(self, found: str, next_step: str = "", repair: Callable[[], str] | None = None) -> Finding:
        """Return something that the next run can live with."""
        return Finding(self.check, self.of, WARNING, found, next_step, repair=repair)

    def wrong(self, found: str, next_step: str, code: ExitCode, repair: Callable[[], str] | None = None) -> Finding:
        """Return something that stops a run, or that loses data."""
        return Finding(self.check, self.of, WRONG, found, next_step, code, repair)

    def failed(self, error: LakehouseError) -> Finding:
        """Return that the check itself met an error, which a run would meet, too."""
        return self.wrong(error.found, error.next_step, error.exit_code)
