"""What a model is expected to be, as pipeline.yml says it: one condition each, and what becomes of who fails it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lakehouse.config.fields import Count, Duration, Scalar, Share, Text
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, StrictModel, join_with_or

OnFail = Literal["warn", "drop", "quarantine", "fail"]


class Bounds(StrictModel):
    """The least and the greatest value, both allowed."""

    min: Scalar | None = Field(None, description="The least value.")
    max: Scalar | None = Field(None, description="The greatest value.")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from _require_one(data, ("min", "max"))


class RowBand(StrictModel):
    """How many rows a model has."""

    min: Count | None = Field(None, description="At least so many rows.")
    max: Count | None = Field(None, description="At most so many rows.")
    max_change: Share | None = Field(None, description="At most this share of its rows more, or fewer, than before.")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from _require_one(data, ("min", "max", "max_change"))


class Freshness(StrictModel):
    """How long before :as_of, the newest accepted snapshot's time, the newest row may lie."""

    column: Text = Field(description="A DATE or TIMESTAMP column of the model.")
    within: Duration = Field(description="30m, 6h, 2d")


class Expectation(StrictModel):
    """One condition on a model's rows, or on the model as a whole."""

    check: Text | None = Field(None, description="SQL condition over a row's columns; met where it is true.")
    not_null: list[Text] | None = Field(None, min_length=1, description="Columns that are never null.")
    values: dict[Text, list[Scalar]] | None = Field(
        None,
        min_length=1,
        description="By column, the values that it may have; null passes.",
    )
    range: dict[Text, Bounds] | None = Field(
        None, min_length=1, description="By column, its least and greatest value; null passes."
    )
    reference: dict[Text, Text] | None = Field(
        None, min_length=1, description="Columns, each with the column of another model or table that has its value."
    )
    unique: list[Text] | None = Field(None, min_length=1, description="Columns that no two rows share; null passes.")
    rows: RowBand | None = Field(None, description="How many rows the model has.")
    freshness: Freshness | None = Field(None, description="How old the newest row may be.")
    on_fail: OnFail | None = Field(
        None,
        description="What becomes of rows that do not meet it: quarantine unless given. unique, rows and freshness are"
        " about the model as a whole: warn, unless fail is given.",
    )

    @property
    def kind(self) -> str:
        """`check`, `not_null`, ..."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def policy(self) -> OnFail:
        """`on_fail`, or what stands for it."""
        return self.on_fail or ("warn" if self.kind in TABLE_RULES else "quarantine")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        given = [kind for kind in KINDS if data.get(kind) is not None]
        if len(given) > 1:
            yield Discrepancy((), STRUCTURE, f"says {' and '.join(given)}; give each a name of its own")
        elif not given and not set(data) - {*KINDS, "on_fail"}:  # an unknown key is told as such
            yield Discrepancy((), STRUCTURE, f"expects nothing; give one of {join_with_or(KINDS)}")
        elif given and given[0] in TABLE_RULES and data.get("on_fail") in ("drop", "quarantine"):
            message = f"expected warn or fail: {given[0]} is about the model as a whole, and no row of it is to blame"
            yield Discrepancy(("on_fail",), VALUE, message)
        values = data.get("values")
        for column, listed in values.items() if isinstance(values, Mapping) else ():
            if isinstance(listed, list) and len({_value_type(value) for value in listed}) > 1:
                message = "text, numbers and true or false mixed; put quotes around what is text, such as NO"
                yield Discrepancy(("values", column), STRUCTURE, message)


KINDS = ("check", "not_null", "values", "range", "reference", "unique", "rows", "freshness")
TABLE_RULES = ("unique", "rows", "freshness")
"""Those about a model as a whole."""


def _value_type(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _require_one(data: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[Discrepancy]:
    if all(data.get(name) is None for name in names) and not set(data) - set(names):
        yield Discrepancy((), STRUCTURE, f"says nothing; give {join_with_or(names)}")
