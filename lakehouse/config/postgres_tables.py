"""Defines which tables PostgreSQL can have: types, names, numbers and sizes of columns. Needs no server.

`validate` uses it on the columns that the models are known to have, and `publish` on those of the table in the lake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lakehouse.config.fields import MAX_POSTGRES_NAME_BYTES
from lakehouse.errors import ConfigError

JSON_TYPE = "jsonb"  # ARRAY, STRUCT and MAP
STAGE_FLAG = "_lakehouse_gone"  # the column that the stage of a publish has beside those of the table
_MAX_COLUMNS = 1_600
_MAX_KEY_COLUMNS = 32
_MAX_ROW_BYTES = 8_160
_ROW_HEADER_BYTES = 24
# PostgreSQL gives every table columns of these names. Names are quoted, so XMIN is another one.
_SYSTEM_COLUMNS = frozenset(("tableoid", "ctid", "xmin", "cmin", "xmax", "cmax"))

# As PostgreSQL spells them (format_type), so that the types of an existing table can be compared with these.
_TYPES = {
    **{"TINYINT": "smallint", "SMALLINT": "smallint", "INT": "integer", "BIGINT": "bigint"},
    **{"FLOAT": "real", "DOUBLE": "double precision", "BOOLEAN": "boolean"},
    **{"STRING": "text", "VARCHAR": "text", "CHAR": "text", "BINARY": "bytea", "DATE": "date"},
    **{"TIMESTAMP": "timestamp with time zone", "TIMESTAMP_NTZ": "timestamp without time zone"},
}
# The bytes and the alignment of the smallest value that is not NULL; texts and numerics have a length of one byte.
_SIZES = {
    **{"smallint": (2, 2), "integer": (4, 4), "bigint": (8, 8), "real": (4, 4), "double precision": (8, 8)},
    **{"boolean": (1, 1), "date": (4, 4), "timestamp with time zone": (8, 8), "timestamp without time zone": (8, 8)},
    **{"text": (1, 1), "bytea": (1, 1), "numeric": (3, 1), JSON_TYPE: (5, 1)},
}


@dataclass(frozen=True)
class PlannedColumn:
    """A column as a table in PostgreSQL would have it.

    Attributes:
        name: Its name.
        postgres_type: Its type; None if it is not known yet, or if there is none.
        unsupported: Its type in the lake, if PostgreSQL has none with the same values.
    """

    name: str
    postgres_type: str | None
    unsupported: str = ""


def atomic_type(spark_type: str) -> str | None:
    """Return the PostgreSQL type with the same values and the same equality; None if there is none.

    >>> atomic_type("DECIMAL(12, 2)"), atomic_type("timestamp_ntz"), atomic_type("VARIANT")
    ('numeric(12,2)', 'timestamp without time zone', None)

    Args:
        spark_type: A type of Spark that is no ARRAY, STRUCT or MAP, as its DDL has it.
    """
    name, _, arguments = spark_type.upper().replace(" COLLATE", "(COLLATE").partition("(")
    if name == "DECIMAL":
        return f"numeric({arguments.rstrip(')').replace(' ', '')})"
    return _TYPES.get(name.strip())


def require_possible(source: str, columns: Sequence[PlannedColumn], keys: Sequence[str], where: str) -> None:
    """Raise if PostgreSQL cannot have a table with these columns.

    Args:
        source: The table in the lake, such as `gold.churn`.
        columns: Its columns, as far as they are known.
        keys: The names of its key columns.
        where: Where it is configured.

    Raises:
        ConfigError: With everything that PostgreSQL cannot have.
    """
    problems = [*_column_problems(columns), *_table_problems(columns, keys)]
    if problems:
        raise ConfigError(
            f"{source} cannot be published as it is: {'; '.join(problems)}",
            expected="a table that PostgreSQL can have, which docs/guide/publish.md describes under Limits",
            where=where,
            next_step="publish a model that selects fewer columns, others by another name, or as text: to_json(column)",
        )


def _column_problems(columns: Iterable[PlannedColumn]) -> Iterator[str]:
    for column in columns:
        if column.unsupported:
            yield f"{column.name} is {column.unsupported}, which PostgreSQL has no type for"
        if column.name in _SYSTEM_COLUMNS:
            yield f"{column.name} is a name that PostgreSQL keeps for itself"
        if column.name == STAGE_FLAG:
            yield f"{column.name} is a name that publishing keeps for itself"
        if len(column.name.encode()) > MAX_POSTGRES_NAME_BYTES:
            yield f"the name {column.name} has more than {MAX_POSTGRES_NAME_BYTES} bytes"


def _table_problems(columns: Sequence[PlannedColumn], keys: Sequence[str]) -> Iterator[str]:
    if len(columns) >= _MAX_COLUMNS:
        yield (
            f"it has {len(columns):,} columns, and a table may have {_MAX_COLUMNS - 1:,}:"
            f" PostgreSQL's limit is {_MAX_COLUMNS:,}, of which publishing needs one"
        )
    elif (size := smallest_row(columns)) > _MAX_ROW_BYTES:
        yield f"a row without NULL has at least {size:,} bytes, and PostgreSQL's limit is {_MAX_ROW_BYTES:,}"
    if len(keys) > _MAX_KEY_COLUMNS:
        yield f"its key has {len(keys)} columns, and PostgreSQL's limit is {_MAX_KEY_COLUMNS}"


def smallest_row(columns: Iterable[PlannedColumn]) -> int:
    """Return the bytes of the smallest row of the stage in which no column is NULL.

    >>> smallest_row([PlannedColumn("a", "bigint"), PlannedColumn("b", "text")])
    41

    Args:
        columns: The columns in order; one whose type is not known counts as the smallest there is.
    """
    end = _ROW_HEADER_BYTES + 1  # the stage's flag
    for column in columns:
        size, alignment = _SIZES.get((column.postgres_type or "").partition("(")[0], (1, 1))
        end = -(-end // alignment) * alignment + size
    return end
