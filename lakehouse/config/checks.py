"""Checks a configuration for errors that concern several of its values together.

The checks read the data as written, before it is validated, so that all errors are reported at once. A value may be
missing or of any type: the models' fields report that, and the checks skip it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.config import options
from lakehouse.config.ddl import Column, DdlError, parse_columns
from lakehouse.config.feed import check_feed, dropped_columns
from lakehouse.config.field_columns import is_path
from lakehouse.config.file_pattern import columns_in_name
from lakehouse.config.kafka import check_kafka_tables
from lakehouse.config.missing import check_missing
from lakehouse.config.reading import check_reading
from lakehouse.config.ready import check_ready
from lakehouse.config.row_keys import check_keys
from lakehouse.config.slices import check_slices
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, did_you_mean
from lakehouse.config.yaml_source import Loc

# Column names that Delta's Change Data Feed or the lake adds to the source's columns.
_RESERVED_NAMES = re.compile(r"(?i)_cdc_.*|__start_at|__end_at|_change_type|_commit_.*|_feed_sequence")
_JDBC_OPTIONS = ("numPartitions", "fetchsize", "queryTimeout")
# Without the characters of globs and paths.
_DATABASE_TABLE = r"[^.*?/\\\[\]\s]+(\.[^.*?/\\\[\]\s]+)?"
PUBLISH_POSITION_TABLE = "lakehouse_publish"  # the table in PostgreSQL with the lake versions it has received
# The characters that Delta rejects in a column's name, and the dot, with which SQL selects a struct's field.
FORBIDDEN_CHARACTERS = frozenset(" ,;{}()\n\t=.`")
# Types without a unique text per value: Java versions write floating-point numbers differently.
_TYPES_WITHOUT_ONE_TEXT = ("FLOAT", "DOUBLE", "BINARY", "ARRAY", "STRUCT")


def sql_file(folder: Path, layer: str, model: str) -> Path:
    """Return the path of the file with a model's SELECT.

    Args:
        folder: The folder of the configuration file.
        layer: `silver` or `gold`.
        model: The model's name.
    """
    return folder / layer / f"{model}.sql"


def check_table(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield the discrepancies inside one table."""
    yield from options.discrepancies(_as_mapping(data.get("options")), data.get("format"))
    schema = data.get("schema")
    try:
        columns = parse_columns(schema) if schema and isinstance(schema, str) else ()
    except DdlError as error:
        yield from (Discrepancy(("schema",), STRUCTURE, problem) for problem in error.problems)
        columns = ()
    yield from _check_columns(columns, data.get("format"), dropped_columns(data))
    yield from _check_names(data, columns)
    references = list(_column_references(data))
    yield from _check_references(references, columns, has_feed=data.get("feed") is not None)
    yield from _check_pii(_as_mapping(data.get("pii")), references, columns)
    if data.get("duplicates") == "latest" and data.get("updated_at") is None:
        yield Discrepancy(("duplicates",), VALUE, "which requires updated_at, the column that orders the rows")
    if data.get("history_for") is not None and data.get("history_except") is not None:
        yield Discrepancy(("history_except",), STRUCTURE, "contradicts history_for; give only one of them")
    if _as_mapping(data.get("guard")).get("learned") and data.get("slice_by") is not None:
        message = "the slices of a snapshot vary, and so do its figures; this table has slice_by"
        yield Discrepancy(("guard", "learned"), STRUCTURE, message)
    yield from check_keys(data)
    yield from check_missing(data)
    yield from check_feed(data, columns)
    yield from check_reading(data, columns)
    yield from check_slices(data, columns)


def check_jdbc(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield the discrepancies inside a source of type jdbc."""
    for name, value in _as_mapping(data.get("options")).items():
        if name not in _JDBC_OPTIONS:
            hint = did_you_mean(str(name), _JDBC_OPTIONS) or f"; expected one of {', '.join(_JDBC_OPTIONS)}"
            yield Discrepancy(("options", str(name)), STRUCTURE, f"unknown option of a jdbc source{hint}")
        elif not re.fullmatch("[1-9][0-9]{0,6}", str(value)):
            yield Discrepancy(("options", str(name)), VALUE, "expected a whole number above 0")


def check_pipeline(data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
    """Yield the discrepancies between sections of a pipeline, and between it and the SQL files beside it."""
    if _as_mapping(data.get("source")).get("type") == "jdbc":
        yield from _check_database_tables(_as_mapping(data.get("tables")))
    for section in ("tables", "silver", "gold"):
        for name, other in _names_differing_in_case(_as_mapping(data.get(section))):
            message = f'differs from "{other}" only in case; to SQL and some file systems they are the same name'
            yield Discrepancy((section, name), STRUCTURE, message)
    for name, model in _as_mapping(data.get("silver")).items():
        if model is None or (isinstance(model, Mapping) and not model.get("keys")):
            yield Discrepancy(("silver", name, "keys"), STRUCTURE, "missing; a silver model requires keys")
    for layer in ("silver", "gold"):
        for name in _as_mapping(data.get(layer)):
            if folder and not sql_file(folder, layer, name).is_file():
                message = f"its SQL file does not exist: {sql_file(folder, layer, name)}"
                yield Discrepancy((layer, name), STRUCTURE, message)
    if data.get("pii_key") is None:
        for name, table in _as_mapping(data.get("tables")).items():
            if "hmac" in _as_mapping(_as_mapping(table).get("pii")).values():
                fix = "set LAKEHOUSE_PII_KEY in the environment or .env to the output of `openssl rand -hex 32`"
                yield Discrepancy(("tables", name, "pii"), STRUCTURE, f"hmac requires a key, and none is set; {fix}")
    if _as_mapping(data.get("retention")).get("change_sets") is not None:
        for name, table in _as_mapping(data.get("tables")).items():
            if _as_mapping(table).get("feed") is not None:
                message = f"a table with a feed is built from all its events, which are kept: {name}"
                yield Discrepancy(("retention", "change_sets"), STRUCTURE, message)
    yield from _check_publish(data)
    yield from check_ready(data)
    yield from check_kafka_tables(data)


def _check_publish(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield tables to publish that do not exist, target tables with two sources, and topics of unpublished tables."""
    postgres = _as_mapping(_as_mapping(data.get("publish")).get("postgres"))
    layers = {"bronze": "tables", "silver": "silver", "gold": "gold"}
    known = [f"{layer}.{name}" for layer, section in layers.items() for name in _as_mapping(data.get(section))]
    sources: dict[str, str] = {}
    for name, table in _as_mapping(postgres.get("tables")).items():
        loc = ("publish", "postgres", "tables", name)
        if name not in known:
            message = f"no bronze.<table>, silver.<model> or gold.<model> of this pipeline{did_you_mean(name, known)}"
            yield Discrepancy(loc, STRUCTURE, message)
        if not isinstance(table, str):
            continue
        if table.rpartition(".")[2] == PUBLISH_POSITION_TABLE:
            message = f"{PUBLISH_POSITION_TABLE} is reserved: it stores the publish position of each table"
            yield Discrepancy(loc, STRUCTURE, message)
        elif table in sources:
            yield Discrepancy(loc, STRUCTURE, f"the same target table as {sources[table]}")
        sources.setdefault(table, name)
    for topic, table in _as_mapping(_as_mapping(data.get("connect")).get("topics")).items():
        if isinstance(table, str) and table not in sources:
            message = f"which is not in publish.postgres.tables{did_you_mean(table, sources)}"
            yield Discrepancy(("connect", "topics", topic), VALUE, message)


def _check_database_tables(tables: Mapping[str, Any]) -> Iterator[Discrepancy]:
    for name, table in tables.items():
        file, file_format = (_as_mapping(table).get(key) for key in ("file", "format"))
        if columns_in_name(file, _declared_names(table)):
            message = "has a column in the name of a file, but a table of a database is no file"
            yield Discrepancy(("tables", name, "file"), STRUCTURE, message)
        if isinstance(file, str) and not re.fullmatch(_DATABASE_TABLE, file):
            yield Discrepancy(("tables", name, "file"), VALUE, "expected a table of the database: name or schema.name")
        if file_format in ("csv", "json"):
            yield Discrepancy(
                ("tables", name, "format"), VALUE, "expected parquet, the format of landed database tables"
            )


def _declared_names(table: Any) -> list[str]:
    """Return the names of a table's columns; none if its schema is not valid."""
    schema = _as_mapping(table).get("schema")
    try:
        return [column.name for column in parse_columns(schema)] if schema and isinstance(schema, str) else []
    except DdlError:
        return []


def check_on_failure(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield the discrepancies inside `on_failure`."""
    if data.get("command") is None and data.get("webhook") is None:
        yield Discrepancy((), STRUCTURE, "has no recipient; give command: [...] or webhook: https://...")
    webhook = data.get("webhook")
    if isinstance(webhook, str) and not webhook.startswith(("http://", "https://")):
        yield Discrepancy(("webhook",), STRUCTURE, "expected a URL that begins with https:// or http://")


def check_connect(data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
    """Yield the discrepancies inside `connect`, and between it and the connector files beside it."""
    url, objects, files = data.get("url"), data.get("objects"), data.get("connectors")
    if isinstance(url, str) and not re.match(r"https?://[^/\s]", url):
        yield Discrepancy(("url",), STRUCTURE, "expected a URL that begins with http:// or https://")
    if isinstance(objects, str) and not re.match(r"s3a://[^/\s]+/[^/\s]", objects):
        yield Discrepancy(("objects",), STRUCTURE, "expected s3a://bucket/prefix, the bucket and prefix of the sink")
    if (objects is None) != (not data.get("topics")):
        yield Discrepancy(
            (), STRUCTURE, "objects and topics go together: `verify` compares each topic's objects with its table"
        )
    for n, file in enumerate(files if isinstance(files, list) else []):
        if folder and isinstance(file, str) and not (folder / file).is_file():
            yield Discrepancy(("connectors", n), STRUCTURE, f"no such file: {folder / file}")


def _check_columns(columns: tuple[Column, ...], file_format: Any, dropped: frozenset[str]) -> Iterator[Discrepancy]:
    for name, other in _names_differing_in_case(column.name for column in columns):
        message = f'column "{name}": the same name as "{other}" (case does not matter)'
        yield Discrepancy(("schema",), STRUCTURE, message)
    for column in columns:
        is_dropped = column.name in dropped and column.name.lower().startswith("_cdc_")
        if _RESERVED_NAMES.fullmatch(column.name) and not is_dropped:
            fix = "remove it from schema, or rename it at the source"
            message = f'column "{column.name}": the name is reserved for the lake; {fix}'
            yield Discrepancy(("schema",), STRUCTURE, message)
        if forbidden := sorted(set(column.name) & FORBIDDEN_CHARACTERS):
            message = f'column "{column.name}": Delta Lake does not allow {" ".join(map(repr, forbidden))} in a name'
            fix = f'use another name, and give its name in the files: names: {{another: "{column.name}"}}'
            yield Discrepancy(("schema",), STRUCTURE, f"{message}; {fix}")
        if column.is_nested and file_format == "csv":
            message = f'column "{column.name}": a CSV file cannot contain {column.type}; read it as STRING'
            yield Discrepancy(("schema",), STRUCTURE, message)


def _check_names(data: Mapping[str, Any], columns: tuple[Column, ...]) -> Iterator[Discrepancy]:
    """Yield the discrepancies of `names`: each column must have its own name in the files."""
    names, known = _as_mapping(data.get("names")), [column.name for column in columns]
    header = {str(name).lower(): value for name, value in _as_mapping(data.get("options")).items()}.get("header")
    if names and data.get("format") == "csv" and str(header).lower() == "false":
        message = "a file without a header has no column names; `schema` lists the columns in order"
        yield Discrepancy(("names",), STRUCTURE, message)
    for column, name in names.items():
        if columns and column not in known:
            yield Discrepancy(("names", column), STRUCTURE, f"not a column of schema{did_you_mean(str(column), known)}")
        elif isinstance(name, str) and data.get("format") == "csv" and name != name.strip():
            yield Discrepancy(("names", column), VALUE, "expected no surrounding spaces: in a header they are ignored")
    by_file_name: dict[str, str] = {}
    for column in sorted(known, key=lambda name: name in names):
        name = str(names.get(column, column)).lower()
        if column in names and name in by_file_name:
            message = f'from which the column "{by_file_name[name]}" is read already'
            yield Discrepancy(("names", column), VALUE, message)
        by_file_name.setdefault(name, column)


def _column_references(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Yield the location and the name of every reference to a column."""
    feed = _as_mapping(data.get("feed"))
    settings = ("keys", "ignore", "history_for", "history_except", "slice_by")
    lists: dict[Loc, Any] = {(key,): data.get(key) for key in settings}
    lists |= {("feed", key): feed.get(key) for key in ("sequence_by", "drop", "ignore_null_updates")}
    for loc, names in lists.items():
        for n, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str):
                yield (*loc, n), name
    if isinstance(data.get("updated_at"), str):
        yield ("updated_at",), data["updated_at"]


def _check_references(
    references: list[tuple[Loc, str]], columns: tuple[Column, ...], has_feed: bool
) -> Iterator[Discrepancy]:
    """Yield references to unknown columns, repeated ones in a list, and ignored keys."""
    known = [column.name for column in columns]
    keys = {name for loc, name in references if loc[0] == "keys"}
    seen: set[tuple[Loc, str]] = set()
    for loc, name in references:
        may_be_field = has_feed and (loc[0] == "keys" or loc[:2] == ("feed", "sequence_by"))
        if columns and name not in known and not (may_be_field and is_path(name, columns)):
            yield Discrepancy(loc, VALUE, f"which is not a column of schema{did_you_mean(name, known)}")
        if (loc[:-1], name) in seen:
            yield Discrepancy(loc, VALUE, "given twice")
        if loc[0] == "ignore" and name in keys:
            yield Discrepancy(loc, VALUE, "which is a key, and keys cannot be ignored")
        seen.add((loc[:-1], name))


def _check_pii(
    pii: Mapping[str, Any], references: list[tuple[Loc, str]], columns: tuple[Column, ...]
) -> Iterator[Discrepancy]:
    types = {column.name: column.canonical_type for column in columns}
    for name, action in pii.items():
        used_in = {loc[0] for loc, other in references if other == name}
        message = ""
        if columns and name not in types:
            message = f"not a column of schema{did_you_mean(name, types)}"
        elif "keys" in used_in and action != "hmac":
            message = "a key, which must stay unique per row; use hmac"
        elif "updated_at" in used_in:
            message = "used as updated_at, whose order hmac, mask and drop destroy"
        elif any(loc[:2] == ("feed", "sequence_by") for loc, other in references if other == name):
            message = "used in sequence_by, whose order hmac, mask and drop destroy"
        elif "slice_by" in used_in and action == "mask":
            message = "used in slice_by, whose values mask makes equal; use hmac"
        elif used_in and action == "drop":
            message = f"dropped here, but used in {' and '.join(sorted(map(str, used_in)))}"
        elif action == "hmac" and types.get(name, "").startswith(_TYPES_WITHOUT_ONE_TEXT):
            message = f"{types[name]} has no unique text to hash; declare it as STRING or DECIMAL, or mask or drop it"
        if message:
            yield Discrepancy(("pii", name), STRUCTURE, message)


def _names_differing_in_case(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that equals an earlier one except for case, with the earlier name."""
    first: dict[str, str] = {}
    for name in names:
        if name.lower() in first:
            yield name, first[name.lower()]
        first.setdefault(name.lower(), name)


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
