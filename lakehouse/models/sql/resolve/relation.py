"""Defines a relation as it is known without Spark: its columns, their types and origins, and its unique keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse.config import Table
from lakehouse.config.ddl import parse_columns
from lakehouse.lake.cdc import END_AT, START_AT, own_columns_ddl

Origin = tuple[str, str]
"""A relation (`silver.clientes`) and a column of it."""

Keys = tuple[frozenset[str], ...]
"""Sets of columns, in lower case, each of which identifies a row."""


@dataclass(frozen=True)
class OutputColumn:
    """A column of a relation.

    Attributes:
        name: Its name; None if only Spark can find it, as for an expression without AS.
        type: Its type; None if only Spark can find it.
        origins: The columns of the model's inputs that its value comes from.
        revealed: The same without values that are only counted.
        collation: Its collation, if it is another than UTF8_BINARY.
        is_local_time: Whether its time has been shifted to a time zone already.
        text: The expression, if it has no name and Spark's name for it would be its text.
        place: The source in the SELECT's FROM clause and the column, if it is an unchanged one.
    """

    name: str | None
    type: exp.DataType | None = None
    origins: tuple[Origin, ...] = ()
    revealed: tuple[Origin, ...] = ()
    collation: str = ""
    is_local_time: bool = False
    text: str = ""
    place: tuple[int, str] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Relation:
    """A relation.

    Attributes:
        columns: Its columns in order.
        is_open: Whether it may have other columns too.
        keys: The known sets of columns that identify a row.
    """

    columns: tuple[OutputColumn, ...] = ()
    is_open: bool = False
    keys: Keys = ()

    def find(self, name: str) -> list[OutputColumn]:
        """Return the columns of a name, ignoring case."""
        return [column for column in self.columns if column.name and column.name.lower() == name.lower()]

    @property
    def has_unknown_names(self) -> bool:
        """Whether a name that is not among its columns may be one of them."""
        return self.is_open or any(column.name is None for column in self.columns)

    @property
    def names(self) -> list[str]:
        """The known names of its columns."""
        return [column.name for column in self.columns if column.name]

    def renamed(self, names: Iterable[str]) -> Relation:
        """Return the relation with other names by position, as in `AS t(a, b)`."""
        new = list(names)
        if not new:
            return self
        if self.is_open or len(new) != len(self.columns):
            return Relation(tuple(OutputColumn(name) for name in new), is_open=self.is_open)
        by_old = {c.name.lower(): n.lower() for c, n in zip(self.columns, new, strict=True) if c.name}
        keys = tuple(frozenset(by_old[k] for k in key) for key in self.keys if key <= by_old.keys())
        columns = tuple(replace(c, name=n) for c, n in zip(self.columns, new, strict=True))
        return Relation(columns, keys=keys)


UNKNOWN = Relation(is_open=True)


def bronze_relation(name: str, table: Table) -> Relation:
    """Return a table of bronze: its columns as they are stored, and those that bronze adds.

    Args:
        name: The relation, such as `bronze.clientes`.
        table: The table's configuration.
    """
    columns = [(c.name, c.canonical_type) for c in table.stored_columns]
    columns += [(c.name, c.canonical_type) for c in parse_columns(own_columns_ddl(table))]
    key = frozenset(key.lower() for key in table.keys)
    # The windows of a key do not overlap: none begins, or ends, when another does.
    keys = (key | {START_AT.lower()}, key | {END_AT.lower()}) if table.scd == 2 else (key,)
    return base_relation(name, columns, keys)


def base_relation(name: str, columns: Iterable[tuple[str, str]], keys: Keys = ()) -> Relation:
    """Return a relation whose columns have themselves as origins.

    Args:
        name: The relation.
        columns: The name and the type of each column; the type is empty if it is not known.
        keys: The sets of columns that identify a row.
    """
    return Relation(
        tuple(
            OutputColumn(
                column,
                _parse_type(kind),
                ((name, column),),
                ((name, column),),
            )
            for column, kind in columns
        ),
        keys=keys,
    )


def as_input(name: str, relation: Relation) -> Relation:
    """Return a model's result as later models read it: each column is its own origin.

    Args:
        name: The model.
        relation: Its result.
    """
    columns = tuple(
        replace(column, origins=((name, column.name),), revealed=((name, column.name),)) if column.name else column
        for column in relation.columns
    )
    return replace(relation, columns=columns)


def _parse_type(text: str) -> exp.DataType | None:
    """Return a type; None if sqlglot cannot parse it, such as one with unusual names of fields."""
    try:
        return exp.DataType.build(text, dialect="spark") if text else None
    except SqlglotError:
        return None
