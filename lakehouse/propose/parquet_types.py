"""Translates the types of Parquet files to those of Spark's DDL and of DuckDB."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from lakehouse.propose.names import is_usable

_INTEGERS = {"int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT"}
_UNSIGNED = {"uint8": "SMALLINT", "uint16": "INT", "uint32": "BIGINT", "uint64": "DECIMAL(20,0)"}
_SIZES = ["TINYINT", "SMALLINT", "INT", "BIGINT"]


def spark_type(data_type: pa.DataType) -> str | None:
    """Return the type by which Spark reads a column, or None if it cannot be declared.

    Args:
        data_type: The type in the file's Arrow schema.
    """
    if isinstance(data_type, pa.BaseExtensionType):
        return spark_type(data_type.storage_type)
    if pa.types.is_dictionary(data_type):
        return spark_type(data_type.value_type)
    if pa.types.is_decimal(data_type):
        fits = data_type.precision <= 38 and 0 <= data_type.scale <= data_type.precision
        return f"DECIMAL({data_type.precision},{data_type.scale})" if fits else None
    if pa.types.is_timestamp(data_type):
        return "TIMESTAMP" if data_type.tz else "TIMESTAMP_NTZ"
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type):
        element = spark_type(data_type.value_type)
        return element and f"ARRAY<{element}>"
    if pa.types.is_struct(data_type):
        fields = {data_type.field(n).name: spark_type(data_type.field(n).type) for n in range(data_type.num_fields)}
        if not fields or not all(kind and is_usable(name) for name, kind in fields.items()):
            return None
        return f"STRUCT<{', '.join(f'{name}: {kind}' for name, kind in fields.items())}>"
    by_test = {
        "STRING": pa.types.is_string(data_type) or pa.types.is_large_string(data_type) or pa.types.is_null(data_type),
        "BINARY": pa.types.is_binary(data_type)
        or pa.types.is_large_binary(data_type)
        or pa.types.is_fixed_size_binary(data_type),
        "BOOLEAN": pa.types.is_boolean(data_type),
        "DATE": pa.types.is_date(data_type),
        "FLOAT": pa.types.is_float32(data_type),
        "DOUBLE": pa.types.is_float64(data_type),
    }
    simple = next((name for name, is_of_type in by_test.items() if is_of_type), None)
    return simple or (_INTEGERS | _UNSIGNED).get(str(data_type))


def common_type(types: Iterable[pa.DataType]) -> str | None:
    """Return the type that holds a column's values from every file, or None if there is none.

    Args:
        types: The types of the column in the files.
    """
    found = {spark_type(data_type) for data_type in types if not pa.types.is_null(data_type)} or {"STRING"}
    if None in found or len(found) == 1:
        return found.pop() if len(found) == 1 else None
    if found <= set(_SIZES):
        return max((kind for kind in found if kind), key=_SIZES.index)
    return "DOUBLE" if found == {"FLOAT", "DOUBLE"} else None


def duck_type(types: Iterable[pa.DataType]) -> str:
    """Return DuckDB's type for a column of rows; VARCHAR[] for one that takes no part in keys and is not loaded.

    Args:
        types: The types of the column in the files.
    """
    declared = common_type(types)
    if declared is None or declared.startswith(("ARRAY", "STRUCT", "BINARY")):
        return "VARCHAR[]"
    simple = {"STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ", "TIMESTAMP_NTZ": "TIMESTAMP"}
    return simple.get(declared, declared)
