"""Finds the source columns of each column of a model, for the report. Uses no Spark.

Only values are followed. The columns of a filter, a join or a GROUP BY decide which rows exist; to follow them would
connect nearly every column with nearly every other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from lakehouse.config import Pipeline
from lakehouse.models.sql.blocks.clauses import split_selects
from lakehouse.models.sql.plan import Plan, dependency_levels
from lakehouse.models.sql.resolve import Origin, base_relation, bronze_relation, resolve_model


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
            for column in bronze_relation(f"bronze.{name}", table).names
        )
        for name, table in pipeline.tables.items()
    }
    columns = dict(bronze)
    for model in (model for level in dependency_levels(plans) for model in level):
        columns[model] = model_columns(plans[model], columns)
    used = {origin for relation in columns.values() for column in relation for origin in column.origins}
    for name, declared in bronze.items():
        stored = {c.name for c in pipeline.tables[name.removeprefix("bronze.")].stored_columns}
        columns[name] = tuple(c for c in declared if c.name in stored or (name, c.name) in used)
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
    columns_of = {relation: {c.name.lower(): c for c in columns_by_relation[relation]} for relation in plan.inputs}
    inputs = {r: base_relation(r, [(c.name, "") for c in columns.values()]) for r, columns in columns_of.items()}
    resolved = resolve_model(plan, inputs, "")
    result = resolved.result
    names = [column.name for column in result.columns if column.name]
    # SQL that cannot be followed: any column may be personal.
    if not resolved.is_complete or len(names) < len(result.columns):
        has_personal_inputs = any(c.is_personal for relation in columns_of.values() for c in relation.values())
        query = sqlglot.parse_one(plan.sql, read="spark")
        assert isinstance(query, exp.Query)  # the plan was made from it
        return tuple(LineageColumn(name, is_personal=has_personal_inputs) for name in query.named_selects)
    texts = _selected_expressions(plan.sql, names)
    return tuple(
        LineageColumn(
            name,
            texts.get(name, ""),
            column.origins,
            is_personal=any(columns_of[relation][origin.lower()].is_personal for relation, origin in column.revealed),
        )
        for name, column in zip(names, result.columns, strict=True)
    )


def _selected_expressions(sql: str, names: list[str]) -> dict[str, str]:
    """Return the SQL of each selected column by its name; empty if an item has no name, such as a star."""
    items = split_selects(sql, sqlglot.tokenize(sql, read="spark"))[-1][1].items
    parsed = sqlglot.parse_one(sql, read="spark")
    outputs = [p.alias_or_name for p in parsed.expressions] if isinstance(parsed, exp.Select) else []
    if len(items) != len(outputs) or outputs != names:
        return {}
    have_alias = [isinstance(p, exp.Alias) for p in parsed.expressions]
    return {
        name: " ".join((item.expression if has_alias else item.text).split())
        for name, item, has_alias in zip(names, items, have_alias, strict=True)
    }
