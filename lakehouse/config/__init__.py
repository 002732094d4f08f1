"""`pipeline.yml`: what it may say, and what it says.

    pipeline = load("conf/loyalty")
    pipeline.tables["clientes"].columns[0].name    # "idCliente"

Read once at the edge into frozen models. All that is wrong with it comes in one `ConfigError`, each line
with file, line and key. ``python -m lakehouse.config`` prints the JSON Schema that editors use.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, SecretStr, Tag, ValidationError

from lakehouse.config import checks, yaml_source
from lakehouse.config.ddl import Column, parse_columns
from lakehouse.config.expect import Expectation
from lakehouse.config.fields import (
    Count,
    Duration,
    EmptyIfNull,
    FileName,
    JdbcUrl,
    KaggleName,
    LakeRoot,
    Name,
    NoneIfUrlIsEmpty,
    Option,
    PiiKey,
    PostgresTable,
    PostgresUrl,
    Scd,
    Share,
    Text,
    TimeZone,
    WeekOrMore,
)
from lakehouse.config.strict_model import VALUE, Discrepancy, StrictModel, did_you_mean
from lakehouse.config.tuning import Tuning
from lakehouse.errors import ConfigError

_FILE_NAMES = ("pipeline.yml", "pipeline.yaml", "pipeline.json")
PII_KEY = "LAKEHOUSE_PII_KEY"
"""The variable that gives `pii_key` where the file does not."""


class Guard(StrictModel):
    """Limits beyond which a snapshot is held for approval instead of applied."""

    min_rows: Count = Field(1, description="Fewer accepted rows than this: held.")
    max_deleted: Share = Field(0.3, description="A greater share of the live rows deleted: held.")
    max_quarantined: Share = Field(0.5, description="A greater share of the rows read in quarantine: held.")


class Feed(StrictModel):
    """A ready-made change feed: rows are events, the highest sequence of a key wins."""

    sequence_by: list[Text] = Field(min_length=1, description="Columns that order the events of one key.")
    delete_when: Text | None = Field(None, description="SQL condition of events that delete their key.")
    truncate_when: Text | None = Field(None, description="SQL condition of events that empty the table.")
    drop: list[Text] = Field([], description="Columns of the event that the table does not keep.")
    ignore_null_updates: bool = Field(False, description="A null in an event leaves the value as it is.")
    tombstones: Duration = Field(
        "7d", validate_default=True, description="How long deleted keys are remembered against late events."
    )


class Table(StrictModel):
    """One table of the source, and how its snapshots are read and compared."""

    file: FileName = Field(description="Name or glob inside one snapshot.")
    format: Literal["csv", "json", "parquet"] = Field(description="Format of the files.")
    options: dict[str, Option] = Field({}, description="Reader options, by Spark's names.")
    schema_ddl: Text = Field(
        alias="schema", description="Columns as Spark DDL (id STRING, price DECIMAL(10,2)); never inferred."
    )
    names: dict[Text, Text] = Field(
        {}, description="Columns that the files call otherwise, each with its name there (tipo: Tipo Titulo)."
    )
    keys: list[Text] = Field(min_length=1, description="Columns that identify a row.")
    ignore: list[Text] = Field([], description="Columns that never make an update by themselves.")
    duplicates: Literal["fail", "latest", "quarantine"] = Field(
        "fail",
        description="One key with different contents: fail, take the greatest updated_at, or quarantine.",
    )
    updated_at: Text | None = Field(None, description="Column that decides under duplicates: latest.")
    malformed: Literal["quarantine", "fail"] = Field(
        "quarantine", description="Rows that cannot be read as the schema says."
    )
    guard: Guard = Field(default_factory=Guard, description="When a snapshot is held for approval.")
    scd: Scd = Field(1, description="1: bronze holds the current state. 2: bronze holds the history.")
    history_for: list[Text] | None = Field(
        None, min_length=1, description="scd 2: only changes of these columns open a new version."
    )
    history_except: list[Text] | None = Field(
        None, min_length=1, description="scd 2: changes of these columns alone open no new version."
    )
    feed: Feed | None = Field(None, description="The files hold events of a change feed, not snapshots.")
    pii: dict[Text, Literal["hmac", "mask", "drop"]] = Field(
        {}, description="Columns that say who somebody is, and what of them gets past landing."
    )

    _pii_key: SecretStr | None = PrivateAttr(default=None)

    @property
    def pii_key(self) -> bytes:
        """The key of `pii: hmac`; `validate` has seen that it is there where a column needs it."""
        if self._pii_key is None:
            raise ConfigError("pii: hmac without a key", expected=f"{PII_KEY} in the environment or .env")
        return self._pii_key.get_secret_value().encode()

    @property
    def pii_labels(self) -> dict[str, str]:
        """What has been done to each of the `pii` columns that stay, as a change set records it."""
        return {name: f"hmac {self._key_fingerprint()}" if how == "hmac" else how for name, how in self.pii.items()}

    def _key_fingerprint(self) -> str:
        """Tells two keys apart, and tells nothing of either."""
        return hmac.new(self.pii_key, b"lakehouse: which key", hashlib.sha256).hexdigest()[:16]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The declared columns, in order."""
        return parse_columns(self.schema_ddl)

    @property
    def columns_in_files(self) -> tuple[Column, ...]:
        """The same by their names in the files, or in the database."""
        return tuple(replace(column, name=self.name_in_files(column.name)) for column in self.columns)

    def name_in_files(self, column: str) -> str:
        """What the files call a column."""
        return self.names.get(column, column)

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_table(data)


class Model(StrictModel):
    """A silver or gold table: the SELECT in ``<layer>/<name>.sql``, kept up to date."""

    keys: list[Text] = Field([], description="Columns that identify a row. Gold: its GROUP BY unless given.")
    expect: dict[Name, Expectation] = Field({}, description="Expectations, by name.")


class Files(StrictModel):
    """A folder with the files of one snapshot, or with one folder YYYYMMDD_HHMMSS per snapshot."""

    type: Literal["files"]
    path: Text = Field(description="The folder, relative to the working directory.")


class Kaggle(StrictModel):
    """A dataset on Kaggle."""

    type: Literal["kaggle"]
    dataset: KaggleName = Field(description="owner/name")


class Jdbc(StrictModel):
    """A PostgreSQL database; `file` of a table is its name there, or schema.name, and `format` is parquet."""

    type: Literal["jdbc"]
    url: JdbcUrl = Field(repr=False, description="jdbc:postgresql://host/database")
    user: Text | None = Field(None, description="Who reads.")
    password: Text | None = Field(None, repr=False, description="Best as ${VARIABLE}.")
    options: dict[str, Option] = Field(
        {},
        repr=False,
        description="By Spark's names: numPartitions (connections that read at once, 4), fetchsize (rows held in"
        " memory by each, 50000), queryTimeout (seconds for a statement).",
    )

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_jdbc(data)


class Volume(StrictModel):
    """A lake in Unity Catalog: tables in the catalog, files in the volume."""

    catalog: Text = Field(description="The catalog's name; schemas are called <pipeline>_bronze, _silver and _gold.")
    volume: Text = Field(description="/Volumes/catalog/schema/volume, or a folder in it that no other pipeline has.")


class Schedule(StrictModel):
    """When `run --schedule` runs."""

    every: Duration = Field("6h", validate_default=True, description="10m, 6h, 1d")


class OnFailure(StrictModel):
    """Who is told of a run that ends with another exit code than 0: a JSON document, at the end of each such run."""

    command: list[Text] | None = Field(
        None, min_length=1, description="Program and arguments; gets the document on stdin. No shell."
    )
    webhook: Text | None = Field(None, repr=False, description="https://...: gets the document by POST.")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_on_failure(data)


class Retention(StrictModel):
    """How long is kept what no table needs any more. Nothing goes that is not named here."""

    landing: Duration | None = Field(
        None, description="Files of landed snapshots, by the snapshot's time; their manifests stay."
    )
    change_sets: Duration | None = Field(
        None, description="Change sets, by the snapshot's time; the state they come to takes their place. Not of scd 2."
    )
    vacuum: WeekOrMore | None = Field(
        None, description="Files of old versions of the Delta tables; at least 7d, which readers may rely on."
    )


class Postgres(StrictModel):
    """A PostgreSQL database, tables of which follow those of the lake."""

    url: PostgresUrl = Field(
        repr=False, description="postgresql://user:password@host/database, best as ${VARIABLE}; parameters of libpq."
    )
    tables: dict[str, PostgresTable] = Field(
        min_length=1,
        description="bronze.<table>, silver.<model> or gold.<model>: the table to keep equal to it, or schema.table.",
    )


class Publish(StrictModel):
    """Where tables of the lake go from here."""

    postgres: NoneIfUrlIsEmpty[Postgres] = Field(
        None,
        description="Upserts and deletes in PostgreSQL; with an empty url, such as `${PG_URL:-}`, none.",
    )

    @property
    def tables(self) -> dict[str, str]:
        """By the lake's name, the table that follows it."""
        return dict(self.postgres.tables) if self.postgres else {}


class Connect(StrictModel):
    """Kafka Connect, whose connectors take PostgreSQL's tables on to Kafka and S3."""

    url: Text = Field(repr=False, description="http://host:8083, where Connect's REST API answers.")
    connectors: list[Text] = Field(min_length=1, description="Files {name, config}, relative to this one.")
    objects: Text | None = Field(None, description="Where the sink writes, s3a://bucket/topics: `verify` reads it.")
    topics: dict[Text, Text] = Field({}, description="topic: the table of publish.postgres that it follows.")

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_connect(data, folder)


Source = Annotated[Files | Kaggle | Jdbc, Field(discriminator="type")]
Lake = Annotated[
    Annotated[LakeRoot, Tag("path")] | Annotated[Volume, Tag("volume")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "volume"),
]


class Pipeline(StrictModel):
    """A whole pipeline.yml."""

    name: Text = Field(description="The pipeline's name.")
    lake: Lake = Field(
        description="Path relative to the working directory, s3a://bucket/prefix, or catalog and volume."
    )
    timezone: TimeZone = Field("UTC", description="Zone of the source's timestamps that name none.")
    business_timezone: TimeZone = Field(
        default_factory=lambda fields: fields["timezone"],
        description="Where a day begins, for models (:business_timezone). Same as timezone unless given.",
    )
    schedule: Schedule = Field(default_factory=Schedule, description="When `run --schedule` runs.")
    source: Source = Field(description="Where the snapshots come from.")
    pii_key: PiiKey | None = Field(
        None, repr=False, description=f"Key of `pii: hmac`, best as ${{VARIABLE}}; {PII_KEY} unless given."
    )
    tables: dict[Name, Table] = Field(min_length=1, description="The source's tables, by name.")
    silver: EmptyIfNull[dict[Name, EmptyIfNull[Model]]] = Field({}, description="Models over bronze, by name.")
    gold: EmptyIfNull[dict[Name, EmptyIfNull[Model]]] = Field({}, description="Models over silver, by name.")
    publish: Publish | None = Field(None, description="Where tables of the lake go from here.")
    connect: Connect | None = Field(None, description="Who takes what is published on, to Kafka and S3.")
    on_failure: OnFailure | None = Field(None, description="Who is told when a run fails.")
    retention: Retention = Field(default_factory=Retention, description="How long old files are kept.")
    tuning: Tuning = Field(default_factory=Tuning, description="Thresholds of how the work is done; never of results.")

    _path: Path = PrivateAttr(default=Path(_FILE_NAMES[0]))

    def model_post_init(self, context: Any) -> None:
        if context:
            self._path = context["path"]
        for table in self.tables.values():
            table._pii_key = self.pii_key

    @property
    def path(self) -> Path:
        """The file this was read from."""
        return self._path

    @property
    def folder(self) -> Path:
        """Where that file lies, and the models' SQL beside it."""
        return self._path.parent

    def read_sql(self, layer: str, model: str) -> str:
        """The text of a model's SELECT.

        Raises:
            ConfigError: there is no such model, or its file cannot be read.
        """
        models = {"silver": self.silver, "gold": self.gold}.get(layer, {})
        if model not in models:
            known = [f"silver.{name}" for name in self.silver] + [f"gold.{name}" for name in self.gold]
            near = did_you_mean(f"{layer}.{model}", known)
            raise ConfigError(f'there is no model "{layer}.{model}"{near}', where=str(self.path))
        file = checks.sql_file(self.folder, layer, model)
        try:
            return file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            raise ConfigError("the model's SQL cannot be read", expected="a file in UTF-8", where=str(file)) from None

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        yield from checks.check_pipeline(data, folder)


def load(path: str | Path, env: Mapping[str, str] | None = None) -> Pipeline:
    """Reads a pipeline.

    Args:
        path: A folder with pipeline.yml (.yaml, .json), or that file.
        env: What `${VAR}` may name, instead of the real environment. Either wins over ``.env`` in the working
            directory.

    Raises:
        ConfigError: with everything that is wrong, one line each.
    """
    file = _find_file(Path(path))
    variables = yaml_source.load_environment(env)
    source = yaml_source.read_yaml(file, variables)
    source.add_from_environment("pii_key", PII_KEY, variables)
    faults: list[Any] = []
    try:
        pipeline = Pipeline.model_validate(source.data, context={"path": file, "folder": file.parent})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
    problems = _collect_problems(source, faults)
    if not problems:
        return pipeline
    raise ConfigError(
        "\n".join(source.format_problem(problem) for problem in problems),
        next_step=f"lakehouse validate {path}",
    )


def unavailable_features(pipeline: Pipeline) -> list[str]:
    """What the configuration asks for and this version does not run yet, one line each."""
    wanted = []
    for name, table in pipeline.tables.items():
        if table.feed:
            wanted.append(f"tables.{name}.feed: a change feed")
    return [f"{want} is not available yet" for want in wanted]


def fingerprint_config(table: Table, timezone: str) -> str:
    """What of a table's configuration bears on reading and comparing, as canonical JSON.

    Equal text, equal meaning: order and spelling that change nothing are taken out.
    """
    bearing = {
        "format": table.format,
        "options": {name.lower(): value for name, value in table.options.items()},
        "columns": [[column.name, column.canonical_type] for column in table.columns],
        "keys": sorted(table.keys),
        "ignore": sorted(table.ignore),
        "duplicates": table.duplicates,
        "updated_at": table.updated_at,
        "malformed": table.malformed,
        "timezone": timezone,
    }
    if table.pii:
        bearing["pii"] = table.pii_labels
    called = {column: name.lower() for column, name in table.names.items()}
    if called := {column: name for column, name in called.items() if name != column.lower()}:
        bearing["names"] = called
    return json.dumps(bearing, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of pipeline.yml, for editors."""
    schema = Pipeline.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "pipeline.yml"}


def _find_file(path: Path) -> Path:
    found = [path / name for name in _FILE_NAMES if (path / name).is_file()] if path.is_dir() else [path]
    if len(found) > 1:
        raise ConfigError(f"{' and '.join(file.name for file in found)}", expected="one of them", where=str(path))
    if not found or not found[0].is_file():
        raise ConfigError(
            "a folder without a pipeline" if path.is_dir() else "no such file or folder",
            expected=f"a folder with {', '.join(_FILE_NAMES[:-1])} or {_FILE_NAMES[-1]}, or that file",
            where=str(path),
        )
    return found[0]


def _collect_problems(source: yaml_source.YamlSource, errors: list[Any]) -> list[yaml_source.Problem]:
    """What is wrong with the file's form and with its meaning, by line."""
    meaning = []
    for fault in errors:
        loc = _strip_pydantic_parts(fault["loc"])
        shown = source.value_for_message(loc) if fault["type"] == VALUE else ""
        if loc not in source.unreadable:
            meaning.append(source.problem_at(loc, f"found {shown}, {fault['msg']}" if shown else fault["msg"]))
    return sorted(source.problems + meaning, key=lambda problem: problem.line)


def _strip_pydantic_parts(loc: yaml_source.Loc) -> yaml_source.Loc:
    """Takes out what pydantic adds to a location and no file has: a union's form, a mark for keys."""
    if loc[:1] in (("source",), ("lake",)) and len(loc) > 1 and loc[1] != "type":
        loc = (loc[0], *loc[2:])
    return loc[:-1] if loc[-1:] == ("[key]",) else loc
