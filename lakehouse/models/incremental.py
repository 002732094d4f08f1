"""Computes the rows of a model for the keys that changed rows of its inputs affect. Writes and reads no table.

Each input is given as it is now, as it was before, and with the *images* of its changed rows: each as it was and as it
is. A CTE is treated as a model that is not stored. For each SELECT (block), in the order of the CTEs:

    affected keys   the refresh keys of the rows of the FROM clause that were added or removed: the FROM clause with the
                    images in the place of their source
    rows for keys   the author's query, restricted to the rows of the FROM clause that have an affected key
    images          of a CTE, for the blocks that read it: how its rows for the affected keys differ, before and now

If several sources of a FROM clause changed, they are handled one after the other: sources before the changed one are
read as they are now, sources after it as they were. So every added or removed row is found, and each source is read in
one state only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.cached_rows import MAX_LOCAL_ROWS, CachedRows, ValueRanges, cache_rows
from lakehouse.models.block_reader import CURRENT, KEY_PREFIX, PREVIOUS, BlockReader
from lakehouse.models.pushdown import SourceBounds, propagate_bounds
from lakehouse.models.sql.blocks import Block, Source

_SIGN = "_cdc_sign"


@dataclass(frozen=True)
class AffectedRows:
    """The affected keys of a model, under the names of its columns, and all rows that it has for them."""

    keys: CachedRows
    rows: DataFrame


class IncrementalQuery:
    """Computes the affected rows of one model. Its caches are released after the result has been written."""

    def __init__(self, spark: SparkSession, reader: BlockReader, local_rows: int = MAX_LOCAL_ROWS) -> None:
        """Prepare the query.

        Args:
            spark: The caller's own session.
            reader: The model's blocks over its inputs.
            local_rows: Up to this many rows are collected by the driver.
        """
        self._spark, self._reader, self._local_rows = spark, reader, local_rows
        self._cte_images: dict[str, CachedRows | None] = {}
        self._cached: list[CachedRows] = []

    def affected_rows(self) -> AffectedRows | None:
        """Return the model's affected keys and its rows for them; None if no key is affected."""
        keys = self._affected_keys(self._reader.final_block)
        if keys is None:
            return None
        names = [key.output for key in self._reader.final_block.refresh_key]
        local_rows = keys.local_rows.rename_columns(names) if keys.local_rows is not None else None
        rows = self._reader.rows_for_keys(self._reader.final_block, CURRENT, keys)
        return AffectedRows(CachedRows(keys.rows.toDF(*names), local_rows), rows)

    def release(self) -> None:
        """Release the cached rows."""
        for cached in self._cached:
            cached.release()

    def _source_images(self, relation: str) -> CachedRows | None:
        """Return the images of a relation or CTE; None if it did not change."""
        if relation not in self._reader.ctes:
            return self._reader.inputs[relation].images
        if relation not in self._cte_images:
            cte, images = self._reader.ctes[relation], None
            if cte.kind == "rows":
                images = self._select_changed(cte, cte.select, cte.where)
            elif keys := self._affected_keys(cte):
                previous = self._reader.rows_for_keys(cte, PREVIOUS, keys)
                images = _row_differences(previous, self._reader.rows_for_keys(cte, CURRENT, keys))
            self._cte_images[relation] = self._cache(images)
        return self._cte_images[relation]

    def _affected_keys(self, block: Block) -> CachedRows | None:
        """Return the refresh keys of added or removed rows of the FROM clause, in numbered columns; None if none."""
        columns = ", ".join(f"{key.sql} AS {KEY_PREFIX}{at}" for at, key in enumerate(block.refresh_key))
        select = f"SELECT {'' if block.totals else 'DISTINCT '}{columns}"
        keys = self._select_changed(block, select, f"{block.where} {block.totals}")
        return self._cache(keys.distinct() if keys is not None else None)

    def _cache(self, rows: DataFrame | None) -> CachedRows | None:
        """Return rows cached until `release`; None if there are none."""
        if rows is None:
            return None
        cached = cache_rows(self._spark, rows, self._local_rows)
        self._cached.append(cached)
        return None if cached.is_empty else cached

    def _select_changed(self, block: Block, select: str, tail: str) -> DataFrame | None:
        """Return the result of a SELECT for every added or removed row of the FROM clause, and maybe for other rows.

        None if no source changed. `tail` is the text after the FROM clause.
        """
        parts = []
        for position, source in enumerate(block.sources):
            images = self._source_images(source.relation)
            if images is None:
                continue
            bounds = self._bounds_of_images(block, position, images)
            # Sources before the changed one are read as they are now, sources after it as they were.
            rows = {
                other.alias: self._reader.read(
                    other.relation, CURRENT if at < position else PREVIOUS, bounds.get(other.alias.lower(), {})
                )
                for at, other in enumerate(block.sources)
                if at != position
            }
            rows[source.alias] = images.rows
            for from_sql in self._changed_from_clauses(block, position, rows, bounds[source.alias.lower()]):
                parts.append(self._reader.run_sql(f"{select} FROM {from_sql} {tail}"))
        return reduce(DataFrame.union, parts) if parts else None

    def _bounds_of_images(self, block: Block, position: int, images: CachedRows) -> SourceBounds:
        """Return the bounds of the rows that are joined to the images of a source, or can take their place."""
        source, column_types = block.sources[position], self._reader.column_types(block)
        alias = source.alias.lower()
        own_bounds: SourceBounds = {alias: images.value_ranges()}
        if source.is_inner_joined:
            return propagate_bounds(block.sources, own_bounds, column_types, alias)
        # A row on the left that joins an image may also join other rows of the source. All of these have the same
        # values as the image in the columns that an `=` compares.
        compared = {c.column[1] for c in source.conditions if c.column[0] == alias and c.operator == "="}
        bounds = propagate_bounds(block.sources[: position + 1], own_bounds, column_types, alias)
        bounds[alias] = {name: value_range for name, value_range in bounds[alias].items() if name in compared}
        return propagate_bounds(block.sources, bounds, column_types, alias)

    def _changed_from_clauses(
        self, block: Block, position: int, rows: Mapping[str, DataFrame], replacement_ranges: ValueRanges
    ) -> list[str]:
        """Return FROM clauses whose rows together are all those that the images of one source added or removed.

        `rows` has the rows of each source by alias, with the images of the changed one. `replacement_ranges` are the
        value ranges of its own rows that can take the place of a changed row in an outer join.
        """
        source = block.sources[position]
        if source.is_inner_joined:
            return [self._reader.from_sql(block.sources, rows)]
        # The source's rows only join rows on their left, so the rows that may change are those that an image joins.
        joining = self._reader.from_sql((*block.sources[:position], Source(source.alias, "", "semi", source.on)), rows)
        rest = "".join(f" {self._reader.join_sql(other, rows[other.alias])}" for other in block.sources[position + 1 :])
        if source.join_type != "left" or source.alias.lower() in block.unread_aliases:
            return [joining + rest]
        states = [self._reader.read(source.relation, version, replacement_ranges) for version in (PREVIOUS, CURRENT)]
        return [f"{joining} {self._reader.join_sql(source, state)}{rest}" for state in states]


def _row_differences(previous: DataFrame, current: DataFrame) -> DataFrame:
    """Return the rows that one of two frames has more often than the other; all rows if they cannot be grouped."""
    columns = [quote_identifier(name) for name in current.columns]
    signed_previous = previous.select(*columns, F.lit(-1).alias(_SIGN))
    both = signed_previous.union(current.select(*columns, F.lit(1).alias(_SIGN)))
    # A map cannot be compared, and grouping treats -0.0 and 0.0 as equal.
    not_grouped = ("map<", "variant", "double", "float")
    if any(name in field.dataType.simpleString() for field in current.schema for name in not_grouped):
        return both.drop(_SIGN)
    balance = both.groupBy(*columns).agg(F.sum(_SIGN).alias(_SIGN))
    return balance.where(F.col(_SIGN) != 0).drop(_SIGN)
