"""A table as a refresh would leave it, for the rules that are about a model as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property, reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.lake.small_rows import CachedRows, filter_to_ranges
from lakehouse.models.sql.rules import Rule, quoted


@dataclass(frozen=True)
class Found:
    """What a rule was held against came to. `failed`: rows, where it counts any."""

    met: bool
    failed: int | None
    about: str


@dataclass(frozen=True)
class Resulting:
    """A table as it would be.

    Attributes:
        table: as it is; None: there is none yet.
        good: the rows of the refresh that are left, and how many.
        touched: the keys that they are for; None: the whole table.
        local: they, and maybe more, where the driver has them.
        as_of: the newest accepted snapshot's time.
    """

    table: DataFrame | None
    good: DataFrame
    rows: int
    touched: CachedRows | None
    local: pa.Table | None
    as_of: datetime

    @cached_property
    def others(self) -> DataFrame:
        """The table's rows that the refresh is not about, with the columns that it is to have."""
        if self.table is None or self.touched is None:
            return self.good.limit(0)
        fields = self.good.schema.fields
        have = set(self.table.columns)
        columns = [
            (F.col(quoted(f.name)) if f.name in have else F.lit(None).cast(f.dataType)).alias(f.name) for f in fields
        ]
        return self._joined(self.table.select(*columns), "left_anti")

    def found(self, rule: Rule, before: int) -> Found:
        """What a rule comes to.

        Args:
            before: how many rows did not meet it in the table as it is.
        """
        if rule.spec.unique:
            return self._unique(rule, before)
        return self._band(rule) if rule.spec.rows else self._freshness(rule)

    def examples(self, rule: Rule, count: int) -> list[str]:
        """Values that rows share and should not."""
        if not rule.spec.unique:
            return []
        shared = self._shared(rule, False).orderBy(*map(quoted, rule.columns)).limit(count)
        texts = shared.select(F.to_json(F.struct(*map(quoted, rule.columns)))).collect()
        return [str(row[0]) for row in texts]

    def _joined(self, table: DataFrame, how: str) -> DataFrame:
        assert self.touched is not None
        keys = self.touched.rows
        same = [F.col(f"c.{quoted(k)}").eqNullSafe(F.col(f"t.{quoted(k)}")) for k in keys.columns]
        return table.alias("c").join(keys.alias("t"), on=reduce(Column.__and__, same), how=how)

    # --- unique -------------------------------------------------------------------------------------------------------

    def _unique(self, rule: Rule, before: int) -> Found:
        shared = self._shared(rule, bool(before))
        values, rows = shared.agg(F.count("*"), F.coalesce(F.sum("count"), F.lit(0))).collect()[0]
        return Found(not rows, rows, f"{rows:,} rows share {values:,} values" if rows else "no two rows share them")

    def _shared(self, rule: Rule, all_values: bool) -> DataFrame:
        """The values that several rows have; those of the refresh, unless others were shared before."""
        columns = [F.col(quoted(c)) for c in rule.columns]
        own = self.good.select(*columns).dropna()
        others = self.others
        if self.touched is not None and not all_values:
            names = [name for name in self.good.columns if name.lower() in {c.lower() for c in rule.columns}]
            values = CachedRows(own, self.local.select(names) if self.local is not None else None)
            # By literals first: of a large table, the files that hold none of them are not read.
            others = filter_to_ranges(others, values.value_ranges()).join(
                own.distinct(), on=own.columns, how="left_semi"
            )
        pool = own.unionByName(others.select(*columns).dropna())
        return pool.groupBy(*columns).count().where("count > 1")

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _band(self, rule: Rule) -> Found:
        band = rule.spec.rows
        assert band is not None
        before = self.table.count() if self.table is not None else 0
        now = self.rows if self.touched is None else before - self._touched_before() + self.rows
        met = (band.min is None or now >= band.min) and (band.max is None or now <= band.max)
        if band.max_change is not None and before:
            met &= abs(now - before) <= band.max_change * before
        return Found(met, None, f"{now:,} rows, {before:,} before")

    def _touched_before(self) -> int:
        if self.table is None or self.touched is None:
            return 0
        return self._joined(filter_to_ranges(self.table, self.touched.value_ranges()), "left_semi").count()

    # --- freshness ----------------------------------------------------------------------------------------------------

    def _freshness(self, rule: Rule) -> Found:
        fresh = rule.spec.freshness
        assert fresh is not None
        newest = _newest(self.good, fresh.column)
        if newest is None or newest < self.as_of - fresh.within:  # else what it touched says enough
            newest = max(filter(None, [newest, _newest(self.others, fresh.column)]), default=None)
        met = newest is not None and newest >= self.as_of - fresh.within
        about = f"{newest:%Y-%m-%d %H:%M:%S}" if newest else "none"
        return Found(met, None, f"newest {fresh.column}: {about}; :as_of {self.as_of:%Y-%m-%d %H:%M:%S}")


def _newest(rows: DataFrame, column: str) -> datetime | None:
    time: datetime | None = rows.agg(F.max(F.col(quoted(column)).cast("timestamp"))).collect()[0][0]
    return time.astimezone(timezone.utc) if time else None
