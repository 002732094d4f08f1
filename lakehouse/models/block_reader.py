"""Runs the SELECTs (blocks) of a model over its inputs as they are now or as they were before.

A CTE is treated as a model that is not stored. Rows can be restricted to given keys or value ranges, so that files are
skipped and less is joined and grouped.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.cached_rows import CachedRows, ValueRanges, filter_to_ranges
from lakehouse.models.pushdown import ColumnTypes, SourceBounds, add_bounds, propagate_bounds
from lakehouse.models.sql.blocks import Block, Source, split_totals
from lakehouse.models.sql.float_sums import inexact_sums_error
from lakehouse.models.sql.plan import Plan
from lakehouse.spark.collect import with_nullable_fields

PREVIOUS, CURRENT = "previous", "current"
KEY_PREFIX = "_cdc_key_"
"""Frames of refresh keys have the columns `_cdc_key_0`, `_cdc_key_1`, ... in the order of the key's parts."""

_AFFECTED = "_cdc_affected"
JOIN_KEYWORDS = {
    "inner": "JOIN",
    "cross": "CROSS JOIN",
    "left": "LEFT JOIN",
    "semi": "LEFT SEMI JOIN",
    "anti": "LEFT ANTI JOIN",
}


@dataclass(frozen=True)
class ModelInput:
    """A relation that a model reads.

    Attributes:
        current: Its rows now.
        images: Its changed rows as they were and as they are; None if nothing changed.
        read_previous: Reads its rows before the change. It is called only if they are needed.
    """

    current: DataFrame
    images: CachedRows | None = None
    read_previous: Callable[[], DataFrame] | None = None

    @cached_property
    def previous(self) -> DataFrame:
        """Its rows before the change."""
        return self.read_previous() if self.images and self.read_previous else self.current


class BlockReader:
    """Runs the blocks of one model. Its views are dropped by `release`."""

    def __init__(
        self, spark: SparkSession, plan: Plan, arguments: Mapping[str, Any], inputs: Mapping[str, ModelInput]
    ) -> None:
        """Prepare the blocks.

        Args:
            spark: The caller's own session: rows become temporary views in it.
            plan: The model's plan, with blocks.
            arguments: The parameters that the plan uses, by name.
            inputs: The model's inputs by relation.
        """
        self._spark, self._arguments, self.inputs = spark, dict(arguments), inputs
        self.final_block = plan.blocks[-1]
        self.ctes = {block.name: block for block in plan.blocks if block.name}
        self._types_by_relation: dict[str, Mapping[str, T.DataType]] = {}
        self._views: list[str] = []

    def release(self) -> None:
        """Drop the views."""
        for view in self._views:
            self._spark.catalog.dropTempView(view)

    def read(self, relation: str, version: str, value_ranges: ValueRanges) -> DataFrame:
        """Return the rows of a relation or CTE whose values are in the ranges."""
        if relation not in self.ctes:
            source = self.inputs[relation]
            return filter_to_ranges(source.current if version == CURRENT else source.previous, value_ranges)
        block, bounds = self.ctes[relation], SourceBounds()
        if block.kind == "rows":
            filterable = set(block.plain_columns)
        else:
            filterable = {key.output.lower() for key in block.refresh_key if key.can_push_down}
        for output, value_range in value_ranges.items():
            if output in filterable and output in block.plain_columns:
                add_bounds(bounds, block, *block.plain_columns[output], value_range)
        from_sql = self.from_sql(block.sources, self.read_sources(block, version, bounds))
        rows = self.run_sql(f"{block.select} FROM {from_sql} {block.where} {block.after_where}")
        # Rows outside of the ranges may be wrong, because not all rows that they are made from were read.
        return filter_to_ranges(rows, value_ranges)

    def read_sources(self, block: Block, version: str, bounds: SourceBounds) -> dict[str, DataFrame]:
        """Return the rows of all sources of a block by alias, restricted to the bounds that follow from `bounds`."""
        all_bounds = propagate_bounds(block.sources, bounds, self.column_types(block)) if bounds else {}
        return {
            source.alias: self.read(source.relation, version, all_bounds.get(source.alias.lower(), {}))
            for source in block.sources
        }

    def column_types(self, block: Block) -> ColumnTypes:
        """Return the function that gives the column types of a block's sources by alias."""
        relations = {source.alias.lower(): source.relation for source in block.sources}

        def types_of(alias: str) -> Mapping[str, T.DataType]:
            relation = relations[alias]
            if relation not in self._types_by_relation:
                schema = self.read(relation, CURRENT, {}).schema
                self._types_by_relation[relation] = {field.name.lower(): field.dataType for field in schema}
            return self._types_by_relation[relation]

        return types_of

    def rows_for_keys(self, block: Block, version: str, keys: CachedRows) -> DataFrame:
        """Return the author's rows of a block that have an affected key."""
        results, value_ranges = [], keys.value_ranges()
        for after_where, pushdown_parts in split_totals(block):
            parts = [(block.refresh_key[at], f"{KEY_PREFIX}{at}") for at in pushdown_parts]
            bounds = SourceBounds()
            for key, name in parts:
                if key.column and name in value_ranges:
                    add_bounds(bounds, block, *key.column, value_ranges[name])
            from_sql = self.from_sql(block.sources, self.read_sources(block, version, bounds))
            has_all_parts = len(parts) == len(block.refresh_key)
            if parts:  # filter the rows of the FROM clause before any grouping
                wanted = keys.rows if has_all_parts else keys.rows.select(*[name for _, name in parts]).distinct()
                on = " AND ".join(f"({key.sql}) <=> {_AFFECTED}.{name}" for key, name in parts)
                from_sql += f" LEFT SEMI JOIN {self._create_view(wanted)} AS {_AFFECTED} ON {on}"
            rows = self.run_sql(f"{block.select} FROM {from_sql} {block.where} {after_where}")
            if not has_all_parts:
                same = [
                    F.col(f"r.{quote_identifier(key.output)}").eqNullSafe(F.col(f"k.{KEY_PREFIX}{at}"))
                    for at, key in enumerate(block.refresh_key)
                ]
                rows = rows.alias("r").join(keys.rows.alias("k"), on=reduce(Column.__and__, same), how="left_semi")
            results.append(rows)
        return reduce(DataFrame.union, results)

    def from_sql(self, sources: tuple[Source, ...], rows: Mapping[str, DataFrame]) -> str:
        """Return the FROM clause over the rows given for each source by alias, without the word FROM."""
        first, *others = sources
        joins = "".join(f" {self.join_sql(source, rows[source.alias])}" for source in others)
        return f"{self._create_view(rows[first.alias])} AS {quote_identifier(first.alias)}{joins}"

    def join_sql(self, source: Source, rows: DataFrame) -> str:
        """Return the JOIN of a source with its condition."""
        on = f" ON {source.on}\n" if source.on else ""  # the author's text may end in a comment
        alias = quote_identifier(source.alias)
        return f"{JOIN_KEYWORDS[source.join_type]} {self._create_view(rows)} AS {alias}{on}"

    def _create_view(self, rows: DataFrame) -> str:
        name = f"_cdc_{uuid.uuid4().hex}"
        rows.createOrReplaceTempView(name)
        self._views.append(name)
        return name

    def run_sql(self, text: str) -> DataFrame:
        """Return the rows of a SELECT over the views, with the model's parameters."""
        return with_nullable_fields(self._spark.sql(text, args=self._arguments))

    def require_exact_sums(self, model: str) -> None:
        """Raise if the model adds up DOUBLE: computed twice over the same rows, the sums would differ.

        Args:
            model: The model's name, for the message.

        Raises:
            ConfigError: With the sums, and their replacement.
        """
        sums = []
        for block in (block for block in [*self.ctes.values(), self.final_block] if block.sums):
            arguments = ", ".join(f"({argument}) AS _cdc_{at}" for at, (_, argument) in enumerate(block.sums))
            source = self.from_sql(block.sources, self.read_sources(block, CURRENT, {}))
            fields = self.run_sql(f"SELECT {arguments} FROM {source}").schema
            for (function, argument), field in zip(block.sums, fields, strict=True):
                is_float = isinstance(field.dataType, T.FloatType | T.DoubleType)
                is_mean = function in ("avg", "mean", "try_avg")
                if is_float or (is_mean and isinstance(field.dataType, T.LongType)):
                    sums.append(f"{function}({argument})")
        if sums:
            raise inexact_sums_error(sums, model)
