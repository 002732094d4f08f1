"""CSV: every field as text, found by its column's name."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers.csv_dialect import Dialect
from lakehouse.ingest.readers.fields import Field, Fields, named
from lakehouse.schema.cast import cast_text
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile

_RAGGED = "_ragged"
# What is ours to read, or to tell Spark, whatever a table's options say of it.
_OURS = frozenset({"locale", "dateformat", "timestampformat", "timestampntzformat"})
_REPLACEMENT = "\ufffd"


def fields(
    spark: SparkSession,
    table: Table,
    declared: T.StructType,
    file: LandedFile,
    path: StorePath,
    zone: str,
    may_lack: frozenset[str],
    lines: DataFrame | None = None,
) -> Fields:
    """A CSV file as fields.

    Args:
        lines: records to take instead of the file's own, each a line in the one column.

    Raises:
        DataRefused: no header, a column missing or doubled, a quote that is not closed.
    """
    dialect = Dialect.of(table.options)
    header, positions = found(dialect, path, named(table, declared), may_lack, hide=bool(table.pii))
    columns = {}
    for field in declared:
        text = F.col(f"_{positions[field.name]}") if field.name in positions else F.lit(None).cast("string")
        value, reason = cast_text(text, field.dataType, zone, table.options)
        if not (dialect.is_utf8 and file.is_utf8):
            broken = text.contains(_REPLACEMENT)
            reason = F.coalesce(
                F.when(broken, F.lit("NUL, or bytes that are not valid in the file's encoding")), reason
            )
        columns[field.name] = Field(text, value, reason)
    ragged = F.lit(f"the record does not have the {len(header)} fields of the header")
    record = F.struct(*[F.col(f"_{i}").alias(name) for i, name in enumerate(header)])
    return Fields(
        rows=_texts(spark, dialect, file, path, len(header), lines),
        columns=columns,
        received=F.to_json(record, {"ignoreNullFields": "false"}),
        broken=F.when(F.col(_RAGGED).isNotNull(), ragged),
        whole=F.col(_RAGGED),
        records=dialect.count(path) if dialect.may_span_lines(file) and lines is None else None,
        unnamed=tuple(name for i, name in enumerate(header) if i not in positions.values()),
        lacking=frozenset(declared.names).difference(positions),
    )


def lines(table: Table, paths: list[StorePath], rows: set[str]) -> dict[str, int]:
    """Where these rows (the JSON of their fields) first stand."""
    dialect = Dialect.of(table.options)
    texts = {row: tuple(value or "" for value in json.loads(row).values()) for row in rows}
    found: dict[tuple[str, ...], int] = {}
    for path in paths:
        for width in {len(t) for t in texts.values()}:
            found = dialect.lines(path, {t for t in texts.values() if len(t) == width}, width) | found
    return {row: found[text] for row, text in texts.items() if text in found}


def found(
    dialect: Dialect,
    path: StorePath,
    declared: Mapping[str, str],
    may_lack: frozenset[str] = frozenset(),
    hide: bool = False,
) -> tuple[list[str], dict[str, int]]:
    """The columns of a file, and where among them each declared one stands.

    Args:
        declared: the declared columns, each with its name in the file.
        hide: tell no name that is not declared: what stands in a header's place may be somebody's row.

    Raises:
        DataRefused: no header, a column missing or doubled.
    """
    header = _header(dialect, path, declared)
    return header, _positions(header, declared, path, may_lack, hide)


def _header(dialect: Dialect, path: StorePath, declared: Mapping[str, str]) -> list[str]:
    if not dialect.has_header:
        return list(declared)
    header = dialect.header(path)
    if header is None:
        raise DataRefused(
            f"{path.name} is empty",
            expected=f"a header with the columns {', '.join(declared.values())}",
            where=str(path),
        )
    return [name.strip() or f"(column {i})" for i, name in enumerate(header, start=1)]


def _positions(
    header: list[str], declared: Mapping[str, str], path: StorePath, may_lack: frozenset[str], hide: bool
) -> dict[str, int]:
    """Where each declared column stands in the file: found by its name, whatever the case and the order."""
    folded = [name.lower() for name in header]
    doubled = sorted({name for name, low in zip(header, folded, strict=True) if folded.count(low) > 1})
    missing = [name for column, name in declared.items() if name.lower() not in folded and column not in may_lack]
    if doubled or missing:
        known = {name.lower() for name in declared.values()}
        doubled = [name if name.lower() in known or not hide else "(not shown)" for name in doubled]
        there = f"{len(header)} names, not shown since the table has `pii`" if hide else ", ".join(header)
        found = [f"more than one column named {', '.join(doubled)}"] if doubled else []
        found += [f"no column {', '.join(missing)}"] if missing else []
        raise DataRefused(
            f"{path.name} has {' and '.join(found)}",
            expected=f"the columns {', '.join(declared.values())}; its header has {there}",
            where=f"{path}, line 1",
            next_step="mend the source, or the table's `names` if the source's columns were renamed",
        )
    return {column: folded.index(name.lower()) for column, name in declared.items() if name.lower() in folded}


def _texts(
    spark: SparkSession, dialect: Dialect, file: LandedFile, path: StorePath, width: int, lines: DataFrame | None
) -> DataFrame:
    """Every field as text, named by its position, and the whole record where it has another number of fields."""
    by_position = [T.StructField(f"_{i}", T.StringType()) for i in range(width)]
    # The parser puts the null value for a blank field, so that it stays apart from "": for that the file's own hash
    # is taken, which is the one text that cannot stand in it.
    options = {"nullvalue": file.sha256, "emptyvalue": ""}
    options |= {name: value for name, value in dialect.options.items() if name not in _OURS}
    options |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": _RAGGED, "enforceschema": "true"}
    spans_lines = dialect.may_span_lines(file)
    options |= {"multiline": str(spans_lines).lower()}
    if spans_lines and (line_end := dialect.line_end(path)) != "\n":
        options["linesep"] = line_end  # told, the parser leaves those inside quotes alone
    texts = T.StructType([*by_position, T.StructField(_RAGGED, T.StringType())])
    if lines is not None:
        ddl = ", ".join(f"`{name}` STRING" for name in texts.names)
        return lines.select(F.from_csv(lines.columns[0], ddl, options).alias("_")).select("_.*")
    return spark.read.options(**options).schema(texts).csv(escape_glob(path))
