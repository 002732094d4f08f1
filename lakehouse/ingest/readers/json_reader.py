"""Reads landed JSON files: one object a line, one array of objects, or objects that span lines.

Every member is read as text, by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import json_fields
from lakehouse.ingest.readers.missing_columns import MissingColumns
from lakehouse.ingest.readers.parsed_file import ParsedField, ParsedFile, ReadSettings, field_of_name
from lakehouse.schema.cast import cast_text
from lakehouse.storage import json_records, row_sizes
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile

_JSON_SPACE = " \t\r\n"
_TEXT, _MEMBERS = "_text", "_members"
_MEMBERS_TYPE = T.MapType(T.StringType(), T.StringType())
_TOMBSTONE = "null"
NOT_AN_OBJECT = "not a JSON object, or one with a name twice"  # a row's fault

_NESTED_TYPES = (T.ArrayType, T.StructType)


def parse_file(settings: ReadSettings, file: LandedFile, path: StorePath) -> ParsedFile:
    """Parse a JSON file into fields; a member that an object lacks is null.

    Args:
        settings: The reader's settings.
        file: The file as landed.
        path: Where it is.

    Raises:
        DataRefused: The file is not UTF-8, is cut short, or none of its objects has a required column.
    """
    require_utf8(file, path)
    is_feed = settings.table.feed is not None
    objects, record_count = _read_objects(settings.spark, path, is_feed)
    rows = objects.select(_TEXT, _udf(json_fields.members, _MEMBERS_TYPE)(_TEXT).alias(_MEMBERS))
    spellings: dict[str, set[str]] = {}  # the names of all members, by the name in lower case
    for row in rows.select(F.explode(F.map_keys(_MEMBERS)).alias("name")).distinct().collect():
        spellings.setdefault(row.name.lower(), set()).add(row.name)
    members = settings.names_in_files
    missing, unknown = check_members(settings, spellings, path)
    in_name = settings.name_texts(file)
    columns, texts = {}, {}
    for n, field in enumerate(settings.declared):
        if field.name in in_name:
            columns[field.name] = field_of_name(settings, field.name, in_name[field.name])
            continue
        names = sorted(spellings.get(members[field.name].lower(), []))
        member = F.coalesce(*[F.col(_MEMBERS).getItem(name) for name in names]) if names else F.lit(None).cast("string")
        is_string = F.startswith(member, F.lit('"'))
        text = F.when(is_string, F.substring(member, 2, F.length(member))).otherwise(member)
        if nulls := settings.table.null_texts(field.name):
            text = F.when(~(is_string & text.isin(*nulls)), text)
        texts[f"{_MEMBERS}_{n}"] = text  # named, because the expressions below repeat it many times
        columns[field.name] = _parse_field(settings, F.col(f"{_MEMBERS}_{n}"), is_string, field.dataType)
    return ParsedFile(
        rows=rows.select("*", *[text.alias(name) for name, text in texts.items()]),
        columns=columns,
        received_json=_with_members(F.col(_TEXT), F.col(_MEMBERS), in_name),
        row_error=F.when(F.col(_MEMBERS).isNull(), F.lit(NOT_AN_OBJECT)),
        raw_record=F.col(_TEXT),
        record_count=record_count,
        unknown_columns=unknown,
        missing_columns=missing,
    )


def require_utf8(file: LandedFile, path: StorePath) -> None:
    """Raise if a file is not UTF-8.

    Raises:
        DataRefused: It is not.
    """
    if not file.is_utf8:
        raise DataRefused(
            f"{path.name} is not UTF-8",
            expected="JSON in UTF-8 (RFC 8259)",
            where=str(path),
            next_step="have the source write UTF-8, and deliver it again with a time of its own",
        )


def check_members(
    settings: ReadSettings, spellings: Mapping[str, Set[str]], path: StorePath
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the declared columns that no object of a file has, and the members that the schema does not name.

    Args:
        settings: The reader's settings.
        spellings: The names of all members of the file, by the name in lower case.
        path: The file.

    Raises:
        DataRefused: A column that the file has to have is missing.
        ConfigError: A member is a column that the file's name has.
    """
    members, known = settings.names_in_files, {name.lower() for name in settings.names_in_files.values()}
    missing = {c: name for c, name in members.items() if spellings and name.lower() not in spellings}
    if required := [name for column, name in missing.items() if column not in settings.optional_columns]:
        raise MissingColumns(
            f"no object of {path.name} has {', '.join(required)}",
            missing=required,
            unknown=sorted(name for low, each in spellings.items() if low not in known for name in each),
            expected=f"the members {', '.join(members.values())}",
            where=str(path),
            next_step="correct the source, or the table's `names` if the source's names changed",
        )
    unknown = sorted(name for low, names in spellings.items() if low not in known for name in names)
    settings.require_not_in_name(unknown, path)
    return frozenset(missing), tuple(unknown)


def line_numbers(table: Table, files: Mapping[LandedFile, StorePath], rows: set[str]) -> dict[str, int]:
    """Return the line on which each of these objects first begins, if it is a line of its own."""
    numbers: dict[str, int] = {}
    pattern = table.file_pattern
    for file, path in files.items():
        in_name = (pattern.find_values(file.name) if pattern.columns else None) or {}
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.removesuffix("\n")
                for received in {text, with_members(text, in_name)} & rows:
                    numbers.setdefault(received, number)
    return numbers


def with_members(text: str, members: Mapping[str, str]) -> str:
    """Return the text of an object with further members at its end; any other text as it is.

    >>> with_members('{"id": 1 }', {"uf": "SP"})
    '{"id": 1,"uf":"SP"}'

    Args:
        text: The text of an object.
        members: The members that it does not have.
    """
    opened, end, rest = text.rstrip(_JSON_SPACE).rpartition("}")
    if not members or not end or rest or not opened.lstrip(_JSON_SPACE).startswith("{"):
        return text
    opened = opened.rstrip(_JSON_SPACE)
    separator = "" if opened.endswith("{") else ","
    return f"{opened}{separator}{json.dumps(dict(members), ensure_ascii=False, separators=(',', ':'))[1:]}"


def _with_members(text: Column, members: Column, added: Mapping[str, str]) -> Column:
    """Return the texts of objects with further members at their ends; of what is no object, the text as it is."""
    if not added:
        return text
    opened = F.regexp_replace(text, r"[ \t\r\n]*\}[ \t\r\n]*\z", "")
    separator = F.when(F.size(members) > 0, ",").otherwise("")
    end = json.dumps(dict(added), ensure_ascii=False, separators=(",", ":"))[1:]
    return F.when(members.isNull(), text).otherwise(F.concat(opened, separator, F.lit(end)))


def copy_without(path: Path, target: Path, excluded: set[str], names: tuple[str, ...] = ()) -> None:
    """Copy a file without some of its records.

    Args:
        path: The file.
        target: The copy.
        excluded: The texts of the objects, or of the lines that are no object, to leave out.
        names: The names that lead to the array of records inside a document; none if the records are at the top.
    """
    if names:

        def without_excluded(array: str) -> str:
            objects = json_fields.elements(array) or []
            return f"[{','.join(one for one in objects if one not in excluded)}]" if excluded & {*objects} else array

        json_records.copy_with_records(path, target, names, without_excluded)
        return
    text = "" if _has_object_per_line(path) else path.read_bytes().decode("utf-8-sig")
    objects = json_fields.elements(text) if text else None
    if objects is not None:
        rest = [one for one in objects if one not in excluded]
        is_array = text.lstrip().startswith("[")
        target.write_text(f"[{','.join(rest)}]" if is_array else "\n".join(rest), encoding="utf-8", newline="")
        return
    with path.open(encoding="utf-8", newline="") as file, target.open("w", encoding="utf-8", newline="") as out:
        out.writelines(line for line in file if line.removeprefix("\ufeff").rstrip("\r\n") not in excluded)


def _read_objects(spark: SparkSession, path: StorePath, is_feed: bool) -> tuple[DataFrame, int | None]:
    """Read the text of each object; if they are not one a line, also return how many Python's parser finds.

    In a feed, a null is no event: Kafka writes one behind a delete, for the sake of compaction.
    """
    objects, skipped = split_objects(path, is_feed), ["", *([_TOMBSTONE] if is_feed else [])]
    if objects is None:
        lines = spark.read.text(escape_glob(path)).where(~F.trim("value").isin(skipped))
        return lines.select(F.col("value").alias(_TEXT)), None
    split = _udf(json_fields.elements, T.ArrayType(T.StringType()))
    whole_file = spark.read.text(escape_glob(path), wholetext=True)
    found = whole_file.select(F.explode(split("value")).alias(_TEXT))
    return found.where(~F.col(_TEXT).isin(skipped)), sum(each not in skipped for each in objects)


def split_objects(path: StorePath, is_feed: bool = False) -> list[str] | None:
    """Return the text of each object of a file; None if each line is one.

    Args:
        path: The file.
        is_feed: Whether a line may be null.

    Raises:
        DataRefused: The file is neither, or an object is too large.
    """
    objects = None
    if not (is_line_by_line := _has_object_per_line(path)):
        with path.open(encoding="utf-8-sig", newline="") as file:
            objects = json_fields.elements(file.read())
        if objects is None:  # if any line that is not indented is an object, the other lines are malformed
            with path.open(encoding="utf-8-sig") as file:
                is_line_by_line = any(line.startswith("{") and json_fields.members(line) is not None for line in file)
    if objects and (size := max(map(len, objects))) > row_sizes.MAX_ROW_BYTES:
        raise row_sizes.too_large(f"{path.name} has an object of {size:,} characters", str(path))
    if objects is None and not is_line_by_line:
        raise DataRefused(
            f"{path.name} is not a complete JSON array, nor complete objects",
            expected="objects between [ and ], one object a line, or objects that span lines",
            where=str(path),
            next_step="the file may be cut short",
        )
    if is_line_by_line and not _looks_like_json(path, is_feed):
        raise DataRefused(
            f"{path.name} is no JSON: none of its lines begins an object or a list",
            expected="objects between [ and ], one object a line, or objects that span lines",
            where=str(path),
            next_step="look at the file: a download that failed is often a page or a message",
        )
    return None if is_line_by_line else objects


def _looks_like_json(path: StorePath, is_feed: bool) -> bool:
    """Return whether a file is empty, or begins as no page of markup does and has a line that begins like JSON."""
    with path.open(encoding="utf-8-sig") as file:
        texts = (text for line in file if (text := line.strip()) and not (is_feed and text == _TOMBSTONE))
        begins = (text[0] for text in texts)
        first = next(begins, None)
        return first is None or (first != "<" and (first in "{[" or any(each in "{[" for each in begins)))


def _has_object_per_line(path: StorePath) -> bool:
    """Return whether a file has one object a line, judging by its first two lines."""
    with path.open(encoding="utf-8-sig") as file:
        lines = (line for line in file if line.strip())
        first, second = next(lines, ""), next(lines, "")
    if first.lstrip().startswith("["):
        return False
    # An unfinished object on the first line is a malformed line if nothing or another object comes after it.
    return not json_fields.is_unfinished(first) or not second or second.startswith("{")


def _parse_field(settings: ReadSettings, text: Column, is_string: Column, data_type: T.DataType) -> ParsedField:
    """Parse the text of a member by the rules of `cast_text`, also inside arrays and structs."""
    zone, options = settings.time_zone, settings.table.options
    # A locale applies to numbers in quotes; numbers without quotes are written as JSON defines.
    may_be_unquoted = isinstance(data_type, T.NumericType | T.ArrayType | T.StructType)
    without_locale = {name: v for name, v in options.items() if name.lower() != "locale" or not may_be_unquoted}
    if isinstance(data_type, _NESTED_TYPES):
        shape = _shape(data_type)
        leaf_texts = _udf(lambda value: value and json_fields.leaf_texts(value, shape), T.StringType())(text)
        wrapped = F.concat(F.lit('{"value":'), leaf_texts, F.lit("}"))
        texts = F.from_json(wrapped, T.StructType([T.StructField("value", _text_type(data_type))]))["value"]
        value, has_wrong_leaf = _cast_leaves(texts, data_type, zone, without_locale)
        # One leaf that does not fit makes all of the array or struct malformed.
        is_wrong = text.isNotNull() & (leaf_texts.isNull() | texts.isNull() | has_wrong_leaf)
        reason = F.when(is_wrong, F.lit(f"not a {data_type.simpleString()}"))
        return ParsedField(text, F.when(~is_wrong, value).cast(data_type), reason)
    value, reason = cast_text(text, data_type, zone, without_locale)
    if len(without_locale) < len(options):
        by_locale, locale_reason = cast_text(text, data_type, zone, options)
        value = F.when(is_string, by_locale).otherwise(value)
        reason = F.when(is_string, locale_reason).otherwise(reason)
    return ParsedField(text, value, reason)


def _shape(data_type: T.DataType) -> json_fields.Shape:
    if isinstance(data_type, T.ArrayType):
        return [_shape(data_type.elementType)]
    return {f.name: _shape(f.dataType) for f in data_type.fields} if isinstance(data_type, T.StructType) else None


def _text_type(data_type: T.DataType) -> T.DataType:
    """Return the type with a STRING for every leaf."""
    if isinstance(data_type, T.ArrayType):
        return T.ArrayType(_text_type(data_type.elementType))
    if isinstance(data_type, T.StructType):
        return T.StructType([T.StructField(f.name, _text_type(f.dataType)) for f in data_type.fields])
    return T.StringType()


def _cast_leaves(
    texts: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]
) -> tuple[Column, Column]:
    """Cast every leaf; return the value, and whether any leaf is wrong."""
    if isinstance(data_type, T.ArrayType):
        inner = data_type.elementType
        value = F.transform(texts, lambda one: _cast_leaves(one, inner, time_zone, options)[0])
        return value, F.exists(texts, lambda one: _cast_leaves(one, inner, time_zone, options)[1])
    if isinstance(data_type, T.StructType):
        parts = {f.name: _cast_leaves(texts[f.name], f.dataType, time_zone, options) for f in data_type.fields}
        value = F.struct(*[part.alias(name) for name, (part, _) in parts.items()])
        is_wrong = reduce(Column.__or__, [wrong for _, wrong in parts.values()])
        return F.when(texts.isNotNull(), value), F.coalesce(is_wrong, F.lit(False))
    value, reason = cast_text(texts, data_type, time_zone, options)
    return value, reason.isNotNull()


def _udf(function: Callable[[Any], Any], return_type: T.DataType) -> Callable[..., Column]:
    """Return a UDF of a function without its type hints, which PySpark would read as instructions.

    A UDF, because Spark's own JSON functions lose digits and accept text after an object.
    """

    def untyped(text):  # type: ignore[no-untyped-def]
        return function(text)

    return F.udf(untyped, return_type)
