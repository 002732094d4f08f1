"""The JSON lines that a sink wrote to S3, folded by key: the rows that they leave, to be compared with a table.

Of all lines of a key the newest counts, the one with the greatest `__offset` (its place in the topic); one that says
`__deleted` removes the key. So a line that was written twice counts once, and the order of objects is no matter.
Everything that begins with `__` is the connectors' own and no column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from lakehouse.errors import DataRefused, InfrastructureError
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath

OFFSET, DELETED = "__offset", "__deleted"
Key = tuple[str | None, ...]
Row = dict[str, str | None]
"""A row as texts of one form, by column: see `text`."""

_OBJECT_NAME = re.compile(r"\+(\d+)\+\d+\.json$")
_OBJECTS_PER_BATCH = 64  # objects in memory
_PYTHON_TYPES: dict[int, type] = {1700: Decimal, 1114: datetime, 1184: datetime}  # PostgreSQL's numbers for them
_SELECT_PRIMARY_KEY = """
    SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indisprimary AND i.indrelid = %s::regclass ORDER BY array_position(i.indkey, a.attnum)
"""
_MAX_EXAMPLES = 3


def read_latest_rows(folder: StorePath, keys: Mapping[str, type]) -> dict[Key, Row]:
    """What the lines of all objects below `folder` leave, by key. Memory: the rows, and a few objects at a time.

    Args:
        keys: the columns that identify a row, and what they are in the table: str, date, Decimal, ...

    Raises:
        DataRefused: a line is no JSON object with the key and an offset in it, an object has another name than a sink
            gives, or a key stands in two partitions of its topic, where nothing says which line is newer.
    """
    newest: dict[Key, tuple[int, str, Row | None]] = {}
    for file, partition, line in _read_lines(folder):
        key, offset, row = _parse_line(line, keys, file)
        at, there, _ = newest.get(key, (-1, partition, None))
        if there != partition:
            raise DataRefused(
                f"the key {_format_key(key)} stands in partitions {there} and {partition}",
                expected="each key in one partition, as long as a topic keeps its number of them",
                where=str(folder),
                next_step="begin anew with another prefix: docs/guide/kafka.md",
            )
        if offset > at:
            newest[key] = (offset, partition, row)
    return {key: row for key, (_, _, row) in newest.items() if row is not None}


def _read_lines(folder: StorePath) -> Iterator[tuple[str, str, str]]:
    """Each line with its object and its partition."""
    files = file_io.list_files(folder)
    for start in range(0, len(files), _OBJECTS_PER_BATCH):
        some = files[start : start + _OBJECTS_PER_BATCH]
        for file, content in zip(some, file_io.read_files(some), strict=True):
            found = _OBJECT_NAME.search(file.name)
            if found is None:
                raise DataRefused(
                    "an object that no sink wrote", expected="TOPIC+PARTITION+OFFSET.json", where=str(file)
                )
            lines = (content or b"").decode(errors="replace").split("\n")  # not splitlines: JSON may have U+2028
            for number, line in enumerate(lines, start=1):
                if line:
                    yield f"{file}, line {number}", found[1], line


def _parse_line(line: str, keys: Mapping[str, type], where: str) -> tuple[Key, int, Row | None]:
    try:
        # Numbers as they are written: a float would have lost a digit before anybody compared it.
        document = json.loads(line, parse_float=Decimal)
        columns = {name: to_text(value) for name, value in document.items() if not name.startswith("__")}
        key = tuple(to_text(document[name], kind) for name, kind in keys.items())
        offset = int(document[OFFSET])
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataRefused(
            f"a line that cannot be folded: {type(error).__name__}",
            expected=f"a JSON object with {', '.join(keys)} and {OFFSET}",
            where=where,
        ) from None
    return key, offset, None if str(document.get(DELETED)).lower() == "true" else columns


def to_text(value: Any, value_type: type = str) -> str | None:
    """A value in the one form in which both sides are compared.

    Args:
        kind: what the value is in the table, where JSON has but text for it.

    >>> to_text("5.430000", Decimal), to_text(Decimal("5.43")), to_text("2024-01-02"), to_text(True), to_text(None)
    ('5.43', '5.43', '2024-01-02', 'true', None)
    """
    if value is None:
        return None
    if value_type is Decimal and not isinstance(value, Decimal):
        value = Decimal(str(value))
    if value_type is datetime and isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return _strip_zeros(f"{value:f}")
    if isinstance(value, datetime):
        return (value.astimezone(timezone.utc) if value.tzinfo else value).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


def _strip_zeros(number: str) -> str:
    """Without zeros that say nothing. Not by `normalize`, which would round to 28 digits."""
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return "0" if number == "-0" else number


def compare_with_table(url: str, table: str, folder: StorePath) -> tuple[int, list[str]]:
    """A table of PostgreSQL, and what tells the folded lines of `folder` from it.

    Args:
        table: its name, or schema.name; by its primary key the lines are folded.

    Returns:
        The table's rows, and `differences`.

    Raises:
        DataRefused: there is no such table, it has no primary key, or see `fold`.
        InfrastructureError: PostgreSQL does not answer.
    """
    import psycopg
    from psycopg.rows import dict_row
    from psycopg.sql import SQL, Identifier

    name = SQL(".").join(map(Identifier, table.split(".")))
    try:
        with psycopg.connect(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
            keys = [row["attname"] for row in cursor.execute(_SELECT_PRIMARY_KEY, [name.as_string(connection)])]
            rows = cursor.execute(SQL("SELECT * FROM {}").format(name)).fetchall()
            kinds = {one.name: _PYTHON_TYPES.get(one.type_code, str) for one in cursor.description or ()}
    except psycopg.OperationalError as error:
        raise InfrastructureError(
            f"PostgreSQL cannot be asked for {table}: {error}", expected="a server that answers"
        ) from None
    except psycopg.Error as error:
        raise DataRefused(f"the table {table} cannot be read: {error}", expected="what `publish` wrote") from None
    if not keys:
        raise DataRefused(f"the table {table} has no primary key", expected="one, to fold the lines by")
    return len(rows), differences(read_latest_rows(folder, {key: kinds[key] for key in keys}), rows, keys)


def differences(
    latest_rows: Mapping[Key, Row], table_rows: Iterable[Mapping[str, Any]], keys: Iterable[str]
) -> list[str]:
    """What tells the folded lines from a table's rows, as people read it: a number of each kind, and the first few.

    Args:
        table: rows by column, with Python's types: Decimal, date, int, ...
    """
    missing, differing, left, keys = [], [], dict(latest_rows), list(keys)
    for row in table_rows:
        key = tuple(to_text(row[name]) for name in keys)
        wanted = {name: to_text(value) for name, value in row.items()}
        there = left.pop(key, None)
        if there is None:
            missing.append(_format_key(key))
        elif wrong := [name for name in {**wanted, **there} if not _is_equal(name, row, wanted, there)]:
            differing.append(
                f"{_format_key(key)}: {', '.join(f'{n} {wanted.get(n)} and {there.get(n)}' for n in wrong)}"
            )
    kinds = {"only in the table": missing, "different": differing, "only on S3": [_format_key(key) for key in left]}
    return [f"{len(found):,} {kind}: {'; '.join(found[:_MAX_EXAMPLES])}" for kind, found in kinds.items() if found]


def _is_equal(name: str, row: Mapping[str, Any], wanted: Row, there: Row) -> bool:
    if name not in wanted or name not in there:
        return False
    try:
        return wanted[name] == to_text(there[name], type(row[name]))
    except (ValueError, ArithmeticError):
        return False


def _format_key(key: Key) -> str:
    return "/".join("null" if part is None else part for part in key)
