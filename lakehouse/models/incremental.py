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

from lakehouse.lake.small_rows import CachedRows, ValueRange, ValueRanges, cache_rows, filter_to_ranges
from lakehouse.models.pushdown import Boxes, Kinds, note, spread
from lakehouse.models.sql.blocks import Block, Key, Source
from lakehouse.models.sql.blocks import parts as apart
from lakehouse.models.sql.float_sums import inexact_sums
from lakehouse.models.sql.plan import Plan

THEN, NOW = "then", "now"
_TOUCHED, _KEY, _SIGN = "_cdc_touched", "_cdc_key_", "_cdc_sign"
_JOINS = {"inner": "JOIN", "cross": "CROSS JOIN", "left": "LEFT JOIN"}
_JOINS |= {"semi": "LEFT SEMI JOIN", "anti": "LEFT ANTI JOIN"}


@dataclass(frozen=True)
class Input:
    """A relation as it is now.

    Attributes:
        images: its rows that came or went since then; None: nothing changed.
        read_then: reads it as it was, where something changed; asked only if that matters.
    """

    now: DataFrame
    images: CachedRows | None = None
    read_then: Callable[[], DataFrame] | None = None

    @cached_property
    def then(self) -> DataFrame:
        return self.read_then() if self.images and self.read_then else self.now


@dataclass(frozen=True)
class Touched:
    """What a model must hold for the keys touched: all of them in `keys`, and the rows that there are for them."""

    keys: CachedRows
    rows: DataFrame


class Work:
    """One model over one set of inputs. What it holds is to be released when its result has been written."""

    def __init__(
        self, spark: SparkSession, plan: Plan, arguments: Mapping[str, Any], inputs: Mapping[str, Input]
    ) -> None:
        self._spark, self._arguments, self._inputs = spark, dict(arguments), inputs
        self._last, self._ctes = plan.blocks[-1], {block.name: block for block in plan.blocks if block.name}
        self._images: dict[str, CachedRows | None] = {}
        self._kinds_of: dict[str, Mapping[str, T.DataType]] = {}
        self._held: list[CachedRows] = []
        self._views: list[str] = []

    def touched(self) -> Touched | None:
        """The model's touched keys, under the names of its columns, and their rows; None: nothing is touched."""
        keys = self._touched(self._last)
        if keys is None:
            return None
        names = [key.output for key in self._last.key]
        named = keys.rows.toDF(*names)
        local = keys.local_rows.rename_columns(names) if keys.local_rows is not None else None
        return Touched(CachedRows(named, local), self._restricted(self._last, NOW, keys))

    def release(self) -> None:
        for held in self._held:
            held.release()
        for view in self._views:
            self._spark.catalog.dropTempView(view)

    # --- what changed ---------------------------------------------------------------------------------------------

    def _changed(self, relation: str) -> CachedRows | None:
        """The images of a source; None: it did not change."""
        if relation not in self._ctes:
            return self._inputs[relation].images
        if relation not in self._images:
            self._images[relation] = self._images_of(self._ctes[relation])
        return self._images[relation]

    def _images_of(self, cte: Block) -> CachedRows | None:
        if cte.kind == "rows":
            return self._hold(self._affected(cte, cte.select, cte.where))
        keys = self._touched(cte)
        if keys is None:
            return None
        return self._hold(_differing(self._restricted(cte, THEN, keys), self._restricted(cte, NOW, keys)))

    def _touched(self, block: Block) -> CachedRows | None:
        """The touch keys of the rows of the FROM that came or went, as columns numbered in their order."""
        texts = ", ".join(f"{key.text} AS {_KEY}{at}" for at, key in enumerate(block.key))
        tail = f"{block.where} {block.group}"
        found = self._affected(block, f"SELECT {'' if block.group else 'DISTINCT '}{texts}", tail)
        return self._hold(found.distinct() if found is not None else None)

    def _hold(self, rows: DataFrame | None) -> CachedRows | None:
        if rows is None:
            return None
        held = cache_rows(self._spark, rows)
        self._held.append(held)
        return None if held.is_empty else held

    def _affected(self, block: Block, select: str, tail: str) -> DataFrame | None:
        """What `select` gives for every row of the FROM that came or went, and maybe for some that did not."""
        found = []
        for at, source in enumerate(block.sources):
            images = self._changed(source.relation)
            if images is None:
                continue
            frames, own = self._around(block, at, images)
            for joined in self._reached(block, at, images.rows, frames, own):
                found.append(self._sql(f"{select} FROM {joined} {tail}"))
        return reduce(DataFrame.union, found) if found else None

    def _around(self, block: Block, at: int, images: CachedRows) -> tuple[dict[str, DataFrame], dict[str, ValueRange]]:
        """The other sources beside the images of one: those before it now, those after it then; and what is known of
        the rows of the same source that can stand in their place."""
        source = block.sources[at]
        alias, kinds = source.alias.lower(), self._kinds(block)
        if source.is_kept:
            boxes = spread(block.sources, {alias: images.value_ranges()}, kinds, alias)
        else:
            # Beside a row that the images reach stand others of the source too: they share what an `=` ties to it.
            tied = {test.column[1] for test in source.tests if test.column[0] == alias and test.sign == "="}
            boxes = spread(block.sources[: at + 1], {alias: images.value_ranges()}, kinds, alias)
            boxes[alias] = {name: span for name, span in boxes[alias].items() if name in tied}
            boxes = spread(block.sources, boxes, kinds, alias)
        frames = {
            other.alias: self._read(other.relation, NOW if place < at else THEN, boxes.get(other.alias.lower(), {}))
            for place, other in enumerate(block.sources)
            if place != at
        }
        return frames, boxes[alias]

    def _reached(
        self, block: Block, at: int, images: DataFrame, frames: dict[str, DataFrame], own: dict[str, ValueRange]
    ) -> list[str]:
        """The FROMs whose rows are all those that came or went with the images of one source."""
        source, before, after = block.sources[at], block.sources[:at], block.sources[at + 1 :]
        if source.is_kept:
            return [self._from(block.sources, frames | {source.alias: images})]
        # Its rows stand beside others only: those that the images reach are the ones that may change.
        reached = self._from((*before, Source(source.alias, "", "semi", source.on)), frames | {source.alias: images})
        rest = "".join(f" {self._joined(s, frames[s.alias])}" for s in after)
        if source.side != "left" or source.alias.lower() in block.loose:
            return [reached + rest]
        states = [self._read(source.relation, world, own) for world in (THEN, NOW)]
        return [f"{reached} {self._joined(source, state)}{rest}" for state in states]

    # --- rows -----------------------------------------------------------------------------------------------------

    def _read(self, relation: str, world: str, spans: ValueRanges) -> DataFrame:
        """The rows of a source within `spans`."""
        if relation in self._ctes:
            return filter_to_ranges(self._rows(self._ctes[relation], world, spans), spans)
        source = self._inputs[relation]
        return filter_to_ranges(source.now if world == NOW else source.then, spans)

    def _kinds(self, block: Block) -> Kinds:
        relations = {source.alias.lower(): source.relation for source in block.sources}
        return lambda alias: self._types(relations[alias])

    def _types(self, relation: str) -> Mapping[str, T.DataType]:
        if relation not in self._kinds_of:
            rows = self._read(relation, NOW, {})
            self._kinds_of[relation] = {field.name.lower(): field.dataType for field in rows.schema}
        return self._kinds_of[relation]

    def _rows(self, block: Block, world: str, spans: ValueRanges) -> DataFrame:
        """A block whole, but that rows outside of `spans` may be missing or wrong."""
        movable = {key.output.lower() for key in block.key if key.below} if block.kind != "rows" else block.plain
        known: Boxes = {}
        for output, span in spans.items():
            if output in movable and output in block.plain:
                note(known, block, *block.plain[output], span)
        frames = self._frames(block, world, spread(block.sources, known, self._kinds(block)))
        return self._sql(f"{block.select} FROM {self._from(block.sources, frames)} {block.where} {block.rest}")

    def _restricted(self, block: Block, world: str, keys: CachedRows) -> DataFrame:
        """The author's rows of a block that have a touched key."""
        found = [self._part(block, world, keys, tail, below) for tail, below in apart(block)]
        return reduce(DataFrame.union, found)

    def _part(self, block: Block, world: str, keys: CachedRows, tail: str, below: tuple[int, ...]) -> DataFrame:
        """Those that the block gives with `tail` after its WHERE, where rows may be left out by the keys `below`."""
        spans, known = keys.value_ranges(), Boxes()
        for at in below:
            if (column := block.key[at].column) and f"{_KEY}{at}" in spans:
                note(known, block, *column, spans[f"{_KEY}{at}"])
        frames = self._frames(block, world, spread(block.sources, known, self._kinds(block)))
        source = self._from(block.sources, frames)
        if below:
            source += self._semi_join(block, keys.rows, below)
        found = self._sql(f"{block.select} FROM {source} {block.where} {tail}")
        return found if len(below) == len(block.key) else _semi_joined(found, keys.rows, block.key)

    def _semi_join(self, block: Block, keys: DataFrame, below: tuple[int, ...]) -> str:
        if len(below) < len(block.key):
            keys = keys.select(*[f"{_KEY}{at}" for at in below]).distinct()
        same = " AND ".join(f"({block.key[at].text}) <=> {_TOUCHED}.{_KEY}{at}" for at in below)
        return f" LEFT SEMI JOIN {self._view(keys)} AS {_TOUCHED} ON {same}"

    def _frames(self, block: Block, world: str, boxes: Boxes) -> dict[str, DataFrame]:
        return {s.alias: self._read(s.relation, world, boxes.get(s.alias.lower(), {})) for s in block.sources}

    # --- SQL ------------------------------------------------------------------------------------------------------

    def _from(self, sources: tuple[Source, ...], frames: Mapping[str, DataFrame]) -> str:
        first, *others = sources
        joined = "".join(f" {self._joined(s, frames[s.alias])}" for s in others)
        return f"{self._view(frames[first.alias])} AS `{first.alias}`{joined}"

    def _joined(self, source: Source, rows: DataFrame) -> str:
        on = f" ON {source.on}\n" if source.on else ""
        return f"{_JOINS[source.side]} {self._view(rows)} AS `{source.alias}`{on}"

    def _view(self, rows: DataFrame) -> str:
        name = f"_cdc_{uuid.uuid4().hex}"
        rows.createOrReplaceTempView(name)
        self._views.append(name)
        return name

    def _sql(self, text: str) -> DataFrame:
        return self._spark.sql(text, args=self._arguments)

    # --- types ----------------------------------------------------------------------------------------------------

    def inexact(self) -> list[str]:
        """The sums whose last digits depend on the order in which rows come."""
        found = []
        for block in [*self._ctes.values(), self._last]:
            if not block.sums:
                continue
            arguments = ", ".join(f"({argument}) AS _cdc_{at}" for at, (_, argument) in enumerate(block.sums))
            source = self._from(block.sources, self._frames(block, NOW, {}))
            kinds = [field.dataType for field in self._sql(f"SELECT {arguments} FROM {source}").schema]
            found += [f"{f}({text})" for (f, text), kind in zip(block.sums, kinds, strict=True) if _rounds(f, kind)]
        return found


def refuse_inexact(work: Work, model: str) -> None:
    """Refuse a model that adds up DOUBLE: computed twice over the same rows, it would differ.

    Raises:
        ConfigError: with the sums, and what to write instead.
    """
    if found := work.inexact():
        raise inexact_sums(found, model)


def _rounds(function: str, kind: T.DataType) -> bool:
    is_mean = function in ("avg", "mean", "try_avg")
    return isinstance(kind, T.FloatType | T.DoubleType) or (is_mean and isinstance(kind, T.LongType))


# --- frames -----------------------------------------------------------------------------------------------------------


def _semi_joined(rows: DataFrame, keys: DataFrame, names: tuple[Key, ...]) -> DataFrame:
    same = [F.col(f"r.`{key.output}`").eqNullSafe(F.col(f"k.{_KEY}{at}")) for at, key in enumerate(names)]
    return rows.alias("r").join(keys.alias("k"), on=reduce(Column.__and__, same), how="left_semi")


def _differing(then: DataFrame, now: DataFrame) -> DataFrame:
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
