"""Finds the refresh key of a SELECT: all rows of one key depend only on rows of the FROM clause with that key."""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from lakehouse.config.ddl import quote_identifier
from lakehouse.models.sql.blocks.block import KeyPart, NotIncremental
from lakehouse.models.sql.blocks.group import grouping_expressions, grouping_sets, has_totals, is_grouping_id
from lakehouse.models.sql.blocks.select import ParsedSelect
from lakehouse.models.sql.blocks.ties import UniqueKeys, find_windows, partition_by, require_unique_order


@dataclass(frozen=True)
class RefreshKey:
    """The refresh key of a SELECT.

    Attributes:
        kind: `rows`, `grouped` or `partitioned`.
        parts: Its parts; empty if the whole row is the key.
        grouping_sets: With totals, the grouping sets as positions in `parts`; empty if they cannot be determined.
    """

    kind: str
    parts: tuple[KeyPart, ...]
    grouping_sets: tuple[tuple[int, ...], ...] = ()


def find_refresh_key(select: ParsedSelect, keys: tuple[str, ...], unique_keys: UniqueKeys) -> RefreshKey:
    """Find the refresh key of a SELECT.

    Args:
        select: The SELECT.
        keys: The model's keys, for the model's own SELECT; else empty.
        unique_keys: The columns that identify a row of each relation, if known.

    Raises:
        NotIncremental: There is none, or it is not part of the model's keys.
    """
    if group := select.tree.args.get("group"):
        key = _group_key(select, group)
    elif find_windows(select.tree):
        key = RefreshKey("partitioned", _partition_key(select, unique_keys))
    else:
        key = _row_key(select, keys)
    names = list(select.expressions)
    for part in key.parts:
        # The key is computed without the SELECT list, so it must not read a name that the list gives.
        earlier = names[: names.index(part.output)] if part.output in names else names
        given = {n.lower() for n in earlier if select.plain_columns.get(n.lower(), ("", ""))[1] != n.lower()}
        for column in sqlglot.parse_one(part.sql, read="spark").find_all(exp.Column):
            if not column.table and column.name.lower() in given:
                raise NotIncremental(
                    f"a key that reads {column.name}, a name given in SELECT", "write the expression out"
                )
    key_names = {name.lower() for name in keys}
    missing = [part for part in key.parts if part.output.lower() not in key_names]
    if not select.name and missing:
        verb = "grouped" if key.kind == "grouped" else "partitioned"
        clause = f"{missing[0].output or missing[0].sql}, by which the rows are {verb}, is not one of the keys"
        raise NotIncremental(clause, "select it, and add it to `keys`")
    return key


# --- plain SELECT -----------------------------------------------------------------------------------------------------


def _row_key(select: ParsedSelect, keys: tuple[str, ...]) -> RefreshKey:
    selected = {
        name.lower(): KeyPart(text, name, select.source_column(tree))
        for name, (tree, text) in select.expressions.items()
    }
    parts = []
    for name in keys:
        if part := selected.get(name.lower()):
            parts.append(part)
        elif select.tree.is_star and len(select.sources) == 1:
            alias = select.sources[0].alias
            parts.append(KeyPart(quote_identifier(alias, name), name, (alias.lower(), name.lower())))
        else:
            raise NotIncremental(f"the key {name} is not selected by its name", "select it: AS " + name)
    if not select.tree.args.get("distinct"):
        return RefreshKey("rows", tuple(parts))
    if not keys and select.tree.is_star:
        raise NotIncremental("SELECT DISTINCT *", "name the columns")
    return RefreshKey("grouped", tuple(parts) if keys else tuple(selected.values()))


# --- GROUP BY ---------------------------------------------------------------------------------------------------------


def _group_key(select: ParsedSelect, group: exp.Group) -> RefreshKey:
    if any(isinstance(expression, exp.Tuple | exp.Paren) for expression in group.expressions):
        raise NotIncremental("GROUP BY (...)", "write the columns without parentheses")
    expressions, sets = grouping_expressions(group), grouping_sets(group)
    in_every_set = frozenset.intersection(*sets) if sets else frozenset[str]()
    parts = []
    for expression in expressions:
        output, text, tree = _grouped_expression(select, group, expression)
        if tree.find(exp.AggFunc):
            raise NotIncremental("GROUP BY an aggregate")
        can_push_down = not has_totals(group) or expression.sql("spark") in in_every_set
        parts.append(KeyPart(text, output, select.source_column(tree), can_push_down))
    if not has_totals(group):
        return RefreshKey("grouped", tuple(parts))
    grouping_ids = [
        KeyPart(text, name, can_push_down=False)
        for name, (tree, text) in select.expressions.items()
        if is_grouping_id(tree)
    ]
    if not grouping_ids or any(not part.output for part in parts):
        raise NotIncremental("totals whose columns, or GROUPING_ID(), are not selected", "select them")
    positions: tuple[tuple[int, ...], ...] = ()
    has_distinct_columns = len({part.column for part in parts} - {None}) == len(parts)
    position_of = {expression.sql("spark"): at for at, expression in enumerate(expressions)}
    if sets and has_distinct_columns and all(each <= position_of.keys() for each in sets):
        positions = tuple(tuple(sorted(position_of[sql] for sql in each)) for each in sets)
    return RefreshKey("grouped", (*parts, grouping_ids[0]), positions)


def _grouped_expression(select: ParsedSelect, group: exp.Group, expression: exp.Expr) -> tuple[str, str, exp.Expr]:
    """Return the output column, the text and the tree of an expression of a GROUP BY, which may be a position."""
    if isinstance(expression, exp.Literal):
        position = int(expression.name) if expression.name.isdigit() else 0
        if select.tree.is_star or not 0 < position <= len(select.expressions):
            raise NotIncremental(f"GROUP BY {expression.sql('spark')}", "write the expression")
        if has_totals(group):
            raise NotIncremental("GROUP BY a position, with totals", "write the expression")
        output = list(select.expressions)[position - 1]
        tree, text = select.expressions[output]
        return output, text, tree
    if selected := select.find_output(expression):
        return *selected, expression
    is_unqualified = isinstance(expression, exp.Column) and not expression.table
    if is_unqualified and expression.name.lower() in {name.lower() for name in select.expressions}:
        given = f"GROUP BY {expression.name}, a name given in SELECT"
        raise NotIncremental(given, "write the expression, or its position")
    return "", _column_sql(expression), expression


# --- windows ----------------------------------------------------------------------------------------------------------


def _partition_key(select: ParsedSelect, unique_keys: UniqueKeys) -> tuple[KeyPart, ...]:
    windows = find_windows(select.tree)
    shared = [
        expression
        for expression in partition_by(windows[0])
        if all(expression in partition_by(window) for window in windows)
    ]
    if not shared:
        raise NotIncremental(
            "windows that share no PARTITION BY", "partition all windows of a SELECT by a common column"
        )
    for window in windows:
        require_unique_order(window, select.sources, unique_keys, select.source_column)
    parts = []
    for expression in shared:
        output, text = select.find_output(expression) or ("", _column_sql(expression))
        parts.append(KeyPart(text, output, select.source_column(expression)))
    return tuple(parts)


def _column_sql(expression: exp.Expr) -> str:
    """Return the SQL of a key part that is not selected, which must be a column."""
    if not isinstance(expression, exp.Column) or expression.args.get("db"):
        raise NotIncremental(f"{expression.sql('spark')}, a key that is not selected", "select it under a name")
    return quote_identifier(*(name for name in (expression.table, expression.name) if name))
