"""Rows that several queries ask for, held: by the driver where they are few, so that their values can become literals.

A join prunes no files, and Delta in open source has no pruning at run time: what is known of a column has to stand in
the query as a literal, a list of values or a range, for files to be skipped.
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

MAX_LOCAL_ROWS = (
    5_000  # up to here rows are held by the driver: a query over them plans and runs in a third of the time
)
_MAX_LISTED_VALUES = 200  # values in an IN; beyond, a range

_RANGE_TYPES = (T.DateType, T.ByteType, T.ShortType, T.IntegerType, T.LongType)


@dataclass(frozen=True)
class ValueRange:
    """What is known of a column: every value lies in it. `values`: these and no others, if they are few.

    `low` and `high` are included, None where it is open; both None without `values`: nothing is known but `null`.
    """

    data_type: T.DataType
    values: frozenset[Any] | None = None
    low: Any = None
    high: Any = None
    includes_null: bool = False

    def condition(self, column: Column) -> Column:
        """That a value of `column`, which is of the same type, lies in it."""
        found = F.lit(True)
        if self.values is not None:
            found = column.isin(sorted(self.values)) if self.values else F.lit(False)
        else:
            found = found if self.low is None else found & (column >= F.lit(self.low))
            found = found if self.high is None else found & (column <= F.lit(self.high))
        return found | column.isNull() if self.includes_null else found

    def implied_range(self, comparison: str, days: int) -> ValueRange | None:
        """What is known of a value that is `=`, `<=` or `>=` to one of these and so many days; None: nothing."""
        if days and not isinstance(self.data_type, T.DateType):
            return None
        values = None if self.values is None else frozenset(_add_days(v, days) for v in self.values)
        low, high = (None if end is None else _add_days(end, days) for end in (self.low, self.high))
        if comparison == "=":
            found = ValueRange(self.data_type, values, low, high)
        else:
            found = ValueRange(
                self.data_type, low=low if comparison == ">=" else None, high=high if comparison == "<=" else None
            )
        return None if found == ValueRange(self.data_type) else found

    def intersect(self, other: ValueRange) -> ValueRange:
        """What is known where both hold."""
        if self.values is not None or other.values is not None or self.data_type != other.data_type:
            return self if self.values is not None else other
        lows = [end for end in (self.low, other.low) if end is not None]
        highs = [end for end in (self.high, other.high) if end is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        return replace(self, low=low, high=high, includes_null=self.includes_null and other.includes_null)


def _add_days(value: Any, days: int) -> Any:
    return value + timedelta(days=days) if days and isinstance(value, date) else value


ValueRanges = Mapping[str, ValueRange]  # by column, in lower case


@dataclass(frozen=True)
class CachedRows:
    """Rows that read the same each time. `local`: they themselves, where they are few."""

    rows: DataFrame
    local_rows: pa.Table | None = None

    @property
    def is_empty(self) -> bool:
        return self.local_rows is not None and self.local_rows.num_rows == 0

    def value_ranges(self) -> dict[str, ValueRange]:
        """What is known of their columns."""
        if self.local_rows is None:
            return {}
        kinds = {field.name: field.dataType for field in self.rows.schema}
        found = {
            name.lower(): _value_range(kinds[name], self.local_rows.column(name))
            for name in self.local_rows.column_names
        }
        return {name: span for name, span in found.items() if span is not None}

    def drop(self, columns: Iterable[str]) -> CachedRows:
        local = self.local_rows.drop_columns([*columns]) if self.local_rows is not None else None
        return CachedRows(self.rows.drop(*columns), local)

    def release(self) -> None:
        if self.local_rows is None:
            self.rows.unpersist()


def cache_rows(spark: SparkSession, rows: DataFrame) -> CachedRows:
    """Compute rows once: into the driver if they are few, else where Spark keeps them; then they are to be released."""
    local = rows.limit(MAX_LOCAL_ROWS + 1).toArrow()
    if local.num_rows <= MAX_LOCAL_ROWS:
        return CachedRows(spark.createDataFrame(local, rows.schema), local)
    return CachedRows(rows.persist(StorageLevel.MEMORY_AND_DISK))


def filter_to_ranges(rows: DataFrame, value_ranges: ValueRanges) -> DataFrame:
    """Rows within `spans`: literals, as far as the columns have the types that the spans are of."""
    for field in rows.schema:
        span = value_ranges.get(field.name.lower())
        if span is not None and span.data_type == field.dataType:
            rows = rows.where(span.condition(F.col(f"`{field.name}`")))
    return rows


def _value_range(kind: T.DataType, column: pa.ChunkedArray) -> ValueRange | None:
    if not isinstance(kind, (*_RANGE_TYPES, T.StringType)):
        return None
    present = set(column.unique().to_pylist())
    null = None in present
    present.discard(None)
    listed = frozenset(present) if len(present) <= _MAX_LISTED_VALUES else None
    if isinstance(kind, T.StringType):
        return None if listed is None else ValueRange(kind, listed, includes_null=null)
    return ValueRange(kind, listed, min(present, default=None), max(present, default=None), null)
