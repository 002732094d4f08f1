"""Hashes rows so that equal rows, as the lake compares them, have equal hashes."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

_HASH_SEEDS = (42, -7046029254386353131)


def hash_columns(columns: list[str], schema: T.StructType, names: list[str]) -> list[Column]:
    """Return 128 bits over columns, as two longs that are equal for equal rows; null differs from empty.

    xxhash64 skips nulls, so each value is hashed together with whether it is null.

    Args:
        columns: The names of the columns to hash.
        schema: Their types.
        names: The names of the two hashes.
    """
    values = [normalize(F.col(c), schema[c].dataType) for c in columns]
    parts = [part for value in values for part in (value.isNull(), value)]
    return [F.xxhash64(F.lit(seed), *parts).alias(name) for seed, name in zip(_HASH_SEEDS, names, strict=True)]


def normalize(value: Column, data_type: T.DataType) -> Column:
    """Return a value with one NaN and one zero, so that equal values have equal hashes.

    Args:
        value: The value.
        data_type: Its type.
    """
    if isinstance(data_type, T.ArrayType):
        inner = F.transform(value, lambda one: _with_null_flag(one, data_type.elementType))
        return F.when(value.isNotNull(), F.struct(F.size(value).alias("size"), inner.alias("each")))
    if isinstance(data_type, T.StructType):
        members = [_with_null_flag(value[f.name], f.dataType).alias(f.name) for f in data_type]
        return F.when(value.isNotNull(), F.struct(*members))
    if not isinstance(data_type, T.FloatType | T.DoubleType):
        return value
    zero, nan = F.lit(0).cast(data_type), F.lit("NaN").cast(data_type)
    return F.when(F.isnan(value), nan).when(value == 0, zero).otherwise(value)


def _with_null_flag(value: Column, data_type: T.DataType) -> Column:
    return F.struct(value.isNull().alias("is_null"), normalize(value, data_type).alias("value"))
