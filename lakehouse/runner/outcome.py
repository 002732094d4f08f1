"""Defines the outcome of each table and model of a run, and the report of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lakehouse.errors import ExitCode, worst_exit_code
from lakehouse.text import visible_lines

FAILED, WAITING = "failed", "waiting"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a stage for one table or model.

    Attributes:
        stage: The stage, such as `ingest`.
        name: The table or model.
        status: One word: `accepted`, `unchanged`, `held`, `rejected`, `applied`, `current`, `row-wise`, `full`, ...
        counts: Rows by action.
        seconds: The wall time.
        code: The exit code that this outcome alone would lead to.
        note: The reason, the warning or the error, as people read it.
        kept_note: The note without values of rows, if it has some.
    """

    stage: str
    name: str
    status: str
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    code: ExitCode = ExitCode.OK
    note: str = ""
    kept_note: str | None = None

    def __post_init__(self) -> None:
        """Have a note that is printable and cut: it goes to the terminal, run records, `on_failure` and the report."""
        object.__setattr__(self, "note", visible_lines(self.note))

    def document(self, is_kept: bool = False) -> dict[str, Any]:
        """Return the outcome as JSON values.

        Args:
            is_kept: Whether the document outlives the rows, and must not have values of them.
        """
        note = self.kept_note if is_kept and self.kept_note is not None else self.note
        values = vars(self) | {"code": int(self.code), "note": note}
        del values["kept_note"]
        return values


OnOutcome = Callable[[Outcome], None]


@dataclass
class Report:
    """The report of a run, or of a single stage.

    Attributes:
        pipeline: The pipeline's name.
        run_id: The run's id.
        outcomes: One or more for each table and model, in the order of the stages.
        nothing_new: Nothing had changed since the last run, so no stage had anything to do.
        seconds: The wall time.
        stopped_before: The first stage that did not start because somebody requested a stop.
    """

    pipeline: str
    run_id: str
    outcomes: list[Outcome] = field(default_factory=list)
    nothing_new: bool = False
    seconds: float = 0.0
    stopped_before: str | None = None

    @property
    def code(self) -> int:
        """The exit code of the run."""
        return worst_exit_code(outcome.code for outcome in self.outcomes)

    def document(self, is_kept: bool = False) -> dict[str, Any]:
        """Return the report as JSON values.

        Args:
            is_kept: Whether it is for a run record and `on_failure`, which have no values of rows, or for --json.
        """
        outcomes = [outcome.document(is_kept) for outcome in self.outcomes]
        return {**vars(self), "outcomes": outcomes, "exit_code": int(self.code)}
