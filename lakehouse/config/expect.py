"""Defines the expectations of a model in pipeline.yml: one condition each, and the action for rows that fail it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lakehouse.config.fields import Count, Duration, Scalar, Share, Text
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, StrictModel, join_with_or

OnFail = Literal["warn", "drop", "quarantine", "fail"]


class Bounds(StrictModel):
    """The bounds of a column's values, both inclusive."""

    min: Scalar | None = Field(None, description="The lowest allowed value.")
    max: Scalar | None = Field(None, description="The highest allowed value.")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from _require_any(data, ("min", "max"))


class RowBand(StrictModel):
    """The bounds of a model's row count."""

    min: Count | None = Field(None, description="The lowest allowed number of rows.")
    max: Count | None = Field(None, description="The highest allowed number of rows.")
    max_change: Share | None = Field(
        None, description="The largest allowed change of the row count since the last refresh, as a share of it."
    )

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from _require_any(data, ("min", "max", "max_change"))


class Freshness(StrictModel):
    """The largest allowed age of the newest row, counted back from :as_of, the time of the newest accepted snapshot."""

    column: Text = Field(description="A DATE or TIMESTAMP column of the model.")
    within: Duration = Field(description="30m, 6h, 2d")


class Expectation(StrictModel):
    """One condition on a model's rows, or on the model as a whole."""

    check: Text | None = Field(None, description="SQL condition on a row's columns; a row passes if it is true.")
    not_null: list[Text] | None = Field(None, min_length=1, description="Columns that must not be null.")
    values: dict[Text, list[Scalar]] | None = Field(
        None,
        min_length=1,
        description="The allowed values of each column; null passes.",
    )
    range: dict[Text, Bounds] | None = Field(
        None, min_length=1, description="The lowest and highest value of each column; null passes."
    )
    reference: dict[Text, Text] | None = Field(
        None,
        min_length=1,
        description="Columns, each with the column of another model or table that must contain its value.",
    )
    unique: list[Text] | None = Field(
        None, min_length=1, description="Columns whose values together must be unique; null passes."
    )
    rows: RowBand | None = Field(None, description="The allowed number of rows of the model.")
    freshness: Freshness | None = Field(None, description="The allowed age of the newest row.")
    on_fail: OnFail | None = Field(
        None,
        description="The action for rows that fail; default: quarantine. unique, rows and freshness apply to the whole"
        " model: warn (the default) or fail.",
    )

    @property
    def kind(self) -> str:
        """The kind of the condition: `check`, `not_null`, ..."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def policy(self) -> OnFail:
        """The value of `on_fail`, or its default."""
        return self.on_fail or ("warn" if self.kind in TABLE_RULES else "quarantine")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        given = [kind for kind in KINDS if data.get(kind) is not None]
        if len(given) > 1:
            yield Discrepancy((), STRUCTURE, f"has {' and '.join(given)}; make each an expectation with its own name")
        elif not given and not set(data) - {*KINDS, "on_fail"}:  # an unknown key is reported as such
            yield Discrepancy((), STRUCTURE, f"has no condition; give one of {join_with_or(KINDS)}")
        elif given and given[0] in TABLE_RULES and data.get("on_fail") in ("drop", "quarantine"):
            message = f"expected warn or fail: {given[0]} applies to the whole model, not to single rows"
            yield Discrepancy(("on_fail",), VALUE, message)
        values = data.get("values")
        for column, allowed in values.items() if isinstance(values, Mapping) else ():
            if isinstance(allowed, list) and len({_value_type(value) for value in allowed}) > 1:
                message = "a mix of text, numbers and true or false; put text such as NO in quotes"
                yield Discrepancy(("values", column), STRUCTURE, message)


KINDS = ("check", "not_null", "values", "range", "reference", "unique", "rows", "freshness")
TABLE_RULES = ("unique", "rows", "freshness")
"""The kinds that apply to the whole model, not to single rows."""


def _value_type(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _require_any(data: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[Discrepancy]:
    """Yield a discrepancy if none of the keys has a value."""
    if all(data.get(name) is None for name in names) and not set(data) - set(names):
        yield Discrepancy((), STRUCTURE, f"is empty; give {join_with_or(names)}")
