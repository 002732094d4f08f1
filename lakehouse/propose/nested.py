"""Derives the Spark type of nested JSON values from all of them; an unclear one is a STRING with the value's text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lakehouse.propose.names import is_usable

_MAX_FIELDS = 100  # an object with more names is a mapping, whose names are data
_MAX_DEPTH = 30  # of a type; what is nested deeper is text
_MAX_BIGINT_DIGITS = 18
_MAX_SCALE = 12


class Number(str):
    """A JSON number or boolean, as written."""

    __slots__ = ()


class Integer(Number):
    """A JSON number without a fraction or exponent."""

    __slots__ = ()


@dataclass(frozen=True)
class Shape:
    """The kinds of values that were seen at one place.

    Attributes:
        kinds: null, bool, integer, number, text, array, object.
        element: The shape of an array's elements.
        fields: The shapes of an object's members.
        whole: The most digits of a number before the decimal point.
        scale: The most digits behind it; above the limit if there is an exponent.
    """

    kinds: frozenset[str]
    element: Shape | None = None
    fields: dict[str, Shape] = field(default_factory=dict)
    whole: int = 0
    scale: int = 0


def value_shape(value: Any, depth: int = 0) -> Shape:
    """Return the shape of one value.

    Args:
        value: The value.
        depth: How many arrays and objects it is in.
    """
    if depth > _MAX_DEPTH and isinstance(value, list | dict):
        return Shape(frozenset({"text"}))
    match value:
        case None:
            return Shape(frozenset({"null"}))
        case bool():
            return Shape(frozenset({"bool"}))
        case Number():
            whole, _, fraction = value.lstrip("-").partition(".")
            is_exact = "e" not in value.lower()
            kind = "integer" if isinstance(value, Integer) else "number"
            return Shape(frozenset({kind}), whole=len(whole), scale=len(fraction) if is_exact else 99)
        case str():
            return Shape(frozenset({"text"}))
        case list():
            merged: Shape | None = None
            for element in value:
                merged = merge_shapes(merged, value_shape(element, depth + 1))
            return Shape(frozenset({"array"}), element=merged)
    return Shape(frozenset({"object"}), fields={name: value_shape(each, depth + 1) for name, each in value.items()})


def merge_shapes(left: Shape | None, right: Shape | None) -> Shape | None:
    """Return the shape of the values of two shapes."""
    if left is None or right is None:
        return left or right
    fields = dict(left.fields)
    for name, shape in right.fields.items():
        if len(fields) > _MAX_FIELDS:
            break
        merged = merge_shapes(fields.get(name), shape)
        assert merged
        fields[name] = merged
    return replace(
        left,
        kinds=left.kinds | right.kinds,
        element=merge_shapes(left.element, right.element),
        fields=fields,
        whole=max(left.whole, right.whole),
        scale=max(left.scale, right.scale),
    )


def spark_type(shape: Shape) -> str:
    """Return the Spark type that holds all values of a shape without loss; STRING if there is none.

    Args:
        shape: The shape of all values of a column.
    """
    kinds = shape.kinds - {"null"}
    if kinds == {"array"}:
        return f"ARRAY<{spark_type(shape.element) if shape.element else 'STRING'}>"
    if kinds == {"object"}:
        lower = {name.lower() for name in shape.fields}
        is_struct = 0 < len(shape.fields) <= _MAX_FIELDS and len(lower) == len(shape.fields)
        if not is_struct or not all(is_usable(name) for name in shape.fields):
            return "STRING"
        return f"STRUCT<{', '.join(f'{name}: {spark_type(each)}' for name, each in shape.fields.items())}>"
    if kinds == {"bool"}:
        return "BOOLEAN"
    if kinds == {"integer"} and shape.whole <= _MAX_BIGINT_DIGITS:
        return "BIGINT"
    if kinds and kinds <= {"integer", "number"} and shape.scale <= _MAX_SCALE:
        return decimal_type(shape.whole, shape.scale) or "STRING"
    return "STRING"


def decimal_type(whole: int, scale: int) -> str | None:
    """Return a DECIMAL with space for larger numbers, or None if no DECIMAL holds the digits.

    >>> decimal_type(5, 2), decimal_type(17, 4), decimal_type(30, 10)
    ('DECIMAL(18,2)', 'DECIMAL(38,4)', None)

    Args:
        whole: The most digits before the decimal sign.
        scale: The most digits behind it.
    """
    if whole + scale > 38:
        return None
    return f"DECIMAL({18 if whole + max(scale, 2) <= 16 else 38},{max(scale, 2) if whole + 2 <= 38 else scale})"
