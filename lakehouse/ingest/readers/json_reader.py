"""JSON: one object per line, one array of objects, or objects that span lines. Every member as text, by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import json_fields
from lakehouse.ingest.readers.fields import ParsedField, ParsedFile, names_in_files
from lakehouse.schema.cast import cast_text
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile

_TEXT, _MEMBERS = "_text", "_members"
_MEMBERS_TYPE = T.MapType(T.StringType(), T.StringType())


def parse_file(
    spark: SparkSession,
    table: Table,
    declared: T.StructType,
    file: LandedFile,
    path: StorePath,
    time_zone: str,
    optional_columns: frozenset[str],
) -> ParsedFile:
    """A JSON file as fields; a member that an object lacks is null.

    Raises:
        DataRefused: not UTF-8, an array or an object that is cut short, or a declared column that no object has.
    """
    if not file.is_utf8:
        raise DataRefused(f"{path.name} is not UTF-8", expected="JSON in UTF-8 (RFC 8259)", where=str(path))
    objects, records = _read_objects(spark, path)
    members = _udf(json_fields.members, _MEMBERS_TYPE)
    rows = objects.select(_TEXT, members(_TEXT).alias(_MEMBERS))
    names, sought = _member_names(rows), names_in_files(table, declared)
    missing = [name for column, name in sought.items() if name.lower() not in names and column not in optional_columns]
    if names and missing:
        raise DataRefused(
            f"no object of {path.name} has {', '.join(missing)}",
            expected=f"the members {', '.join(sought.values())}",
            where=str(path),
            next_step="mend the source, or the table's `names` if the source's names changed",
        )
    columns, texts = {}, {}
    for n, field in enumerate(declared):
        spelled = [F.col(_MEMBERS).getItem(name) for name in sorted(names.get(sought[field.name].lower(), []))]
        member = F.coalesce(*spelled) if spelled else F.lit(None).cast("string")
        is_string = F.startswith(member, F.lit('"'))
        # A column, which is then asked for by its name: what is made of a text has it many times over.
        texts[f"{_MEMBERS}_{n}"] = F.when(is_string, F.substring(member, 2, F.length(member))).otherwise(member)
        columns[field.name] = _parse_field(
            F.col(f"{_MEMBERS}_{n}"), is_string, field.dataType, time_zone, table.options
        )
    rows = rows.select("*", *[text.alias(name) for name, text in texts.items()])
    wanted = {name.lower() for name in sought.values()}
    return ParsedFile(
        rows=rows,
        columns=columns,
        received_json=F.col(_TEXT),
        row_error=F.when(F.col(_MEMBERS).isNull(), F.lit("not a JSON object, or one with a name twice")),
        raw_record=F.col(_TEXT),
        record_count=records,
        missing_columns=frozenset(column for column, name in sought.items() if names and name.lower() not in names),
        unknown_columns=tuple(sorted(name for low, all_of in names.items() if low not in wanted for name in all_of)),
    )


def line_numbers(table: Table, paths: list[StorePath], rows: set[str]) -> dict[str, int]:
    """Where these rows first stand; objects of an array, or that span lines, have no lines of their own."""
    found: dict[str, int] = {}
    for path in paths:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if (text := line.removesuffix("\n")) in rows:
                    found.setdefault(text, number)
    return found


def _read_objects(spark: SparkSession, path: StorePath) -> tuple[DataFrame, int | None]:
    """The texts of the objects and, where they are not one a line, how many Python's parser finds."""
    found = None
    if not (is_lines := _has_object_per_line(path)):
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = json_fields.elements(file.read())
        is_lines = found is None and _has_any_object_line(path)
    if is_lines:
        return spark.read.text(escape_glob(path)).where(F.trim("value") != "").select(F.col("value").alias(_TEXT)), None
    if found is None:
        raise DataRefused(
            f"{path.name} is not a whole JSON array, nor whole objects",
            expected="objects between [ and ], one object a line, or objects that span lines",
            where=str(path),
            next_step="the file may be cut short",
        )
    split = _udf(json_fields.elements, T.ArrayType(T.StringType()))
    whole = spark.read.text(escape_glob(path), wholetext=True)
    return whole.select(F.explode(split("value")).alias(_TEXT)), len(found)


def copy_without(path: Path, target: Path, excluded: set[str]) -> None:
    """Copy a file but for the objects, or the lines that are none, of these texts."""
    text = "" if _has_object_per_line(path) else path.read_bytes().decode("utf-8-sig")
    objects = json_fields.elements(text) if text else None
    if objects is not None:
        kept = [one for one in objects if one not in excluded]
        is_array = text.lstrip().startswith("[")
        target.write_text(f"[{','.join(kept)}]" if is_array else "\n".join(kept), encoding="utf-8", newline="")
        return
    with path.open(encoding="utf-8", newline="") as file, target.open("w", encoding="utf-8", newline="") as out:
        out.writelines(line for line in file if line.removeprefix("\ufeff").rstrip("\r\n") not in excluded)


def _has_object_per_line(path: StorePath) -> bool:
    """Whether a file has one object a line, by its first two; else it is to be looked at as a whole."""
    with path.open(encoding="utf-8-sig") as file:
        written = (line for line in file if line.strip())
        first, second = next(written, ""), next(written, "")
    if first.lstrip().startswith("["):
        return False
    # An object that the line begins and does not end is a bad line, if nothing or another object comes after it.
    return not json_fields.is_unfinished(first) or not second or second.startswith("{")


def _has_any_object_line(path: StorePath) -> bool:
    """Whether any line that is not indented is an object: then the others are bad lines."""
    with path.open(encoding="utf-8-sig") as file:
        return any(line.startswith("{") and json_fields.members(line) is not None for line in file)


def _member_names(rows: DataFrame) -> dict[str, set[str]]:
    """The members that occur, by their names in lower case."""
    found = rows.select(F.explode(F.map_keys(_MEMBERS)).alias("name")).distinct().collect()
    names: dict[str, set[str]] = {}
    for row in found:
        names.setdefault(row.name.lower(), set()).add(row.name)
    return names


def _parse_field(
    text: Column, is_string: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]
) -> ParsedField:
    """Text by the rules of `convert`, and so are the leaves of arrays and structs."""
    # A locale is for numbers in quotes; those without are JSON's own.
    may_be_bare = isinstance(data_type, T.NumericType | T.ArrayType | T.StructType)
    own = {name: value for name, value in options.items() if name.lower() != "locale" or not may_be_bare}
    if isinstance(data_type, T.ArrayType | T.StructType):
        return _parse_nested(text, data_type, time_zone, own)
    value, reason = cast_text(text, data_type, time_zone, own)
    if len(own) < len(options):
        by_locale, locale_reason = cast_text(text, data_type, time_zone, options)
        value = F.when(is_string, by_locale).otherwise(value)
        reason = F.when(is_string, locale_reason).otherwise(reason)
    return ParsedField(text, value, reason)


def _parse_nested(
    text: Column, data_type: T.ArrayType | T.StructType, time_zone: str, options: dict[str, str]
) -> ParsedField:
    """An array or struct, taken apart into texts; one leaf that does not fit makes all of it malformed."""
    shape = _shape(data_type)
    taken = _udf(lambda value: value and json_fields.leaf_texts(value, shape), T.StringType())(text)
    wrapped = F.concat(F.lit('{"value":'), taken, F.lit("}"))
    texts = F.from_json(wrapped, T.StructType([T.StructField("value", _text_type(data_type))]))["value"]
    value, is_wrong = _convert_leaves(texts, data_type, time_zone, options)
    wrong = text.isNotNull() & (taken.isNull() | texts.isNull() | is_wrong)
    return ParsedField(
        text, F.when(~wrong, value).cast(data_type), F.when(wrong, F.lit(f"not a {data_type.simpleString()}"))
    )


def _shape(data_type: T.DataType) -> json_fields.Shape:
    if isinstance(data_type, T.ArrayType):
        return [_shape(data_type.elementType)]
    return {f.name: _shape(f.dataType) for f in data_type.fields} if isinstance(data_type, T.StructType) else None


def _text_type(data_type: T.DataType) -> T.DataType:
    """The type with text for every leaf."""
    if isinstance(data_type, T.ArrayType):
        return T.ArrayType(_text_type(data_type.elementType))
    if isinstance(data_type, T.StructType):
        return T.StructType([T.StructField(f.name, _text_type(f.dataType)) for f in data_type.fields])
    return T.StringType()


def _convert_leaves(
    texts: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]
) -> tuple[Column, Column]:
    """The value, and whether any leaf in it is wrong."""
    if isinstance(data_type, T.ArrayType):
        inner = data_type.elementType
        value = F.transform(texts, lambda one: _convert_leaves(one, inner, time_zone, options)[0])
        return value, F.exists(texts, lambda one: _convert_leaves(one, inner, time_zone, options)[1])
    if isinstance(data_type, T.StructType):
        parts = {f.name: _convert_leaves(texts[f.name], f.dataType, time_zone, options) for f in data_type.fields}
        value = F.struct(*[part.alias(name) for name, (part, _) in parts.items()])
        is_wrong = reduce(Column.__or__, [wrong for _, wrong in parts.values()])
        return F.when(texts.isNotNull(), value), F.coalesce(is_wrong, F.lit(False))
    value, reason = cast_text(texts, data_type, time_zone, options)
    return value, reason.isNotNull()


def _udf(function: Callable[[Any], Any], return_type: T.DataType) -> Callable[..., Column]:
    """A Python function for Spark's workers, without its type hints: PySpark would take them for orders."""

    def plain(text):  # type: ignore[no-untyped-def]
        return function(text)

    return F.udf(plain, return_type)
