"""A model brought up to date by what changed in its inputs: which of its keys are touched, and their rows anew.

Nothing here reads or writes a table. Each input comes as it is now, as it was then, and with the *images* of its
changed rows: as they were and as they are. Block by block (a CTE is a model that is not stored):

    touched     the touch keys of rows of the FROM that came or went: images in the place of their source
    restricted  the author's query over the rows of the FROM that have a touched key
    images      of a CTE, for the blocks that read it: its rows for the touched keys, then and now

Where several sources of a FROM changed, they are taken one after the other: those before it as they are now, those
after it as they were. So every row that came or went is found, and each source is read in one state only.
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

from lakehouse.lake.cached_rows import CachedRows, ValueRange, ValueRanges, cache_rows, filter_to_ranges
from lakehouse.models.pushdown import ColumnTypes, SourceBounds, add_bounds, propagate_bounds
from lakehouse.models.sql.blocks import Block, KeyPart, Source
from lakehouse.models.sql.blocks import split_totals as apart
from lakehouse.models.sql.float_sums import inexact_sums_error
from lakehouse.models.sql.plan import Plan

PREVIOUS, CURRENT = "then", "now"
_AFFECTED, _KEY_PREFIX, _SIGN = "_cdc_touched", "_cdc_key_", "_cdc_sign"
_JOIN_KEYWORDS = {"inner": "JOIN", "cross": "CROSS JOIN", "left": "LEFT JOIN"}
_JOIN_KEYWORDS |= {"semi": "LEFT SEMI JOIN", "anti": "LEFT ANTI JOIN"}


@dataclass(frozen=True)
class ModelInput:
    """A relation as it is now.

    Attributes:
        images: its rows that came or went since then; None: nothing changed.
        read_then: reads it as it was, where something changed; asked only if that matters.
    """

    current: DataFrame
    images: CachedRows | None = None
    read_then: Callable[[], DataFrame] | None = None

    @cached_property
    def previous(self) -> DataFrame:
        return self.read_then() if self.images and self.read_then else self.current


@dataclass(frozen=True)
class AffectedRows:
    """What a model must hold for the keys touched: all of them in `keys`, and the rows that there are for them."""

    keys: CachedRows
    rows: DataFrame


class IncrementalQuery:
    """One model over one set of inputs. What it holds is to be released when its result has been written."""

    def __init__(
        self, spark: SparkSession, plan: Plan, arguments: Mapping[str, Any], inputs: Mapping[str, ModelInput]
    ) -> None:
        self._spark, self._arguments, self._inputs = spark, dict(arguments), inputs
        self._final_block, self._ctes = plan.blocks[-1], {block.name: block for block in plan.blocks if block.name}
        self._images: dict[str, CachedRows | None] = {}
        self._types_by_relation: dict[str, Mapping[str, T.DataType]] = {}
        self._cached: list[CachedRows] = []
        self._views: list[str] = []

    def affected_rows(self) -> AffectedRows | None:
        """The model's touched keys, under the names of its columns, and their rows; None: nothing is touched."""
        keys = self._affected_keys(self._final_block)
        if keys is None:
            return None
        names = [key.output for key in self._final_block.refresh_key]
        named = keys.rows.toDF(*names)
        local = keys.local_rows.rename_columns(names) if keys.local_rows is not None else None
        return AffectedRows(CachedRows(named, local), self._rows_for_keys(self._final_block, CURRENT, keys))

    def release(self) -> None:
        for held in self._cached:
            held.release()
        for view in self._views:
            self._spark.catalog.dropTempView(view)

    # --- what changed ---------------------------------------------------------------------------------------------

    def _source_images(self, relation: str) -> CachedRows | None:
        """The images of a source; None: it did not change."""
        if relation not in self._ctes:
            return self._inputs[relation].images
        if relation not in self._images:
            self._images[relation] = self._cte_images(self._ctes[relation])
        return self._images[relation]

    def _cte_images(self, cte: Block) -> CachedRows | None:
        if cte.kind == "rows":
            return self._cache(self._select_changed(cte, cte.select, cte.where))
        keys = self._affected_keys(cte)
        if keys is None:
            return None
        return self._cache(
            _row_differences(self._rows_for_keys(cte, PREVIOUS, keys), self._rows_for_keys(cte, CURRENT, keys))
        )

    def _affected_keys(self, block: Block) -> CachedRows | None:
        """The touch keys of the rows of the FROM that came or went, as columns numbered in their order."""
        texts = ", ".join(f"{key.sql} AS {_KEY_PREFIX}{at}" for at, key in enumerate(block.refresh_key))
        tail = f"{block.where} {block.totals}"
        found = self._select_changed(block, f"SELECT {'' if block.totals else 'DISTINCT '}{texts}", tail)
        return self._cache(found.distinct() if found is not None else None)

    def _cache(self, rows: DataFrame | None) -> CachedRows | None:
        if rows is None:
            return None
        held = cache_rows(self._spark, rows)
        self._cached.append(held)
        return None if held.is_empty else held

    def _select_changed(self, block: Block, select: str, tail: str) -> DataFrame | None:
        """What `select` gives for every row of the FROM that came or went, and maybe for some that did not."""
        found = []
        for at, source in enumerate(block.sources):
            images = self._source_images(source.relation)
            if images is None:
                continue
            frames, own = self._read_other_sources(block, at, images)
            for joined in self._from_clauses(block, at, images.rows, frames, own):
                found.append(self._run_sql(f"{select} FROM {joined} {tail}"))
        return reduce(DataFrame.union, found) if found else None

    def _read_other_sources(
        self, block: Block, at: int, images: CachedRows
    ) -> tuple[dict[str, DataFrame], dict[str, ValueRange]]:
        """The other sources beside the images of one: those before it now, those after it then; and what is known of
        the rows of the same source that can stand in their place."""
        source = block.sources[at]
        alias, kinds = source.alias.lower(), self._column_types(block)
        if source.is_inner_joined:
            boxes = propagate_bounds(block.sources, {alias: images.value_ranges()}, kinds, alias)
        else:
            # Beside a row that the images reach stand others of the source too: they share what an `=` ties to it.
            tied = {test.column[1] for test in source.conditions if test.column[0] == alias and test.operator == "="}
            boxes = propagate_bounds(block.sources[: at + 1], {alias: images.value_ranges()}, kinds, alias)
            boxes[alias] = {name: span for name, span in boxes[alias].items() if name in tied}
            boxes = propagate_bounds(block.sources, boxes, kinds, alias)
        frames = {
            other.alias: self._read(
                other.relation, CURRENT if place < at else PREVIOUS, boxes.get(other.alias.lower(), {})
            )
            for place, other in enumerate(block.sources)
            if place != at
        }
        return frames, boxes[alias]

    def _from_clauses(
        self, block: Block, at: int, images: DataFrame, frames: dict[str, DataFrame], own_ranges: dict[str, ValueRange]
    ) -> list[str]:
        """The FROMs whose rows are all those that came or went with the images of one source."""
        source, before, after = block.sources[at], block.sources[:at], block.sources[at + 1 :]
        if source.is_inner_joined:
            return [self._from_sql(block.sources, frames | {source.alias: images})]
        # Its rows stand beside others only: those that the images reach are the ones that may change.
        reached = self._from_sql(
            (*before, Source(source.alias, "", "semi", source.on)), frames | {source.alias: images}
        )
        rest = "".join(f" {self._join_sql(s, frames[s.alias])}" for s in after)
        if source.join_type != "left" or source.alias.lower() in block.unread_aliases:
            return [reached + rest]
        states = [self._read(source.relation, world, own_ranges) for world in (PREVIOUS, CURRENT)]
        return [f"{reached} {self._join_sql(source, state)}{rest}" for state in states]

    # --- rows -----------------------------------------------------------------------------------------------------

    def _read(self, relation: str, version: str, value_ranges: ValueRanges) -> DataFrame:
        """The rows of a source within `spans`."""
        if relation in self._ctes:
            return filter_to_ranges(self._cte_rows(self._ctes[relation], version, value_ranges), value_ranges)
        source = self._inputs[relation]
        return filter_to_ranges(source.current if version == CURRENT else source.previous, value_ranges)

    def _column_types(self, block: Block) -> ColumnTypes:
        relations = {source.alias.lower(): source.relation for source in block.sources}
        return lambda alias: self._relation_types(relations[alias])

    def _relation_types(self, relation: str) -> Mapping[str, T.DataType]:
        if relation not in self._types_by_relation:
            rows = self._read(relation, CURRENT, {})
            self._types_by_relation[relation] = {field.name.lower(): field.dataType for field in rows.schema}
        return self._types_by_relation[relation]

    def _cte_rows(self, block: Block, version: str, value_ranges: ValueRanges) -> DataFrame:
        """A block whole, but that rows outside of `spans` may be missing or wrong."""
        movable = (
            {key.output.lower() for key in block.refresh_key if key.can_push_down}
            if block.kind != "rows"
            else block.plain_columns
        )
        known: SourceBounds = {}
        for output, span in value_ranges.items():
            if output in movable and output in block.plain_columns:
                add_bounds(known, block, *block.plain_columns[output], span)
        frames = self._read_sources(block, version, propagate_bounds(block.sources, known, self._column_types(block)))
        return self._run_sql(
            f"{block.select} FROM {self._from_sql(block.sources, frames)} {block.where} {block.after_where}"
        )

    def _rows_for_keys(self, block: Block, version: str, keys: CachedRows) -> DataFrame:
        """The author's rows of a block that have a touched key."""
        found = [self._rows_for_part(block, version, keys, tail, below) for tail, below in apart(block)]
        return reduce(DataFrame.union, found)

    def _rows_for_part(
        self, block: Block, version: str, keys: CachedRows, tail: str, pushdown_parts: tuple[int, ...]
    ) -> DataFrame:
        """Those that the block gives with `tail` after its WHERE, where rows may be left out by the keys `below`."""
        spans, known = keys.value_ranges(), SourceBounds()
        for at in pushdown_parts:
            if (column := block.refresh_key[at].column) and f"{_KEY_PREFIX}{at}" in spans:
                add_bounds(known, block, *column, spans[f"{_KEY_PREFIX}{at}"])
        frames = self._read_sources(block, version, propagate_bounds(block.sources, known, self._column_types(block)))
        source = self._from_sql(block.sources, frames)
        if pushdown_parts:
            source += self._semi_join_sql(block, keys.rows, pushdown_parts)
        found = self._run_sql(f"{block.select} FROM {source} {block.where} {tail}")
        return (
            found
            if len(pushdown_parts) == len(block.refresh_key)
            else _semi_join_keys(found, keys.rows, block.refresh_key)
        )

    def _semi_join_sql(self, block: Block, keys: DataFrame, pushdown_parts: tuple[int, ...]) -> str:
        if len(pushdown_parts) < len(block.refresh_key):
            keys = keys.select(*[f"{_KEY_PREFIX}{at}" for at in pushdown_parts]).distinct()
        same = " AND ".join(f"({block.refresh_key[at].sql}) <=> {_AFFECTED}.{_KEY_PREFIX}{at}" for at in pushdown_parts)
        return f" LEFT SEMI JOIN {self._create_view(keys)} AS {_AFFECTED} ON {same}"

    def _read_sources(self, block: Block, version: str, bounds: SourceBounds) -> dict[str, DataFrame]:
        return {s.alias: self._read(s.relation, version, bounds.get(s.alias.lower(), {})) for s in block.sources}

    # --- SQL ------------------------------------------------------------------------------------------------------

    def _from_sql(self, sources: tuple[Source, ...], frames: Mapping[str, DataFrame]) -> str:
        first, *others = sources
        joined = "".join(f" {self._join_sql(s, frames[s.alias])}" for s in others)
        return f"{self._create_view(frames[first.alias])} AS `{first.alias}`{joined}"

    def _join_sql(self, source: Source, rows: DataFrame) -> str:
        on = f" ON {source.on}\n" if source.on else ""
        return f"{_JOIN_KEYWORDS[source.join_type]} {self._create_view(rows)} AS `{source.alias}`{on}"

    def _create_view(self, rows: DataFrame) -> str:
        name = f"_cdc_{uuid.uuid4().hex}"
        rows.createOrReplaceTempView(name)
        self._views.append(name)
        return name

    def _run_sql(self, text: str) -> DataFrame:
        return self._spark.sql(text, args=self._arguments)

    # --- types ----------------------------------------------------------------------------------------------------

    def find_inexact_sums(self) -> list[str]:
        """The sums whose last digits depend on the order in which rows come."""
        found = []
        for block in [*self._ctes.values(), self._final_block]:
            if not block.sums:
                continue
            arguments = ", ".join(f"({argument}) AS _cdc_{at}" for at, (_, argument) in enumerate(block.sums))
            source = self._from_sql(block.sources, self._read_sources(block, CURRENT, {}))
            kinds = [field.dataType for field in self._run_sql(f"SELECT {arguments} FROM {source}").schema]
            found += [f"{f}({text})" for (f, text), kind in zip(block.sums, kinds, strict=True) if _is_inexact(f, kind)]
        return found


def require_exact_sums(work: IncrementalQuery, model: str) -> None:
    """Refuse a model that adds up DOUBLE: computed twice over the same rows, it would differ.

    Raises:
        ConfigError: with the sums, and what to write instead.
    """
    if found := work.find_inexact_sums():
        raise inexact_sums_error(found, model)


def _is_inexact(function: str, kind: T.DataType) -> bool:
    is_mean = function in ("avg", "mean", "try_avg")
    return isinstance(kind, T.FloatType | T.DoubleType) or (is_mean and isinstance(kind, T.LongType))


# --- frames -----------------------------------------------------------------------------------------------------------


def _semi_join_keys(rows: DataFrame, keys: DataFrame, names: tuple[KeyPart, ...]) -> DataFrame:
    same = [F.col(f"r.`{key.output}`").eqNullSafe(F.col(f"k.{_KEY_PREFIX}{at}")) for at, key in enumerate(names)]
    return rows.alias("r").join(keys.alias("k"), on=reduce(Column.__and__, same), how="left_semi")


def _row_differences(then: DataFrame, now: DataFrame) -> DataFrame:
    """The rows that are in one of two frames more often than in the other, where that can be told by grouping."""
    columns = [f"`{name}`" for name in now.columns]
    both = then.select(*columns, F.lit(-1).alias(_SIGN)).union(now.select(*columns, F.lit(1).alias(_SIGN)))
    # A map has no equal, and grouping would take -0.0 for 0.0.
    if any(
        kind in field.dataType.simpleString() for field in now.schema for kind in ("map<", "variant", "double", "float")
    ):
        return both.drop(_SIGN)
    balance = both.groupBy(*columns).agg(F.sum(_SIGN).alias(_SIGN))
    return balance.where(F.col(_SIGN) != 0).drop(_SIGN)
