"""What became of each table and model of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lakehouse.errors import ExitCode, worst_exit_code


@dataclass(frozen=True)
class Outcome:
    """What a stage did for one table or model.

    Attributes:
        status: a word: `accepted`, `unchanged`, `held`, `rejected`, `applied`, `current`, `row-wise`, `full`, ...
        counts: rows, by what was done to them.
        seconds: wall time.
        code: the exit code it asks for.
        note: the reason, the warning or the error, as people read it.
    """

    stage: str
    name: str
    status: str
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    code: ExitCode = ExitCode.OK
    note: str = ""


OnOutcome = Callable[[Outcome], None]


@dataclass
class Report:
    """A run, or a single stage: what became of everything, and the exit code.

    Attributes:
        stopped_before: the stage that was not begun, because somebody had asked for an orderly end.
    """

    pipeline: str
    run_id: str
    outcomes: list[Outcome] = field(default_factory=list)
    nothing_new: bool = False
    seconds: float = 0.0
    stopped_before: str | None = None

    @property
    def code(self) -> int:
        return worst_exit_code(o.code for o in self.outcomes)

    def document(self) -> dict[str, Any]:
        """As plain values, for --json, run records and `on_failure`."""
        outcomes = [vars(o) | {"code": int(o.code)} for o in self.outcomes]
        return {**vars(self), "outcomes": outcomes, "exit_code": int(self.code)}
