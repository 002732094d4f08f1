"""Caches rows that several queries read, and derives value ranges from them so that queries skip files.

A join prunes no files, and open-source Delta does no pruning at run time. Files are skipped only by literals in the
query: a list of values or a range. Few rows are therefore collected by the driver, where their values are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.tuning import Tuning

# Unless the pipeline sets it. A query over collected rows takes a third of the time to plan and run.
MAX_LOCAL_ROWS = Tuning().local_rows
_MAX_LISTED_VALUES = 200  # values of an IN list; more become a range

_RANGE_TYPES = (T.DateType, T.ByteType, T.ShortType, T.IntegerType, T.LongType)


@dataclass(frozen=True)
class ValueRange:
    """The known bounds of a column.

    Attributes:
        data_type: The column's type.
        values: All values that occur, if they are few.
        low: The least value, included; None: no lower bound.
        high: The greatest value, included; None: no upper bound.
        includes_null: Whether the column may be null.
    """

    data_type: T.DataType
    values: frozenset[Any] | None = None
    low: Any = None
    high: Any = None
    includes_null: bool = False

    def condition(self, column: Column) -> Column:
        """Return the condition that a value of `column`, which has the same type, is in the range."""
        condition = F.lit(True)
        if self.values is not None:
            condition = column.isin([_literal(v) for v in sorted(self.values)]) if self.values else F.lit(False)
        else:
            condition = condition if self.low is None else condition & (column >= _literal(self.low))
            condition = condition if self.high is None else condition & (column <= _literal(self.high))
        return condition | column.isNull() if self.includes_null else condition

    def implied_range(self, comparison: str, days: int) -> ValueRange | None:
        """Return the range of values that compare so with a value of this one plus `days`.

        Args:
            comparison: `=`, `<=` or `>=`.
            days: Added to each value; other than 0 for dates only.

        Returns:
            The range, or None if nothing is known.
        """
        if days and not isinstance(self.data_type, T.DateType):
            return None
        try:
            values = None if self.values is None else frozenset(_add_days(v, days) for v in self.values)
            low, high = (None if bound is None else _add_days(bound, days) for bound in (self.low, self.high))
        except OverflowError:  # beyond the years of Python, such as the day after 9999-12-31
            return None
        if comparison == "=":
            implied = ValueRange(self.data_type, values, low, high)
        else:
            implied = ValueRange(
                self.data_type, low=low if comparison == ">=" else None, high=high if comparison == "<=" else None
            )
        return None if implied == ValueRange(self.data_type) else implied

    def intersect(self, other: ValueRange) -> ValueRange:
        """Return the known range of values that are in both ranges."""
        if self.values is not None or other.values is not None or self.data_type != other.data_type:
            return self if self.values is not None else other
        lows = [bound for bound in (self.low, other.low) if bound is not None]
        highs = [bound for bound in (self.high, other.high) if bound is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        return replace(self, low=low, high=high, includes_null=self.includes_null and other.includes_null)


def _literal(value: Any) -> Any:
    """Return a value for a condition: a date by SQL, for PySpark makes a date of Java's older calendar of it.

    That calendar lacks the days from 1582-10-05 to 1582-10-14, and PySpark cannot pass a year below 1000.
    """
    return F.expr(f"DATE '{value.isoformat()}'") if isinstance(value, date) else value


def _add_days(value: Any, days: int) -> Any:
    return value + timedelta(days=days) if days and isinstance(value, date) else value


ValueRanges = Mapping[str, ValueRange]  # by column name in lower case


@dataclass(frozen=True)
class CachedRows:
    """Rows that read the same each time.

    Attributes:
        rows: The rows.
        local_rows: The same rows in the driver's memory, if they are few.
    """

    rows: DataFrame
    local_rows: pa.Table | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there are surely no rows."""
        return self.local_rows is not None and self.local_rows.num_rows == 0

    def value_ranges(self) -> dict[str, ValueRange]:
        """Return the known ranges of the columns' values; none of rows that are not local."""
        if self.local_rows is None:
            return {}
        types = {field.name: field.dataType for field in self.rows.schema}
        ranges = {n.lower(): _value_range(types[n], self.local_rows.column(n)) for n in self.local_rows.column_names}
        return {name: value_range for name, value_range in ranges.items() if value_range is not None}

    def drop(self, columns: Iterable[str]) -> CachedRows:
        """Return the rows without these columns."""
        local = self.local_rows.drop_columns([*columns]) if self.local_rows is not None else None
        return CachedRows(self.rows.drop(*columns), local)

    def has_unique(self, columns: Iterable[str]) -> bool:
        """Return whether there are surely no two rows with the same values in these columns.

        Args:
            columns: The columns; null is a value like any other.
        """
        if self.local_rows is None:
            return False
        names = {name.lower(): name for name in self.local_rows.column_names}
        try:
            keys = self.local_rows.group_by([names[column.lower()] for column in columns]).aggregate([])
        except pa.ArrowException:  # a type by which Arrow does not group
            return False
        return bool(keys.num_rows == self.local_rows.num_rows)

    def with_copy(self, column: str, name: str) -> CachedRows:
        """Return the rows with a copy of a column.

        Args:
            column: The column to copy.
            name: The name of the copy.
        """
        local = self.local_rows
        local = local.append_column(name, local.column(column)) if local is not None else None
        return CachedRows(self.rows.withColumn(name, F.col(column)), local)

    def release(self) -> None:
        """Free the memory that Spark keeps the rows in."""
        if self.local_rows is None:
            self.rows.unpersist()


def cache_rows(spark: SparkSession, rows: DataFrame, max_local_rows: int = MAX_LOCAL_ROWS) -> CachedRows:
    """Compute rows once, and keep them in the driver if they are few, else in Spark's memory and on its disk.

    Args:
        spark: The session that reads them.
        rows: The rows to compute.
        max_local_rows: Up to this many rows are collected by the driver (`tuning.local_rows`).

    Returns:
        The rows, which the caller releases.
    """
    if (local := collect_few(rows, max_local_rows)) is not None:
        return CachedRows(spark.createDataFrame(local, rows.schema), local)
    return CachedRows(rows.persist(StorageLevel.MEMORY_AND_DISK))


def collect_few(rows: DataFrame, limit: int) -> pa.Table | None:
    """Return rows in the driver's memory; None: they are more than a limit, and no more than that were computed.

    Args:
        rows: The rows.
        limit: How many they may be.
    """
    local = rows.limit(limit + 1).toArrow()
    return local if local.num_rows <= limit else None


def filter_to_ranges(rows: DataFrame, value_ranges: ValueRanges) -> DataFrame:
    """Return the rows whose values are in these ranges, by conditions with literals.

    Args:
        rows: The rows to filter.
        value_ranges: By column; one of another type than its column is ignored.
    """
    for field in rows.schema:
        value_range = value_ranges.get(field.name.lower())
        if value_range is not None and value_range.data_type == field.dataType:
            rows = rows.where(value_range.condition(F.col(f"`{field.name}`")))
    return rows


def _value_range(data_type: T.DataType, column: pa.ChunkedArray) -> ValueRange | None:
    if not isinstance(data_type, (*_RANGE_TYPES, T.StringType)):
        return None
    values = set(column.unique().to_pylist())
    includes_null = None in values
    values.discard(None)
    listed = frozenset(values) if len(values) <= _MAX_LISTED_VALUES else None
    if isinstance(data_type, T.StringType):
        return None if listed is None else ValueRange(data_type, listed, includes_null=includes_null)
    return ValueRange(data_type, listed, min(values, default=None), max(values, default=None), includes_null)
