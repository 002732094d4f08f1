"""From column to column: what a model's columns are computed from, as sqlglot reads the SQL. No Spark.

Values alone are followed. What a filter, a join or a GROUP BY looks at decides which rows there are, and would lead
from nearly every column to nearly every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage

from lakehouse.config import Pipeline, Table
from lakehouse.models.sql.blocks.clauses import split_selects
from lakehouse.models.sql.plan import Plan, dependency_levels

Origin = tuple[str, str]
"""A relation (`silver.clientes`) and a column of it."""

_CDC_COLUMNS = ("_cdc_operation", "_cdc_timestamp", "_cdc_sequence", "__START_AT", "__END_AT")
# What is left of a value that was only counted tells nothing of it.
_COUNT_FUNCTIONS = (exp.Count, exp.CountIf, exp.ApproxDistinct)


@dataclass(frozen=True)
class LineageColumn:
    """A column of a relation.

    Attributes:
        text: the SQL that computes it, as its author wrote it; empty in bronze.
        origins: the columns of the model's inputs that its value comes from.
        personal: whether it holds what a `pii` column holds, or may.
    """

    name: str
    expression: str = ""
    origins: tuple[Origin, ...] = ()
    is_personal: bool = False


def relation_columns(pipeline: Pipeline, plans: Mapping[str, Plan]) -> dict[str, tuple[LineageColumn, ...]]:
    """The columns of every relation, inputs first."""
    bronze = {f"bronze.{name}": _bronze_columns(table) for name, table in pipeline.tables.items()}
    found = dict(bronze)
    for model in (m for group in dependency_levels(plans) for m in group):
        found[model] = model_columns(plans[model], found)
    used = {origin for each in found.values() for column in each for origin in column.origins}
    for name, each in bronze.items():
        found[name] = tuple(c for c in each if c.name not in _CDC_COLUMNS or (name, c.name) in used)
    return found


def personal_predicate(columns: Mapping[str, tuple[LineageColumn, ...]], model: str) -> Callable[[str], bool]:
    """Tells of a stored column whether it is personal. One that the model's SQL no longer names may be, if any is."""
    known = {c.name.lower(): c.is_personal for c in columns[model]}
    otherwise = any(c.is_personal for each in columns.values() for c in each)
    return lambda name: known.get(name.lower(), otherwise)


def _bronze_columns(table: Table) -> tuple[LineageColumn, ...]:
    kept = [c.name for c in table.columns if table.pii.get(c.name) != "drop"]
    return tuple(LineageColumn(name, is_personal=name in table.pii) for name in [*kept, *_CDC_COLUMNS])


def model_columns(
    plan: Plan, columns_by_relation: Mapping[str, tuple[LineageColumn, ...]]
) -> tuple[LineageColumn, ...]:
    """The columns of one model, whose inputs are known."""
    query = sqlglot.parse_one(plan.sql, read="spark")
    assert isinstance(query, exp.Query)  # as the plan has seen
    columns_of = {relation: {c.name.lower(): c for c in columns_by_relation[relation]} for relation in plan.inputs}
    anything_personal = any(c.is_personal for each in columns_of.values() for c in each.values())
    try:
        values, held = _column_origins(query, columns_of), _column_origins(_without_counts(query), columns_of)
    except SqlglotError:  # a clause that it cannot follow: no origins, and what might be personal is taken to be
        return tuple(LineageColumn(name, is_personal=anything_personal) for name in query.named_selects)
    names, texts = {n.lower(): n for n in query.named_selects}, _selected_expressions(plan.sql, list(values))
    return tuple(
        LineageColumn(
            names.get(name, name),
            texts.get(name, ""),
            origins,
            is_personal=any(
                columns_of[relation][column.lower()].is_personal for relation, column in held.get(name, ())
            ),
        )
        for name, origins in values.items()
    )


def _column_origins(
    query: exp.Expr, columns_of: Mapping[str, Mapping[str, LineageColumn]]
) -> dict[str, tuple[Origin, ...]]:
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for relation, each in columns_of.items():
        layer, _, short = relation.partition(".")
        schema.setdefault(layer, {})[short] = dict.fromkeys(each, "string")
    by_lower = {relation.lower(): relation for relation in columns_of}
    nodes = lineage(None, query, schema, dialect="spark")
    return {name: tuple(dict.fromkeys(_source_columns(node, by_lower, columns_of))) for name, node in nodes.items()}


def _source_columns(
    node: Node, by_lower: Mapping[str, str], columns_of: Mapping[str, Mapping[str, LineageColumn]]
) -> Iterable[Origin]:
    for each in node.walk():
        if isinstance(each.expression, exp.Table):
            relation = by_lower.get(f"{each.expression.db}.{each.expression.name}".lower())
            column = exp.to_column(each.name, dialect="spark").name.lower()
            if relation and column in columns_of[relation]:
                yield relation, columns_of[relation][column].name


def _without_counts(query: exp.Expr) -> exp.Expr:
    return query.transform(lambda e: exp.Literal.number(1) if isinstance(e, _COUNT_FUNCTIONS) else e)


def _selected_expressions(sql: str, names: list[str]) -> dict[str, str]:
    """What is selected under each name, if every item of the SELECT has one: not with a star among them."""
    items = split_selects(sql, sqlglot.tokenize(sql, read="spark"))[-1][1].items
    parsed = sqlglot.parse_one(sql, read="spark")
    outputs = [p.alias_or_name.lower() for p in parsed.expressions] if isinstance(parsed, exp.Select) else []
    if len(items) != len(outputs) or outputs != [n.lower() for n in names]:
        return {}
    aliased = [isinstance(p, exp.Alias) for p in parsed.expressions]
    return {
        name: " ".join((item.expression if alias else item.text).split())
        for name, item, alias in zip(names, items, aliased, strict=True)
    }
