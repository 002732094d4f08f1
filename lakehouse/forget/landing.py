"""A key's records taken out of what landed: found by the readers that `ingest` reads with, whatever they are written
like, and left out of a copy in which every other byte stays as it stands. Packed files are packed again.
"""

from __future__ import annotations

import gzip
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.prepare_files import readable_snapshot
from lakehouse.ingest.readers import json_reader, parquet_reader
from lakehouse.ingest.readers.csv_dialect import Dialect
from lakehouse.ingest.readers.fields import ParsedField
from lakehouse.ingest.readers.snapshot_reader import PARSERS, to_data_refused
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import archives, landing, temp_dirs
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake

_POSITION = "_cdc_position"


@dataclass(frozen=True)
class DataSubject:
    """Whose rows are meant.

    Attributes:
        texts: the key as it was given, by column.
        plain: the one row of the key, by the declared types.
        stored: the same as the lake holds it (`pii`).
        hashed: as the list of forgotten keys has it.
    """

    key_texts: Mapping[str, str]
    plain_key: DataFrame
    stored_key: DataFrame
    key_hash: str

    def is_named_in(self, text: str) -> bool:
        """Whether every part of the key stands in a text as a word: all that can be told of what is no row."""
        return all(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) for part in self.key_texts.values())

    def rows_in(self, rows: DataFrame, as_stored: bool = True) -> DataFrame:
        """Those of `rows` that have the key."""
        key = F.broadcast(self.stored_key if as_stored else self.plain_key)
        return rows.join(key, on=list(self.key_texts), how="left_semi")


def erase(
    spark: SparkSession, lake: Lake, table: Table, snapshot: LandedSnapshot, timezone: str, subject: DataSubject
) -> int:
    """Take a person's records out of a landed snapshot; returns how many there were.

    Raises:
        DataRefused: a file cannot be read, so that nobody can say whether they are in it.
    """
    bare = table.model_copy(update={"pii": {}})
    records = 0
    with readable_snapshot(lake, bare, snapshot) as files:
        for file in snapshot.files:
            doomed = {
                part.name: _SubjectRecords.find(spark, bare, part, path, timezone, subject)
                for part, path in zip(files.files, files.paths, strict=True)
                if part.name == file.name or part.name.startswith(f"{file.name}/")
            }
            if count := sum(each.count for each in doomed.values()):
                _rewrite_file(lake, bare, snapshot, file.name, doomed)
                records += count
    return records


def is_subject_absent(table: Table, snapshot: LandedSnapshot, subject: DataSubject) -> bool:
    """Whether a snapshot that cannot be read surely has none of a person's records: where a key can be written in one
    way only, plain text that does not have it is enough to know."""
    kinds = {f.name: f.dataType for f in declared_schema(table)}
    if all(file.size == 0 for file in snapshot.files):
        return True
    packed = any(archives.is_packed(file.name) for file in snapshot.files)
    if table.format != "csv" or packed or any(kinds[k] != T.StringType() for k in subject.key_texts):
        return False
    encoding = Dialect.from_options(table.options).options["encoding"]
    for path in snapshot.paths:
        with path.open(encoding=encoding, errors="replace") as file:
            if any(part in line for line in file for part in subject.key_texts.values()):
                return False
    return True


@dataclass(frozen=True)
class _SubjectRecords:
    """The records of one file that are to go: by the texts of their key, by their own text, or by their position."""

    subject: DataSubject
    count: int
    keys: frozenset[tuple[str, ...]] = frozenset()
    texts: frozenset[str] = frozenset()
    positions: frozenset[int] = frozenset()

    @classmethod
    def find(
        cls,
        spark: SparkSession,
        table: Table,
        file: landing.LandedFile,
        path: StorePath,
        timezone: str,
        subject: DataSubject,
    ) -> _SubjectRecords:
        try:
            return cls._find(spark, table, file, path, timezone, subject)
        except SPARK_ERRORS as error:
            raise to_data_refused(error, str(path)) from error

    @classmethod
    def _find(
        cls,
        spark: SparkSession,
        table: Table,
        file: landing.LandedFile,
        path: StorePath,
        timezone: str,
        subject: DataSubject,
    ) -> _SubjectRecords:
        fields, keys = declared_schema(table), list(subject.key_texts)
        part = PARSERS[table.format](spark, table, fields, file, path, timezone, frozenset(fields.names))
        key = {name: part.columns[name] for name in keys}
        if table.format == "parquet":
            there = part.rows.select(*_key_columns(key), F.col("_metadata.row_index").alias(_POSITION))
            positions = frozenset(row[_POSITION] for row in subject.rows_in(there, as_stored=False).collect())
            return cls(subject, len(positions), positions=positions)
        broken = part.row_error if part.row_error is not None else F.lit(None)
        # With the key's texts, since Spark reads no column of broken records alone.
        spelled = [field.text.alias(f"_cdc_text_{n}") for n, field in enumerate(key.values())]
        unread = part.rows.where(broken.isNotNull()).select(part.raw_record, *spelled).toLocalIterator()
        named = [row[0] for row in unread if row[0] is not None and subject.is_named_in(row[0])]
        if table.format == "json":
            own = subject.rows_in(
                part.rows.select(*_key_columns(key), part.raw_record.alias("_cdc_text")), as_stored=False
            )
            texts = [row["_cdc_text"] for row in own.collect()] + named
            return cls(subject, len(texts), texts=frozenset(texts))
        own = subject.rows_in(part.rows.where(broken.isNull()).select(*_key_columns(key), *spelled), as_stored=False)
        found = [tuple(row) for row in own.select(*[f"_cdc_text_{n}" for n in range(len(key))]).collect()]
        return cls(subject, len(found) + len(named), keys=frozenset(found))

    def copy_without(self, table: Table, path: Path, target: Path) -> None:
        """Copy a file without them."""
        if table.format == "parquet":
            parquet_reader.copy_without(path, target, set(self.positions))
        elif table.format == "json":
            json_reader.copy_without(path, target, set(self.texts))
        else:
            names = [table.name_in_files(name).lower() for name in self.subject.key_texts]

            def is_doomed(fields: Mapping[str, str], text: str) -> bool:
                if not fields:
                    return self.subject.is_named_in(text)
                return tuple(fields.get(name, "") for name in names) in self.keys

            try:
                Dialect.from_options(table.options).copy_without(path, target, declared_schema(table).names, is_doomed)
            except UnicodeError as error:
                raise DataRefused(f"{path.name} cannot be written again: {error}", where=str(path)) from None


def _key_columns(key: Mapping[str, ParsedField]) -> list[Column]:
    return [field.value.alias(name) for name, field in key.items()]


def _rewrite_file(
    lake: Lake, table: Table, snapshot: LandedSnapshot, name: str, erased: Mapping[str, _SubjectRecords]
) -> None:
    """Put a landed file without the doomed records in its place, packed as it was."""

    def write(path: Path, target: Path) -> None:
        if not archives.is_packed(name):
            erased[name].copy_without(table, path, target)
            return
        file = next(f for f in snapshot.files if f.name == name)
        with temp_dirs.temp_dir(lake.local_path("plain")) as folder:
            parts = {part.name: inner for part, inner in archives.unpack(path, file, folder)}
            for part, inner in parts.items():
                copy = inner.with_name(f"{inner.name}.without")
                erased[part].copy_without(table, inner, copy)
                copy.replace(inner)
            _pack({part.removeprefix(f"{name}/"): inner for part, inner in parts.items()}, path, target)

    landing.rewrite_file(lake, snapshot, name, write)


def _pack(parts: Mapping[str, Path], packed: Path, target: Path) -> None:
    if not packed.name.lower().endswith(".zip"):
        (inner,) = parts.values()
        with inner.open("rb") as source, gzip.open(target, "wb") as out:
            shutil.copyfileobj(source, out)
        return
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, inner in parts.items():
            archive.write(inner, name)
