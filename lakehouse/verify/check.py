"""Defines the result of a check, and the comparison of two tables row by row that most checks use."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.errors import ExitCode
from lakehouse.lake.delta import is_feed_unreadable
from lakehouse.text import counted

HOLDS, FAILED, NOT_CHECKABLE = "holds", "failed", "not checkable"
_MAX_EXAMPLES = 3
WEIGHT = "_cdc_weight"
_BALANCE, _ACTUAL = "_cdc_balance", "_cdc_actual"
_MISSING_FILE = ("FILE_NOT_EXIST", "FileNotFoundException")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        invariant: `I1` ... `I7`, as the documentation numbers them; `I0` if reading failed.
        what: The claim that was checked.
        name: The table or model that the claim is about.
        result: `holds`, `failed` or `not checkable`.
        figures: The counts; the first rows that differ; or the reason why the claim cannot be checked.
        code: The exit code of the command if no check failed.
    """

    invariant: str
    what: str
    name: str
    result: str
    figures: str
    code: int = ExitCode.OK


@dataclass(frozen=True)
class Claim:
    """A statement about a table or model, before it is checked. The attributes are those of `Check`."""

    invariant: str
    what: str
    name: str

    def holds(self, figures: str) -> Check:
        """Return the check of a claim that holds."""
        return self._check(HOLDS, figures)

    def fails(self, figures: str) -> Check:
        """Return the check of a claim that does not hold."""
        return self._check(FAILED, figures, ExitCode.REFUSED)

    def not_checkable(self, reason: str, code: int = ExitCode.OK) -> Check:
        """Return the check of a claim whose evidence is missing or not up to date; it has not failed."""
        return self._check(NOT_CHECKABLE, f"because {reason}", code)

    def _check(self, result: str, figures: str, code: int = ExitCode.OK) -> Check:
        return Check(self.invariant, self.what, self.name, result, figures, int(code))


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its rows, and its name in messages.

    A row counts once, or as often as its column `WEIGHT` says; a negative weight takes a row away.
    """

    name: str
    rows: DataFrame


def compare_rows(claim: Claim, expected: Side, actual: Side, details: str = "") -> Check:
    """Check that two sides have the same rows, each the same number of times; columns are matched by their names.

    This is `exceptAll` in both directions in one pass: a balance for each row. NaN equals NaN and -0.0 equals 0.0.

    Args:
        claim: The claim that the two sides are equal.
        expected: The rows that should be there.
        actual: The rows that are there.
        details: Figures to add to the result if the claim holds.
    """
    columns = [name for name in expected.rows.columns if name != WEIGHT]
    names, others = ({name.lower() for name in side.rows.columns} - {WEIGHT} for side in (expected, actual))
    if one_sided := sorted(names ^ others):
        return claim.fails(f"columns on one side only: {', '.join(one_sided)}")
    weighted = _with_balance(expected.rows, columns, 1, 0).unionByName(_with_balance(actual.rows, columns, -1, 1))
    balances = weighted.groupBy(*map(quoted_column, columns)).agg(
        F.sum(_BALANCE).alias(_BALANCE), F.sum(_ACTUAL).alias(_ACTUAL)
    )
    balance = F.col(_BALANCE)
    totals = balances.agg(
        F.sum(_ACTUAL), F.sum(F.greatest(balance, F.lit(0))), F.sum(F.greatest(-balance, F.lit(0)))
    ).collect()[0]
    row_count, missing, surplus = (int(total or 0) for total in totals)
    if not missing and not surplus:
        return claim.holds(", ".join(filter(None, [counted(row_count, "row"), details])))
    differing = balances.where(balance != 0).orderBy(*map(quoted_column, columns)).limit(_MAX_EXAMPLES)
    side = F.when(balance > 0, expected.name).otherwise(actual.name)
    examples = "; ".join(f"{name}: {row}" for name, row in differing.select(side, to_json(columns)).collect())
    return claim.fails(
        f"{counted(missing, 'row')} only in {expected.name}, {surplus:,} only in {actual.name}; {examples}"
    )


def _with_balance(rows: DataFrame, columns: list[str], balance: int, actual: int) -> DataFrame:
    weight = F.col(WEIGHT) if WEIGHT in rows.columns else F.lit(1)
    return rows.select(
        *map(quoted_column, columns), (weight * balance).alias(_BALANCE), (weight * actual).alias(_ACTUAL)
    )


def quoted_column(name: str) -> Column:
    """Return the column of exactly this name, with any characters in it."""
    return F.col("`" + name.replace("`", "``") + "`")


def to_json(columns: list[str]) -> Column:
    """Return a column with the named columns of a row as JSON text."""
    return F.to_json(F.struct(*map(quoted_column, columns)), {"ignoreNullFields": "false"})


def is_gone(error: Exception) -> bool:
    """Return whether data or log entries no longer exist, because of retention or because somebody deleted them.

    Data that exist and cannot be read are damaged, and the check fails. Spark raises these errors under several types,
    some of them plain Java errors, so only the message identifies them.
    """
    message = str(error)
    if "FAILED_READ_FILE" in message and not any(word in message for word in _MISSING_FILE):
        return False
    return "PATH_NOT_FOUND" in message or is_feed_unreadable(error)


def format_ranges(values: list[int]) -> str:
    """Return numbers in ascending order as text, with consecutive ones as a range.

    >>> format_ranges([1, 2, 3, 5])
    '1-3, 5'
    """
    ranges: list[list[int]] = []
    for value in sorted(values):
        if ranges and value == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], value]
        else:
            ranges.append([value])
    return ", ".join("-".join(map(str, each)) for each in ranges)
