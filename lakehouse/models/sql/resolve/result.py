"""Checks the columns that a model returns, for names and types that Delta, a comparison or a reader cannot have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from lakehouse.config.checks import FORBIDDEN_CHARACTERS
from lakehouse.models.sql.blocks import grouping_expressions
from lakehouse.models.sql.faults import Fault, node_offset
from lakehouse.models.sql.resolve import types
from lakehouse.models.sql.resolve.expressions import Expressions
from lakehouse.models.sql.resolve.relation import OutputColumn, Relation

_DELTA_FORBIDDEN = FORBIDDEN_CHARACTERS - {".", "`"}  # in fields of structs, which the lake's SQL does not name
_CHANGE_FEED_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


def check_result(resolver: Expressions, query: exp.Query, relation: Relation) -> Iterator[Fault]:
    """Yield the faults of the columns that a model returns.

    Args:
        resolver: The resolver, which has resolved the model.
        query: The model's SQL.
        relation: Its columns.
    """
    expressions = _selected(query)
    is_aligned = len(expressions) == len(relation.columns) and not any(e.is_star for e in expressions)
    for at, column in enumerate(relation.columns):
        projection = expressions[at] if is_aligned else query
        collate = projection.find(exp.Collate) if is_aligned else None
        expression = collate.this.sql("spark") if collate is not None else column.name or "x"
        for fault in column_faults(resolver.model, column, expression):
            yield replace(fault, offset=node_offset(projection))
    if repeated := duplicate_names(relation):
        first = next(iter(repeated.values()))
        place = expressions[first] if is_aligned else query
        yield replace(duplicates_fault(resolver.model, list(repeated)), offset=node_offset(place))
    yield from _check_group_collations(resolver, query)


def _selected(query: exp.Expr) -> list[exp.Expr]:
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this
    return list(query.expressions) if isinstance(query, exp.Select) else []


def column_faults(model: str, column: OutputColumn, expression: str = "x") -> Iterator[Fault]:
    """Yield why a table cannot have a column.

    Args:
        model: The model, for messages.
        column: The column.
        expression: For a column with a collation, the expression without it.
    """
    for found, expected, next_step in (*_check_name(column), *_check_type(column, expression)):
        yield Fault(f"{model} {found}", expected, "", next_step)


def duplicate_names(relation: Relation) -> dict[str, int]:
    """Return the names that a column before has too, ignoring case, each with the position of the second column.

    Args:
        relation: The columns.
    """
    seen: set[str] = set()
    repeated: dict[str, int] = {}
    for at, name in enumerate(column.name for column in relation.columns):
        if name and name.lower() in seen:
            repeated.setdefault(name, at)
        seen.add((name or "").lower())
    return repeated


def duplicates_fault(model: str, names: list[str]) -> Fault:
    """Return the fault of columns that share a name.

    Args:
        model: The model, for messages.
        names: The names.
    """
    return Fault(
        f"{model} selects two columns of the name {', '.join(names)}",
        "a name of its own for each column; case does not matter",
        next_step=f"give one of them another name: AS {names[0]}_2",
    )


def _check_name(column: OutputColumn) -> Iterator[tuple[str, str, str]]:
    name, expected = column.name, "column names without spaces and without , ; { } ( ) = . and `"
    if name is None:
        if set(column.text) & FORBIDDEN_CHARACTERS:
            yield f"selects {column.text} without a name", "a name for each column", f"{column.text} AS ..."
        return
    if name.lower() in _CHANGE_FEED_COLUMNS:
        yield f"selects a column of the name {name}, which Delta's change feed uses", "another name", ""
    if forbidden := sorted(set(name) & FORBIDDEN_CHARACTERS):
        shown = " ".join(map(repr, forbidden))
        yield (
            f"selects a column of the name {name!r}: a column cannot have {shown} in its name",
            expected,
            f"AS {_plain_name(name)}",
        )


def _plain_name(name: str) -> str:
    return "".join("_" if c in FORBIDDEN_CHARACTERS else c for c in name)


def _check_type(column: OutputColumn, expression: str) -> Iterator[tuple[str, str, str]]:
    shown = column.name or column.text or "a column"
    if (part := types.incomparable_part(column.type)) is not None:
        kind, instead = types.INCOMPARABLE.get(part.this, types.INCOMPARABLE[types.DType.INTERVAL])
        verb = "is" if part is column.type else "contains"
        yield (
            f"selects {shown}, which {verb} {kind}: it cannot be compared or stored",
            "types that can be compared: numbers, text, dates, timestamps, BINARY, BOOLEAN, ARRAY and STRUCT of these",
            f"select {instead}",
        )
    for name in types.field_names(column.type):
        if forbidden := sorted(set(name) & _DELTA_FORBIDDEN):
            shown_characters = " ".join(map(repr, forbidden))
            found = (
                f"selects {shown} with a field of the name {name!r}: a field cannot have {shown_characters} in its name"
            )
            yield found, "field names without spaces and without , ; { } ( ) and =", f"AS {_plain_name(name)}"
    if column.collation:
        yield _collation_fault(f"selects {shown}", column.collation, expression)


def _check_group_collations(resolver: Expressions, query: exp.Query) -> Iterator[Fault]:
    for group in query.find_all(exp.Group):
        for expression in grouping_expressions(group):
            collate = expression.find(exp.Collate)
            if collate is not None and (collation := resolver.collation_of(expression)):
                found, expected, next_step = _collation_fault("groups", collation, collate.this.sql("spark"))
                yield Fault(f"{resolver.model} {found}", expected, "", next_step, node_offset(collate))


def _collation_fault(what: str, collation: str, expression: str) -> tuple[str, str, str]:
    return (
        f"{what} by the collation {collation}: which of the equal texts is stored is not defined",
        "the collation UTF8_BINARY, which is the default",
        f"write lower({expression}), and no COLLATE"
        if collation != "UNICODE"
        else f"write {expression}, and no COLLATE",
    )
