"""Finds sums of DOUBLE by the declared types, without Spark: their last digits depend on the order of rows.

If only Spark can find the type of a sum, it is checked when the model is first computed
(`block_reader.BlockReader.require_exact_sums`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlglot
from sqlglot import exp

from lakehouse.errors import ConfigError
from lakehouse.models.sql.blocks import Block
from lakehouse.models.sql.plan import Plan

_ARITHMETIC = (exp.Column, exp.Identifier, exp.Literal, exp.Paren, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div)
_FLOAT_TYPES = (exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT)

BronzeColumns = Collection[tuple[str, str]]
"""Pairs of a bronze relation and one of its columns, in lower case."""


def inexact_sums_error(sums: list[str], model: str, where: str = "") -> ConfigError:
    """Return the error for a model with sums that depend on the order of rows.

    Args:
        sums: The sums as the author wrote them.
        model: The model's name.
        where: The file, if known.
    """
    return ConfigError(
        f"{model} adds up DOUBLE, FLOAT or the mean of BIGINT: {', '.join(dict.fromkeys(sums))}",
        expected="sums that are the same to the last digit in any order of rows",
        where=where,
        next_step="cast the argument to DECIMAL, such as SUM(CAST(price AS DECIMAL(18, 4)))",
    )


def find_float_sums(plans: Mapping[str, Plan], model: str, float_columns: BronzeColumns) -> list[str]:
    """Return the sums of a model that are certain to add up DOUBLE or FLOAT.

    Args:
        plans: All plans of the pipeline.
        model: The model's name.
        float_columns: Bronze's columns of those types.
    """
    plan = plans[model]
    return [
        f"{function}({argument})"
        for block in plan.blocks
        for function, argument in block.sums
        if _is_float_sum(plans, plan, block, argument, float_columns)
    ]


def _is_float_sum(
    plans: Mapping[str, Plan], plan: Plan, block: Block, argument: str, float_columns: BronzeColumns
) -> bool:
    expression = sqlglot.parse_one(argument, read="spark")
    if isinstance(expression, exp.Cast):
        return expression.to.this in _FLOAT_TYPES
    if not all(isinstance(node, _ARITHMETIC) for node in expression.walk()):
        return False
    relations = {source.alias.lower(): source.relation for source in block.sources}
    columns = list(expression.find_all(exp.Column))
    if len(relations) > 1 and not all(column.table for column in columns):
        return False
    names = [(column.table.lower() or next(iter(relations)), column.name.lower()) for column in columns]
    return any(
        alias in relations and _is_float_column(plans, plan, relations[alias], name, float_columns)
        for alias, name in names
    )


def _is_float_column(
    plans: Mapping[str, Plan], plan: Plan, relation: str, column: str, float_columns: BronzeColumns
) -> bool:
    """Return whether a column is one of `float_columns`, selected unchanged through CTEs and models."""
    if relation.startswith("bronze."):
        return (relation.lower(), column) in float_columns
    block = next((block for block in plan.blocks if block.name == relation), None)
    if block is None:
        plan = plans.get(relation, plan)
        block = plan.blocks[-1] if plan.model == relation and plan.blocks else None
    if block is None or column not in block.plain_columns:
        return False
    alias, source_column = block.plain_columns[column]
    source = next(source for source in block.sources if source.alias.lower() == alias)
    return _is_float_column(plans, plan, source.relation, source_column, float_columns)
