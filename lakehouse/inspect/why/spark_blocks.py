"""Runs the SQL of a trace with Spark: the author's text as it is."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import small_tables
from lakehouse.models.block_reader import JOIN_KEYWORDS
from lakehouse.models.sql.blocks import Block, KeyPart, Source
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.trace import NUMBER, Tracer


def wanted_columns(plan: Plan) -> dict[str, str]:
    """Return the columns of the wanted rows of a model, as `Tracer.trace` names them, with the model's own names."""
    parts = {f"_why_k{at}": part.output for at, part in enumerate(plan.blocks[-1].refresh_key)}
    return parts | {f"_why_m{at}": key for at, key in enumerate(plan.keys)}


def trace_with_spark(
    spark: SparkSession,
    plan: Plan,
    inputs: Mapping[str, DataFrame],
    keys: Mapping[str, tuple[str, ...]],
    arguments: Mapping[str, Any],
    wanted: pa.Table,
    fields: T.StructType,
    limit: int,
) -> dict[str, pa.Table]:
    """Return the keys of the rows of each input that made rows of a model, as `Tracer.trace` names them.

    Args:
        spark: The caller's own session.
        plan: The model's plan, with blocks.
        inputs: The rows of each input.
        keys: The columns that identify a row of each input.
        arguments: The parameters that the model uses.
        wanted: The rows of the model: NUMBER, and the columns of `wanted_columns`.
        fields: The columns of the model, with their types.
        limit: The most rows of each input for each number.
    """
    columns, types = wanted_columns(plan), {field.name.lower(): field.dataType for field in fields}
    typed = [T.StructField(name, types[column.lower()]) for name, column in columns.items()]
    schema = T.StructType([T.StructField(NUMBER, T.LongType()), *typed])
    values = [wanted.column(name).to_pylist() for name in columns if name.startswith("_why_k")]
    sql = SparkBlocks(spark, inputs, keys, arguments)
    try:
        relation = sql.wanted(wanted.cast(small_tables.arrow_schema(schema)), schema)
        found = Tracer(plan, sql, keys).trace(relation, values, limit)
        return {name: sql.fetch(text) for name, text in found.items()}
    finally:
        sql.release()


class SparkBlocks:
    """The blocks of one model in a session of their own; `release` drops the views."""

    def __init__(
        self,
        spark: SparkSession,
        inputs: Mapping[str, DataFrame],
        keys: Mapping[str, tuple[str, ...]],
        arguments: Mapping[str, Any],
    ) -> None:
        """Prepare the SQL.

        Args:
            spark: The caller's own session.
            inputs: The rows of each input.
            keys: The columns that identify a row of each input.
            arguments: The parameters that the model uses.
        """
        self._spark, self._inputs, self._keys, self._arguments = spark, inputs, keys, dict(arguments)
        self._views: list[str] = []

    def release(self) -> None:
        """Drop the views."""
        for view in self._views:
            self._spark.catalog.dropTempView(view)

    def wanted(self, rows: pa.Table, fields: T.StructType) -> str:
        """Create a relation with rows of the driver, and return its name."""
        return self._create_view(small_tables.to_frame(self._spark, rows, fields))

    def fetch(self, query: str) -> pa.Table:
        """Return the rows of a query."""
        return self._spark.sql(query, args=self._arguments).toArrow()

    def stored(self, relation: str, identity: str) -> str:
        """Return the name of an input."""
        plain = self._create_view(self._inputs[relation])
        if not identity:
            return plain
        columns = {f"k{at}": quote_identifier(key) for at, key in enumerate(self._keys[relation])}
        return self.create(f"SELECT *, {self.struct(columns)} AS {identity} FROM {plain}")

    def cte(self, block: Block, rows: Mapping[str, str], hidden: str) -> str:
        """Create a relation with the rows of a CTE, and return its name."""
        select = ", ".join(filter(None, [block.select, hidden]))
        after_where = "" if block.kind == "rows" else block.after_where
        from_sql = self.from_sql(block, block.sources, rows)
        return self.create(f"{select} FROM {from_sql} {block.where} {after_where}")

    def create(self, query: str) -> str:
        """Create a relation with the rows of a query, and return its name."""
        return self._create_view(self._spark.sql(query, args=self._arguments))

    def from_sql(self, _: Block, sources: Iterable[Source], rows: Mapping[str, str]) -> str:
        """Return a FROM clause over some sources of a block, without the word FROM."""
        parts: list[str] = []
        for source in sources:
            on = f" ON {source.on}\n" if source.on else ""  # the author's text may end in a comment
            join = f"{JOIN_KEYWORDS[source.join_type]} " if parts else ""
            parts.append(f"{join}{rows[source.alias]} AS {self.name(source.alias)}{on}")
        return " ".join(parts)

    def where_sql(self, block: Block, _: Mapping[str, str]) -> str:
        """Return the WHERE clause of a block."""
        return block.where

    def key_sql(self, _: Block, part: KeyPart, __: Mapping[str, str]) -> str:
        """Return the SQL of a part of a block's refresh key."""
        return part.sql

    def same(self, left: str, right: str) -> str:
        """Return the condition that two values are equal, or both null."""
        return f"{left} <=> {right}"

    def is_in_set(self, grouping_id: str, bit: int) -> str:
        """Return the condition that a GROUPING_ID() names the set with the column of a bit."""
        return f"(shiftright({grouping_id}, {bit}) & 1) = 0"

    def struct(self, fields: Mapping[str, str]) -> str:
        """Return the SQL of a struct with these fields."""
        return f"named_struct({', '.join(f'{name!r}, {value}' for name, value in fields.items())})"

    def name(self, alias: str) -> str:
        """Return a name in backticks."""
        return quote_identifier(alias)

    def over(self, _: Block, function: str, over: str, __: Mapping[str, str]) -> str:
        """Return the call of a window function over the author's PARTITION BY and ORDER BY."""
        return f"{function} OVER ({over})"

    def values(self, _: str, __: str) -> Iterable[Any]:
        """Return none: each would cost a job."""
        return ()

    @property
    def semi_join(self) -> str:
        """The words of a semi join."""
        return JOIN_KEYWORDS["semi"]

    def _create_view(self, rows: DataFrame) -> str:
        view = f"_why_{uuid.uuid4().hex}"
        rows.createOrReplaceTempView(view)
        self._views.append(view)
        return view
