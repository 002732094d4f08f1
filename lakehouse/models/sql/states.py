"""Adds the number of a state to a model's SQL, so that one query computes its rows for many states of its inputs.

Every relation that the SQL reads has the column `STATE`. Rows of different states never meet: each SELECT returns the
column, each join compares it, each GROUP BY and each window has it. Uses no Spark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import sqlglot
from sqlglot import exp

STATE = "_why_state"
"""The column with the number of the state."""

_Node = TypeVar("_Node")


class NoStatesError(ValueError):
    """A model's SQL has a part that cannot be computed for many states at once."""


def with_states(sql: str) -> str:
    """Return a query that computes the rows of each state.

    >>> with_states("SELECT o.city, SUM(o.amount) AS amount FROM orders AS o GROUP BY o.city")
    'SELECT o.city, SUM(o.amount) AS amount, o._why_state AS _why_state FROM orders AS o GROUP BY o._why_state, o.city'

    Args:
        sql: The SQL, with the names of relations that have the column `STATE`.

    Raises:
        NoStatesError: A part of it cannot be computed for many states at once.
        SqlglotError: It cannot be parsed.
    """
    query = sqlglot.parse_one(sql, read="spark")
    for select in list(query.find_all(exp.Select)):
        if not isinstance(select.parent, exp.CTE | exp.Subquery | exp.SetOperation | None) or _is_value(select):
            raise NoStatesError("a subquery that is no part of FROM")
        _add_state(select)
    return query.sql("spark")


def _is_value(select: exp.Select) -> bool:
    """Return whether a subquery stands for a value."""
    parent = select.parent
    return isinstance(parent, exp.Subquery) and not isinstance(parent.parent, exp.From | exp.Join)


def _add_state(select: exp.Select) -> None:
    source = select.args.get("from_") or select.args.get("from")
    if source is None or select.args.get("laterals"):
        raise NoStatesError("a SELECT without FROM" if source is None else "LATERAL VIEW")
    if select.args.get("limit") or select.args.get("order") or select.args.get("offset"):
        raise NoStatesError("ORDER BY or LIMIT")
    first, joins = source.this, select.args.get("joins") or []
    for join in joins:
        _join_states(first, join)
    _add_to_groups(select, _state_of(first))
    for window in _windows(select):
        window.set("partition_by", [_state_of(first), *(window.args.get("partition_by") or [])])
    others = [first, *(join.this for join in joins if not _is_filter(join))]
    select.set("expressions", [_without_state(each, others) for each in select.expressions])
    select.append("expressions", exp.alias_(_state_of(first), STATE))


def _state_of(source: exp.Expression) -> exp.Column:
    return exp.column(STATE, table=exp.to_identifier(source.alias_or_name, quoted=_is_quoted(source)))


def _is_quoted(source: exp.Expression) -> bool:
    name = source.args["alias"].this if source.args.get("alias") else source.this
    return isinstance(name, exp.Identifier) and bool(name.args.get("quoted"))


def _is_filter(join: exp.Join) -> bool:
    return join.kind in ("SEMI", "ANTI")


def _join_states(first: exp.Expression, join: exp.Join) -> None:
    """Let a join compare the states."""
    if join.method or join.side in ("RIGHT", "FULL") or isinstance(join.this, exp.Lateral | exp.Unnest):
        raise NoStatesError(" ".join(filter(None, [join.method, join.side, "JOIN"])))
    if join.args.get("using"):
        join.append("using", exp.to_identifier(STATE))
        return
    same = exp.EQ(this=_state_of(first), expression=_state_of(join.this))
    on = join.args.get("on")
    join.set("on", exp.and_(same, exp.paren(on)) if on else same)
    if join.kind == "CROSS":
        join.set("kind", None)


def _add_to_groups(select: exp.Select, state: exp.Column) -> None:
    group = select.args.get("group")
    if group is None:
        if any(call.find_ancestor(exp.Window) is None for call in _find_in_columns(select, exp.AggFunc)):
            select.set("group", exp.Group(expressions=[state]))
    elif not group.args.get("all"):  # otherwise the selected state is one of its columns
        group.set("expressions", [state, *group.expressions])


def _windows(select: exp.Select) -> Iterator[exp.Window]:
    """Yield the definitions of windows in a SELECT."""
    yield from select.args.get("windows") or []
    for window in _find_in_columns(select, exp.Window):
        if window.args.get("partition_by") or window.args.get("order") or not window.args.get("alias"):
            yield window


def _find_in_columns(select: exp.Select, kind: type[_Node]) -> Iterator[_Node]:
    """Yield the nodes of a kind in the selected columns and in what filters them, those of other SELECTs left out."""
    for part in (*select.expressions, select.args.get("having"), select.args.get("qualify")):
        yield from part.find_all(kind) if part else ()


def _without_state(projection: exp.Expression, sources: list[exp.Expression]) -> exp.Expression:
    """Return a selected column; of a star, all columns but the states."""
    if isinstance(projection, exp.Star):
        return exp.Star(except_=[_state_of(source) for source in sources])
    if isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star):
        projection.this.set("except_", [exp.column(STATE)])
    return projection
