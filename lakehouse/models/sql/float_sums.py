"""Sums of DOUBLE, found without Spark where declared types tell: their last digits depend on the order of rows.

What only Spark can say of types is found when the model is first computed (`incremental.refuse_inexact`).
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

BronzeColumns = Collection[tuple[str, str]]  # a relation of bronze and a column of it, in lower case


def inexact_sums_error(found: list[str], model: str, where: str = "") -> ConfigError:
    """The error for a model that adds up what cannot be added exactly."""
    return ConfigError(
        f"{model} adds up DOUBLE, FLOAT or the mean of BIGINT: {', '.join(dict.fromkeys(found))}",
        expected="sums that are the same to the last digit in whatever order rows come",
        where=where,
        next_step="cast what is added to DECIMAL, such as SUM(CAST(price AS DECIMAL(18, 4)))",
    )


def find_float_sums(plans: Mapping[str, Plan], model: str, float_columns: BronzeColumns) -> list[str]:
    """The sums of a model that surely add up DOUBLE or FLOAT.

    Args:
        doubles: bronze's columns of those types.
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
    added = sqlglot.parse_one(argument, read="spark")
    if isinstance(added, exp.Cast):
        return added.to.this in _FLOAT_TYPES
    if not all(isinstance(node, _ARITHMETIC) for node in added.walk()):
        return False
    aliases = {source.alias.lower(): source.relation for source in block.sources}
    columns = [(c.table.lower() or next(iter(aliases)), c.name.lower()) for c in added.find_all(exp.Column)]
    known = len(aliases) == 1 or all(c.table for c in added.find_all(exp.Column))
    return known and any(
        a in aliases and _is_float_column(plans, plan, aliases[a], c, float_columns) for a, c in columns
    )


def _is_float_column(
    plans: Mapping[str, Plan], plan: Plan, relation: str, column: str, float_columns: BronzeColumns
) -> bool:
    """Whether a column is one of `doubles`, as it is, through CTEs and models."""
    if relation.startswith("bronze."):
        return (relation.lower(), column) in float_columns
    block = next((b for b in plan.blocks if b.name == relation), None)
    if block is None:
        plan = plans.get(relation, plan)
        block = plan.blocks[-1] if plan.model == relation and plan.blocks else None
    if block is None or column not in block.plain_columns:
        return False
    alias, behind = block.plain_columns[column]
    source = next(s for s in block.sources if s.alias.lower() == alias)
    return _is_float_column(plans, plan, source.relation, behind, float_columns)
