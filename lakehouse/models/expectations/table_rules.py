"""A table as a refresh would leave it, for the rules that are about a model as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property, reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.lake.cached_rows import CachedRows, filter_to_ranges
from lakehouse.models.sql.rules import Rule, quote_identifier


@dataclass(frozen=True)
class Evaluated:
    """What a rule was held against came to. `failed`: rows, where it counts any."""

    is_met: bool
    rows_failed: int | None
    observed: str


@dataclass(frozen=True)
class ResultingTable:
    """A table as it would be.

    Attributes:
        table: as it is; None: there is none yet.
        good: the rows of the refresh that are left, and how many.
        touched: the keys that they are for; None: the whole table.
        local: they, and maybe more, where the driver has them.
        as_of: the newest accepted snapshot's time.
    """

    current: DataFrame | None
    rows: DataFrame
    row_count: int
    affected_keys: CachedRows | None
    local: pa.Table | None
    as_of: datetime

    @cached_property
    def other_rows(self) -> DataFrame:
        """The table's rows that the refresh is not about, with the columns that it is to have."""
        if self.current is None or self.affected_keys is None:
            return self.rows.limit(0)
        fields = self.rows.schema.fields
        have = set(self.current.columns)
        columns = [
            (F.col(quote_identifier(f.name)) if f.name in have else F.lit(None).cast(f.dataType)).alias(f.name)
            for f in fields
        ]
        return self._join_affected(self.current.select(*columns), "left_anti")

    def evaluate(self, rule: Rule, failing_before: int) -> Evaluated:
        """What a rule comes to.

        Args:
            before: how many rows did not meet it in the table as it is.
        """
        if rule.spec.unique:
            return self._evaluate_unique(rule, failing_before)
        return self._evaluate_row_count(rule) if rule.spec.rows else self._evaluate_freshness(rule)

    def examples(self, rule: Rule, count: int) -> list[str]:
        """Values that rows share and should not."""
        if not rule.spec.unique:
            return []
        shared = self._shared_values(rule, False).orderBy(*map(quote_identifier, rule.columns)).limit(count)
        texts = shared.select(F.to_json(F.struct(*map(quote_identifier, rule.columns)))).collect()
        return [str(row[0]) for row in texts]

    def _join_affected(self, table: DataFrame, how: str) -> DataFrame:
        assert self.affected_keys is not None
        keys = self.affected_keys.rows
        same = [F.col(f"c.{quote_identifier(k)}").eqNullSafe(F.col(f"t.{quote_identifier(k)}")) for k in keys.columns]
        return table.alias("c").join(keys.alias("t"), on=reduce(Column.__and__, same), how=how)

    # --- unique -------------------------------------------------------------------------------------------------------

    def _evaluate_unique(self, rule: Rule, failing_before: int) -> Evaluated:
        shared = self._shared_values(rule, bool(failing_before))
        values, rows = shared.agg(F.count("*"), F.coalesce(F.sum("count"), F.lit(0))).collect()[0]
        return Evaluated(not rows, rows, f"{rows:,} rows share {values:,} values" if rows else "no two rows share them")

    def _shared_values(self, rule: Rule, all_values: bool) -> DataFrame:
        """The values that several rows have; those of the refresh, unless others were shared before."""
        columns = [F.col(quote_identifier(c)) for c in rule.columns]
        own = self.rows.select(*columns).dropna()
        others = self.other_rows
        if self.affected_keys is not None and not all_values:
            names = [name for name in self.rows.columns if name.lower() in {c.lower() for c in rule.columns}]
            values = CachedRows(own, self.local.select(names) if self.local is not None else None)
            # By literals first: of a large table, the files that hold none of them are not read.
            others = filter_to_ranges(others, values.value_ranges()).join(
                own.distinct(), on=own.columns, how="left_semi"
            )
        pool = own.unionByName(others.select(*columns).dropna())
        return pool.groupBy(*columns).count().where("count > 1")

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _evaluate_row_count(self, rule: Rule) -> Evaluated:
        band = rule.spec.rows
        assert band is not None
        before = self.current.count() if self.current is not None else 0
        now = self.row_count if self.affected_keys is None else before - self._affected_rows_before() + self.row_count
        met = (band.min is None or now >= band.min) and (band.max is None or now <= band.max)
        if band.max_change is not None and before:
            met &= abs(now - before) <= band.max_change * before
        return Evaluated(met, None, f"{now:,} rows, {before:,} before")

    def _affected_rows_before(self) -> int:
        if self.current is None or self.affected_keys is None:
            return 0
        return self._join_affected(
            filter_to_ranges(self.current, self.affected_keys.value_ranges()), "left_semi"
        ).count()

    # --- freshness ----------------------------------------------------------------------------------------------------

    def _evaluate_freshness(self, rule: Rule) -> Evaluated:
        fresh = rule.spec.freshness
        assert fresh is not None
        newest = _newest_time(self.rows, fresh.column)
        if newest is None or newest < self.as_of - fresh.within:  # else what it touched says enough
            newest = max(filter(None, [newest, _newest_time(self.other_rows, fresh.column)]), default=None)
        met = newest is not None and newest >= self.as_of - fresh.within
        about = f"{newest:%Y-%m-%d %H:%M:%S}" if newest else "none"
        return Evaluated(met, None, f"newest {fresh.column}: {about}; :as_of {self.as_of:%Y-%m-%d %H:%M:%S}")


def _newest_time(rows: DataFrame, column: str) -> datetime | None:
    time: datetime | None = rows.agg(F.max(F.col(quote_identifier(column)).cast("timestamp"))).collect()[0][0]
    return time.astimezone(timezone.utc) if time else None
