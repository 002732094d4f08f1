"""What of a cube is a dimension and what a measure, and which charts that makes. From its plan and types; no Spark.

A dimension is a key, a measure a number beside the keys, a class a text or a truth value beside them. A number is
added up only where that is right: a SUM or a COUNT, over rows of one time. Counts of different things, shares and
averages are shown where the cube itself holds them, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlglot
from sqlglot import exp

from lakehouse.models.sql.blocks import grouping_expressions, is_grouping_id
from lakehouse.models.sql.blocks.group import grouping_sets
from lakehouse.models.sql.plan import Plan

ColumnKind = Literal["time", "number", "text", "other"]

_LABEL_FUNCTIONS = (exp.Max, exp.Min, exp.First, exp.AnyValue)


@dataclass(frozen=True)
class ChartRows:
    """Rows of a cube that make one chart.

    Attributes:
        by: the dimensions, or the class, that tell its series apart; empty: there is one.
        level: the value of GROUPING_ID() of the rows that are meant; None: all rows.
        adds: whether rows are counted and `measures` added up; else each row is shown as it is.
        measures: what is shown.
    """

    by: tuple[str, ...]
    grouping_level: int | None
    is_aggregated: bool
    measures: tuple[str, ...]


@dataclass(frozen=True)
class CubeShape:
    """A cube, understood.

    Attributes:
        time: the dimension that is the axis of time.
        dimensions: the other keys.
        is_whole: whether no key is hidden.
        classes: what sorts rows into few kinds, and is no key.
        labels: by dimension, the column that says it for people.
        measures: numbers.
        grouping: the column with GROUPING_ID().
        levels: by its value, the dimensions that are not totalled over.
    """

    time: str | None
    dimensions: tuple[str, ...]
    has_all_keys: bool
    categories: tuple[str, ...]
    labels: Mapping[str, str]
    measures: tuple[str, ...]
    additive: frozenset[str]
    grouping_column: str | None
    grouping_levels: Mapping[int, frozenset[str]]

    @property
    def charts(self) -> tuple[ChartRows, ...]:
        """Over time first, then by each dimension or class."""
        return tuple(self._charts_of_totals() if self.grouping_column else self._charts_of_rows())

    def _charts_of_totals(self) -> Iterator[ChartRows]:
        """The totals that are there at each time, the coarsest first."""
        for level, dimensions in sorted(self.grouping_levels.items(), key=lambda each: (len(each[1]), each[0])):
            by = tuple(d for d in self.dimensions if d in dimensions)
            is_shown = set(by) == dimensions - {self.time} and (self.time is None or self.time in dimensions)
            if is_shown and dimensions and self.measures:
                yield ChartRows(by, level, False, self.measures)

    def _charts_of_rows(self) -> Iterator[ChartRows]:
        if self.measures and self.has_all_keys and (self.time or self.dimensions):
            yield ChartRows(self.dimensions, None, False, self.measures)
        if not self.dimensions and self.has_all_keys:
            return  # a row a time: nothing to count
        added = tuple(m for m in self.measures if m in self.additive)
        if self.time:
            yield ChartRows((), None, True, added)
        several = self.dimensions if len(self.dimensions) > 1 else ()
        yield from (ChartRows((by,), None, True, added) for by in (*several, *self.categories))


def time_keys(plan: Plan, kinds: Mapping[str, ColumnKind], hidden: Collection[str] = ()) -> list[str]:
    """The keys that could be the axis of time."""
    keys = {k.lower() for k in plan.keys}
    return [c for c, kind in kinds.items() if kind == "time" and c.lower() in keys and c not in hidden]


def cube_shape(
    plan: Plan, kinds: Mapping[str, ColumnKind], hidden: Collection[str] = (), time: str | None = None
) -> CubeShape:
    """Understand a cube.

    Args:
        kinds: of its columns, by name, in order.
        hidden: columns that must not be shown.
        time: which of several `time_keys` is the axis; unless given, the first.
    """
    query = sqlglot.parse_one(plan.sql, read="spark")
    projections = {p.alias_or_name.lower(): p.unalias() for p in query.selects} if isinstance(query, exp.Query) else {}
    grouping = next((c for c in kinds if is_grouping_id(projections.get(c.lower(), exp.Null()))), None)
    keys = {k.lower() for k in plan.keys}
    shown = [c for c in kinds if c not in hidden and c != grouping]
    dimensions = [c for c in shown if c.lower() in keys]
    time = time or next(iter(time_keys(plan, kinds, hidden)), None)
    others = tuple(c for c in dimensions if c != time)
    beside = [c for c in shown if c.lower() not in keys]
    measures = tuple(c for c in beside if kinds[c] == "number")
    texts = [c for c in beside if kinds[c] == "text"]
    named = [c for c in texts if _is_label(projections.get(c.lower()))]
    return CubeShape(
        time=time,
        dimensions=others,
        has_all_keys=keys <= {c.lower() for c in (*shown, grouping or "")},
        categories=tuple(c for c in texts if c not in named),
        labels={others[0]: named[0]} if len(others) == 1 and named else {},
        measures=measures,
        additive=frozenset(m for m in measures if _is_additive(projections.get(m.lower()))),
        grouping_column=grouping,
        grouping_levels=_grouping_levels(query, kinds) if grouping else {},
    )


def leading_comment(sql: str) -> str:
    """The comment that a model's SQL begins with, as running text.

    >>> leading_comment("-- One row per day,\\n-- and one for all.\\nSELECT 1")
    'One row per day, and one for all.'
    """
    lines = []
    for line in sql.strip().splitlines():
        if not line.lstrip().startswith("--"):
            break
        lines.append(line.lstrip().removeprefix("--").removeprefix(" ").rstrip())
    return "\n".join(lines) if any(line.startswith("  ") for line in lines) else " ".join(filter(None, lines))


def _is_label(projection: exp.Expr | None) -> bool:
    """Whether a text is one of those of its group's rows: what a dimension is called, and no kind of its own."""
    return projection is not None and projection.find(*_LABEL_FUNCTIONS) is not None


def _is_additive(projection: exp.Expr | None) -> bool:
    while isinstance(projection, exp.Cast | exp.Coalesce):
        projection = projection.this
    if isinstance(projection, exp.Sum | exp.Count):
        return not isinstance(projection.this, exp.Distinct)
    return isinstance(projection, exp.CountIf)


def _grouping_levels(query: exp.Expr, kinds: Mapping[str, ColumnKind]) -> dict[int, frozenset[str]]:
    """By GROUPING_ID(), the output columns that a set of totals groups by: a bit for each expression left out of it."""
    group = query.args.get("group")
    sets = grouping_sets(group) if isinstance(group, exp.Group) else None
    if sets is None or not isinstance(query, exp.Select) or not isinstance(group, exp.Group):
        return {}
    real = {c.lower(): c for c in kinds}
    outputs = {p.unalias().sql(): real.get(p.alias_or_name.lower(), "") for p in query.expressions}
    outputs |= {exp.column(p.alias).sql(): real.get(p.alias.lower(), "") for p in query.expressions if p.alias}
    order = [e.sql() for e in grouping_expressions(group)]
    bits = {text: 1 << (len(order) - 1 - place) for place, text in enumerate(order)}
    return {
        sum(bit for text, bit in bits.items() if text not in each): frozenset(outputs.get(text, text) for text in each)
        for each in sets
    }
