"""Requires values that every reader of the lake can hold: text in UTF-8, and times within the years 1 to 9999.

Sources have no others, so a model can only compute them: by arithmetic with days, or text from BINARY. Spark stores
both, and Polars, Python and PostgreSQL cannot read the table then. The check is part of the query: it costs no job, and
a value that fails it is found like one that the SQL cannot compute (`failing_rows.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.models.model import Model
from lakehouse.models.sql.plan import Plan
from lakehouse.schema.dates import in_range

_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)
_OUT_OF_RANGE = "a day or time outside the years 1 to 9999, which not every reader can hold"
_NOT_UTF8 = "text that is not UTF-8, which not every reader can hold"
_OWN_MESSAGE = re.compile(rf"column \w.*?: (?:{_OUT_OF_RANGE}|{_NOT_UTF8})")
# What makes BINARY, from which CAST makes text: the type, literals such as X'FF', and functions of Spark.
_MAKES_BYTES = re.compile(
    r"\b(?:BINARY|X'|UNHEX|UNBASE64|\w*TO_BINARY|ENCODE|\w*AES_|\w*SKETCH|HLL_|KLL_|THETA_|BITMAP_|\w*ZSTD_|TO_AVRO"
    r"|TO_PROTOBUF|COLLATION_KEY|ST_)",
    re.IGNORECASE,
)


def may_have_bytes(tables: Iterable[Table], plans: Iterable[Plan]) -> bool:
    """Return whether a model of a pipeline may have BINARY values, of which it could make text.

    Args:
        tables: The tables of the pipeline.
        plans: Its models.
    """
    has_column = any("BINARY" in column.canonical_type for table in tables for column in table.columns)
    return has_column or any(_MAKES_BYTES.search(plan.sql) for plan in plans)


def require_readable(model: Model, rows: DataFrame) -> DataFrame:
    """Return a model's rows; computing a value of them that not every reader can hold fails.

    Args:
        model: The model.
        rows: The rows that its SQL returns.
    """
    columns = []
    for field in rows.schema:
        column = F.col(quote_identifier(field.name))
        is_unchanged = field.name.lower() in model.plan.source_columns
        fault = None if is_unchanged else _fault(column, field.dataType, model.may_have_bytes)
        if fault is not None:
            error = F.raise_error(F.concat(F.lit(f"column {field.name}: "), fault))
            column = F.when(fault.isNull(), column).otherwise(error).alias(field.name, metadata=field.metadata)
        columns.append(column)
    return rows.select(*columns)


def unreadable_value(message: str) -> str:
    """Return the part of an error's message that is of `require_readable`, without values of rows; else empty.

    Args:
        message: The message.
    """
    found = _OWN_MESSAGE.search(message)
    return found[0] if found else ""


def _fault(value: Column, data_type: T.DataType, may_be_bytes: bool) -> Column | None:
    """Return why not every reader can hold a value, or null; None for a type whose values all can be held."""
    if isinstance(data_type, _TIMES):
        return F.when(value.isNotNull() & in_range(value, data_type).isNull(), _OUT_OF_RANGE)
    if isinstance(data_type, T.StringType):
        return F.when(~F.is_valid_utf8(value), _NOT_UTF8) if may_be_bytes else None
    if isinstance(data_type, T.ArrayType):
        if _fault(value, data_type.elementType, may_be_bytes) is None:
            return None
        faults = F.transform(value, lambda element: _some(_fault(element, data_type.elementType, may_be_bytes)))
        return F.array_max(faults)
    if isinstance(data_type, T.StructType):
        fields = [_fault(value[field.name], field.dataType, may_be_bytes) for field in data_type]
        found = [fault for fault in fields if fault is not None]
        return F.coalesce(*found) if found else None
    return None


def _some(fault: Column | None) -> Column:
    assert fault is not None
    return fault
