"""Defines `Pipeline`, the content of a pipeline.yml, and its sections.

The classes and the descriptions of their fields are also the JSON Schema that editors use.
"""

from __future__ import annotations

import hashlib
import hmac
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, SecretStr, Tag

from lakehouse.config import checks
from lakehouse.config.ddl import Column, parse_columns
from lakehouse.config.expect import Expectation
from lakehouse.config.feed import Feed, sequence_type
from lakehouse.config.field_columns import FieldColumn, field_column, is_path, short_names
from lakehouse.config.fields import (
    Count,
    Duration,
    EmptyIfNull,
    FileName,
    JdbcUrl,
    KaggleName,
    LakeRoot,
    LineCount,
    Name,
    NoneIfUrlIsEmpty,
    Option,
    PiiKey,
    PostgresTable,
    PostgresUrl,
    Ratio,
    Scd,
    Share,
    Text,
    TimeZone,
    WeekOrMore,
)
from lakehouse.config.file_pattern import FilePattern, file_pattern
from lakehouse.config.git import Git
from lakehouse.config.kafka import Kafka
from lakehouse.config.missing import Missing
from lakehouse.config.reading import NullTexts, RecordsPath, null_texts, parse_path
from lakehouse.config.ready import Ready
from lakehouse.config.row_keys import COUNTED_COLUMNS, ROW_COUNT, ROW_ID, Keys
from lakehouse.config.strict_model import Discrepancy, StrictModel, did_you_mean
from lakehouse.config.tuning import Tuning
from lakehouse.errors import ConfigError

FILE_NAMES = ("pipeline.yml", "pipeline.yaml", "pipeline.json")
PII_KEY = "LAKEHOUSE_PII_KEY"
"""The environment variable for `pii_key`, used if the file does not have the key."""


class Guard(StrictModel):
    """Limits for a snapshot; beyond them it is held for approval instead of applied."""

    min_rows: Count = Field(1, description="The snapshot is held if it has fewer accepted rows.")
    max_deleted: Share = Field(0.3, description="The snapshot is held if it deletes a larger share of the rows.")
    max_quarantined: Share = Field(
        0.5, description="The snapshot is held if a larger share of its rows goes to quarantine."
    )
    max_updated: Share | None = Field(
        None, description="The snapshot is held if it updates a larger share of the rows before it."
    )
    max_inserted: Ratio | None = Field(
        None, description="The snapshot is held if it inserts more rows, as a multiple of the rows before it."
    )
    learned: bool = Field(
        False,
        description="The snapshot is held if its rows read, inserts, updates or deletes are unusual, by the last 30"
        " accepted snapshots; asked from the ninth one on.",
    )


class Table(StrictModel):
    """One table of the source, and how its snapshots are read and compared."""

    file: FileName = Field(
        description="Name or glob of the table's files inside one snapshot; `{x}` is the declared column x."
    )
    format: Literal["csv", "json", "parquet"] = Field(description="Format of the files.")
    options: dict[str, Option] = Field({}, description="Reader options, by Spark's names.")
    schema_ddl: Text = Field(
        alias="schema", description="Columns as Spark DDL (id STRING, price DECIMAL(10,2)); never inferred."
    )
    names: dict[Text, Text] = Field(
        {}, description="Columns with another name in the files, each with that name (tipo: Tipo Titulo)."
    )
    null_values: dict[Text, NullTexts] = Field(
        {},
        description='csv, json: texts that stand for null, by column; those of "*" for every column. Quoted or not.',
    )
    skip_lines: LineCount = Field(0, description="csv: lines before the header that are no data.")
    skip_footer: LineCount = Field(
        0, description="csv: lines at the end of a file that are no data; empty lines behind them do not count."
    )
    records: RecordsPath | None = Field(
        None, description="json: the array inside the document that holds the records, such as data.items."
    )
    key_paths: Keys = Field(
        alias="keys",
        description="Columns that identify a row; with `feed`, also fields inside columns (after.id). `all` if no"
        " columns do: equal rows are then counted (`_cdc_count`).",
    )
    ignore: list[Text] = Field([], description="Columns whose changes alone are not an update.")
    duplicates: Literal["fail", "latest", "quarantine"] = Field(
        "fail",
        description="Rows with the same key and different values: fail, keep the greatest updated_at, or quarantine.",
    )
    updated_at: Text | None = Field(None, description="Column that orders rows for duplicates: latest.")
    malformed: Literal["quarantine", "fail"] = Field(
        "quarantine", description="Rows that do not match the schema: quarantine them, or fail."
    )
    guard: Guard = Field(default_factory=Guard, description="Limits beyond which a snapshot is held for approval.")
    missing: Missing = Field(
        default_factory=Missing, description="How long the row of a key that snapshots lack is kept, and what then."
    )
    scd: Scd = Field(1, description="1: bronze contains the current state. 2: bronze contains the history.")
    history_for: list[Text] | None = Field(
        None, min_length=1, description="scd 2: only changes of these columns start a new version."
    )
    history_except: list[Text] | None = Field(
        None, min_length=1, description="scd 2: changes of these columns alone start no new version."
    )
    slice_by: list[Text] | None = Field(
        None,
        min_length=1,
        description="A snapshot contains only some slices of the table: all rows with its values of these columns.",
    )
    feed: Feed | None = Field(None, description="The files contain events of a change feed, not snapshots.")
    pii: dict[Text, Literal["hmac", "mask", "drop"]] = Field(
        {}, description="Columns with personal data, and how they are protected after landing."
    )

    _pii_key: SecretStr | None = PrivateAttr(default=None)

    @property
    def pii_key(self) -> bytes:
        """The key of `pii: hmac`; a pipeline with such a column is invalid without it."""
        if self._pii_key is None:
            raise ConfigError("pii: hmac without a key", expected=f"{PII_KEY} in the environment or .env")
        return self._pii_key.get_secret_value().encode()

    @property
    def pii_key_id(self) -> str | None:
        """A name of the key, which differs between keys and reveals nothing about them; None without a key."""
        if self._pii_key is None:
            return None
        return hmac.new(self.pii_key, b"lakehouse: which key", hashlib.sha256).hexdigest()[:16]

    @property
    def pii_labels(self) -> dict[str, str]:
        """The protection of each `pii` column, as a change set records it."""
        if "hmac" not in self.pii.values():
            return dict(self.pii)
        label = f"hmac {self.pii_key_id}"
        return {name: label if action == "hmac" else action for name, action in self.pii.items()}

    @property
    def grace(self) -> Missing | None:
        """The grace of keys that snapshots lack; None if the first snapshot without a key deletes it."""
        return None if self.missing.is_default else self.missing

    @property
    def columns(self) -> tuple[Column, ...]:
        """The declared columns, in order."""
        return parse_columns(self.schema_ddl)

    @property
    def keys(self) -> list[str]:
        """The columns that identify a row; that of a field inside a column is called as the field is."""
        if not any("." in path for path in self.key_paths):
            return self.key_paths
        declared = [column.name for column in self.columns]
        names = short_names(self.key_paths, declared)
        return [path if path in declared else name for path, name in zip(self.key_paths, names, strict=True)]

    @property
    def field_columns(self) -> tuple[FieldColumn, ...]:
        """The columns of a feed's events that are fields inside columns: its keys, and the parts of its sequence."""
        if self.feed is None:
            return ()
        columns = self.columns
        named = [*zip(self.keys, self.key_paths, strict=True), *((name, name) for name in self.feed.sequence_by)]
        return tuple(field_column(name, path, columns) for name, path in named if is_path(path, columns))

    @property
    def received_columns(self) -> tuple[Column, ...]:
        """The columns in raw: those declared, without those that `pii` drops; hashed and masked ones are STRING."""
        stored = (column for column in self.columns if self.pii.get(column.name) != "drop")
        return tuple(replace(column, type="STRING") if column.name in self.pii else column for column in stored)

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """The columns in bronze: those in raw, without those that a feed drops, with its keys inside columns.

        With `keys: all`, those that identify and count rows are added.
        """
        dropped = self.feed.drop if self.feed else ()
        fields = tuple(Column(field.name, field.type) for field in self.field_columns if field.name in self.keys)
        stored = tuple(column for column in self.received_columns if column.name not in dropped)
        return (*fields, *stored, *(COUNTED_COLUMNS if self.counts_rows else ()))

    @property
    def counts_rows(self) -> bool:
        """Whether rows have no key (`keys: all`), so that equal rows are counted."""
        return self.keys == [ROW_ID]

    @property
    def compared_columns(self) -> tuple[str, ...]:
        """The stored columns whose changes make an update: not keys, nor those of `ignore`; without keys, the count."""
        if self.counts_rows:
            return (ROW_COUNT,)
        others = {*self.keys, *self.ignore}
        return tuple(column.name for column in self.stored_columns if column.name not in others)

    @property
    def identifying_columns(self) -> tuple[str, ...]:
        """The stored columns that show people which row it is: the keys, or all declared ones of rows without a key."""
        return tuple(name for name in self.shown_columns if name != ROW_COUNT) if self.counts_rows else tuple(self.keys)

    @property
    def shown_columns(self) -> tuple[str, ...]:
        """The stored columns that people see of a row: without the hash that identifies a row without a key."""
        return tuple(column.name for column in self.stored_columns if not self.counts_rows or column.name != ROW_ID)

    @property
    def sequence_type(self) -> str:
        """The type of `_feed_sequence`, and of the windows of a history, as DDL: TIMESTAMP without a feed."""
        return sequence_type(self.feed, self.columns) if self.feed else "TIMESTAMP"

    @property
    def file_pattern(self) -> FilePattern:
        """The pattern of the files' names, with the columns that they have."""
        return file_pattern(self.file, tuple(column.name for column in self.columns))

    @property
    def correction_pattern(self) -> FilePattern | None:
        """The pattern of the files of a snapshot beside the feed; None if there is none."""
        corrected_by = self.feed.corrected_by if self.feed else None
        return file_pattern(corrected_by.file, ()) if corrected_by else None

    @property
    def columns_in_files(self) -> tuple[Column, ...]:
        """The declared columns, with their names in the files or in the database."""
        return tuple(replace(column, name=self.name_in_files(column.name)) for column in self.columns)

    def name_in_files(self, column: str) -> str:
        """Return the name of a declared column in the files."""
        return self.names.get(column, column)

    @property
    def record_names(self) -> tuple[str, ...]:
        """The names that lead to the array of records in a JSON document; none if the records are at the top."""
        return parse_path(self.records) if self.records else ()

    def null_texts(self, column: str) -> tuple[str, ...]:
        """Return the texts that stand for null in a declared column (`null_values`)."""
        return null_texts(self.null_values, column)

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_table(data)


class Model(StrictModel):
    """A silver or gold table, defined by the SELECT in ``<layer>/<name>.sql``."""

    keys: list[Text] = Field([], description="Columns that identify a row. Gold: default is the GROUP BY.")
    expect: dict[Name, Expectation] = Field({}, description="Expectations, by name.")


class Files(StrictModel):
    """A folder with the files of one snapshot, or with one folder YYYYMMDD_HHMMSS or YYYYMMDD per snapshot."""

    type: Literal["files"]
    path: Text = Field(
        description="The folder; relative to the working directory if it is there, else to pipeline.yml."
    )
    ready: Ready | None = Field(None, description="When a snapshot's folder is taken; default: once it is there.")


class Kaggle(StrictModel):
    """A dataset on Kaggle."""

    type: Literal["kaggle"]
    dataset: KaggleName = Field(description="owner/name")


class Jdbc(StrictModel):
    """A PostgreSQL database; a table's `file` is its name or schema.name, and its `format` is parquet."""

    type: Literal["jdbc"]
    url: JdbcUrl = Field(repr=False, description="jdbc:postgresql://host/database")
    user: Text | None = Field(None, description="The user to read with.")
    password: Text | None = Field(None, repr=False, description="The user's password; use ${VARIABLE}.")
    options: dict[str, Option] = Field(
        {},
        repr=False,
        description="By Spark's names: numPartitions (parallel connections, 4), fetchsize (rows in memory per"
        " connection, 50000), queryTimeout (seconds per statement).",
    )

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_jdbc(data)


class Volume(StrictModel):
    """A lake in Unity Catalog: tables in the catalog, files in the volume."""

    catalog: Text = Field(description="The catalog's name; its schemas are <pipeline>_bronze, _silver and _gold.")
    volume: Text = Field(description="/Volumes/catalog/schema/volume, or a folder in it that no other pipeline uses.")


class Schedule(StrictModel):
    """The interval of `run --schedule`."""

    every: Duration = Field("6h", validate_default=True, description="10m, 6h, 1d")


class OnFailure(StrictModel):
    """The recipients of a notification, a JSON document, when a run ends with an exit code other than 0."""

    command: list[Text] | None = Field(
        None, min_length=1, description="Program and arguments; receives the document on stdin. No shell."
    )
    webhook: Text | None = Field(None, repr=False, description="https://...: receives the document by POST.")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_on_failure(data)


class Retention(StrictModel):
    """The retention of files that no table needs any more. Without a value, files are kept forever."""

    landing: Duration | None = Field(
        None, description="Files of landed snapshots, by the snapshot's time; manifests are kept."
    )
    change_sets: Duration | None = Field(
        None,
        description="Change sets, by the snapshot's time; they are replaced by their resulting state. Not for scd 2.",
    )
    vacuum: WeekOrMore | None = Field(
        None, description="Files of old versions of the Delta tables; at least 7d, for readers of old versions."
    )


class Postgres(StrictModel):
    """A PostgreSQL database that tables of the lake are published to."""

    url: PostgresUrl = Field(
        repr=False,
        description="postgresql://user:password@host/database, with parameters of libpq; use ${VARIABLE}.",
    )
    tables: dict[str, PostgresTable] = Field(
        min_length=1,
        description="bronze.<table>, silver.<model> or gold.<model>: the target table, or schema.table.",
    )


class Publish(StrictModel):
    """The systems that tables of the lake are published to."""

    postgres: NoneIfUrlIsEmpty[Postgres] = Field(
        None,
        description="Upserts and deletes in PostgreSQL; nothing is published if the url is empty: `${PG_URL:-}`.",
    )

    @property
    def tables(self) -> dict[str, str]:
        """The target table of each published table of the lake."""
        return dict(self.postgres.tables) if self.postgres else {}


class Connect(StrictModel):
    """Kafka Connect, whose connectors replicate the published PostgreSQL tables to Kafka and S3."""

    url: Text = Field(repr=False, description="http://host:8083, the address of Connect's REST API.")
    connectors: list[Text] = Field(min_length=1, description="Files {name, config}, relative to this file.")
    objects: Text | None = Field(None, description="The sink's target, s3a://bucket/topics; `verify` reads it.")
    topics: dict[Text, Text] = Field({}, description="The table of publish.postgres that each topic replicates.")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_connect(data, folder)


Source = Annotated[Files | Git | Kaggle | Jdbc | Kafka, Field(discriminator="type")]
Lake = Annotated[
    Annotated[LakeRoot, Tag("path")] | Annotated[Volume, Tag("volume")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "volume"),
]


class Pipeline(StrictModel):
    """The content of a pipeline.yml."""

    name: Text = Field(description="The pipeline's name.")
    lake: Lake = Field(
        description="Path relative to the working directory if it is there, else to pipeline.yml (a new lake: to the"
        " working directory if a relative source.path is there); or s3a://bucket/prefix; or catalog and volume."
    )
    timezone: TimeZone = Field("UTC", description="Time zone of the source's timestamps that have none.")
    business_timezone: TimeZone = Field(
        default_factory=lambda fields: fields["timezone"],
        description="Time zone of a day in models (:business_timezone); default: timezone.",
    )
    schedule: Schedule = Field(default_factory=Schedule, description="The interval of `run --schedule`.")
    source: Source = Field(description="The source of the snapshots.")
    pii_key: PiiKey | None = Field(
        None, repr=False, description=f"Key of `pii: hmac`; use ${{VARIABLE}}; default: {PII_KEY}."
    )
    tables: dict[Name, Table] = Field(min_length=1, description="The source's tables, by name.")
    silver: EmptyIfNull[dict[Name, EmptyIfNull[Model]]] = Field({}, description="Models over bronze, by name.")
    gold: EmptyIfNull[dict[Name, EmptyIfNull[Model]]] = Field({}, description="Models over silver, by name.")
    publish: Publish | None = Field(None, description="The systems that tables of the lake are published to.")
    connect: Connect | None = Field(None, description="Replicates published tables to Kafka and S3.")
    on_failure: OnFailure | None = Field(None, description="The recipients of a notification when a run fails.")
    retention: Retention = Field(default_factory=Retention, description="The retention of old files.")
    access: Literal["owner", "group_read", "group"] = Field(
        "owner", description="Who may use the files that a run creates on a disk: only its user, or the group too."
    )
    tuning: Tuning = Field(default_factory=Tuning, description="Thresholds for performance; they never change results.")

    _path: Path = PrivateAttr(default=Path(FILE_NAMES[0]))
    _lines: Mapping[tuple[str | int, ...], int] = PrivateAttr(default_factory=dict)
    _secret_values: frozenset[str] = PrivateAttr(default=frozenset())

    def model_post_init(self, context: Any) -> None:
        if context:
            self._path, self._lines = context["path"], context.get("lines", {})
            self._secret_values = context.get("secret_values", frozenset())
        for table in self.tables.values():
            table._pii_key = self.pii_key

    @property
    def path(self) -> Path:
        """The file that the pipeline was read from."""
        return self._path

    @property
    def secret_values(self) -> frozenset[str]:
        """The values of the variables that fill secret fields, a part of such a field included."""
        return self._secret_values

    @property
    def umask(self) -> int:
        """The permissions that files and folders of a run do not get."""
        return {"owner": 0o077, "group_read": 0o027, "group": 0o007}[self.access]

    @property
    def folder(self) -> Path:
        """The folder of that file, which also contains the models' SQL files."""
        return self._path.parent

    @property
    def source_folder(self) -> Path:
        """The folder of a source on a disk; a relative path is that of pipeline.yml unless it exists from here."""
        assert isinstance(self.source, Files | Git)
        path = Path(self.source.path)
        return path if path.exists() or path.is_absolute() else self.folder / path

    def lake_path(self, lake: str) -> str:
        """Return the path of a lake on a disk.

        A relative path is that of pipeline.yml unless it exists from here. A new lake is made beside the source, if
        that is a relative path too: it is never made in a working directory that is there by chance.

        Args:
            lake: The path in pipeline.yml, or an address of S3.
        """
        if "://" in lake or Path(lake).is_absolute() or Path(lake).exists():
            return lake
        of_pipeline = self.folder / lake
        if of_pipeline.exists() or not isinstance(self.source, Files | Git):
            return str(of_pipeline)
        source = Path(self.source.path)
        return str(of_pipeline) if source.is_absolute() or not source.exists() else lake

    @property
    def argument(self) -> str:
        """The PIPELINE argument of a command: the folder, or the file if it has another name, quoted for a shell.

        It is relative to the working directory if it is below it.
        """
        path, here = self.folder if self.path.stem == "pipeline" else self.path, Path.cwd()
        return shlex.quote(str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path))

    def location(self, *loc: str | int) -> str:
        """Return the file and the line of a key, or of the nearest one above it that the file has.

        Args:
            loc: The key, such as `"silver", "clientes", "keys"`.
        """
        lines = (self._lines[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in self._lines)
        line = next(lines, None)
        return f"{self.path}:{line}" if line else str(self.path)

    def sql_path(self, model: str) -> str:
        """Return the path of the file with a model's SELECT.

        Args:
            model: The layer and name, such as `silver.customers`.
        """
        return str(checks.sql_file(self.folder, *model.split(".", 1)))

    def unlisted_sql_files(self) -> list[Path]:
        """Return the SQL files beside the pipeline that are no model of it."""
        listed = {"silver": self.silver, "gold": self.gold}
        files = (file for layer in listed for file in sorted((self.folder / layer).glob("*.sql")))
        return [file for file in files if file.stem not in listed[file.parent.name]]

    @property
    def model_names(self) -> list[str]:
        """The names of all models, such as `silver.customers`."""
        return [*(f"silver.{name}" for name in self.silver), *(f"gold.{name}" for name in self.gold)]

    def read_sql(self, layer: str, model: str) -> str:
        """Return the text of a model's SELECT.

        Args:
            layer: `silver` or `gold`.
            model: The model's name.

        Raises:
            ConfigError: There is no such model, or its file cannot be read.
        """
        models = {"silver": self.silver, "gold": self.gold}.get(layer, {})
        if model not in models:
            hint = did_you_mean(f"{layer}.{model}", self.model_names)
            raise ConfigError(f'there is no model "{layer}.{model}"{hint}', where=str(self.path))
        file = checks.sql_file(self.folder, layer, model)
        try:
            return file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            raise ConfigError("the model's SQL cannot be read", expected="a UTF-8 file", where=str(file)) from None

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_pipeline(data, folder)
