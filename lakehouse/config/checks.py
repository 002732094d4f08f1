"""What is wrong with a configuration and shows only in several of its values together.

They all look at the data as written: a value may be missing or of any type, which the models' fields
report; here it is passed over. So a user is told of both kinds at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.config import options
from lakehouse.config.ddl import Column, DdlError, parse_columns
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, did_you_mean
from lakehouse.config.yaml_source import Loc

# Names that Delta's Change Data Feed or our own layers put beside the source's columns.
_RESERVED_NAMES = re.compile(r"(?i)_cdc_.*|__start_at|__end_at|_change_type|_commit_.*|_feed_sequence")
_JDBC_OPTIONS = ("numPartitions", "fetchsize", "queryTimeout")
# Globs and paths are for files.
_DATABASE_TABLE = r"[^.*?/\\\[\]\s]+(\.[^.*?/\\\[\]\s]+)?"
PUBLISH_POSITION_TABLE = "lakehouse_publish"  # the table in which PostgreSQL says how far it is
# What Delta refuses in a column's name, and the dot, by which SQL reaches into a struct.
_FORBIDDEN_CHARACTERS = frozenset(" ,;{}()\n\t=.`")
# Types whose values are not written in one way by every Java, or are more than one value.
_TYPES_WITHOUT_ONE_TEXT = ("FLOAT", "DOUBLE", "BINARY", "ARRAY", "STRUCT")


def sql_file(folder: Path, layer: str, model: str) -> Path:
    """Where a model's SELECT lies."""
    return folder / layer / f"{model}.sql"


def check_table(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Discrepancies inside one table."""
    yield from _check_options(_as_mapping(data.get("options")), data.get("format"))
    schema = data.get("schema")
    try:
        columns = parse_columns(schema) if schema and isinstance(schema, str) else ()
    except DdlError as error:
        yield from (Discrepancy(("schema",), STRUCTURE, problem) for problem in error.problems)
        columns = ()
    yield from _check_columns(columns, data.get("format"))
    yield from _check_names(data, columns)
    named = list(_column_references(data))
    if columns:
        yield from _check_references(named, columns)
    yield from _check_repeats(named)
    yield from _check_pii(_as_mapping(data.get("pii")), named, columns)
    if data.get("duplicates") == "latest" and data.get("updated_at") is None:
        yield Discrepancy(("duplicates",), VALUE, "which needs updated_at, the column that says what is latest")
    if data.get("history_for") is not None and data.get("history_except") is not None:
        yield Discrepancy(("history_except",), STRUCTURE, "says the opposite of history_for; give one of them")
    if data.get("feed") is not None and data.get("guard") is not None:
        yield Discrepancy(("guard",), STRUCTURE, "guards snapshots; a table with a feed takes none")


def check_jdbc(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Discrepancies inside a source of type jdbc."""
    for name, value in _as_mapping(data.get("options")).items():
        if name not in _JDBC_OPTIONS:
            near = did_you_mean(str(name), _JDBC_OPTIONS) or f"; there are {', '.join(_JDBC_OPTIONS)}"
            yield Discrepancy(("options", str(name)), STRUCTURE, f"no option of a jdbc source{near}")
        elif not re.fullmatch("[1-9][0-9]{0,6}", str(value)):
            yield Discrepancy(("options", str(name)), VALUE, "expected a whole number above 0")


def check_pipeline(data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
    """Discrepancies between parts of a pipeline, and between it and the SQL files beside it."""
    if _as_mapping(data.get("source")).get("type") == "jdbc":
        yield from _check_database_tables(_as_mapping(data.get("tables")))
    for part in ("tables", "silver", "gold"):
        for name, twin in _names_differing_in_case(_as_mapping(data.get(part))):
            message = f'differs from "{twin}" only in case; SQL and some file systems take them for one'
            yield Discrepancy((part, name), STRUCTURE, message)
    for name, model in _as_mapping(data.get("silver")).items():
        if model is None or (isinstance(model, Mapping) and not model.get("keys")):
            yield Discrepancy(("silver", name, "keys"), STRUCTURE, "missing, and a silver model needs them")
    for layer in ("silver", "gold"):
        for name in _as_mapping(data.get(layer)):
            if folder and not sql_file(folder, layer, name).is_file():
                message = f"its SQL is not there: {sql_file(folder, layer, name)}"
                yield Discrepancy((layer, name), STRUCTURE, message)
    if data.get("pii_key") is None:
        for name, table in _as_mapping(data.get("tables")).items():
            if "hmac" in _as_mapping(_as_mapping(table).get("pii")).values():
                fix = "set LAKEHOUSE_PII_KEY in the environment or .env, to what `openssl rand -hex 32` prints"
                yield Discrepancy(("tables", name, "pii"), STRUCTURE, f"hmac needs a key, and there is none; {fix}")
    yield from _check_publish(data)


def _check_publish(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Tables to publish that are not there, and two of them, or our own record, under one name."""
    postgres = _as_mapping(_as_mapping(data.get("publish")).get("postgres"))
    layers = {"bronze": "tables", "silver": "silver", "gold": "gold"}
    known = [f"{layer}.{name}" for layer, part in layers.items() for name in _as_mapping(data.get(part))]
    taken: dict[str, str] = {}
    for name, table in _as_mapping(postgres.get("tables")).items():
        loc = ("publish", "postgres", "tables", name)
        if name not in known:
            message = f"no bronze.<table>, silver.<model> or gold.<model> of this pipeline{did_you_mean(name, known)}"
            yield Discrepancy(loc, STRUCTURE, message)
        if not isinstance(table, str):
            continue
        if table.rpartition(".")[2] == PUBLISH_POSITION_TABLE:
            yield Discrepancy(
                loc, STRUCTURE, f"{PUBLISH_POSITION_TABLE} is where PostgreSQL says how far each table is"
            )
        elif table in taken:
            yield Discrepancy(loc, STRUCTURE, f"the same table as {taken[table]}'s")
        taken.setdefault(table, name)
    yield from _check_topics(
        _as_mapping(_as_mapping(data.get("connect")).get("topics")), _as_mapping(postgres.get("tables"))
    )


def _check_topics(topics: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[Discrepancy]:
    known = [table for table in published.values() if isinstance(table, str)]
    for topic, table in topics.items():
        if isinstance(table, str) and table not in known:
            message = f"which publish.postgres.tables does not publish{did_you_mean(table, known)}"
            yield Discrepancy(("connect", "topics", topic), VALUE, message)


def _check_database_tables(tables: Mapping[str, Any]) -> Iterator[Discrepancy]:
    for name, table in tables.items():
        file, file_format = (_as_mapping(table).get(key) for key in ("file", "format"))
        if isinstance(file, str) and not re.fullmatch(_DATABASE_TABLE, file):
            yield Discrepancy(("tables", name, "file"), VALUE, "expected a table of the database: name or schema.name")
        if file_format in ("csv", "json"):
            yield Discrepancy(("tables", name, "format"), VALUE, "expected parquet, as which a database's table lands")


def check_on_failure(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Discrepancies inside `on_failure`."""
    if data.get("command") is None and data.get("webhook") is None:
        yield Discrepancy((), STRUCTURE, "names nobody; give command: [...] or webhook: https://...")
    webhook = data.get("webhook")
    if isinstance(webhook, str) and not webhook.startswith(("http://", "https://")):
        yield Discrepancy(("webhook",), STRUCTURE, "expected an address that begins with https:// or http://")


def check_connect(data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
    """Discrepancies inside `connect`, and between it and the files beside it."""
    url, objects, files = data.get("url"), data.get("objects"), data.get("connectors")
    if isinstance(url, str) and not re.match(r"https?://[^/\s]", url):
        yield Discrepancy(("url",), STRUCTURE, "expected an address that begins with http:// or https://")
    if isinstance(objects, str) and not re.match(r"s3a://[^/\s]+/[^/\s]", objects):
        yield Discrepancy(("objects",), STRUCTURE, "expected s3a://bucket/prefix, the bucket and prefix of the sink")
    if (objects is None) != (not data.get("topics")):
        yield Discrepancy(
            (), STRUCTURE, "objects and topics go together: `verify` compares each topic's with its table"
        )
    for n, file in enumerate(files if isinstance(files, list) else []):
        if folder and isinstance(file, str) and not (folder / file).is_file():
            yield Discrepancy(("connectors", n), STRUCTURE, f"no such file: {folder / file}")


def _check_options(given: Mapping[str, Any], file_format: Any) -> Iterator[Discrepancy]:
    yield from options.discrepancies(given, file_format)
    first: dict[str, str] = {}
    for name in map(str, given):
        meant = options.ALIASES.get(name.lower(), name.lower())
        if meant in first:
            yield Discrepancy(("options", name), STRUCTURE, f'the same option as "{first[meant]}"')
        first.setdefault(meant, name)


def _check_columns(columns: tuple[Column, ...], file_format: Any) -> Iterator[Discrepancy]:
    for name, twin in _names_differing_in_case(column.name for column in columns):
        message = f'column "{name}": the same name as "{twin}" (case does not count)'
        yield Discrepancy(("schema",), STRUCTURE, message)
    for column in columns:
        if _RESERVED_NAMES.fullmatch(column.name):
            fix = "leave it out of schema, or have the source rename it"
            message = f'column "{column.name}": a name the lake uses for itself; {fix}'
            yield Discrepancy(("schema",), STRUCTURE, message)
        if strange := sorted(set(column.name) & _FORBIDDEN_CHARACTERS):
            message = f'column "{column.name}": Delta Lake takes no name with {" ".join(map(repr, strange))}'
            fix = f'give it another one, and say what the files call it: names: {{another: "{column.name}"}}'
            yield Discrepancy(("schema",), STRUCTURE, f"{message}; {fix}")
        if column.is_nested and file_format == "csv":
            message = f'column "{column.name}": a CSV file holds no {column.type}; read it as STRING'
            yield Discrepancy(("schema",), STRUCTURE, message)


def _check_names(data: Mapping[str, Any], columns: tuple[Column, ...]) -> Iterator[Discrepancy]:
    """Discrepancies in `names`: each column has to have a name of its own in the files."""
    names, known = _as_mapping(data.get("names")), [column.name for column in columns]
    header = {str(name).lower(): value for name, value in _as_mapping(data.get("options")).items()}.get("header")
    if names and data.get("format") == "csv" and str(header).lower() == "false":
        yield Discrepancy(("names",), STRUCTURE, "a file without a header names no column; `schema` has them in order")
    for column, name in names.items():
        if columns and column not in known:
            yield Discrepancy(("names", column), STRUCTURE, f"no column of schema{did_you_mean(str(column), known)}")
        elif isinstance(name, str) and data.get("format") == "csv" and name != name.strip():
            yield Discrepancy(("names", column), VALUE, "expected no space around it, which in a header does not count")
    called: dict[str, str] = {}
    for column in sorted(known, key=lambda name: name in names):
        name = str(names.get(column, column)).lower()
        if column in names and name in called:
            message = f'which is what the column "{called[name]}" is read from'
            yield Discrepancy(("names", column), VALUE, message)
        called.setdefault(name, column)


def _column_references(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Every place in a table that names a column, and the name."""
    feed = _as_mapping(data.get("feed"))
    lists: dict[Loc, Any] = {(part,): data.get(part) for part in ("keys", "ignore", "history_for", "history_except")}
    lists |= {("feed", part): feed.get(part) for part in ("sequence_by", "drop")}
    for loc, names in lists.items():
        for n, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str):
                yield (*loc, n), name
    if isinstance(data.get("updated_at"), str):
        yield ("updated_at",), data["updated_at"]


def _check_references(references: list[tuple[Loc, str]], columns: tuple[Column, ...]) -> Iterator[Discrepancy]:
    known = [column.name for column in columns]
    for loc, name in references:
        if name not in known:
            yield Discrepancy(loc, VALUE, f"which is no column of schema{did_you_mean(name, known)}")


def _check_repeats(references: list[tuple[Loc, str]]) -> Iterator[Discrepancy]:
    seen: set[tuple[Loc, str]] = set()
    keys = {name for loc, name in references if loc[0] == "keys"}
    for loc, name in references:
        if (loc[:-1], name) in seen:
            yield Discrepancy(loc, VALUE, "named twice")
        if loc[0] == "ignore" and name in keys:
            yield Discrepancy(loc, VALUE, "which is a key: a row with another key is another row")
        seen.add((loc[:-1], name))


def _check_pii(
    pii: Mapping[str, Any], references: list[tuple[Loc, str]], columns: tuple[Column, ...]
) -> Iterator[Discrepancy]:
    types = {column.name: column.canonical_type for column in columns}
    for name, how in pii.items():
        places = {loc[0] for loc, other in references if other == name}
        message = ""
        if columns and name not in types:
            message = f"no column of schema{did_you_mean(name, types)}"
        elif "keys" in places and how != "hmac":
            message = "a key, by which rows are told apart; that takes hmac"
        elif "updated_at" in places:
            message = "updated_at decides by its order, of which nothing would be left"
        elif places and how == "drop":
            message = f"dropped here, and named in {' and '.join(sorted(map(str, places)))}"
        elif how == "hmac" and types.get(name, "").startswith(_TYPES_WITHOUT_ONE_TEXT):
            message = f"{types[name]} has no one text to be hashed; declare it as STRING or DECIMAL, or mask or drop it"
        if message:
            yield Discrepancy(("pii", name), STRUCTURE, message)


def _names_differing_in_case(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names that differ from an earlier one in case at most, each with that one."""
    first: dict[str, str] = {}
    for name in names:
        if name.lower() in first:
            yield name, first[name.lower()]
        first.setdefault(name.lower(), name)


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
