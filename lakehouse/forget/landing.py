"""Finds a data subject's records in landed files, and erases them.

The records are found by the readers that `ingest` uses, however the file is written. A copy without them keeps every
other byte as it is. Packed files are packed again.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.config.field_columns import FieldColumn
from lakehouse.config.row_keys import ROW_ID
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.forget.data_subject import DataSubject, key_fields, key_types, text_of_field
from lakehouse.ingest.readers import json_reader, parquet_reader
from lakehouse.ingest.readers.parsed_file import ParsedFile, ReadSettings
from lakehouse.ingest.readers.snapshot_reader import PARSERS, to_data_refused
from lakehouse.lake import feed_events
from lakehouse.lake.row_id import row_id
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema import pii
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import declared_schema, stored_schema
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import archives, csv_body, landing, temp_dirs
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedFile, LandedSnapshot
from lakehouse.storage.prepare_files import cut_lines, readable_snapshot

_ROW_INDEX, _TEXT, _RECEIVED = "_cdc_index", "_cdc_text", "_cdc_received"
_IS_BROKEN, _IS_TRUNCATE = "_cdc_is_broken", "_cdc_is_truncate"


@dataclass(frozen=True)
class SnapshotRecords:
    """A data subject's records in a landed snapshot.

    Attributes:
        snapshot: The snapshot.
        by_file: The records of each file that has some, by part: of a packed file the files in it, else itself.
    """

    snapshot: LandedSnapshot
    by_file: Mapping[LandedFile, Mapping[str, _SubjectRecords]]

    @property
    def count(self) -> int:
        """How many records there are."""
        return sum(records.count for parts in self.by_file.values() for records in parts.values())


def find_in_snapshot(
    table: TableRef, snapshot: LandedSnapshot, time_zone: str, subject: DataSubject
) -> SnapshotRecords:
    """Return a data subject's records in a landed snapshot.

    Args:
        table: The table whose snapshot it is.
        snapshot: The snapshot, whose files have not expired.
        time_zone: The zone of timestamps that name none.
        subject: The data subject.

    Raises:
        DataRefused: A file cannot be read, so that it is unknown whether the data subject is in it.
    """
    as_received = replace(table, config=table.config.model_copy(update={"pii": {}}))
    by_file = {}
    with readable_snapshot(table.lake, as_received.config, snapshot) as readable:
        for file in snapshot.files:
            records = {}
            for part, path in zip(readable.files, readable.paths, strict=True):
                if part.name == file.name or part.name.startswith(f"{file.name}/"):
                    try:
                        with feed_events.conditions_computed(str(path)) if table.config.feed else nullcontext():
                            found = _find_records(as_received, part, path, time_zone, subject, table.config)
                            records[part.name] = found
                    except SPARK_ERRORS as error:
                        raise to_data_refused(error, str(path)) from error
            if any(of_part.count for of_part in records.values()):
                by_file[file] = records
    return SnapshotRecords(snapshot, by_file)


def erase_from_snapshot(table: TableRef, found: SnapshotRecords) -> int:
    """Erase records from a landed snapshot, which has not changed since they were found.

    Args:
        table: The table whose snapshot it is.
        found: The records.

    Returns:
        How many records were erased.

    Raises:
        DataRefused: A file cannot be written again in its encoding.
    """
    for file, records in found.by_file.items():
        _rewrite_file(table, found.snapshot, file, records)
    return found.count


def is_subject_absent(table: Table, snapshot: LandedSnapshot, subject: DataSubject) -> bool:
    """Return whether a snapshot that cannot be read surely has no record of a data subject.

    This is so if it is empty, or if it is plain CSV without the key in its text. The latter needs a key that can be
    written in one way only: one of type STRING.

    Args:
        table: The table's configuration.
        snapshot: The snapshot.
        subject: The data subject.
    """
    types, in_files = key_types(table), _columns_in_files(table, subject)
    if all(file.size == 0 for file in snapshot.files):
        return True
    is_packed = any(archives.is_packed(file.name) for file in snapshot.files)
    if table.format != "csv" or is_packed or not in_files or any(types[c] != T.StringType() for c in in_files):
        return False
    encoding = Dialect.from_options(table.options).options["encoding"]
    for path in snapshot.paths:
        with path.open(encoding=encoding, errors="replace") as file:
            if any(subject.key_texts[column] in line for line in file for column in in_files):
                return False
    return True


@dataclass(frozen=True)
class _SubjectRecords:
    """A data subject's records in one file.

    Attributes:
        subject: The data subject.
        count: How many records there are.
        keys: In CSV: the fields of their key, as they are written.
        others: In CSV: all fields of records of other subjects that have such fields, too.
        records: In CSV: all fields of the records, if they have no key.
        texts: In JSON: the records as they are written.
        row_indexes: In Parquet: their positions in the file.
        columns: In CSV: the columns that the file contains, if it has no header.
        key_columns: In CSV: the columns of the key that it contains.
        in_name: The texts of the columns that its name has.
    """

    subject: DataSubject
    count: int
    keys: frozenset[tuple[str, ...]] = frozenset()
    others: frozenset[tuple[str, ...]] = frozenset()
    records: frozenset[tuple[str, ...]] = frozenset()
    texts: frozenset[str] = frozenset()
    row_indexes: frozenset[int] = frozenset()
    columns: tuple[str, ...] = ()
    key_columns: tuple[str, ...] = ()
    in_name: tuple[str, ...] = ()

    def copy_without(self, table: Table, path: Path, target: Path) -> None:
        """Copy a file without these records."""
        if table.format == "parquet":
            parquet_reader.copy_without(path, target, set(self.row_indexes))
        elif table.format == "json":
            json_reader.copy_without(path, target, set(self.texts), table.record_names)
        else:
            names = [table.name_in_files(column).lower() for column in self.key_columns]

            def is_excluded(fields: Mapping[str, str], text: str) -> bool:
                if not fields:  # the record cannot be split into fields
                    return self.subject.is_named_in(" ".join([text, *self.in_name]))
                if self.records:
                    return _fields_of(table, fields) in self.records
                has_key = tuple(fields.get(name, "") for name in names) in self.keys
                return has_key and not (self.others and _fields_of(table, fields) in self.others)

            declared, dialect = list(self.columns), Dialect.from_options(table.options)

            def rewrite(records: Path, kept: Path) -> None:
                dialect.copy_without(records, kept, declared, is_excluded)

            try:
                if lines := cut_lines(table):
                    csv_body.copy_with_body(path, target, dialect, lines, rewrite)
                else:
                    rewrite(path, target)
            except UnicodeError as error:
                raise DataRefused(f"{path.name} cannot be written again: {error}", where=str(path)) from None


def _find_records(
    table: TableRef, file: LandedFile, path: StorePath, time_zone: str, subject: DataSubject, stored: Table
) -> _SubjectRecords:
    """Return a data subject's records in a file; `stored` is the table with its `pii`, `table` that without."""
    file_format, optional_columns = table.config.format, frozenset(declared_schema(table.config).names)
    settings = ReadSettings(table.spark, table.config, time_zone, optional_columns)
    try:
        parsed = PARSERS[file_format](settings, file, path)
    except (ConfigError, DataRefused):  # perhaps landed when `file` took no column from the names
        if not table.config.file_pattern.columns:
            raise
        settings = replace(settings, table=table.config.model_copy(update={"file": "*"}))
        parsed = PARSERS[file_format](settings, file, path)
    in_files = _columns_in_files(settings.table, subject)
    row_error = parsed.row_error if parsed.row_error is not None else F.lit(None)
    position = F.col("_metadata.row_index") if file_format == "parquet" else F.lit(None)
    key_texts = {f"_cdc_text_{n}": parsed.columns[c].text for n, c in enumerate(in_files) if c in parsed.columns}
    of_record = {_ROW_INDEX: position, _TEXT: parsed.raw_record, _IS_BROKEN: row_error.isNotNull(), **key_texts}
    rows = _rows_with_key(settings, parsed, subject, stored, of_record | {_RECEIVED: parsed.received_json})
    of_subject = subject.rows_in(rows.where(~F.col(_IS_BROKEN)), as_stored=False)
    matching = of_subject.where(~F.col(_IS_TRUNCATE))
    if file_format == "parquet":
        indexes = frozenset(row[0] for row in matching.select(_ROW_INDEX).collect())
        return _SubjectRecords(subject, len(indexes), row_indexes=indexes)
    is_unreadable = F.col(_IS_BROKEN)
    if key_fields(table.config):  # of a message that is no event, or of an event with a wrong value beside its key
        has_no_key = reduce(Column.__and__, [F.col(quote_identifier(column)).isNull() for column in subject.key_texts])
        is_unreadable |= has_no_key & ~F.col(_IS_TRUNCATE)
    # The texts of the key are selected as well, since Spark reads no column of broken records alone.
    unreadable = rows.where(is_unreadable).select(_TEXT, *(key_texts or [_RECEIVED])).toLocalIterator()
    in_name = tuple(settings.name_texts(file).values())
    naming = [row[0] for row in unreadable if row[0] is not None and subject.is_named_in(" ".join([row[0], *in_name]))]
    if file_format == "json":
        texts = [row[0] for row in matching.select(_TEXT).collect()] + naming
        return _SubjectRecords(subject, len(texts), texts=frozenset(texts))
    if ROW_ID in subject.key_texts:
        return _whole_records(stored, subject, rows.where(~F.col(_IS_BROKEN)), [*settings.names_in_files], path)
    keys, others = [tuple(row) for row in matching.select(*key_texts).collect()], frozenset[tuple[str, ...]]()
    if feed_events.can_truncate(table.config):
        received = of_subject.where(_IS_TRUNCATE).select(_RECEIVED).collect()
        others = frozenset(_fields_of(table.config, json.loads(row[0])) for row in received)
    return _SubjectRecords(
        subject,
        len(keys) + len(naming),
        keys=frozenset(keys),
        others=others,
        columns=tuple(settings.names_in_files),
        key_columns=tuple(in_files),
        in_name=in_name,
    )


def _whole_records(
    table: Table, subject: DataSubject, rows: DataFrame, columns: list[str], path: StorePath
) -> _SubjectRecords:
    """Return the records of CSV that are the row of a data subject, which has no key.

    Raises:
        DataRefused: Another record has the same fields, but for a blank (null) in place of an empty text in quotes.
    """
    received = [row[0] for row in subject.rows_in(rows).select(_RECEIVED).collect()]
    as_written = F.regexp_replace(_RECEIVED, r":null(?=[,}])", ':""')
    texts = {re.sub(r":null(?=[,}])", ':""', text) for text in received}
    others = rows.join(subject.stored_key, on=ROW_ID, how="left_anti").where(as_written.isin(*texts))
    if texts and not others.isEmpty():
        raise DataRefused(
            "records that differ only in a blank and an empty text cannot be told apart when the file is written again",
            where=str(path),
        )
    records = frozenset(_fields_of(table, json.loads(text)) for text in received)
    return _SubjectRecords(subject, len(received), records=records, columns=tuple(columns))


def _rows_with_key(
    settings: ReadSettings, parsed: ParsedFile, subject: DataSubject, stored: Table, of_record: Mapping[str, Column]
) -> DataFrame:
    """Return the key of each record, columns of the record, and whether it is a truncate, which is about all keys."""
    fields, numbered = key_fields(settings.table), {}
    for number, column in enumerate(subject.key_texts):
        if column == ROW_ID:  # below; it is null if a value cannot be read
            value = reduce(Column.__or__, [field.reason.isNotNull() for field in parsed.columns.values()])
        else:
            value = _field_value(settings, parsed, fields[column]) if column in fields else parsed.columns[column].value
        numbered[f"_cdc_key_{number}"] = value.alias(f"_cdc_key_{number}")
    named = [value.alias(name) for name, value in of_record.items()]
    values = []
    if feed_events.can_truncate(stored) or ROW_ID in subject.key_texts:
        # A condition of a feed may name each of them. Their names may be those that files have.
        stored_values = {name: pii.protected_value(name, field.value, stored) for name, field in parsed.columns.items()}
        values = [value.alias(name) for name, value in stored_values.items() if value is not None]
    rows = parsed.rows.select(*numbered.values(), *named, *values)
    keys = [
        (F.when(~F.col(name), row_id(stored_schema(stored))) if column == ROW_ID else F.col(name)).alias(column)
        for name, column in zip(numbered, subject.key_texts, strict=True)
    ]
    return rows.select(*keys, *of_record, feed_events.is_truncate(stored).alias(_IS_TRUNCATE))


def _field_value(settings: ReadSettings, parsed: ParsedFile, field: FieldColumn) -> Column:
    """Return the value of a key that is a field inside a column, also if something else in that column is wrong."""
    typed = [reduce(Column.getField, rest, parsed.columns[first].value) for first, *rest in field.paths]
    text = text_of_field(field, {source: parsed.columns[source].text for source in field.sources})
    read, _ = cast_text(text, key_types(settings.table)[field.name], settings.time_zone, settings.table.options)
    return F.coalesce(*typed, read)


def _fields_of(table: Table, record: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the fields that a record of CSV has in the declared columns, as they are written."""
    by_name, in_name = {name.lower(): text or "" for name, text in record.items()}, table.file_pattern.columns
    names = (table.name_in_files(column.name).lower() for column in table.columns if column.name not in in_name)
    return tuple(by_name.get(name, "") for name in names)


def _columns_in_files(table: Table, subject: DataSubject) -> list[str]:
    """Return the columns of a data subject's key that files contain; the others are in the files' names."""
    return [column for column in subject.key_texts if column not in (ROW_ID, *table.file_pattern.columns)]


def _rewrite_file(
    table: TableRef, snapshot: LandedSnapshot, file: LandedFile, records: Mapping[str, _SubjectRecords]
) -> None:
    """Replace a landed file by one without these records, packed as it was.

    Args:
        table: The table whose snapshot it is.
        snapshot: The snapshot.
        file: The file.
        records: The records of each of its parts, by name: of a packed file the files in it, else of itself.
    """

    def write(path: Path, target: Path) -> None:
        if not archives.is_packed(file.name):
            records[file.name].copy_without(table.config, path, target)
            return
        with temp_dirs.temp_dir(table.lake.local_path("plain")) as folder:
            members = {part.name: member for part, member in archives.unpack(path, file, folder)}
            for name, member in members.items():
                copy = member.with_name(f"{member.name}.without")
                records[name].copy_without(table.config, member, copy)
                copy.replace(member)
            _pack({name.removeprefix(f"{file.name}/"): member for name, member in members.items()}, path, target)

    landing.rewrite_file(table.lake, snapshot, file.name, write)


def _pack(members: Mapping[str, Path], packed: Path, target: Path) -> None:
    """Pack files into a new archive of the same kind as `packed`."""
    if not packed.name.lower().endswith(".zip"):
        (member,) = members.values()
        with member.open("rb") as source, gzip.open(target, "wb") as out:
            shutil.copyfileobj(source, out)
        return
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.write(member, name)
