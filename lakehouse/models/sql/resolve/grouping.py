"""Finds columns of a grouped SELECT that are neither grouped nor aggregated."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import grouping_expressions, has_totals
from lakehouse.models.sql.resolve.expressions import Expressions
from lakehouse.models.sql.resolve.scope import Scope

# Certain to be aggregates, unless OVER follows.
_AGGREGATES = (
    *(exp.Count, exp.CountIf, exp.Sum, exp.Avg, exp.Max, exp.Min, exp.ArrayAgg, exp.ArrayUniqueAgg, exp.LogicalOr),
    *(exp.LogicalAnd, exp.ApproxDistinct, exp.Median, exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance),
    *(exp.VariancePop, exp.ArgMax, exp.ArgMin),
)
_AGGREGATE_NAMES = functions.AGGREGATES | functions.COLLECTING


@dataclass(frozen=True)
class Groups:
    """The grouping of a SELECT.

    Attributes:
        is_grouped: Whether it has a GROUP BY.
        is_aggregated: Whether it is certain to return groups: it has a GROUP BY or an aggregate.
        expressions: The grouping expressions, without positions and aliases; None if they are not known.
        has_totals: Whether it makes totals.
    """

    is_grouped: bool
    is_aggregated: bool
    expressions: tuple[exp.Expr, ...] | None
    has_totals: bool = False


def check(resolver: Expressions, select: exp.Select, scope: Scope) -> Groups:
    """Report the selected columns that are neither grouped nor aggregated, and return the grouping.

    Args:
        resolver: The resolver, which has visited the SELECT.
        select: The SELECT.
        scope: Its scope.
    """
    group = select.args.get("group")
    having = [select.args["having"].this] if select.args.get("having") else []
    if group is None:
        is_aggregated = any(_has_aggregate(part) for part in [*select.expressions, *having])
        groups = Groups(False, is_aggregated, () if is_aggregated else None)
    else:
        groups = Groups(True, True, _grouping_expressions(resolver, select, group), has_totals(group))
    if not groups.is_aggregated or groups.expressions is None:
        return groups
    signatures = {signature(resolver, expression) for expression in groups.expressions}
    inside = {c for e in groups.expressions if not isinstance(e, exp.Column) for c in _places(resolver, e)}
    for projection in select.expressions:
        for column in _exposed(resolver, projection.unalias(), signatures):
            is_bare = column is projection.unalias()
            place = resolver.place(column) or _struct_place(resolver, column)
            if place is None or (place in inside and not is_bare):
                continue
            name = column.sql("spark")
            if groups.is_grouped:
                found, expected = f"selects {name}, which is not in GROUP BY", "grouping columns and aggregates"
                resolver.report(column, found, expected, f"add {name} to GROUP BY, or aggregate it: MAX({name})")
            else:
                found = f"selects {name} beside an aggregate, without GROUP BY"
                resolver.report(column, found, "GROUP BY, or aggregates alone", f"add GROUP BY {name}")
            break
    return groups


def signature(resolver: Expressions, node: exp.Expr) -> Hashable:
    """Return a value that two expressions of one SELECT share if they are certain to be the same.

    Args:
        resolver: The resolver, which has visited the SELECT.
        node: The expression.
    """
    bare = node.unnest()
    if isinstance(bare, exp.Column):
        found = resolver.found(bare)
        if found is None:
            return ("unknown", bare.sql("spark").lower())
        fields = tuple(f.lower() for f in found.fields)
        return ("column", found.is_outer, found.source, (found.column.name or "").lower(), fields)
    parts = []
    for name, value in sorted(bare.args.items()):
        values = value if isinstance(value, list) else [value]
        shown = [
            signature(resolver, v) if isinstance(v, exp.Expr) else str(v) for v in values if v not in (None, False)
        ]
        if shown:
            parts.append((name, tuple(shown)))
    return (bare.key, tuple(parts))


def _grouping_expressions(resolver: Expressions, select: exp.Select, group: exp.Group) -> tuple[exp.Expr, ...] | None:
    """Return the grouping expressions, with positions and aliases replaced; None if one is not known."""
    if group.args.get("all"):
        return None
    aliases = {p.alias.lower(): p.this for p in select.expressions if isinstance(p, exp.Alias)}
    found = []
    for expression in grouping_expressions(group):
        bare = expression.unnest()
        if isinstance(bare, exp.Literal) and bare.is_int:
            position = int(bare.name)
            if select.is_star or any(p.is_star for p in select.expressions):
                return None
            if not 0 < position <= len(select.expressions):
                width = len(select.expressions)
                resolver.report(group, f"groups by {position}, but selects {width} columns", f"1 to {width}")
                return None
            bare = select.expressions[position - 1].unalias()
        elif isinstance(bare, exp.Column):
            column = resolver.found(bare)
            if column is None:
                return None
            if column.source is None and not column.is_outer:
                if bare.name.lower() not in aliases or column.fields:
                    return None
                bare = aliases[bare.name.lower()]
        elif any(resolver.found(c) is None for c in bare.find_all(exp.Column)):
            return None
        found.append(bare)
    return tuple(found)


def _own_parts(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the parts of an expression; of a window function its arguments and its specification."""
    if not isinstance(node, exp.Window):
        yield from node.iter_expressions()
        return
    called = node.this
    while isinstance(called, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        called = called.this
    yield from called.iter_expressions()
    yield from (part for part in node.iter_expressions() if part is not node.this)


def _is_aggregate(node: exp.Expr) -> bool:
    return isinstance(node, _AGGREGATES) or (isinstance(node, exp.Anonymous) and node.name.lower() in _AGGREGATE_NAMES)


def _has_aggregate(node: exp.Expr) -> bool:
    if isinstance(node, exp.Query):
        return False
    return _is_aggregate(node) or any(_has_aggregate(part) for part in _own_parts(node))


def _may_aggregate(node: exp.Expr) -> bool:
    is_unknown = isinstance(node, exp.Anonymous) and node.name.lower() not in functions.SCALAR
    return is_unknown or isinstance(
        node, exp.AggFunc | exp.WithinGroup | exp.Any | exp.Filter | exp.Grouping | exp.GroupingId
    )


def _exposed(resolver: Expressions, node: exp.Expr, grouped: set[Hashable]) -> Iterator[exp.Column]:
    """Yield the columns of a projection that are not inside an aggregate, a grouping expression or a subquery."""
    if isinstance(node, exp.Query) or _may_aggregate(node) or signature(resolver, node) in grouped:
        return
    if isinstance(node, exp.Column):
        found = resolver.found(node)
        is_grouped = any(_covers(signature(resolver, node), each) for each in grouped)
        if found is not None and found.source is not None and not found.is_outer and not is_grouped:
            yield node
        return
    for part in _own_parts(node):
        yield from _exposed(resolver, part, grouped)


def _covers(field: Hashable, column: Hashable) -> bool:
    """Return whether a name is a field of a grouping column."""
    if not isinstance(field, tuple) or not isinstance(column, tuple) or column[0] != "column" or field[0] != "column":
        return False
    return field[:4] == column[:4] and field[4][: len(column[4])] == column[4]


def _places(resolver: Expressions, node: exp.Expr) -> set[tuple[int, str]]:
    columns = node.find_all(exp.Column)
    return {p for c in columns if (p := resolver.place(c) or _struct_place(resolver, c)) is not None}


def _struct_place(resolver: Expressions, column: exp.Expr) -> tuple[int, str] | None:
    found = resolver.found(column)
    if found is None or found.source is None or found.is_outer or not found.column.name:
        return None
    return found.source, found.column.name.lower()
