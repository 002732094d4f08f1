"""What a check of `verify` says, and the one comparison that most of them are: two tables, row for row."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.errors import ExitCode

HOLDS, FAILED, NOT_CHECKABLE = "holds", "failed", "not checkable"
_MAX_EXAMPLES = 3
_BALANCE, _FOUND = "_cdc_balance", "_cdc_found"

# What Spark and Delta say where files or log entries are no longer there (retention took them, or somebody did),
# or are of a time before the table was replaced by one with other columns.
_GONE = (
    *("FILE_NOT_EXIST", "FileNotFoundException", "PATH_NOT_FOUND", "DELTA_MISSING_CHANGE_DATA"),
    *("DELTA_VERSION_NOT_FOUND", "DELTA_VERSIONS_NOT_CONTIGUOUS", "DELTA_NO_RECREATABLE_HISTORY_FOUND"),
    *("BEYOND_DELETED_FILE_RETENTION", "DELTA_CHANGE_DATA_FEED_INCOMPATIBLE"),
)


@dataclass(frozen=True)
class Check:
    """One thing that has to hold, and whether it does.

    Attributes:
        invariant: `I1` ... `I7`, as the documentation numbers them.
        what: the claim.
        name: the table or model that it is about.
        result: `holds`, `failed` or `not checkable`.
        figures: what was counted; for a failure the first rows that differ; else why it cannot be checked.
        code: what it makes the command end with, if no check failed.
    """

    invariant: str
    what: str
    name: str
    result: str
    figures: str
    code: int = ExitCode.OK


@dataclass(frozen=True)
class Claim:
    """A check that has not been made yet."""

    invariant: str
    what: str
    name: str

    def holds(self, figures: str) -> Check:
        return self._check(HOLDS, figures)

    def fails(self, figures: str) -> Check:
        return self._check(FAILED, figures, ExitCode.REFUSED)

    def not_checkable(self, reason: str, code: int = ExitCode.OK) -> Check:
        return self._check(NOT_CHECKABLE, f"because {reason}", code)

    def _check(self, result: str, figures: str, code: int = ExitCode.OK) -> Check:
        return Check(self.invariant, self.what, self.name, result, figures, int(code))


def compare_rows(
    claim: Claim,
    wanted: DataFrame,
    found: DataFrame,
    sides: tuple[str, str],
    about: str = "",
    less: DataFrame | None = None,
) -> Check:
    """Whether `found` holds the rows of `wanted`, each as often, and no others; columns go by name.

    It is `exceptAll` both ways in one pass: a balance for each row. NaN equals NaN and -0.0 equals 0.0.

    Args:
        sides: what the two are called in a message.
        about: figures to add where it holds.
        less: rows to take out of `wanted` first, each once.
    """
    columns = wanted.columns
    if strangers := sorted(set(columns) ^ set(found.columns)):
        return claim.fails(f"columns on one side only: {', '.join(strangers)}")
    parts = [_with_balance(wanted, columns, 1, 0), _with_balance(found, columns, -1, 1)]
    parts += [_with_balance(less, columns, -1, 0)] if less is not None else []
    signed = parts[0]
    for part in parts[1:]:
        signed = signed.unionByName(part)
    balances = signed.groupBy(*map(quoted_column, columns)).agg(
        F.sum(_BALANCE).alias(_BALANCE), F.sum(_FOUND).alias(_FOUND)
    )
    balance = F.col(_BALANCE)
    totals = balances.agg(
        F.sum(_FOUND), F.sum(F.greatest(balance, F.lit(0))), F.sum(F.greatest(-balance, F.lit(0)))
    ).collect()[0]
    rows, missing, surplus = (int(total or 0) for total in totals)
    if not missing and not surplus:
        return claim.holds(", ".join(filter(None, [f"{rows:,} rows", about])))
    differing = balances.where(balance != 0).orderBy(*map(quoted_column, columns)).limit(_MAX_EXAMPLES)
    side = F.when(balance > 0, sides[0]).otherwise(sides[1])
    examples = "; ".join(f"{where}: {row}" for where, row in differing.select(side, to_json(columns)).collect())
    return claim.fails(f"{missing:,} rows only in {sides[0]}, {surplus:,} only in {sides[1]}; {examples}")


def _with_balance(rows: DataFrame, columns: list[str], sign: int, found: int) -> DataFrame:
    return rows.select(*map(quoted_column, columns), F.lit(sign).alias(_BALANCE), F.lit(found).alias(_FOUND))


def quoted_column(column: str) -> Column:
    """A column by its very name, whatever is in it."""
    return F.col("`" + column.replace("`", "``") + "`")


def to_json(columns: list[str]) -> Column:
    return F.to_json(F.struct(*map(quoted_column, columns)), {"ignoreNullFields": "false"})


def is_gone(error: Exception) -> bool:
    """Whether what was to be read is no longer there.

    Spark hands these on under several types, some of them bare errors of the JVM: the words have to tell.
    """
    return any(sign in str(error) for sign in _GONE)


def format_ranges(values: list[int]) -> str:
    """A list of numbers, shortened.

    >>> format_ranges([1, 2, 3, 5])
    '1-3, 5'
    """
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], value]
        else:
            runs.append([value])
    return ", ".join("-".join(map(str, run)) for run in runs)
