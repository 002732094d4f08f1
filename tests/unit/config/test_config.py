"""Valid pipelines, and the messages for invalid ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lakehouse.config import (
    Files,
    Guard,
    Pipeline,
    Table,
    Volume,
    fingerprint_config,
    json_schema,
    load,
    patterns,
)
from lakehouse.config.ddl import Column, DdlError, parse_columns, quote_identifier
from lakehouse.errors import ConfigError

REPOSITORY = Path(__file__).parents[3]
MISSING = object()

MINIMAL: dict[str, Any] = {
    "name": "shop",
    "lake": "lake/shop",
    "source": {"type": "files", "path": "in"},
    "tables": {
        "clients": {
            "file": "clients.csv",
            "format": "csv",
            "schema": "id STRING, points INT, seen TIMESTAMP",
            "keys": ["id"],
        }
    },
}
TABLE = "tables.clients."


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def postgres(tables: dict[str, str], url: str = "postgresql://h/d") -> dict[str, Any]:
    return {"postgres": {"url": url, "tables": tables}}


def write(text: str, name: str = "pipeline.yml") -> Path:
    file = Path("shop", name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def changed(**changes: Any) -> dict[str, Any]:
    """The minimal pipeline with values set or removed at paths such as ``tables.clients.keys``."""
    data = deepcopy(MINIMAL)
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = data
        for key in parents:
            section = section.setdefault(key, {})
        if value is MISSING:
            del section[last]
        else:
            section[last] = value
    return data


def load_changed(env: dict[str, str] | None = None, /, **changes: Any) -> Pipeline:
    return load(write(yaml.safe_dump(changed(**changes))).parent, env or {})


def problems(text: str, env: dict[str, str] | None = None) -> list[str]:
    """The lines of the error for `text`, without the file's name."""
    with pytest.raises(ConfigError) as error:
        load(write(text), env or {})
    return [line.removeprefix("shop/pipeline.yml:") for line in error.value.found.splitlines()]


def problems_of(env: dict[str, str] | None = None, /, **changes: Any) -> list[str]:
    """The lines of the error for a changed minimal pipeline, without the file's name and the line number."""
    return [line.partition(" ")[2] for line in problems(yaml.safe_dump(changed(**changes)), env)]


# Valid pipelines


def test_missing_keys_have_the_documented_defaults() -> None:
    pipeline = load_changed()
    table = pipeline.tables["clients"]

    assert (pipeline.timezone, pipeline.business_timezone) == ("UTC", "UTC")
    assert pipeline.schedule.every == timedelta(hours=6)
    assert (pipeline.silver, pipeline.gold, pipeline.publish) == ({}, {}, None)
    assert (table.options, table.ignore, table.duplicates, table.updated_at) == ({}, [], "fail", None)
    assert (table.malformed, table.scd, table.feed) == ("quarantine", 1, None)
    assert (table.history_for, table.history_except) == (None, None)
    assert table.guard == Guard(min_rows=1, max_deleted=0.3, max_quarantined=0.5)


def test_the_path_may_be_the_folder_or_the_file() -> None:
    file = write(yaml.safe_dump(MINIMAL))

    for path in (file, file.parent, str(file.parent)):
        pipeline = load(path, {})
        assert (pipeline.path, pipeline.folder) == (file, file.parent)


@pytest.mark.parametrize(("name", "indent"), [("pipeline.yaml", 2), ("pipeline.json", "\t")])
def test_other_file_names_are_found_too(name: str, indent: int | str) -> None:
    write(json.dumps(MINIMAL, indent=indent), name)

    assert load("shop", {}).tables["clients"].keys == ["id"]


def test_the_pipeline_of_a_command_is_as_short_as_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump(changed())
    for folder in ("conf/shop", "a b"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("pipeline.yml", "kaggle.yml"):
            (tmp_path / folder / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path / "conf/shop/pipeline.yml").argument == "conf/shop"
    assert load(tmp_path / "conf/shop/kaggle.yml").argument == "conf/shop/kaggle.yml"
    assert load("a b/pipeline.yml").argument == "'a b'"
    monkeypatch.chdir(tmp_path / "a b")
    assert load(tmp_path / "conf/shop/pipeline.yml").argument == str(tmp_path / "conf/shop")


def test_a_byte_order_mark_is_skipped() -> None:
    assert load(write("\ufeff" + yaml.safe_dump(MINIMAL)), {}).name == "shop"


def test_the_business_time_zone_defaults_to_the_source_time_zone() -> None:
    assert load_changed(timezone="America/Sao_Paulo").business_timezone == "America/Sao_Paulo"
    assert load_changed(business_timezone="Asia/Tokyo").timezone == "UTC"


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("6h", timedelta(hours=6)),
        ("1d", timedelta(days=1)),
    ],
)
def test_durations_have_a_number_and_a_unit(text: str, every: timedelta) -> None:
    assert load_changed(schedule={"every": text}).schedule.every == every


def test_reader_options_become_text_in_sparks_notation() -> None:
    options = {"header": False, "maxColumns": 10, "maxCharsPerColumn": -1, "sep": ";"}

    assert load_changed(**{TABLE + "options": options}).tables["clients"].options == {
        "header": "false",
        "maxColumns": "10",
        "maxCharsPerColumn": "-1",
        "sep": ";",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("mode", "columnNameOfCorruptRecord", "inferSchema", "ENFORCESCHEMA", "lineSep", "timeZone"),
        *("dropFieldIfAllNull", "samplingRatio", "mergeSchema", "recursiveFileLookup", "pathGlobFilter"),
        *("modifiedBefore", "modifiedAfter", "unescapedQuoteHandling", "comment", "nanValue", "compression"),
    ],
)
@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
def test_an_option_that_would_change_results_is_rejected_with_a_reason(name: str, file_format: str) -> None:
    (problem,) = problems_of(**{TABLE + "format": file_format, TABLE + "options": {name: "true"}})

    assert f"options.{name}: not supported: " in problem


@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
def test_an_option_for_the_normal_behaviour_is_accepted_and_its_opposite_is_not(file_format: str) -> None:
    accepted = {"multiLine": True, "mode": "PERMISSIVE", "inferSchema": False, "mergeSchema": "false"}
    rejected = {"multiLine": False, "mode": "DROPMALFORMED", "inferSchema": True, "mergeSchema": "true"}

    load_changed(**{TABLE + "format": file_format, TABLE + "options": accepted})
    assert len(problems_of(**{TABLE + "format": file_format, TABLE + "options": rejected})) == len(rejected)


@pytest.mark.parametrize(
    "options",
    [
        {"sep": "\\t", "quote": "", "encoding": "latin-1", "header": "FALSE"},
        {"delimiter": ";", "escape": "\\", "charset": "UTF-16LE", "nullValue": "NA", "emptyValue": ""},
        {"locale": "PT-br", "dateFormat": "epoch_ms", "timestampFormat": "[dd/MM/yyyy][yyyy-MM-dd'T'HH:mm:ss.SSSXXX]"},
        {"ignoreLeadingWhiteSpace": True, "ignoreTrailingWhiteSpace": False, "maxCharsPerColumn": 9},
        {"timestampNTZFormat": "d ''MMMM'' yy, h:mm a", "DATEFORMAT": "yyyyMMdd"},
    ],
)
def test_supported_options_are_accepted(options: dict[str, Any]) -> None:
    assert load_changed(**{TABLE + "options": options}).tables["clients"].options.keys() == options.keys()


@pytest.mark.parametrize(
    "pattern",
    ["", "'T'", "---", "dd/MM/yyyyyyy", "ddd", "EEE", "Q", "YYYY", "u", "n", "[yyyy", "yyyy]", "{yyyy}", "dd#MM", "V"],
)
def test_a_pattern_that_spark_cannot_parse_has_a_fault(pattern: str) -> None:
    assert patterns.find_fault(pattern)


def test_an_empty_section_or_model_is_valid() -> None:
    Path("shop/gold").mkdir(parents=True)
    Path("shop/gold/cube.sql").touch()

    pipeline = load_changed(silver=None, gold={"cube": None})

    assert (pipeline.silver, pipeline.gold["cube"].keys) == ({}, [])


def test_tables_can_share_settings_through_an_anchor() -> None:
    text = """
name: shop
lake: lake
source: {type: files, path: in}
tables:
  a: &base {file: a.csv, format: csv, schema: id INT, keys: [id]}
  b: &second
    <<: *base
    file: b.csv
  c:
    <<: *second
    file: c.csv
  d: *second
"""
    assert [table.file for table in load(write(text), {}).tables.values()] == [
        "a.csv",
        "b.csv",
        "c.csv",
        "b.csv",
    ]


def test_a_table_keeps_a_name_that_yaml_would_read_as_a_boolean() -> None:
    text = yaml.safe_dump(MINIMAL).replace("clients:", "no:")

    assert list(load(write(text), {}).tables) == ["no"]


def test_a_date_is_text() -> None:
    assert load(write(yaml.safe_dump(MINIMAL).replace("name: shop", "name: 2024-01-31")), {}).name == "2024-01-31"


def test_features_that_are_not_available_yet_are_parsed() -> None:
    pipeline = load_changed(
        lake={"catalog": "main", "volume": "/Volumes/main/x/y"},
        **{
            TABLE + "scd": 2,
            TABLE + "history_for": ["points"],
            "tables.events": {
                "file": "*.json",
                "format": "json",
                "schema": "id STRING, seq BIGINT, op STRING",
                "keys": ["id"],
                "feed": {"sequence_by": ["seq"], "delete_when": "op = 'D'", "drop": ["op", "seq"]},
            },
        },
    )

    assert pipeline.lake == Volume(catalog="main", volume="/Volumes/main/x/y")
    assert pipeline.tables["events"].feed is not None
    assert pipeline.tables["events"].feed.tombstones == timedelta(days=7)
    assert pipeline.tables


JDBC = {"type": "jdbc", "url": "jdbc:postgresql://db/x", "user": "u", "password": "p"}
IN_A_DATABASE = {TABLE + "file": "sales.clients", TABLE + "format": "parquet", TABLE + "options": {}}


def test_tables_of_a_database_are_valid() -> None:
    pipeline = load_changed(source=JDBC | {"options": {"numPartitions": 2, "fetchsize": "100"}}, **IN_A_DATABASE)

    assert pipeline.tables


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": JDBC | {"url": "jdbc:mysql://u:5077@db/x"}}, "PostgreSQL is the only supported database"),
        ({"source": JDBC | {"url": "postgresql://u:5077@db/x"}}, "expected jdbc:postgresql://host/database"),
        (
            {"source": JDBC | {"options": {"numpartitions": 2}}},
            'unknown option of a jdbc source; did you mean "numPartitions"?',
        ),
        ({"source": JDBC | {"options": {"fetchsize": 0}}}, 'found "0", expected a whole number above 0'),
        ({TABLE + "file": "clients/*.csv"}, "expected a table of the database: name or schema.name"),
        ({TABLE + "format": "csv"}, "expected parquet, the format of landed database tables"),
    ],
)
def test_an_invalid_database_source_is_rejected(changes: dict[str, Any], message: str) -> None:
    lines = problems_of(**({"source": JDBC} | IN_A_DATABASE | changes))

    assert len(lines) == 1, lines
    assert message in lines[0]
    assert "5077" not in lines[0]


def test_publishing_and_a_lake_on_s3_are_available() -> None:
    Path("shop/gold").mkdir(parents=True)
    Path("shop/gold/cube.sql").touch()

    pipeline = load_changed(
        lake="s3a://bucket/prefix",
        source={"type": "kaggle", "dataset": "owner/name"},
        gold={"cube": {}},
        publish=postgres({"gold.cube": "cube", "bronze.clients": "raw.clients"}),
    )

    assert pipeline.tables
    assert pipeline.publish is not None
    assert pipeline.publish.tables == {"gold.cube": "cube", "bronze.clients": "raw.clients"}
    assert "h/d" not in repr(pipeline)


def test_without_a_url_nothing_is_published() -> None:
    pipeline = load_changed(publish=postgres({"bronze.clients": "clients"}, "${PG_URL:-}"))

    assert pipeline.publish is not None
    assert pipeline.publish.tables == {}


def test_a_pipeline_of_files_on_disk_is_available() -> None:
    pipeline = load_changed()

    assert isinstance(pipeline.source, Files)
    assert pipeline.tables


def test_a_pipeline_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_changed().name = "other"  # type: ignore[misc]


def test_the_pipelines_in_this_repository_are_valid() -> None:
    folders = [path.parent for path in (REPOSITORY / "conf").glob("*/pipeline.yml")]
    assert {"loyalty", "tesouro"} <= {folder.name for folder in folders}
    for folder in folders:
        load(folder, {"PG_URL": "postgresql://h/d"})


# The schema


@pytest.mark.parametrize(
    ("ddl", "columns"),
    [
        ("id STRING, price DECIMAL(10,2)", [("id", "STRING"), ("price", "DECIMAL(10,2)")]),
        ("id STRING NOT NULL COMMENT 'it''s, the key', n int", [("id", "STRING"), ("n", "int")]),
        ("`Tipo Titulo` STRING, `a``b` INT", [("Tipo Titulo", "STRING"), ("a`b", "INT")]),
        ("tags ARRAY<STRUCT<a: INT>>, s STRUCT<x INT COMMENT 'c', y: STRING NOT NULL>",
         [("tags", "ARRAY<STRUCT<a: INT>>"), ("s", "STRUCT<x INT COMMENT 'c', y: STRING NOT NULL>")]),
        ("from INT, select STRING, date DATE -- a comment\n, timestamp TIMESTAMP",
         [("from", "INT"), ("select", "STRING"), ("date", "DATE"), ("timestamp", "TIMESTAMP")]),
    ],
)  # fmt: skip
def test_the_schema_is_parsed_like_in_spark(ddl: str, columns: list[tuple[str, str]]) -> None:
    assert [(column.name, column.type) for column in parse_columns(ddl)] == columns


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("integer", "INT"),
        ("LONG", "BIGINT"),
        ("real", "FLOAT"),
        ("NUMERIC", "DECIMAL(10,0)"),
        ("dec(5)", "DECIMAL(5,0)"),
        ("timestamp_ltz", "TIMESTAMP"),
        ("array<struct<A integer, b: dec(4, 1)>>", "ARRAY<STRUCT<A: INT, b: DECIMAL(4,1)>>"),
    ],
)
def test_each_type_has_one_canonical_spelling(written: str, canonical: str) -> None:
    assert Column("c", written).canonical_type == canonical


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("id", 'column "id": expected STRING, .* found the end'),
        ("id TEXT", 'column "id": expected STRING, .* found "TEXT"'),
        ("id `INT`", 'column "id": expected STRING'),
        ("Tipo Titulo STRING", 'column "Tipo": .* found "Titulo"; .* backticks'),
        ("a-b INT", 'column "a": .* backticks'),
        ("valor_líquido INT", "backticks"),
        ("id VARCHAR(10)", "Spark's readers do not support VARCHAR; use STRING"),
        ("m MAP<STRING, INT>", 'column "m": a MAP cannot be compared'),
        ("s STRUCT<m: ARRAY<MAP<STRING, INT>>>", 'column "s": column "m": a MAP cannot be compared'),
        ("v VARIANT", "a VARIANT cannot be compared"),
        ("n DECIMAL(39,2)", "the precision must be 1 to 38"),
        ("n DECIMAL(3,5)", "the scale at most the precision"),
        ("n DECIMAL(a)", 'expected a number, found "a"'),
        ("n ARRAY<INT", "expected >, found the end"),
        ("n INT DEFAULT 3", 'unexpected "DEFAULT" after its type'),
        ("n INT COMMENT", "expected a quoted text"),
        ("n INT,", "expected a column name, found the end"),
        ("5 INT", 'expected a column name, found "5"'),
        ("`` INT", "expected a column name"),
        ("a INT, b 'x", "a quote or backtick is not closed"),
    ],
)
def test_an_invalid_schema_is_rejected_with_the_column(ddl: str, message: str) -> None:
    with pytest.raises(DdlError, match=message):
        parse_columns(ddl)


@pytest.mark.parametrize(
    ("parts", "quoted"),
    [(["id"], "`id`"), (["Tipo Titulo"], "`Tipo Titulo`"), (["a`b"], "`a``b`"), (["source", "a.b"], "`source`.`a.b`")],
)
def test_identifiers_are_quoted_for_spark_sql(parts: list[str], quoted: str) -> None:
    assert quote_identifier(*parts) == quoted


def test_names_in_files_may_swap_the_names_of_two_columns() -> None:
    pipeline = load_changed(**{TABLE + "names": {"points": "seen", "seen": "points"}, TABLE + "ignore": ["seen"]})
    table = pipeline.tables["clients"]

    assert [(c.name, c.type) for c in table.columns_in_files] == [
        ("id", "STRING"), ("seen", "INT"), ("points", "TIMESTAMP"),
    ]  # fmt: skip


def test_every_invalid_column_of_a_schema_is_reported() -> None:
    lines = problems_of(**{TABLE + "schema": "id STRING, a FOO, m MAP<STRING, INT>, n INT x, d DECIMAL(50,2)"})

    assert [line.split('"')[1] for line in lines] == ["a", "m", "n", "d"]
    assert all(line.startswith("tables.clients.schema: column") for line in lines)


# Invalid pipelines


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": MISSING}, "name: missing, and required"),
        ({"source": {"type": "files"}}, "source.path: missing, and required"),
        ({"source": {"path": "x"}}, "source.type: missing, and required"),
        ({TABLE + "keys": MISSING}, "tables.clients.keys: missing, and required"),
        ({"timezne": "UTC"}, 'timezne: unknown key; did you mean "timezone"?'),
        ({TABLE + "kyes": ["id"]}, 'tables.clients.kyes: unknown key; did you mean "keys"?'),
        ({TABLE + "guard": {"zzz": 1}}, "tables.clients.guard.zzz: unknown key; "
                                        "expected one of min_rows, max_deleted, max_quarantined"),
        ({"folder": "x"}, "folder: unknown key"),
        ({"source": {"type": "files", "path": "x", "pth": "y"}},
         'source.pth: unknown key; did you mean "path"?'),
        ({"lake": {"catalog": "c", "volum": "v"}}, 'lake.volum: unknown key; did you mean "volume"?'),
        ({"name": 5}, 'name: found "5", expected text; put it in quotes'),
        ({"name": ""}, "name: found nothing, expected text that is not empty"),
        ({"lake": ["x"]}, "lake: expected a mapping"),
        ({"lake": "s3://bucket"}, 'lake: found "s3://bucket", expected a local path, s3a://bucket/prefix or'),
        ({"source": {"type": "fles", "path": "x"}},
         'source.type: found "fles", expected files, git, kaggle, jdbc or kafka; did you mean "files"?'),
        ({"source": {"type": "kaggle", "dataset": "x"}}, 'source.dataset: found "x", expected owner/name'),
        ({"tables": {}}, "tables: expected at least one"),
        ({"tables": None}, "tables: found nothing, expected a mapping"),
        ({"tables": MISSING}, "tables: missing, and required"),
        ({TABLE + "format": "cvs"},
         'tables.clients.format: found "cvs", expected csv, json or parquet; did you mean "csv"?'),
        ({TABLE + "duplicates": "keep"}, 'duplicates: found "keep", expected fail, latest or quarantine'),
        ({TABLE + "malformed": "drop"}, 'malformed: found "drop", expected quarantine or fail'),
        ({TABLE + "scd": 3}, 'scd: found "3", expected at most 2'),
        ({TABLE + "options": {"sep": [1]}}, "tables.clients.options.sep: expected text"),
        ({TABLE + "options": {"sep": ";", "Delimiter": ","}}, 'options.sep: the same option as "Delimiter"'),
        ({TABLE + "options": {"sep": "||"}}, 'options.sep: found "||", expected one character, or \\t'),
        ({TABLE + "options": {"sep": ""}}, 'options.sep: found nothing, expected one character'),
        ({TABLE + "options": {"quote": "''"}}, 'options.quote: found "\'\'", expected one character, or none'),
        ({TABLE + "options": {"escape": ""}}, "options.escape: found nothing, expected one character"),
        ({TABLE + "options": {"sep": "'", "quote": "'"}},
         "tables.clients.options: sep and quote are the same character"),
        ({TABLE + "options": {"encoding": "utf9"}}, 'options.encoding: found "utf9", expected an encoding such as'),
        ({TABLE + "options": {"charset": "hex"}}, 'options.charset: found "hex", expected an encoding such as'),
        ({TABLE + "options": {"header": "yes"}}, 'options.header: found "yes", expected true or false'),
        ({TABLE + "options": {"maxColumns": 0}}, 'options.maxColumns: found "0", expected a whole number above 0'),
        ({TABLE + "options": {"maxCharsPerColumn": "x"}}, "options.maxCharsPerColumn: "),
        ({TABLE + "options": {"locale": "pt_BR"}}, 'options.locale: found "pt_BR", expected a language tag, one of'),
        ({TABLE + "options": {"locale": "pt_BR"}}, 'did you mean "pt-BR"?'),
        ({TABLE + "options": {"dateFormat": "DD/MM/YYYY"}},
         "expected a pattern such as dd/MM/yyyy, or epoch_ms or epoch_s: Spark cannot parse dates with the letter Y"),
        ({TABLE + "options": {"timestampFormat": "yyyy-MM-dd'T"}}, "a quote is not closed"),
        ({TABLE + "options": {"mode": "DROPMALFORMED"}}, "options.mode: not supported: `malformed` decides"),
        ({TABLE + "options": {"comment": "#"}}, "options.comment: not supported: no line is skipped"),
        ({TABLE + "options": {"seperator": ";"}}, "options.seperator: unknown option of csv files"),
        ({TABLE + "options": {"nullvalues": ";"}}, 'did you mean "nullValue"?'),
        ({TABLE + "format": "json", TABLE + "options": {"sep": ";"}}, "options.sep: unknown option of json files"),
        ({TABLE + "format": "json", TABLE + "options": {"allowComments": True}}, "JSON is read strictly"),
        ({TABLE + "format": "parquet", TABLE + "options": {"pathGlobFilter": "*"}}, "`file` selects the files"),
        ({TABLE + "options": {"sep": ";", "SEP": ","}}, 'options.sep: the same option as "SEP"'),
        ({"schedule": {"every": "6 hours"}},
         'schedule.every: found "6 hours", expected a number and a unit, such as 10m, 6h or 1d'),
        ({"schedule": {"every": "0h"}}, 'schedule.every: found "0h", expected a number and a unit'),
        ({"schedule": {"every": 6}}, 'schedule.every: found "6", expected a number and a unit'),
        ({"timezone": "America/SaoPaulo"}, "expected an IANA time zone, such as America/Sao_Paulo; "
                                           'did you mean "America/Sao_Paulo"?'),
        ({"business_timezone": ""}, "business_timezone: found nothing, expected an IANA time zone"),
        ({TABLE + "null_values": {"sen": ["-"]}},
         'null_values.sen: neither a column of schema nor "*", which is every column; did you mean "seen"?'),
        ({TABLE + "null_values": {"*": [0]}}, "null_values.*[0]: found \"0\", expected text; put it in quotes"),
        ({TABLE + "null_values": {"*": [None]}}, "null_values.*[0]: found nothing, expected text"),
        ({TABLE + "null_values": {"*": []}}, "null_values.*: expected at least one"),
        ({TABLE + "null_values": {"seen": "-"}}, 'null_values.seen: found "-", expected a list'),
        ({TABLE + "null_values": ["-"]}, "null_values: expected a mapping"),
        ({TABLE + "format": "parquet", TABLE + "null_values": {"*": ["-"]}},
         "null_values: parquet has nulls of its own; this setting is for csv and json"),
        ({TABLE + "records": "data.items"}, "records: csv has no documents; this setting is for json"),
        *[
            ({TABLE + "format": "json", TABLE + "records": path}, "expected names with dots between them, such as")
            for path in ("data..items", ".items", "items.", "`items", "a`b", "``", "`a`b")
        ],
        ({TABLE + "format": "json", TABLE + "records": ""}, "records: found nothing, expected names"),
        ({TABLE + "format": "json", TABLE + "records": ["data"]}, "records: expected text"),
        ({"source.ready": {}}, "source.ready: says nothing; give file: _SUCCESS, settle: 5m, or both"),
        ({"source.ready": {"settle": "5"}}, 'source.ready.settle: found "5", expected a number and a unit'),
        ({"source.ready": {"file": "../x"}}, 'source.ready.file: found "../x", expected a name or glob'),
        ({"source.ready": {"marker": "x"}}, "source.ready.marker: unknown key; expected one of file, settle"),
        ({"source.ready": {"file": "clients.csv"}},
         'source.ready.file: found "clients.csv", which is the file of the table clients'),
        ({TABLE + "skip_lines": -1}, 'skip_lines: found "-1", expected at least 0'),
        ({TABLE + "skip_footer": True}, 'skip_footer: found "true", expected a number'),
        ({TABLE + "skip_footer": 10_001}, 'skip_footer: found "10001", expected at most 10000'),
        ({TABLE + "format": "json", TABLE + "skip_lines": 1},
         "skip_lines: json has no such lines; this setting is for csv"),
        ({TABLE + "keys": []}, "tables.clients.keys: expected at least one"),
        ({TABLE + "keys": "id"}, 'tables.clients.keys: found "id", expected a list of columns, such as [a, b], or all'),
        ({TABLE + "keys": ["ID"]},
         'tables.clients.keys[0]: found "ID", which is not a column of schema; did you mean "id"?'),
        ({TABLE + "keys": ["id", "id"]}, 'tables.clients.keys[1]: found "id", given twice'),
        ({TABLE + "ignore": ["sen"]},
         'ignore[0]: found "sen", which is not a column of schema; did you mean "seen"?'),
        ({TABLE + "ignore": ["id"]}, 'ignore[0]: found "id", which is a key'),
        ({TABLE + "updated_at": "zzz"}, 'updated_at: found "zzz", which is not a column of schema'),
        ({TABLE + "history_for": ["point"]}, 'history_for[0]: found "point", which is not a column of schema'),
        ({TABLE + "history_except": ["x"]}, 'history_except[0]: found "x", which is not a column of schema'),
        ({TABLE + "history_for": ["points"], TABLE + "history_except": ["seen"]},
         "history_except: contradicts history_for; give only one of them"),
        ({TABLE + "duplicates": "latest"}, 'duplicates: found "latest", which requires updated_at'),
        ({TABLE + "feed": {"sequence_by": ["sq"]}}, "tables.clients.feed.sequence_by[0]: found "),
        ({TABLE + "feed": {"sequence_by": ["seen"]}, TABLE + "guard": {"min_rows": 1}},
         "tables.clients.guard.min_rows: applies to snapshots only"),
        ({TABLE + "guard": {"max_deleted": 1.5}}, 'max_deleted: found "1.5", expected at most 1'),
        ({TABLE + "guard": {"max_quarantined": -0.1}}, 'max_quarantined: found "-0.1", expected at least 0'),
        ({TABLE + "guard": {"max_deleted": float("nan")}}, 'found ".nan", expected a finite number'),
        ({TABLE + "guard": {"max_deleted": True}}, 'max_deleted: found "true", expected a number'),
        ({TABLE + "guard": {"max_deleted": "30%"}}, 'max_deleted: found "30%", expected a number'),
        ({TABLE + "guard": {"max_updated": 1.5}}, 'max_updated: found "1.5", expected at most 1'),
        ({TABLE + "guard": {"max_inserted": -1}}, 'max_inserted: found "-1", expected at least 0'),
        ({TABLE + "guard": {"max_inserted": True}}, 'max_inserted: found "true", expected a number'),
        ({TABLE + "guard": {"learned": "often"}}, 'learned: found "often", expected true or false'),
        ({TABLE + "guard": {"learned": True}, TABLE + "slice_by": ["seen"]},
         "tables.clients.guard.learned: the slices of a snapshot vary"),
        ({TABLE + "guard": {"learned": False}, TABLE + "feed": {"sequence_by": ["seen"]}},
         "tables.clients.guard.learned: applies to snapshots only"),
        ({TABLE + "guard": {"min_rows": 1.5}}, 'min_rows: found "1.5", expected a whole number'),
        ({TABLE + "schema": "id STRING, Points INT, points INT"},
         'tables.clients.schema: column "points": the same name as "Points"'),
        ({TABLE + "schema": "id STRING, tags ARRAY<STRING>"},
         'column "tags": a CSV file cannot contain ARRAY<STRING>; read it as STRING'),
        ({TABLE + "schema": "id STRING, m MAP<STRING, INT>"}, 'column "m": a MAP cannot be compared'),
        ({TABLE + "schema": "id STRING, `Tipo Titulo` STRING"}, 'names: {another: "Tipo Titulo"}'),
        ({TABLE + "names": {"Points": "Pontos"}}, 'names.Points: not a column of schema; did you mean "points"?'),
        ({TABLE + "names": {"points": "ID"}}, 'names.points: found "ID", from which the column "id" is read already'),
        ({TABLE + "names": {"points": "X", "seen": "x"}}, 'found "x", from which the column "points" is read already'),
        ({TABLE + "names": {"points": " Pontos"}}, 'names.points: found "Pontos", expected no surrounding spaces'),
        ({TABLE + "names": {"points": ""}}, "names.points: found nothing, expected text that is not empty"),
        ({TABLE + "names": {"points": 1}}, 'names.points: found "1", expected text; put it in quotes'),
        ({TABLE + "names": ["points"]}, "names: expected a mapping"),
        ({TABLE + "names": {"points": "Pontos"}, TABLE + "options": {"Header": False}},
         "names: a file without a header has no column names"),
        ({TABLE + "pii": {"points": "hash"}}, 'pii.points: found "hash", expected hmac, mask or drop'),
        ({TABLE + "pii": {"Points": "mask"}}, 'pii.Points: not a column of schema; did you mean "points"?'),
        ({TABLE + "pii": {"id": "mask"}}, "pii.id: a key, which must stay unique per row; use hmac"),
        ({TABLE + "pii": {"id": "drop"}}, "pii.id: a key, which must stay unique per row; use hmac"),
        ({TABLE + "pii": {"points": "drop"}, TABLE + "ignore": ["points"]}, "dropped here, but used in ignore"),
        ({TABLE + "pii": {"seen": "hmac"}, TABLE + "updated_at": "seen"}, "used as updated_at, whose order"),
        ({TABLE + "pii": {"x": "hmac"}, TABLE + "schema": "id STRING, x DOUBLE"}, "DOUBLE has no unique text"),
        ({TABLE + "pii": {"points": "hmac"}}, "pii: hmac requires a key, and none is set; set LAKEHOUSE_PII_KEY"),
        ({"pii_key": "short"}, "pii_key: expected at least 32 characters"),
        ({TABLE + "file": "/etc/passwd"}, 'file: found "/etc/passwd", expected a name or glob'),
        ({TABLE + "file": "a/../../b.csv"}, "no absolute path, no .."),
        ({TABLE + "file": "C:\\b.csv"}, "no absolute path, no .."),
        ({TABLE + "file": "..\\b.csv"}, "no absolute path, no .."),
        ({"tables.b-c": {}}, "tables.b-c: a name may contain only letters a-z, digits and _"),
        ({"tables.1st": {}},
         "tables.1st: a name may contain only letters a-z, digits and _, and must not start with a digit"),
        ({"gold": {"../x": {}}}, "a name may contain only letters a-z, digits and _"),
        ({"tables.Clients": {}}, 'tables.clients: differs from "Clients" only in case'),
        ({"silver": {"x": {}}}, "silver.x.keys: missing; a silver model requires keys"),
        ({"silver": {"x": {"keys": []}}}, "silver.x.keys: missing; a silver model requires keys"),
        ({"silver": {"x": {"keys": ["id"]}}}, "silver.x: its SQL file does not exist: shop/silver/x.sql"),
        ({"gold": {"x": {}}}, "gold.x: its SQL file does not exist: shop/gold/x.sql"),
        ({"gold": {"x": {"expect": {"e": {"on_fail": "quarantine"}}}}},
         "gold.x.expect.e: has no condition; give one of check, not_null, values, range, reference, unique, rows or"),
        ({"gold": {"x": {"expect": {"e": {"chek": "a > 0"}}}}},
         'gold.x.expect.e.chek: unknown key; did you mean "check"?'),
        ({"gold": {"x": {"expect": {"e": {"check": "a > 0", "rows": {"min": 1}}}}}},
         "gold.x.expect.e: has check and rows; make each an expectation with its own name"),
        ({"gold": {"x": {"expect": {"e": {"unique": ["a"], "on_fail": "drop"}}}}},
         'on_fail: found "drop", expected warn or fail: unique applies to the whole model'),
        ({"gold": {"x": {"expect": {"e": {"range": {"a": {"mn": 0}}}}}}},
         'gold.x.expect.e.range.a.mn: unknown key; did you mean "min"?'),
        ({"gold": {"x": {"expect": {"e": {"range": {"a": {}}}}}}}, "range.a: is empty; give min or max"),
        ({"gold": {"x": {"expect": {"e": {"values": {"a": [["b"]]}}}}}},
         "values.a[0]: expected text, a number, true or false"),
        ({"gold": {"x": {"expect": {"e": {"values": {"a": ["SP", False]}}}}}},
         "values.a: a mix of text, numbers and true or false; put text such as NO in quotes"),
        ({"gold": {"x": {"expect": {"e": {"freshness": {"column": "a", "within": "2 days"}}}}}},
         'freshness.within: found "2 days", expected a number and a unit'),
        ({"gold": {"x": {"expect": {"e": {"check": "1 = 1", "on_fail": "explode"}}}}},
         'gold.x.expect.e.on_fail: found "explode", expected warn, drop, quarantine or fail'),
        ({"gold": {"cube": {}}, "publish": postgres({"gold.cub": "t"})},
         "publish.postgres.tables.gold.cub: no bronze.<table>, silver.<model> or gold.<model> of this pipeline"
         '; did you mean "gold.cube"?'),
        ({"publish": postgres({"bronze.clients": "t"}, "host=h password=hunter2")},
         "publish.postgres.url: expected postgresql://user:password@host/database"),
        ({"publish": postgres({"bronze.clients": "a.b.c"})}, "expected a table's name, or schema.name"),
        ({"publish": postgres({"bronze.clients": "x" * 64})}, "the name is longer than PostgreSQL's limit of 63 bytes"),
        ({"publish": postgres({"bronze.clients": "lakehouse_publish"})},
         "lakehouse_publish is reserved: it stores the publish position of each table"),
        ({"silver": {"clients": {"keys": ["id"]}},
          "publish": postgres({"bronze.clients": "t", "silver.clients": "t"})},
         "the same target table as bronze.clients"),
    ],
)  # fmt: skip
def test_an_error_names_the_key_and_the_valid_values(changes: dict[str, Any], expected: str) -> None:
    lines = problems_of(**changes)

    assert any(expected in line for line in lines), lines


@pytest.mark.parametrize(
    "name",
    [
        "_cdc_operation",
        "_CDC_mine",
        "__START_AT",
        "__end_at",
        "_change_type",
        "_commit_version",
        "_feed_sequence",
    ],
)
def test_reserved_column_names_are_rejected_with_a_fix(name: str) -> None:
    assert problems_of(**{TABLE + "schema": f"id STRING, {name} STRING"}) == [
        f'tables.clients.schema: column "{name}": the name is reserved for the lake; '
        "remove it from schema, or rename it at the source"
    ]


def test_all_errors_are_reported_at_once_with_their_lines() -> None:
    lines = problems("""\
name: shop
lake: lake
surce: x
tables:
  clients:
    file: clients.csv
    format: cvs
    schema: id STRING, _cdc_x INT
    keys: [ID]
    guard:
      max_deleted: 2
  orders:
    file: ../orders.csv
    format: csv
    schema: >-
      id STRING,
      what FOO
    kyes: [id]
silver:
  clients:
    keys: [id]
""")

    assert [re.sub(r"(:|\[).*", "", line) for line in lines] == [
        "1 source",
        "3 surce",
        "7 tables.clients.format",
        "8 tables.clients.schema",
        "9 tables.clients.keys",
        "11 tables.clients.guard.max_deleted",
        "12 tables.orders.keys",
        "13 tables.orders.file",
        "15 tables.orders.schema",
        "18 tables.orders.kyes",
        "20 silver.clients",
    ]


def test_the_error_names_the_file_and_the_next_command() -> None:
    write(yaml.safe_dump(changed(name=MISSING)))

    with pytest.raises(ConfigError) as error:
        load("shop", {})

    assert error.value.to_text() == (
        "found:    shop/pipeline.yml:1 name: missing, and required\nnext:     lakehouse validate shop"
    )


def test_a_key_given_twice_is_rejected_on_any_level() -> None:
    text = yaml.safe_dump(MINIMAL) + "name: again\nschedule: {every: 6h, every: 1h}\n"

    lines = [line.partition(" ")[2] for line in problems(text)]

    assert lines == [
        f"name: given twice, first on line {text.splitlines().index('name: shop') + 1}",
        f"schedule.every: given twice, first on line {len(text.splitlines())}",
    ]


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ("name: shop\nlake: [a\n", "shop/pipeline.yml:3:1", "not valid YAML: "),
        ("name: shop\n\tlake: a\n", "shop/pipeline.yml:2:1", "not valid YAML: found a tab"),
        ("name: a\n---\nname: b\n", "shop/pipeline.yml:2:1", "not valid YAML: "),
        ("name: !!python/name:os.system\n", "shop/pipeline.yml:1:7", "not valid YAML: "),
        ("name: \x00\n", "shop/pipeline.yml", "not valid YAML: unreadable characters"),
    ],
)
def test_invalid_yaml_is_rejected_with_line_and_column(text: str, where: str, found: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(write(text), {})

    assert error.value.where == where
    assert error.value.found.startswith(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1 expected a mapping"),
        ("- a\n", "1 expected a mapping"),
        ("name: &a [*a]\n", "1 name[0]: an alias that contains itself"),
        ("name: x\nlake: {{ LAKE }}\n", "2 lake: a key is not text; put braces and brackets in quotes"),
        ("name: x\nlake: !!int x\n", "2 lake: not a value that YAML can read; put it in quotes"),
    ],
)
def test_unusual_yaml_is_reported_as_an_error(text: str, message: str) -> None:
    assert message in problems(text)


def test_a_missing_pipeline_and_two_pipelines_are_reported() -> None:
    with pytest.raises(ConfigError) as nothing:
        load("nowhere", {})
    Path("shop").mkdir()
    with pytest.raises(ConfigError) as empty:
        load("shop", {})
    write("{}", "pipeline.yml")
    write("{}", "pipeline.json")
    with pytest.raises(ConfigError) as two:
        load("shop", {})

    assert (nothing.value.found, nothing.value.where) == ("no such file or folder", "nowhere")
    assert nothing.value.next_step == "lakehouse init SOURCE nowhere, to write one for a folder of files"
    assert empty.value.found == "a folder without a pipeline"
    assert empty.value.expected == "a folder with pipeline.yml, pipeline.yaml or pipeline.json, or that file"
    assert two.value.found == "pipeline.yml and pipeline.json"


def test_a_file_that_is_not_utf_8_is_rejected() -> None:
    file = write("")
    file.write_bytes("name: preço".encode("latin-1"))

    with pytest.raises(ConfigError, match="byte 9 is not UTF-8"):
        load(file, {})


def test_a_table_created_in_python_is_checked_like_one_in_a_file() -> None:
    with pytest.raises(ValidationError, match="which is not a column of schema"):
        Table(file="a.csv", format="csv", schema="id INT", keys=["ID"])


# Variables and secrets


def test_variables_are_resolved_from_environment_then_env_file_then_default() -> None:
    Path(".env").write_text("A=file\nB=file\n")
    env = {"B": "real", "EMPTY": ""}

    lake = load_changed(env, lake="${A}/${B}/${C:-default}/${EMPTY:-filled}/${EMPTY}/$${A}/$A").lake

    assert lake == "file/real/default/filled//${A}/$A"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_LAKE", "here")
    write(yaml.safe_dump(changed(lake="${SHOP_LAKE}")))

    assert load("shop").lake == "here"


def test_variables_are_replaced_on_any_level_and_in_numbers() -> None:
    env = {"ROWS": "10", "KEY": "id", "SCD": "2"}
    changes = {TABLE + "guard": {"min_rows": "${ROWS}"}, TABLE + "keys": ["${KEY}"], TABLE + "scd": "${SCD}"}

    table = load_changed(env, **changes).tables["clients"]

    assert (table.guard.min_rows, table.keys, table.scd) == (10, ["id"], 2)


def test_every_variable_that_is_not_set_is_reported_and_its_value_not_checked() -> None:
    lines = problems_of(lake="${LAKE_ROOT}/x", **{TABLE + "schema": "${DDL}"})

    assert lines == [
        "lake: ${LAKE_ROOT} is not set, neither in the environment nor in .env",
        "tables.clients.schema: ${DDL} is not set, neither in the environment nor in .env",
    ]


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A-b}", "${A:-${B}}", "x${A"])
def test_a_malformed_variable_is_rejected(text: str) -> None:
    assert problems_of({"A": "a", "B": "b"}, lake=text)[0].startswith("lake: ${ must start")


@pytest.mark.parametrize(
    "changes",
    [
        {"timezone": "${SECRET}"},
        {"lake": "s3://${SECRET}"},
        {"source": {"type": "${SECRET}"}},
        {"source": {"type": "kaggle", "dataset": "${SECRET}"}},
        {"schedule": {"every": "${SECRET}"}},
        {TABLE + "file": "../${SECRET}"},
        {TABLE + "format": "${SECRET}"},
        {TABLE + "schema": "id STRING, a ${SECRET}"},
        {TABLE + "schema": "id STRING, x${SECRET} MAP<STRING, INT>"},
        {TABLE + "keys": ["${SECRET}"]},
        {TABLE + "keys": "${SECRET}"},
        {TABLE + "updated_at": "${SECRET}"},
        {TABLE + "guard": {"max_deleted": "${SECRET}"}},
        {TABLE + "schema": "id STRING, ${SECRET} INT", TABLE + "ignore": ["hunter3"]},
        {TABLE + "options": ["${SECRET}"]},
        {TABLE + "options": {"encoding": "${SECRET}", "sep": "${SECRET}", "dateFormat": "${SECRET}"}},
        {"publish": {"postgres": "${SECRET}"}},
        {"pii_key": "${SECRET}"},
        {"pii_key": ["${SECRET}"]},
        {TABLE + "pii": {"points": "${SECRET}"}},
        {"gold": {"x": {"expect": {"e": "${SECRET}"}}}},
    ],
)
def test_no_message_shows_the_value_of_a_variable(changes: dict[str, Any]) -> None:
    lines = problems_of({"SECRET": "hunter2"}, **changes)

    assert lines
    assert "hunter2" not in "\n".join(lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": {"type": "jdbc", "url": 5077, "password": 5077}},
        {"publish": {"postgres": {"url": 5077, "password": "5077", "tables": {"gold.x": "x"}}}},
        {"api_key": "5077"},
        {"lake": "s3://user:5077@bucket"},
        {"lake": "https://5077@host/x"},
        {"tables.clients.access_token": "5077"},
        {"tables.my_secret": "5077"},
    ],
)
def test_no_message_shows_what_looks_like_a_secret(changes: dict[str, Any]) -> None:
    lines = problems_of(**changes)

    assert lines
    assert "5077" not in "\n".join(lines)


@pytest.mark.parametrize(
    "password", ["*hunter2", "!hunter2", "@hunter2", "`hunter2", "%hunter2", "[hunter2", "'hunter2"]
)
def test_a_password_that_breaks_the_yaml_is_not_shown(password: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(write(f"name: x\npassword: {password}\nlake: x\n"), {})

    assert "hunter2" not in error.value.to_text()


def test_an_error_has_no_causes_that_contain_values() -> None:
    with pytest.raises(ConfigError) as error:
        load(write(yaml.safe_dump(changed(timezone="${SECRET}"))), {"SECRET": "hunter2"})

    assert error.value.__cause__ is None
    assert error.value.__context__ is None


def test_the_repr_of_a_pipeline_does_not_show_urls_and_passwords() -> None:
    source = {
        "type": "jdbc",
        "url": "jdbc:postgresql://u:hunter2@h",
        "password": "hunter2",
        "options": {"fetchsize": 100},
    }
    pipeline = load_changed(
        source=source, **{TABLE + "file": "clients", TABLE + "format": "parquet", TABLE + "options": {}}
    )

    assert "hunter2" not in repr(pipeline)


# The models' SQL


def test_a_models_sql_is_read_from_the_pipelines_folder() -> None:
    Path("shop/silver").mkdir(parents=True)
    Path("shop/silver/clients.sql").write_text("\ufeffSELECT 'ção'", encoding="utf-8")

    assert load_changed(silver={"clients": {"keys": ["id"]}}).read_sql("silver", "clients") == "SELECT 'ção'"


def test_reading_the_sql_of_an_unknown_model_suggests_the_nearest() -> None:
    Path("shop/silver").mkdir(parents=True)
    Path("shop/silver/clients.sql").touch()
    pipeline = load_changed(silver={"clients": {"keys": ["id"]}})

    for layer, model in (("silver", "client"), ("sliver", "clients"), ("gold", "clients")):
        with pytest.raises(ConfigError, match=r'did you mean "silver\.clients"'):
            pipeline.read_sql(layer, model)


# The fingerprint


def fingerprint(**changes: Any) -> str:
    pipeline = load_changed(**{TABLE + name: value for name, value in changes.items()})
    return fingerprint_config(pipeline.tables["clients"], pipeline.timezone)


def test_the_fingerprint_is_canonical_json() -> None:
    assert json.loads(fingerprint(options={"Sep": ";"})) == {
        "format": "csv",
        "options": {"sep": ";"},
        "columns": [["id", "STRING"], ["points", "INT"], ["seen", "TIMESTAMP"]],
        "keys": ["id"],
        "ignore": [],
        "duplicates": "fail",
        "updated_at": None,
        "malformed": "quarantine",
        "timezone": "UTC",
        "rules": 2,  # of reading: each table's newest snapshot is read again when it changes
    }


@pytest.mark.parametrize(
    "change",
    [
        {"file": "other.csv"},
        {"guard": {"min_rows": 5}},
        {"scd": 2},
        {"history_for": ["points"]},
        {"names": {"points": "POINTS"}},
        {"null_values": {}},
        {"skip_lines": 0, "skip_footer": 0},
        {"schema": "id string not null,points integer, `seen` TIMESTAMP_LTZ COMMENT 'x'"},
    ],
)
def test_settings_that_affect_neither_reading_nor_comparing_keep_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(**change) == fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "json"},
        {"options": {"sep": ";"}},
        {"schema": "id STRING, points BIGINT, seen TIMESTAMP"},
        {"keys": ["id", "seen"]},
        {"ignore": ["points"]},
        {"duplicates": "quarantine"},
        {"updated_at": "seen"},
        {"malformed": "fail"},
        {"pii": {"points": "mask"}},
        {"pii": {"points": "drop"}},
        {"names": {"points": "Qtde Pontos"}},
        {"null_values": {"*": ["-"]}},
        {"skip_lines": 1},
        {"format": "json", "records": "data.items"},
        {"skip_footer": 1},
    ],
)
def test_settings_that_affect_reading_or_comparing_change_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(**change) != fingerprint()


def test_the_pii_key_comes_from_its_variable_or_the_file_and_is_never_shown() -> None:
    key, other = "k" * 40, "o" * 40
    of_env = load_changed({"LAKEHOUSE_PII_KEY": key, "OTHER": other}, **{TABLE + "pii": {"id": "hmac"}})
    of_file = load_changed({"LAKEHOUSE_PII_KEY": key, "OTHER": other}, pii_key="${OTHER}")
    assert of_env.tables["clients"].pii_key == key.encode()
    assert of_file.tables["clients"].pii_key == other.encode()
    table = of_env.tables["clients"]
    texts = f"{of_env!r} {table!r} {of_env.model_dump_json()} {fingerprint_config(table, 'UTC')} {table.pii_labels}"
    assert key not in texts


def test_another_pii_key_changes_the_fingerprint_only_with_hashed_columns() -> None:
    def fingerprint_with(key: str, action: str) -> str:
        pipeline = load_changed({"LAKEHOUSE_PII_KEY": key}, **{TABLE + "pii": {"points": action}})
        return fingerprint_config(pipeline.tables["clients"], "UTC")

    assert fingerprint_with("k" * 40, "hmac") != fingerprint_with("o" * 40, "hmac")
    assert fingerprint_with("k" * 40, "mask") == fingerprint_with("o" * 40, "mask")


def test_the_same_texts_for_null_give_the_same_fingerprint_however_they_are_written() -> None:
    one = fingerprint(null_values={"*": ["-", "x"], "seen": ["0"]})

    assert one == fingerprint(null_values={"seen": ["x", "0", "-"], "id": ["x", "-"], "points": ["-", "x", "x"]})
    assert one != fingerprint(null_values={"*": ["-", "x", "0"]})


def test_the_path_to_the_records_bears_on_the_fingerprint_by_its_names() -> None:
    one = fingerprint(format="json", records="data.items")

    assert one == fingerprint(format="json", records="Data.`items`")
    assert one not in (fingerprint(format="json", records="`data.items`"), fingerprint(format="json"))


def test_the_order_of_keys_does_not_change_the_fingerprint_and_the_time_zone_does() -> None:
    table = load_changed().tables["clients"]

    assert fingerprint(keys=["id", "seen"]) == fingerprint(keys=["seen", "id"])
    assert fingerprint_config(table, "UTC") != fingerprint_config(table, "America/Sao_Paulo")


# The JSON Schema


def accepts(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Whether a value matches; supports the part of JSON Schema that pydantic uses for a pipeline."""
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return any(accepts(choice, value, root) for choice in schema[union])
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool}
    kinds |= {"integer": int, "number": (int, float), "null": type(None)}
    types = schema.get("type", [])
    valid = any(isinstance(value, kinds[kind]) for kind in ([types] if isinstance(types, str) else types))
    valid &= value == schema.get("const", value) and value in schema.get("enum", [value])
    if isinstance(value, str):
        valid &= bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, list):
        valid &= all(accepts(schema.get("items", {}), item, root) for item in value)
    if isinstance(value, dict):
        valid &= set(schema.get("required", [])) <= set(value)
        for key, item in value.items():
            inner = [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
            inner += [schema["properties"][key]] if key in schema.get("properties", {}) else []
            inner = inner or [schema.get("additionalProperties", False)]
            valid &= all(isinstance(part, dict) and accepts(part, item, root) for part in inner)
    return valid


EXAMPLE = changed(
    schedule={"every": "10m"},
    silver={
        "clients": {
            "keys": ["id"],
            "expect": {
                "a": {"check": "1 = 1", "on_fail": "drop"},
                "b": {"range": {"x": {"min": 0, "max": 1.5}}},
                "c": {"values": {"x": ["a", "b"], "y": [1, 2.5], "z": [True]}},
                "d": {"reference": {"x": "silver.other.x"}},
                "e": {"rows": {"min": 1, "max_change": 0.5}, "on_fail": "fail"},
                "f": {"freshness": {"column": "seen", "within": "2d"}},
            },
        }
    },
    gold={"cube": {}},
    publish=postgres({"gold.cube": "cube"}),
    **{TABLE + "options": {"header": True, "sep": ";"}, TABLE + "guard": {"max_deleted": 0.5}},
)


def test_the_committed_json_schema_is_the_generated_one() -> None:
    committed = (REPOSITORY / "conf/pipeline.schema.json").read_text(encoding="utf-8")

    assert json.loads(committed) == json_schema(), "python -m lakehouse.config > conf/pipeline.schema.json"


@pytest.mark.parametrize("example", [MINIMAL, EXAMPLE])
def test_the_json_schema_accepts_a_valid_pipeline(example: dict[str, Any]) -> None:
    assert accepts(json_schema(), example, json_schema())


@pytest.mark.parametrize(
    "changes",
    [
        {"name": MISSING},
        {"timezne": "UTC"},
        {TABLE + "format": "cvs"},
        {TABLE + "kyes": ["id"]},
        {"schedule": {"every": "6 hours"}},
        {"lake": 5},
    ],
)
def test_the_json_schema_rejects_an_invalid_pipeline(changes: dict[str, Any]) -> None:
    assert not accepts(json_schema(), changed(**changes), json_schema())


def test_every_key_in_the_json_schema_has_a_description() -> None:
    for model in [json_schema(), *json_schema()["$defs"].values()]:
        for key, part in model["properties"].items():
            described = part.get("description") or part.get("const") or "$ref" in part
            assert described, f"{model['title']}.{key}"
    assert json_schema()["$defs"]["Guard"]["properties"]["max_deleted"].items() >= {"minimum": 0, "maximum": 1}.items()


def test_the_module_prints_the_json_schema() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "lakehouse.config"], cwd=REPOSITORY, capture_output=True, check=True, text=True
    )

    assert json.loads(printed.stdout) == json_schema()
    assert printed.stderr == ""


def test_reading_a_configuration_does_not_load_spark() -> None:
    look = "import sys, lakehouse.config; print({'pyspark', 'delta', 'py4j'} & set(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", look], cwd=REPOSITORY, capture_output=True, check=True, text=True)

    assert loaded.stdout.strip() == "set()"
