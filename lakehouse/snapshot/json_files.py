"""JSON: one object per line, or one array of objects. Every member as text, found by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.landing import LandedFile
from lakehouse.snapshot import json_texts
from lakehouse.snapshot.convert import convert
from lakehouse.snapshot.fields import Field, Fields, literal

_TEXT, _MEMBERS = "_text", "_members"


def fields(
    spark: SparkSession,
    table: Table,
    declared: T.StructType,
    file: LandedFile,
    path: Path,
    zone: str,
    may_lack: frozenset[str],
) -> Fields:
    """A JSON file as fields; a member that an object lacks is null.

    Raises:
        DataRefused: not UTF-8, an array that is cut short, or a declared column that no object has.
    """
    if not file.is_utf8:
        raise DataRefused(f"{path.name} is not UTF-8", expected="JSON in UTF-8 (RFC 8259)", where=str(path))
    objects, records = _objects(spark, path)
    members = _function(json_texts.members, T.MapType(T.StringType(), T.StringType()))
    rows = objects.select(_TEXT, members(_TEXT).alias(_MEMBERS))
    names = _names(rows)
    missing = [f.name for f in declared if f.name.lower() not in names and f.name not in may_lack]
    if names and missing:
        raise DataRefused(
            f"no object of {path.name} has {', '.join(missing)}",
            expected=f"the members {', '.join(declared.names)}",
            where=str(path),
            next_step="mend the source, or the table's schema if the source's names changed",
        )
    columns = {}
    for field in declared:
        spelled = [F.col(_MEMBERS).getItem(name) for name in sorted(names.get(field.name.lower(), []))]
        text = F.coalesce(*spelled) if spelled else F.lit(None).cast("string")
        columns[field.name] = Field(text, *_converted(text, field.dataType, zone, table.options))
    wanted = {f.name.lower() for f in declared}
    return Fields(
        rows=rows,
        columns=columns,
        received=F.col(_TEXT),
        broken=F.when(F.col(_MEMBERS).isNull(), F.lit("not a JSON object")),
        whole=F.col(_TEXT),
        records=records,
        lacking=frozenset(f.name for f in declared if names and f.name.lower() not in names),
        unnamed=tuple(sorted(name for low, all_of in names.items() if low not in wanted for name in all_of)),
    )


def lines(table: Table, paths: list[Path], rows: set[str]) -> dict[str, int]:
    """Where these rows first stand; rows of an array have no lines of their own."""
    found: dict[str, int] = {}
    for path in paths:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if (text := line.rstrip("\r\n")) in rows:
                    found.setdefault(text, number)
    return found


def _objects(spark: SparkSession, path: Path) -> tuple[DataFrame, int | None]:
    """The texts of the objects and, of an array, how many Python's parser finds in it."""
    if not _is_array(path):
        return spark.read.text(literal(path)).where(F.trim("value") != "").select(F.col("value").alias(_TEXT)), None
    with path.open(encoding="utf-8-sig") as file:
        found = json_texts.elements(file.read())
    if found is None:
        raise DataRefused(
            f"{path.name} is not a whole JSON array",
            expected="objects between [ and ], or one object a line",
            where=str(path),
            next_step="the file may be cut short",
        )
    split = _function(json_texts.elements, T.ArrayType(T.StringType()))
    whole = spark.read.text(literal(path), wholetext=True)
    return whole.select(F.explode(split("value")).alias(_TEXT)), len(found)


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _names(rows: DataFrame) -> dict[str, set[str]]:
    """The members that occur, by their names in lower case."""
    found = rows.select(F.explode(F.map_keys(_MEMBERS)).alias("name")).distinct().collect()
    names: dict[str, set[str]] = {}
    for row in found:
        names.setdefault(row.name.lower(), set()).add(row.name)
    return names


def _converted(text: Column, kind: T.DataType, zone: str, options: dict[str, str]) -> tuple[Column, Column]:
    """Text by the rules of `convert`; arrays and structs by Spark's parser, asked whether it took all of it."""
    if not isinstance(kind, T.ArrayType | T.StructType):
        return convert(text, kind, zone, options)
    wrapped = F.concat(F.lit('{"value":'), text, F.lit("}"))
    parsed = F.from_json(
        wrapped,
        T.StructType([T.StructField("value", kind), T.StructField("_wrong", T.StringType())]),
        {"columnNameOfCorruptRecord": "_wrong", "timeZone": zone},
    )
    wrong = text.isNotNull() & parsed["_wrong"].isNotNull()
    return F.when(~wrong, parsed["value"]), F.when(wrong, F.lit(f"not a {kind.simpleString()}"))


def _function(function: Callable[[str], Any], kind: T.DataType) -> Callable[..., Column]:
    """A Python function for Spark's workers, without its type hints: PySpark would take them for orders."""

    def plain(text):  # type: ignore[no-untyped-def]
        return function(text)

    return F.udf(plain, kind)
