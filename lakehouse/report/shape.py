"""Determines the dimensions and measures of a cube, and the charts that they make, from its plan and its types.

A dimension is a key; a measure is a number that is not a key; a category is a text or a truth value that is not a key.
A measure is summed only if that is correct: a SUM or a COUNT, over rows of one time. Distinct counts, shares and
averages are shown only as the cube itself contains them. Uses no Spark.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """The rows of a cube that make one chart.

    Attributes:
        by: The dimensions, or the category, with one series per value; empty: a single series.
        grouping_level: The value of GROUPING_ID() of these rows; None: all rows.
        is_aggregated: Whether rows are counted and `measures` summed; if not, each row is shown as it is.
        measures: The columns that are shown.
    """

    by: tuple[str, ...]
    grouping_level: int | None
    is_aggregated: bool
    measures: tuple[str, ...]


@dataclass(frozen=True)
class CubeShape:
    """The columns of a cube by their role.

    Attributes:
        time: The dimension on the time axis.
        dimensions: The other keys.
        has_all_keys: Whether no key is hidden.
        categories: Texts that are not keys and sort the rows into few groups.
        labels: By dimension, the column with its readable name.
        measures: The numbers that are not keys.
        additive: The measures that can be summed.
        grouping_column: The column with GROUPING_ID().
        grouping_levels: By the value of GROUPING_ID(), the dimensions that the totals are grouped by.
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
        """The charts: first over time, then by each dimension or category."""
        charts = []
        if self.grouping_column:  # the totals that exist for each time, those with the fewest dimensions first
            for level, dimensions in sorted(self.grouping_levels.items(), key=lambda each: (len(each[1]), each[0])):
                by = tuple(d for d in self.dimensions if d in dimensions)
                is_shown = set(by) == dimensions - {self.time} and (self.time is None or self.time in dimensions)
                if is_shown and dimensions and self.measures:
                    charts.append(ChartRows(by, level, False, self.measures))
            return tuple(charts)
        if self.measures and self.has_all_keys and (self.time or self.dimensions):
            charts.append(ChartRows(self.dimensions, None, False, self.measures))  # the rows as they are
        if self.dimensions or not self.has_all_keys:  # else there is one row per time: nothing to count
            additive = tuple(m for m in self.measures if m in self.additive)
            several = [(d,) for d in self.dimensions] if len(self.dimensions) > 1 else []
            over_time: list[tuple[str, ...]] = [()] if self.time else []
            groups = [*over_time, *several, *((c,) for c in self.categories)]
            charts += [ChartRows(by, None, True, additive) for by in groups]
        return tuple(charts)


def time_keys(plan: Plan, kinds: Mapping[str, ColumnKind], hidden: Collection[str] = ()) -> list[str]:
    """Return the keys that can be on the time axis.

    Args:
        plan: The plan of the cube.
        kinds: The kind of each column of the cube, in their order.
        hidden: Columns that must not be shown.
    """
    keys = {k.lower() for k in plan.keys}
    return [c for c, kind in kinds.items() if kind == "time" and c.lower() in keys and c not in hidden]


def cube_shape(
    plan: Plan, kinds: Mapping[str, ColumnKind], hidden: Collection[str] = (), time: str | None = None
) -> CubeShape:
    """Determine the role of each column of a cube.

    Args:
        plan: The plan of the cube.
        kinds: The kind of each column of the cube, in their order.
        hidden: Columns that must not be shown.
        time: Which of several `time_keys` is on the time axis; by default the first.
    """
    query = sqlglot.parse_one(plan.sql, read="spark")
    projections = {p.alias_or_name.lower(): p.unalias() for p in query.selects} if isinstance(query, exp.Query) else {}
    grouping = next((c for c in kinds if is_grouping_id(projections.get(c.lower(), exp.Null()))), None)
    keys = {k.lower() for k in plan.keys}
    shown = [c for c in kinds if c not in hidden and c != grouping]
    dimensions = [c for c in shown if c.lower() in keys]
    time = time or next(iter(time_keys(plan, kinds, hidden)), None)
    other_dimensions = tuple(c for c in dimensions if c != time)
    values = [c for c in shown if c.lower() not in keys]
    measures = tuple(c for c in values if kinds[c] == "number")
    texts = [c for c in values if kinds[c] == "text"]
    # A text that is chosen from the rows of its group names a dimension, and is no category.
    labels = [c for c in texts if projections.get(c.lower(), exp.Null()).find(*_LABEL_FUNCTIONS) is not None]
    return CubeShape(
        time=time,
        dimensions=other_dimensions,
        has_all_keys=keys <= {c.lower() for c in (*shown, grouping or "")},
        categories=tuple(c for c in texts if c not in labels),
        labels={other_dimensions[0]: labels[0]} if len(other_dimensions) == 1 and labels else {},
        measures=measures,
        additive=frozenset(m for m in measures if _is_additive(projections.get(m.lower()))),
        grouping_column=grouping,
        grouping_levels=_grouping_levels(query, kinds) if grouping else {},
    )


def leading_comment(sql: str) -> str:
    """Return the comment at the start of a model's SQL as text, with its lines joined unless some are indented.

    >>> leading_comment("-- One row per day,\\n-- and one for all.\\nSELECT 1")
    'One row per day, and one for all.'
    """
    lines = []
    for line in sql.strip().splitlines():
        if not line.lstrip().startswith("--"):
            break
        lines.append(line.lstrip().removeprefix("--").removeprefix(" ").rstrip())
    return "\n".join(lines) if any(line.startswith("  ") for line in lines) else " ".join(filter(None, lines))


def _is_additive(projection: exp.Expr | None) -> bool:
    """Return whether a column is a sum or a count, but not a distinct count."""
    while isinstance(projection, exp.Cast | exp.Coalesce):
        projection = projection.this
    if isinstance(projection, exp.Sum | exp.Count):
        return not isinstance(projection.this, exp.Distinct)
    return isinstance(projection, exp.CountIf)


def _grouping_levels(query: exp.Expr, kinds: Mapping[str, ColumnKind]) -> dict[int, frozenset[str]]:
    """Return the output columns of each grouping set by its GROUPING_ID(), in which a bit marks an omitted column."""
    group = query.args.get("group")
    sets = grouping_sets(group) if isinstance(group, exp.Group) else None
    if sets is None or not isinstance(query, exp.Select) or not isinstance(group, exp.Group):
        return {}
    names = {c.lower(): c for c in kinds}
    outputs = {p.unalias().sql("spark"): names.get(p.alias_or_name.lower(), "") for p in query.expressions}
    outputs |= {exp.column(p.alias).sql("spark"): names.get(p.alias.lower(), "") for p in query.expressions if p.alias}
    order = [e.sql("spark") for e in grouping_expressions(group)]
    bits = {text: 1 << (len(order) - 1 - n) for n, text in enumerate(order)}
    return {
        sum(bit for text, bit in bits.items() if text not in grouped): frozenset(outputs.get(t, t) for t in grouped)
        for grouped in sets
    }
