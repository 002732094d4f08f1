"""Finds and rewrites instants in Parquet's oldest notation (INT96) that are no whole microsecond.

Spark reads them as microseconds and drops the rest in silence. In a copy of the file they are text, in which the reader
sees every digit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.storage.file_io import StorePath


def has_int96(path: StorePath) -> bool:
    """Return whether a file has a column of INT96; False if it is no Parquet file, which the reader reports.

    Args:
        path: The file.
    """
    try:
        with path.open("rb") as source:
            return bool(_int96_columns(pq.ParquetFile(source)))
    except (pa.ArrowException, ValueError):
        return False
    except OSError as error:
        if error.errno is not None:  # of the disk or the network, not of the file
            raise
        return False


def rewrite(path: StorePath, target: Path) -> bool:
    """Write a copy with these columns as text; return False, without a copy, if all instants are whole microseconds.

    Args:
        path: The file.
        target: The copy.
    """
    try:
        with path.open("rb") as first, path.open("rb") as second:
            return _rewrite(pq.ParquetFile(first), pq.ParquetFile(second, coerce_int96_timestamp_unit="us"), target)
    except (pa.ArrowException, ValueError):  # the reader reports what is wrong with the file
        return False


def _rewrite(exact: pq.ParquetFile, coarse: pq.ParquetFile, target: Path) -> bool:
    groups, names = range(exact.metadata.num_row_groups), _int96_columns(exact)
    pairs = ((_column(exact, group, name), _column(coarse, group, name)) for group in groups for name in names)
    if not any(pc.any(pc.not_equal(_nanoseconds(*pair), 0)).as_py() for pair in pairs):
        return False
    fields = [field.with_type(pa.string()) if field.name in names else field for field in coarse.schema_arrow]
    with pq.ParquetWriter(target, pa.schema(fields, coarse.schema_arrow.metadata)) as out:
        for group in groups:
            columns = coarse.read_row_group(group).columns
            for at, field in enumerate(fields):
                if field.name in names:
                    columns[at] = _text(_column(exact, group, field.name), columns[at])
            out.write_table(pa.table(columns, schema=out.schema))
    return True


def _int96_columns(file: pq.ParquetFile) -> list[str]:
    leaves = [file.schema.column(at) for at in range(len(file.schema))]
    names = [leaf.name for leaf in leaves if leaf.physical_type == "INT96" and "." not in leaf.path]
    return [name for name in names if file.schema_arrow.names.count(name) == 1]


def _column(file: pq.ParquetFile, group: int, name: str) -> pa.ChunkedArray:
    return file.read_row_group(group, columns=[name]).column(0)


def _nanoseconds(exact: Any, coarse: Any) -> Any:
    """Return the nanoseconds beyond microseconds; nanoseconds of far years overflow, and their difference does not."""
    return pc.subtract(exact.cast(pa.int64()), pc.multiply(coarse.cast(pa.int64()), 1000))


def _text(exact: Any, coarse: Any) -> Any:
    """Return instants as text: with nine digits after the seconds if they need them, and `Z`."""
    micros = pc.strftime(coarse, format="%Y-%m-%d %H:%M:%S")  # with six digits
    rest = _nanoseconds(exact, coarse)
    digits = pc.utf8_lpad(rest.cast(pa.string()), 3, "0")
    digits = pc.if_else(pc.equal(rest, 0), "", digits)
    return pc.binary_join_element_wise(micros, digits, "Z", "")
