"""Finds the source columns of each column of a model, as sqlglot parses the SQL. Uses no Spark.

Only values are followed. The columns of a filter, a join or a GROUP BY decide which rows exist; to follow them would
connect nearly every column with nearly every other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage

from lakehouse.config import Pipeline
from lakehouse.models.sql.blocks.clauses import split_selects
from lakehouse.models.sql.plan import Plan, dependency_levels

Origin = tuple[str, str]
"""A relation (`silver.clientes`) and a column of it."""

_CDC_COLUMNS = ("_cdc_operation", "_cdc_timestamp", "_cdc_sequence", "__START_AT", "__END_AT")
# The result of these functions reveals nothing of a value.
_COUNT_FUNCTIONS = (exp.Count, exp.CountIf, exp.ApproxDistinct)


@dataclass(frozen=True)
class LineageColumn:
    """A column of a relation.

    Attributes:
        name: Its name.
        expression: The SQL that computes it, as its author wrote it; empty in bronze.
        origins: The columns of the model's inputs that its value comes from.
        is_personal: Whether it contains, or may contain, the value of a `pii` column.
    """

    name: str
    expression: str = ""
    origins: tuple[Origin, ...] = ()
    is_personal: bool = False


def relation_columns(pipeline: Pipeline, plans: Mapping[str, Plan]) -> dict[str, tuple[LineageColumn, ...]]:
    """Return the columns of every relation by its name, inputs first.

    The `_cdc_*` and history columns of bronze are listed only if a model uses them.

    Args:
        pipeline: The configuration, for the columns of bronze.
        plans: The plan of each model.
    """
    bronze = {
        f"bronze.{name}": tuple(
            LineageColumn(column, is_personal=column in table.pii)
            for column in (*(c.name for c in table.columns if table.pii.get(c.name) != "drop"), *_CDC_COLUMNS)
        )
        for name, table in pipeline.tables.items()
    }
    columns = dict(bronze)
    for model in (model for level in dependency_levels(plans) for model in level):
        columns[model] = model_columns(plans[model], columns)
    used = {origin for relation in columns.values() for column in relation for origin in column.origins}
    for name, declared in bronze.items():
        columns[name] = tuple(c for c in declared if c.name not in _CDC_COLUMNS or (name, c.name) in used)
    return columns


def personal_predicate(columns: Mapping[str, tuple[LineageColumn, ...]], model: str) -> Callable[[str], bool]:
    """Return a function that returns whether a stored column of a model may contain personal data.

    A stored column that the model's SQL no longer names may contain personal data if any column of the lake does.

    Args:
        columns: The result of `relation_columns`.
        model: The name of the model.
    """
    known = {c.name.lower(): c.is_personal for c in columns[model]}
    default = any(c.is_personal for relation in columns.values() for c in relation)
    return lambda name: known.get(name.lower(), default)


def model_columns(
    plan: Plan, columns_by_relation: Mapping[str, tuple[LineageColumn, ...]]
) -> tuple[LineageColumn, ...]:
    """Return the columns of one model.

    Args:
        plan: The plan of the model.
        columns_by_relation: The columns of its inputs.
    """
    query = sqlglot.parse_one(plan.sql, read="spark")
    assert isinstance(query, exp.Query)  # the plan was made from it
    columns_of = {relation: {c.name.lower(): c for c in columns_by_relation[relation]} for relation in plan.inputs}
    has_personal_inputs = any(c.is_personal for relation in columns_of.values() for c in relation.values())
    try:
        values = _column_origins(query, columns_of)
        # Counts are replaced by a constant, so that the lineage does not lead to the counted values.
        uncounted = query.transform(lambda e: exp.Literal.number(1) if isinstance(e, _COUNT_FUNCTIONS) else e)
        revealed = _column_origins(uncounted, columns_of)
    except SqlglotError:  # a clause that it cannot follow: no origins, and any column may be personal
        return tuple(LineageColumn(name, is_personal=has_personal_inputs) for name in query.named_selects)
    names, texts = {n.lower(): n for n in query.named_selects}, _selected_expressions(plan.sql, list(values))
    return tuple(
        LineageColumn(
            names.get(name, name),
            texts.get(name, ""),
            origins,
            is_personal=any(
                columns_of[relation][column.lower()].is_personal for relation, column in revealed.get(name, ())
            ),
        )
        for name, origins in values.items()
    )


def _column_origins(
    query: exp.Expr, columns_of: Mapping[str, Mapping[str, LineageColumn]]
) -> dict[str, tuple[Origin, ...]]:
    """Return the origins of each column of a query by the column's name in lower case."""
    schema: dict[str, dict[str, dict[str, str]]] = {}  # sqlglot only needs the names; each column counts as a string
    for relation, columns in columns_of.items():
        layer, _, short_name = relation.partition(".")
        schema.setdefault(layer, {})[short_name] = dict.fromkeys(columns, "string")
    by_lower = {relation.lower(): relation for relation in columns_of}
    origins: dict[str, tuple[Origin, ...]] = {}
    for name, node in lineage(None, query, schema, dialect="spark").items():
        found: dict[Origin, None] = {}  # in the order of the graph, each once
        for leaf in node.walk():
            if isinstance(leaf.expression, exp.Table):
                source = by_lower.get(f"{leaf.expression.db}.{leaf.expression.name}".lower())
                column = exp.to_column(leaf.name, dialect="spark").name.lower()
                if source and column in columns_of[source]:
                    found[source, columns_of[source][column].name] = None
        origins[name] = tuple(found)
    return origins


def _selected_expressions(sql: str, names: list[str]) -> dict[str, str]:
    """Return the SQL of each selected column by its name; empty if an item has no name, such as a star."""
    items = split_selects(sql, sqlglot.tokenize(sql, read="spark"))[-1][1].items
    parsed = sqlglot.parse_one(sql, read="spark")
    outputs = [p.alias_or_name.lower() for p in parsed.expressions] if isinstance(parsed, exp.Select) else []
    if len(items) != len(outputs) or outputs != [n.lower() for n in names]:
        return {}
    have_alias = [isinstance(p, exp.Alias) for p in parsed.expressions]
    return {
        name: " ".join((item.expression if has_alias else item.text).split())
        for name, item, has_alias in zip(names, items, have_alias, strict=True)
    }
