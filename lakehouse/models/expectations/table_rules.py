"""Evaluates the rules about a whole table, on the table as a refresh would leave it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property, reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.cached_rows import CachedRows, filter_to_ranges
from lakehouse.models.expectations.row_rules import not_evaluated_error
from lakehouse.models.sql.rules import Rule
from lakehouse.text import counted

_READ_AS_TIMES = (T.DatetimeType, T.StringType, T.NumericType)  # what Spark casts to a time


@dataclass(frozen=True)
class TableRuleOutcome:
    """The outcome of a rule about a whole table.

    Attributes:
        is_met: Whether it is met.
        rows_failed: How many rows do not meet it; None for a rule that counts no rows.
        observed: The observation, for people.
    """

    is_met: bool
    rows_failed: int | None
    observed: str


@dataclass(frozen=True)
class ResultingTable:
    """A table as a refresh would leave it.

    Attributes:
        model: The model's name.
        current: The table's rows before the refresh; None if there is no table.
        rows: The rows of the refresh that are not rejected.
        row_count: How many these are.
        affected_keys: The keys that the refresh is for; None for the whole table.
        local_rows: These rows and maybe rejected ones, if the driver has them.
        as_of: The time of the newest accepted snapshot.
    """

    model: str
    current: DataFrame | None
    rows: DataFrame
    row_count: int
    affected_keys: CachedRows | None
    local_rows: pa.Table | None
    as_of: datetime

    @cached_property
    def other_rows(self) -> DataFrame:
        """The table's rows with other keys than the affected ones, with the columns that it will have."""
        if self.current is None or self.affected_keys is None:
            return self.rows.limit(0)
        names = set(self.current.columns)
        columns = [
            (F.col(quote_identifier(f.name)) if f.name in names else F.lit(None).cast(f.dataType)).alias(f.name)
            for f in self.rows.schema
        ]
        return _join_keys(self.current.select(*columns), self.affected_keys, "left_anti")

    def evaluate(self, rule: Rule, failing_before: int) -> TableRuleOutcome:
        """Evaluate a rule about the whole table.

        Args:
            rule: A `unique`, `rows` or `freshness` rule.
            failing_before: How many rows of the table did not meet it before the refresh.
        """
        if rule.spec.unique:
            shared = self._shared_values(rule, bool(failing_before))
            values, rows = shared.agg(F.count("*"), F.coalesce(F.sum("count"), F.lit(0))).collect()[0]
            observed = (
                f"{counted(rows, 'row')} share {counted(values, 'value')}" if rows else "no two rows share a value"
            )
            return TableRuleOutcome(not rows, rows, observed)
        return self._evaluate_row_count(rule) if rule.spec.rows else self._evaluate_freshness(rule)

    def examples(self, rule: Rule, count: int) -> list[str]:
        """Return values, as JSON, that several rows share although the rule forbids it.

        Args:
            rule: The rule.
            count: How many to return at most.
        """
        if not rule.spec.unique:
            return []
        columns = [quote_identifier(column) for column in rule.columns]
        shared = self._shared_values(rule, False).orderBy(*columns).limit(count)
        return [str(row[0]) for row in shared.select(F.to_json(F.struct(*columns))).collect()]

    def _shared_values(self, rule: Rule, all_values: bool) -> DataFrame:
        """Return the values that several rows have: only values of the refreshed rows, unless `all_values`."""
        columns = [F.col(quote_identifier(column)) for column in rule.columns]
        new_values, other_rows = self.rows.select(*columns).dropna(), self.other_rows
        if self.affected_keys is not None and not all_values:
            rule_columns = {column.lower() for column in rule.columns}
            names = [name for name in self.rows.columns if name.lower() in rule_columns]
            local_values = self.local_rows.select(names) if self.local_rows is not None else None
            # Filter by literals first, so that files of a large table without these values are skipped.
            other_rows = filter_to_ranges(other_rows, CachedRows(new_values, local_values).value_ranges())
            other_rows = other_rows.join(new_values.distinct(), on=new_values.columns, how="left_semi")
        all_rows = new_values.unionByName(other_rows.select(*columns).dropna())
        return all_rows.groupBy(*columns).count().where("count > 1")

    def _evaluate_row_count(self, rule: Rule) -> TableRuleOutcome:
        band = rule.spec.rows
        assert band is not None
        before = self.current.count() if self.current is not None else 0
        after = self.row_count
        if self.current is not None and self.affected_keys is not None:
            candidates = filter_to_ranges(self.current, self.affected_keys.value_ranges())
            after += before - _join_keys(candidates, self.affected_keys, "left_semi").count()
        is_met = (band.min is None or after >= band.min) and (band.max is None or after <= band.max)
        if band.max_change is not None and before:
            is_met &= abs(after - before) <= band.max_change * before
        return TableRuleOutcome(is_met, None, f"{counted(after, 'row')}, {before:,} before")

    def _evaluate_freshness(self, rule: Rule) -> TableRuleOutcome:
        fresh = rule.spec.freshness
        assert fresh is not None
        data_type = self.rows.select(quote_identifier(fresh.column)).schema[0].dataType
        if not isinstance(data_type, _READ_AS_TIMES):
            found = f"{fresh.column} is {data_type.simpleString().upper()}, and no time"
            raise not_evaluated_error(self.model, rule, found)
        oldest_allowed = self.as_of - fresh.within
        newest = _newest_time(self.rows, fresh.column)
        if newest is None or newest < oldest_allowed:  # else the other rows need not be read
            newest = max(filter(None, [newest, _newest_time(self.other_rows, fresh.column)]), default=None)
        is_met = newest is not None and newest >= oldest_allowed
        time = f"{newest:%Y-%m-%d %H:%M:%S}" if newest else "none"
        return TableRuleOutcome(is_met, None, f"newest {fresh.column}: {time}; :as_of {self.as_of:%Y-%m-%d %H:%M:%S}")


def _join_keys(table: DataFrame, keys: CachedRows, how: str) -> DataFrame:
    columns = [quote_identifier(name) for name in keys.rows.columns]
    same = [F.col(f"c.{column}").eqNullSafe(F.col(f"t.{column}")) for column in columns]
    return table.alias("c").join(keys.rows.alias("t"), on=reduce(Column.__and__, same), how=how)


def _newest_time(rows: DataFrame, column: str) -> datetime | None:
    newest = F.max(F.col(quote_identifier(column)).cast("timestamp"))
    micros: int | None = rows.agg(F.unix_micros(newest)).collect()[0][0]  # PySpark cannot hold each time
    return None if micros is None else datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=micros)
