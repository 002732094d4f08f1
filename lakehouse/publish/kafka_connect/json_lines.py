"""Reads the JSON lines that a sink wrote to S3, and compares their latest rows with a published table.

Of all lines with the same key the one with the greatest `__offset` (its position in the topic) counts; a line with
`__deleted` deletes the key. So a line that was written twice counts once, and the order of the objects does not matter.
Fields that begin with `__` belong to the connectors and are not columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from lakehouse.config.postgres import connection_defaults
from lakehouse.errors import DataRefused, InfrastructureError
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath

OFFSET, DELETED = "__offset", "__deleted"
Key = tuple[str | None, ...]
Row = dict[str, str | None]
"""The values of a row by column, as `to_text` returns them."""

_OBJECT_NAME = re.compile(r"\+(\d+)\+\d+\.json$")
_OBJECTS_PER_BATCH = 64  # in memory at a time
_PYTHON_TYPES: dict[int, type] = {1700: Decimal, 1114: datetime, 1184: datetime}  # by PostgreSQL's type number
_SELECT_PRIMARY_KEY = """
    SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indisprimary AND i.indrelid = %s::regclass ORDER BY array_position(i.indkey, a.attnum)
"""
_MAX_EXAMPLES = 3


def compare_with_table(url: str, table: str, folder: StorePath) -> tuple[int, list[str]]:
    """Compare a PostgreSQL table with the latest rows of the lines below a folder.

    Args:
        url: The address of the database.
        table: The table's name, with or without its schema. Its primary key identifies the rows.
        folder: The folder that the sink writes the table's topic to.

    Returns:
        The number of the table's rows, and the lines of `differences`.

    Raises:
        DataRefused: The table does not exist or has no primary key; or see `read_latest_rows`.
        InfrastructureError: PostgreSQL cannot be reached.
    """
    rows, keys = read_table(url, table)
    return len(rows), differences(read_latest_rows(folder, keys), rows, keys)


def read_table(url: str, table: str) -> tuple[list[dict[str, Any]], dict[str, type]]:
    """Return the rows of a PostgreSQL table, and the columns of its primary key with their Python types.

    Args:
        url: The address of the database.
        table: The table's name, with or without its schema.

    Raises:
        DataRefused: The table does not exist or has no primary key.
        InfrastructureError: PostgreSQL cannot be reached.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import dict_row
    from psycopg.sql import SQL, Identifier
    from psycopg.types.json import set_json_loads

    name = SQL(".").join(map(Identifier, table.split(".")))
    try:
        conninfo = make_conninfo(url, **connection_defaults(conninfo_to_dict(url), psycopg.pq.version()))
        with psycopg.connect(conninfo) as connection, connection.cursor(row_factory=dict_row) as cursor:
            keys = [row["attname"] for row in cursor.execute(_SELECT_PRIMARY_KEY, [name.as_string(connection)])]
            set_json_loads(_load_json, connection)
            rows = cursor.execute(SQL("SELECT * FROM {}").format(name)).fetchall()
            types = {column.name: _PYTHON_TYPES.get(column.type_code, str) for column in cursor.description or ()}
    except psycopg.OperationalError as error:
        raise InfrastructureError(
            f"PostgreSQL cannot be reached to read {table}: {error}", expected="a server that answers"
        ) from None
    except psycopg.Error as error:
        raise DataRefused(f"the table {table} cannot be read: {error}", expected="a published table") from None
    if not keys:
        raise DataRefused(f"the table {table} has no primary key", expected="one, which identifies the rows")
    return rows, {key: types[key] for key in keys}


def read_latest_rows(folder: StorePath, keys: Mapping[str, type]) -> dict[Key, Row]:
    """Return the rows that the lines of all objects below a folder result in, by key.

    The rows are kept in memory, and a few objects at a time.

    Args:
        folder: The folder that the sink writes a topic to.
        keys: The columns that identify a row, with their Python types in the table: str, date, Decimal, ...

    Raises:
        DataRefused: A line is not a JSON object with the key and an offset, an object's name is not one of a sink, or
            a key is in two partitions of its topic, so that it is unknown which line is newer.
    """
    latest: dict[Key, tuple[int, str, Row | None]] = {}
    for where, partition, line in _read_lines(folder):
        key, offset, row = parse_line(line, keys, where)
        latest_offset, first_partition, _ = latest.get(key, (-1, partition, None))
        if first_partition != partition:
            raise DataRefused(
                f"the key {_format_key(key)} is in the partitions {first_partition} and {partition}",
                expected="each key in one partition, which holds while the topic keeps its number of partitions",
                where=str(folder),
                next_step="start again with another prefix: docs/guide/kafka.md",
            )
        if offset > latest_offset:
            latest[key] = (offset, partition, row)
    return {key: row for key, (_, _, row) in latest.items() if row is not None}


def _read_lines(folder: StorePath) -> Iterator[tuple[str, str, str]]:
    """Yield each line with its location and its partition."""
    for file, partition, lines in read_objects(folder):
        for number, line in enumerate(lines, start=1):
            if line:
                yield f"{file}, line {number}", partition, line


def read_objects(folder: StorePath) -> Iterator[tuple[StorePath, str, list[str]]]:
    """Yield each object below a folder with its partition and its lines, a few objects in memory at a time.

    Args:
        folder: The folder that the sink writes a topic to.

    Raises:
        DataRefused: An object's name is not one of a sink.
    """
    files = file_io.list_files(folder)
    for start in range(0, len(files), _OBJECTS_PER_BATCH):
        batch = files[start : start + _OBJECTS_PER_BATCH]
        for file, content in zip(batch, file_io.read_files(batch), strict=True):
            name = _OBJECT_NAME.search(file.name)
            if name is None:
                raise DataRefused(
                    "an object that no sink wrote", expected="TOPIC+PARTITION+OFFSET.json", where=str(file)
                )
            lines = (content or b"").decode(errors="replace").split("\n")  # not splitlines: JSON may contain U+2028
            yield file, name[1], lines


def parse_line(line: str, keys: Mapping[str, type], where: str) -> tuple[Key, int, Row | None]:
    """Return a line's key, its offset and its row; None for a deletion.

    Args:
        line: The line.
        keys: The columns that identify a row, with their Python types in the table.
        where: The location of the line, for messages.

    Raises:
        DataRefused: It is not a JSON object with the key and an offset.
    """
    try:
        # Decimal, because a float would lose digits before anything is compared.
        document = json.loads(line, parse_float=Decimal)
        row = {name: to_text(value) for name, value in document.items() if not name.startswith("__")}
        key = tuple(to_text(document[name], value_type) for name, value_type in keys.items())
        offset = int(document[OFFSET])
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DataRefused(
            f"a line that cannot be read: {type(error).__name__}",
            expected=f"a JSON object with {', '.join(keys)} and {OFFSET}",
            where=where,
        ) from None
    return key, offset, None if str(document.get(DELETED)).lower() == "true" else row


def to_text(value: Any, value_type: type = str) -> str | None:
    """Return a value as the text by which both sides are compared.

    >>> to_text("5.430000", Decimal), to_text(Decimal("5.43")), to_text("2024-01-02"), to_text(True), to_text(None)
    ('5.43', '5.43', '2024-01-02', 'true', None)

    Args:
        value: A value of the JSON line or of the table.
        value_type: The type of the value in the table, if JSON has only text for it.
    """
    if value is None:
        return None
    if value_type is Decimal and not isinstance(value, Decimal):
        value = Decimal(str(value))
    if value_type is datetime and isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if value_type in (dict, list) and isinstance(value, str):  # jsonb, which Debezium sends as text
        value = _load_json(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {_part_text(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_part_text, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return _strip_zeros(f"{value:f}")
    if isinstance(value, datetime):
        return (value.astimezone(timezone.utc) if value.tzinfo else value).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


def _part_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else str(to_text(value))


def _load_json(text: str | bytes) -> Any:
    """Return a JSON value whose numbers have all digits."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def _strip_zeros(number: str) -> str:
    """Strip trailing zeros of a fraction; Decimal.normalize would round to 28 digits."""
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return "0" if number == "-0" else number


def differences(
    latest_rows: Mapping[Key, Row], table_rows: Iterable[Mapping[str, Any]], keys: Iterable[str]
) -> list[str]:
    """Return the differences between the latest rows and a table: one line per kind, with a count and a few examples.

    Args:
        latest_rows: The rows of the lines, by key.
        table_rows: The table's rows by column, with Python types: Decimal, date, int, ...
        keys: The names of the key columns.
    """
    missing, differing, remaining, keys = [], [], dict(latest_rows), list(keys)
    for table_row in table_rows:
        key = tuple(to_text(table_row[name]) for name in keys)
        wanted = {name: to_text(value) for name, value in table_row.items()}
        row = remaining.pop(key, None)
        if row is None:
            missing.append(_format_key(key))
        elif columns := [name for name in {**wanted, **row} if not _is_equal(name, table_row, wanted, row)]:
            values = ", ".join(f"{name} {wanted.get(name)} and {row.get(name)}" for name in columns)
            differing.append(f"{_format_key(key)}: {values}")
    kinds = {
        "only in the table": missing,
        "different": differing,
        "only on S3": [_format_key(key) for key in remaining],
    }
    return [f"{len(lines):,} {kind}: {'; '.join(lines[:_MAX_EXAMPLES])}" for kind, lines in kinds.items() if lines]


def _is_equal(name: str, table_row: Mapping[str, Any], wanted: Row, row: Row) -> bool:
    if name not in wanted or name not in row:
        return False
    try:
        return wanted[name] == to_text(row[name], type(table_row[name]))
    except (ValueError, ArithmeticError):
        return False


def _format_key(key: Key) -> str:
    return "/".join("null" if part is None else part for part in key)
