"""Finds a data subject's records in landed files, and erases them.

The records are found by the readers that `ingest` uses, however the file is written. A copy without them keeps every
other byte as it is. Packed files are packed again.
"""

from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.forget.data_subject import DataSubject
from lakehouse.ingest.readers import json_reader, parquet_reader
from lakehouse.ingest.readers.parsed_file import ParsedField, ReadSettings
from lakehouse.ingest.readers.snapshot_reader import PARSERS, to_data_refused
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import archives, csv_body, landing, temp_dirs
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedFile, LandedSnapshot
from lakehouse.storage.prepare_files import cut_lines, readable_snapshot

_ROW_INDEX = "_cdc_index"


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
                        records[part.name] = _find_records(as_received, part, path, time_zone, subject)
                    except SPARK_ERRORS as error:
                        raise to_data_refused(error, str(path)) from error
            if any(found.count for found in records.values()):
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
    types = {f.name: f.dataType for f in declared_schema(table)}
    in_files = _columns_in_files(table, subject)
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
        texts: In JSON: the records as they are written.
        row_indexes: In Parquet: their positions in the file.
        columns: In CSV: the columns that the file contains, if it has no header.
        key_columns: In CSV: the columns of the key that it contains.
        in_name: The texts of the columns that its name has.
    """

    subject: DataSubject
    count: int
    keys: frozenset[tuple[str, ...]] = frozenset()
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
                return tuple(fields.get(name, "") for name in names) in self.keys

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
    table: TableRef, file: LandedFile, path: StorePath, time_zone: str, subject: DataSubject
) -> _SubjectRecords:
    file_format, optional_columns = table.config.format, frozenset(declared_schema(table.config).names)
    settings = ReadSettings(table.spark, table.config, time_zone, optional_columns)
    try:
        parsed = PARSERS[file_format](settings, file, path)
    except (ConfigError, DataRefused):  # perhaps landed when `file` took no column from the names
        if not table.config.file_pattern.columns:
            raise
        settings = replace(settings, table=table.config.model_copy(update={"file": "*"}))
        parsed = PARSERS[file_format](settings, file, path)
    key = {column: parsed.columns[column] for column in subject.key_texts}
    if file_format == "parquet":
        rows = parsed.rows.select(*_key_values(key), F.col("_metadata.row_index").alias(_ROW_INDEX))
        indexes = frozenset(row[0] for row in subject.rows_in(rows, as_stored=False).select(_ROW_INDEX).collect())
        return _SubjectRecords(subject, len(indexes), row_indexes=indexes)
    row_error = parsed.row_error if parsed.row_error is not None else F.lit(None)
    # The texts of the key are selected as well, since Spark reads no column of broken records alone.
    in_files = _columns_in_files(settings.table, subject)
    key_texts = [key[column].text.alias(f"_cdc_text_{number}") for number, column in enumerate(in_files)]
    broken = parsed.rows.where(row_error.isNotNull()).select(parsed.raw_record, *key_texts).toLocalIterator()
    in_name = tuple(settings.name_texts(file).values())
    naming = [row[0] for row in broken if row[0] is not None and subject.is_named_in(" ".join([row[0], *in_name]))]
    if file_format == "json":
        rows = parsed.rows.select(*_key_values(key), parsed.raw_record.alias("_cdc_text"))
        texts = [row[0] for row in subject.rows_in(rows, as_stored=False).select("_cdc_text").collect()] + naming
        return _SubjectRecords(subject, len(texts), texts=frozenset(texts))
    rows = parsed.rows.where(row_error.isNull()).select(*_key_values(key), *key_texts)
    matching = subject.rows_in(rows, as_stored=False).select(
        *[f"_cdc_text_{number}" for number in range(len(in_files))]
    )
    keys = [tuple(row) for row in matching.collect()]
    return _SubjectRecords(
        subject,
        len(keys) + len(naming),
        keys=frozenset(keys),
        columns=tuple(settings.names_in_files),
        key_columns=tuple(in_files),
        in_name=in_name,
    )


def _columns_in_files(table: Table, subject: DataSubject) -> list[str]:
    """Return the columns of a data subject's key that files contain; the others are in the files' names."""
    return [column for column in subject.key_texts if column not in table.file_pattern.columns]


def _key_values(key: Mapping[str, ParsedField]) -> list[Column]:
    return [field.value.alias(column) for column, field in key.items()]


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
