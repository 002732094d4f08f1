"""Parses the FROM clause and the selected expressions of one SELECT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import sqlglot
from sqlglot import exp

from lakehouse.models.sql.blocks.block import Column, NotIncremental, Source
from lakehouse.models.sql.blocks.clauses import Clauses
from lakehouse.models.sql.blocks.join_conditions import parse_conditions
from lakehouse.models.sql.blocks.unsupported import require_supported_clauses, require_supported_functions

_JOIN_TYPES = {
    ("", ""): "inner",
    ("", "INNER"): "inner",
    ("", "CROSS"): "cross",
    ("LEFT", ""): "left",
    ("LEFT", "OUTER"): "left",
    ("LEFT", "SEMI"): "semi",
    ("LEFT", "ANTI"): "anti",
    ("", "SEMI"): "semi",
    ("", "ANTI"): "anti",
}


@dataclass(frozen=True)
class ParsedSelect:
    """One SELECT.

    Attributes:
        name: The name of the CTE; empty for the model's own SELECT.
        tree: The parsed SELECT.
        clauses: The author's text of its clauses.
        sources: The relations of the FROM clause.
        expressions: The selected expressions by output column, each with its text without the alias.
    """

    name: str
    tree: exp.Select
    clauses: Clauses
    sources: tuple[Source, ...]
    expressions: Mapping[str, tuple[exp.Expr, str]]

    @cached_property
    def aliases(self) -> list[str]:
        """The aliases of the sources in lower case."""
        return [source.alias.lower() for source in self.sources]

    @cached_property
    def plain_columns(self) -> dict[str, Column]:
        """Output columns in lower case that are an unchanged column of a source."""
        columns = {name.lower(): self.source_column(tree) for name, (tree, _) in self.expressions.items()}
        return {name: column for name, column in columns.items() if column}

    def source_column(self, expression: exp.Expr) -> Column | None:
        """Return the source's column that an expression is; None if it is not certain to be one.

        Args:
            expression: An expression of the SELECT, without an alias.
        """
        if not isinstance(expression, exp.Column) or expression.args.get("db") or isinstance(expression.this, exp.Star):
            return None
        alias = expression.table.lower() or (self.aliases[0] if len(self.aliases) == 1 else "")
        return (alias, expression.name.lower()) if alias in self.aliases else None

    def find_output(self, expression: exp.Expr) -> tuple[str, str] | None:
        """Return the output column that selects an expression, and its text; None if it is not selected.

        Args:
            expression: The expression.
        """
        outputs = ((name, text) for name, (tree, text) in self.expressions.items() if tree == expression)
        return next(outputs, None)

    def unread_aliases(self) -> frozenset[str]:
        """Return the aliases that only their own ON clause reads; none if a column does not name its source."""
        if self.tree.is_star:
            return frozenset()
        joins: list[exp.Join] = self.tree.args.get("joins") or []
        own_aliases = {id(join.args.get("on")): _table_alias(join.this).lower() for join in joins}
        clauses = [self.tree.args.get("where"), *(join.args.get("on") for join in joins), self.tree.args.get("group")]
        read: set[str] = set()
        for part in filter(None, [*clauses, *(tree for tree, _ in self.expressions.values())]):
            for column in part.find_all(exp.Column):
                qualifier = (column.args.get("db") or column.args.get("table")) if column.args.get("table") else None
                alias = qualifier.name.lower() if qualifier is not None else ""
                if alias not in self.aliases:
                    return frozenset()
                if alias != own_aliases.get(id(part)):
                    read.add(alias)
        return frozenset(set(self.aliases) - read)


def parse_select(name: str, tree: exp.Expr, clauses: Clauses) -> ParsedSelect:
    """Parse one SELECT.

    Args:
        name: The name of the CTE; empty for the model's own SELECT.
        tree: The parsed query.
        clauses: The author's text of its clauses.

    Raises:
        NotIncremental: The query is not a SELECT, or has an unsupported clause or function.
    """
    if not isinstance(tree, exp.Select):
        raise NotIncremental("UNION, EXCEPT or INTERSECT", "write a model for each part of it")
    require_supported_clauses(tree, bool(name))
    select = ParsedSelect(name, tree, clauses, _parse_sources(tree, clauses), _parse_expressions(tree, clauses))
    require_supported_functions(tree, clauses.calls)
    return select


# --- FROM -------------------------------------------------------------------------------------------------------------


def _parse_sources(tree: exp.Select, clauses: Clauses) -> tuple[Source, ...]:
    from_clause = tree.args.get("from_")
    joins: list[exp.Join] = tree.args.get("joins") or []
    if from_clause is None:
        raise NotIncremental("a SELECT without FROM", "read a table")
    if len(clauses.join_conditions) != len(joins):
        raise NotIncremental("a comma between tables", "JOIN ... ON, or CROSS JOIN")
    sources = [Source(_table_alias(from_clause.this), _relation_name(from_clause.this), "first")]
    for join, on in zip(joins, clauses.join_conditions, strict=True):
        join_type = _JOIN_TYPES.get(((join.side or "").upper(), (join.kind or "").upper()))
        has_using = bool(join.args.get("using"))
        if join_type is None or join.args.get("method") or has_using:
            words = " ".join(word for word in (join.method, join.side, join.kind, "JOIN") if word).upper()
            if has_using:
                raise NotIncremental(f"{words} USING", "write the condition out: ON")
            raise NotIncremental(words, "LEFT JOIN ... ON")
        condition = join.args.get("on")
        if (condition is None) != (join_type == "cross") or bool(on) != (condition is not None):
            raise NotIncremental("a JOIN without ON", "JOIN ... ON, or CROSS JOIN")
        alias = _table_alias(join.this)
        aliases = {alias.lower(), *(source.alias.lower() for source in sources)}
        conditions = parse_conditions(condition, aliases) if condition is not None else ()
        sources.append(Source(alias, _relation_name(join.this), join_type, on, tuple(conditions)))
    if len({source.alias.lower() for source in sources}) < len(sources):
        raise NotIncremental("two tables of one name", "give each its own alias")
    return tuple(sources)


def _table_alias(table: exp.Expr) -> str:
    if not isinstance(table, exp.Table):
        raise NotIncremental("a derived table", "make it a CTE")
    if table.args.get("alias") and table.args["alias"].args.get("columns"):
        raise NotIncremental("a table with a list of columns", "name them in the SELECT")
    return table.alias_or_name


def _relation_name(table: exp.Expr) -> str:
    return f"{table.db.lower()}.{table.name}" if table.db else table.name.lower()  # type: ignore[attr-defined]


# --- SELECT -----------------------------------------------------------------------------------------------------------


def _parse_expressions(tree: exp.Select, clauses: Clauses) -> dict[str, tuple[exp.Expr, str]]:
    if len(clauses.items) != len(tree.expressions):
        raise NotIncremental("a SELECT list that cannot be split into columns")
    expressions: dict[str, tuple[exp.Expr, str]] = {}
    for item, projection in zip(clauses.items, tree.expressions, strict=True):
        if projection.is_star:
            continue
        expression, name = projection.unalias(), projection.alias_or_name
        text = item.expression if isinstance(projection, exp.Alias) else item.text
        if sqlglot.parse_one(text, read="spark") != expression:
            raise NotIncremental(f"{text}, which cannot be distinguished from its name", "write AS before the name")
        if not isinstance(projection, exp.Alias | exp.Column):
            raise NotIncremental(f"{text} without a name", "name it: AS ...")
        if name.lower() in (other.lower() for other in expressions):
            raise NotIncremental(f"two columns named {name}", "give them different names")
        expressions[name] = (expression, text)
    return expressions
