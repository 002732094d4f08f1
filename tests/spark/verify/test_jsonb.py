"""Values of jsonb are read as values of the lake's types, or refused."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import types as T

from lakehouse.verify.jsonb import read_jsonb

STRUCT = T.StructType([T.StructField("n", T.LongType()), T.StructField("s", T.StringType())])


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (None, T.LongType(), None),
        ("[9223372036854775807, null]", T.ArrayType(T.LongType()), [9223372036854775807, None]),
        (
            "[0.100000000000000000000000000001]",
            T.ArrayType(T.DecimalType(38, 30)),
            [Decimal("0.100000000000000000000000000001")],
        ),
        ('[1.5, "-Infinity"]', T.ArrayType(T.DoubleType()), [1.5, float("-inf")]),
        ('{"n": 1, "s": "x"}', STRUCT, {"n": 1, "s": "x"}),
        ('{"1": true}', T.MapType(T.IntegerType(), T.BooleanType()), [(1, True)]),
        ('["AP8="]', T.ArrayType(T.BinaryType()), [b"\0\xff"]),
        ('["0001-01-01"]', T.ArrayType(T.DateType()), [date(1, 1, 1)]),
        (
            '["2024-01-01T00:00:00.5Z"]',
            T.ArrayType(T.TimestampType()),
            [datetime(2024, 1, 1, 0, 0, 0, 500000, timezone.utc)],
        ),
        ('["2024-01-01T00:00:00"]', T.ArrayType(T.TimestampNTZType()), [datetime(2024, 1, 1)]),
    ],
)
def test_a_value_is_read_with_its_type(text: str | None, kind: T.DataType, expected: Any) -> None:
    assert read_jsonb(text, kind) == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"not": "a list"}', T.ArrayType(T.StringType())),
        ("[1.5]", T.ArrayType(T.IntegerType())),
        ('["1"]', T.ArrayType(T.DecimalType(3, 1))),
        ("[1]", T.ArrayType(T.StringType())),
        ("[1]", T.ArrayType(T.BooleanType())),
        ('{"n": 1}', STRUCT),
        ('{"n": 1, "s": "x", "more": 1}', STRUCT),
        ('["2024-01-01T00:00:00"]', T.ArrayType(T.TimestampType())),
        ('["2024-01-01T00:00:00Z"]', T.ArrayType(T.TimestampNTZType())),
        ('["?"]', T.ArrayType(T.BinaryType())),
    ],
)
def test_a_value_of_another_type_is_refused(text: str, kind: T.DataType) -> None:
    with pytest.raises(ValueError):
        read_jsonb(text, kind)
