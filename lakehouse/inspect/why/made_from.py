"""Finds the rows of bronze that made a row of a model at a time, with Spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.inspect.at_time import RelationsAt
from lakehouse.inspect.why.spark_blocks import trace_with_spark, wanted_columns
from lakehouse.lake import small_tables
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.trace import NUMBER

_ALL = 1 << 40


class NotTracedError(ValueError):
    """A model cannot be followed to its inputs: the message states the clause."""


@dataclass
class MadeFrom:
    """The rows of bronze that made rows of a model at one time.

    Attributes:
        at: The tables and models at the time.
        keys: The columns that identify a row of each relation.
    """

    at: RelationsAt
    keys: Mapping[str, tuple[str, ...]]
    found: dict[str, list[pa.Table]] = field(default_factory=dict)

    def add(self, relation: str, rows: DataFrame) -> None:
        """Add the rows of bronze that made some rows of a relation.

        Args:
            relation: The table or model.
            rows: Rows of it; they are collected.

        Raises:
            NotTracedError: A model on the way cannot be followed.
        """
        plan = self.at.run.plans.get(relation)
        collected = rows.toArrow()
        if plan is None:
            names = {name.lower(): name for name in collected.column_names}
            columns = [collected.column(names[key.lower()]) for key in self.keys[relation]]
            self.found.setdefault(relation, []).append(pa.table(columns, [f"k{at}" for at in range(len(columns))]))
        elif collected.num_rows:
            for name, keys in self._trace(plan, collected, rows.schema).items():
                self.add(name, self._with_keys(name, keys))

    def _trace(self, plan: Plan, rows: pa.Table, fields: T.StructType) -> dict[str, pa.Table]:
        if not plan.blocks:
            raise NotTracedError(f"{plan.model} cannot be followed to its inputs: {plan.reason}")
        names = {name.lower(): name for name in rows.column_names}
        wanted = {name: rows.column(names[column.lower()]) for name, column in wanted_columns(plan).items()}
        numbered = pa.table({NUMBER: pa.array([0] * rows.num_rows, pa.int64()), **wanted})
        inputs = {name: self.at.rows(name) for name in plan.inputs}
        keys = {name: self.keys[name] for name in plan.inputs}
        arguments = {name: self.at.parameters[name] for name in plan.parameters}
        return trace_with_spark(self.at.spark, plan, inputs, keys, arguments, numbered, fields, _ALL)

    def _with_keys(self, relation: str, keys: pa.Table) -> DataFrame:
        return rows_with_keys(self.at, relation, self.keys[relation], keys)


def rows_with_keys(at: RelationsAt, relation: str, names: tuple[str, ...], keys: pa.Table) -> DataFrame:
    """Return the rows of a relation with some keys.

    Args:
        at: The tables and models at a time.
        relation: The table or model.
        names: The columns of its key.
        keys: The keys, with the columns `k0`, `k1`, ...
    """
    rows = at.rows(relation)
    types = {field.name.lower(): field.dataType for field in rows.schema}
    fields = T.StructType([T.StructField(f"k{n}", types[name.lower()]) for n, name in enumerate(names)])
    wanted = small_tables.to_frame(at.spark, keys.select(fields.names).cast(small_tables.arrow_schema(fields)), fields)
    same = [F.col(f"r.{quote_identifier(name)}").eqNullSafe(F.col(f"w.k{n}")) for n, name in enumerate(names)]
    return rows.alias("r").join(F.broadcast(wanted.distinct().alias("w")), on=same, how="left_semi")
