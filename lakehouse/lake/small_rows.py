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

LOCAL_ROWS = 5_000  # up to here rows are held by the driver: a query over them plans and runs in a third of the time
_LISTED = 200  # values in an IN; beyond, a range

_RANGED = (T.DateType, T.ByteType, T.ShortType, T.IntegerType, T.LongType)


@dataclass(frozen=True)
class Span:
    """What is known of a column: every value lies in it. `values`: these and no others, if they are few.

    `low` and `high` are included, None where it is open; both None without `values`: nothing is known but `null`.
    """

    kind: T.DataType
    values: frozenset[Any] | None = None
    low: Any = None
    high: Any = None
    null: bool = False

    def condition(self, column: Column) -> Column:
        """That a value of `column`, which is of the same type, lies in it."""
        found = F.lit(True)
        if self.values is not None:
            found = column.isin(sorted(self.values)) if self.values else F.lit(False)
        else:
            found = found if self.low is None else found & (column >= F.lit(self.low))
            found = found if self.high is None else found & (column <= F.lit(self.high))
        return found | column.isNull() if self.null else found

    def related(self, sign: str, days: int) -> Span | None:
        """What is known of a value that is `=`, `<=` or `>=` to one of these and so many days; None: nothing."""
        if days and not isinstance(self.kind, T.DateType):
            return None
        values = None if self.values is None else frozenset(_add(v, days) for v in self.values)
        low, high = (None if end is None else _add(end, days) for end in (self.low, self.high))
        if sign == "=":
            found = Span(self.kind, values, low, high)
        else:
            found = Span(self.kind, low=low if sign == ">=" else None, high=high if sign == "<=" else None)
        return None if found == Span(self.kind) else found

    def both(self, other: Span) -> Span:
        """What is known where both hold."""
        if self.values is not None or other.values is not None or self.kind != other.kind:
            return self if self.values is not None else other
        lows = [end for end in (self.low, other.low) if end is not None]
        highs = [end for end in (self.high, other.high) if end is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        return replace(self, low=low, high=high, null=self.null and other.null)


def _add(value: Any, days: int) -> Any:
    return value + timedelta(days=days) if days and isinstance(value, date) else value


Spans = Mapping[str, Span]  # by column, in lower case


@dataclass(frozen=True)
class Held:
    """Rows that read the same each time. `local`: they themselves, where they are few."""

    rows: DataFrame
    local: pa.Table | None = None

    @property
    def is_empty(self) -> bool:
        return self.local is not None and self.local.num_rows == 0

    def spans(self) -> dict[str, Span]:
        """What is known of their columns."""
        if self.local is None:
            return {}
        kinds = {field.name: field.dataType for field in self.rows.schema}
        found = {name.lower(): _span(kinds[name], self.local.column(name)) for name in self.local.column_names}
        return {name: span for name, span in found.items() if span is not None}

    def dropping(self, columns: Iterable[str]) -> Held:
        local = self.local.drop_columns([*columns]) if self.local is not None else None
        return Held(self.rows.drop(*columns), local)

    def release(self) -> None:
        if self.local is None:
            self.rows.unpersist()


def hold(spark: SparkSession, rows: DataFrame) -> Held:
    """Compute rows once: into the driver if they are few, else where Spark keeps them; then they are to be released."""
    local = rows.limit(LOCAL_ROWS + 1).toArrow()
    if local.num_rows <= LOCAL_ROWS:
        return Held(spark.createDataFrame(local, rows.schema), local)
    return Held(rows.persist(StorageLevel.MEMORY_AND_DISK))


def narrowed(rows: DataFrame, spans: Spans) -> DataFrame:
    """Rows within `spans`: literals, as far as the columns have the types that the spans are of."""
    for field in rows.schema:
        span = spans.get(field.name.lower())
        if span is not None and span.kind == field.dataType:
            rows = rows.where(span.condition(F.col(f"`{field.name}`")))
    return rows


def _span(kind: T.DataType, column: pa.ChunkedArray) -> Span | None:
    if not isinstance(kind, (*_RANGED, T.StringType)):
        return None
    present = set(column.unique().to_pylist())
    null = None in present
    present.discard(None)
    listed = frozenset(present) if len(present) <= _LISTED else None
    if isinstance(kind, T.StringType):
        return None if listed is None else Span(kind, listed, null=null)
    return Span(kind, listed, min(present, default=None), max(present, default=None), null)
