"""Finds the columns of inputs that a column of a model is computed from. Uses no Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.models.sql.plan import Plan, dependency_levels
from lakehouse.text import visible

Columns = Mapping[str, frozenset[str] | None]
"""By relation, the columns that matter in lower case; None: all."""


class KnownColumn(Protocol):
    """A column of a relation, as `report/lineage.py` describes it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def expression(self) -> str:
        """The SQL that computes it; empty if it is not known."""

    @property
    def origins(self) -> Sequence[tuple[str, str]]:
        """The columns of the model's inputs that its value comes from."""


def bearing_columns(
    relation: str, column: str, columns: Mapping[str, Sequence[KnownColumn]], plans: Mapping[str, Plan]
) -> Columns:
    """Return the relations and columns from which the value of a column comes, itself included.

    A value of no column, such as COUNT(*), is of the rows of all inputs, and of none of their columns.

    Args:
        relation: The table or model.
        column: Its column, in any case.
        columns: The columns of every relation.
        plans: The plan of each model.

    Raises:
        ConfigError: The relation has no such column.
    """
    names = [known.name for known in columns[relation]]
    if column.lower() not in (name.lower() for name in names):
        raise ConfigError(
            f"{relation} has no column {visible(column)}{did_you_mean(column, names)}",
            expected=f"one of {', '.join(names)}",
            where="COLUMN",
        )
    found: dict[str, frozenset[str] | None] = {relation: frozenset({column.lower()})}

    def add(name: str, more: frozenset[str] | None) -> None:
        before = found.get(name, frozenset())
        found[name] = None if before is None or more is None else before | more

    for model in (model for level in reversed(dependency_levels(plans)) for model in level if model in found):
        wanted = found[model]
        if wanted == frozenset():  # its rows matter, and none of their values
            for name in plans[model].inputs:
                add(name, frozenset())
        for known in columns[model]:
            if wanted is not None and known.name.lower() not in wanted:
                continue
            for name, origin in known.origins:
                add(name, frozenset({origin.lower()}))
            if not known.origins:
                for name in plans[model].inputs:
                    add(name, frozenset() if known.expression else None)
    return found
