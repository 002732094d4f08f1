"""Reads the columns of a Parquet file in its footer: their names and types, before any reader opens the file.

Spark and DuckDB fail for a file with a type that they do not know, even if nobody needs that column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import types as T

from lakehouse.errors import DataRefused
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.row_sizes import count_leaves
from lakehouse.text import visible

_SPARK_TYPES: dict[pa.DataType, T.DataType] = {
    pa.null(): T.NullType(),
    pa.bool_(): T.BooleanType(),
    pa.int8(): T.ByteType(),
    pa.int16(): T.ShortType(),
    pa.int32(): T.IntegerType(),
    pa.int64(): T.LongType(),
    pa.uint8(): T.ShortType(),
    pa.uint16(): T.IntegerType(),
    pa.uint32(): T.LongType(),
    pa.uint64(): T.DecimalType(20, 0),
    pa.float32(): T.FloatType(),
    pa.float64(): T.DoubleType(),
    pa.string(): T.StringType(),
    pa.large_string(): T.StringType(),
    pa.string_view(): T.StringType(),
    pa.binary(): T.BinaryType(),
    pa.large_binary(): T.BinaryType(),
    pa.binary_view(): T.BinaryType(),
    pa.date32(): T.DateType(),
    pa.date64(): T.DateType(),
}
_OTHER_TYPES: dict[Callable[[pa.DataType], bool], str] = {
    pa.types.is_float16: "FLOAT16",
    pa.types.is_time: "TIME",
    pa.types.is_fixed_size_binary: "INTERVAL",  # the only one that is no plain BINARY
}
_MAX_PRECISION = 38


@dataclass(frozen=True)
class FileColumn:
    """A column of a Parquet file.

    Attributes:
        name: Its name.
        arrow_type: Its type as Arrow reads it.
        spark_type: Its type as Spark reads it; None if Spark cannot read it. A column of nulls has NullType.
        is_nanoseconds: Whether it has instants (TIMESTAMP) or local times (TIMESTAMP_NTZ) in nanoseconds, which Spark
            reads as numbers.
        is_int96: Whether it has instants in the oldest notation, in which Arrow sees no instants.
    """

    name: str
    arrow_type: pa.DataType
    spark_type: T.DataType | None
    is_nanoseconds: bool = False
    is_int96: bool = False

    @property
    def description(self) -> str:
        """The type, for messages."""
        if self.is_nanoseconds and self.spark_type:
            return f"{self.spark_type.simpleString().upper()} in nanoseconds"
        if self.spark_type:
            return self.spark_type.simpleString().upper()
        if isinstance(self.arrow_type, pa.UuidType):
            return "UUID"
        if pa.types.is_decimal(self.arrow_type):
            return f"DECIMAL({self.arrow_type.precision},{self.arrow_type.scale})"
        for is_kind, name in _OTHER_TYPES.items():
            if is_kind(self.arrow_type):
                return name
        return visible(str(self.arrow_type))


@dataclass(frozen=True)
class Footer:
    """The columns and metadata of a Parquet footer.

    Attributes:
        columns: Its columns, in order.
        metadata: Its own entries of metadata.
    """

    columns: tuple[FileColumn, ...]
    metadata: dict[bytes, bytes]


def read_footer(path: StorePath) -> Footer:
    """Read the footer of a Parquet file.

    Args:
        path: The file.

    Raises:
        DataRefused: It is no Parquet file, or it was cut.
    """
    try:
        with path.open("rb") as source:
            file = pq.ParquetFile(source)
            leaves = (file.schema.column(n) for n in range(len(file.schema)))
            columns = tuple(_column(field, leaves) for field in file.schema_arrow)
            return Footer(columns, file.metadata.metadata or {})
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk or the network, not of the file
            raise
        raise DataRefused(
            f"the file cannot be read: {visible(str(error).splitlines()[0] if str(error) else 'its end is no footer')}",
            kept="the file cannot be read: its end is not that of a Parquet file",
            expected="a complete Parquet file",
            where=str(path),
            next_step="have the source deliver it again, with a time of its own",
        ) from error


def _column(field: pa.Field, leaves: Iterator[pq.ColumnSchema]) -> FileColumn:
    """Return a column; take its leaves, the columns of plain values that it consists of."""
    own = [next(leaves) for _ in range(count_leaves(field.type))]
    spark_type = _spark_type(field.type)
    if isinstance(spark_type, T.BinaryType) and own[0].logical_type.type != "NONE":  # such as an interval
        spark_type = None
    is_timestamp, is_int96 = pa.types.is_timestamp(field.type), own[0].physical_type == "INT96"
    if is_timestamp and is_int96:
        spark_type = T.TimestampType()
    is_nanoseconds = is_timestamp and field.type.unit == "ns" and not is_int96
    return FileColumn(field.name, field.type, spark_type, is_nanoseconds, is_int96)


def _spark_type(arrow_type: pa.DataType, is_nested: bool = False) -> T.DataType | None:
    """Return the type as which Spark reads a column; None if it cannot."""
    if isinstance(arrow_type, pa.UuidType):
        return None
    if isinstance(arrow_type, pa.BaseExtensionType):  # JSON is text; what is unknown is what it is stored as
        return _spark_type(arrow_type.storage_type, is_nested)
    if pa.types.is_dictionary(arrow_type):
        return _spark_type(arrow_type.value_type, is_nested)
    if pa.types.is_decimal(arrow_type):
        fits = arrow_type.precision <= _MAX_PRECISION and arrow_type.scale >= 0
        return T.DecimalType(arrow_type.precision, arrow_type.scale) if fits else None
    if pa.types.is_timestamp(arrow_type):
        if is_nested and arrow_type.unit == "ns":
            return None
        return T.TimestampType() if arrow_type.tz else T.TimestampNTZType()
    if pa.types.is_duration(arrow_type):
        return T.LongType()
    if pa.types.is_fixed_size_binary(arrow_type):
        return T.BinaryType()
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type):
        element = _spark_type(arrow_type.value_type, is_nested=True)
        return T.ArrayType(element) if element else None
    if pa.types.is_struct(arrow_type):
        members = [(f.name, _spark_type(f.type, is_nested=True)) for f in arrow_type]
        return T.StructType([T.StructField(n, t) for n, t in members if t]) if all(t for _, t in members) else None
    if pa.types.is_map(arrow_type):
        key, item = (_spark_type(t, is_nested=True) for t in (arrow_type.key_type, arrow_type.item_type))
        return T.MapType(key, item) if key and item else None
    return _SPARK_TYPES.get(arrow_type)
