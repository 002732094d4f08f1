"""Runs the SQL of a trace with DuckDB, in the driver: only columns that a key or a condition reads are computed.

`translate.py` writes an expression for DuckDB only if both give the same result; another one needs Spark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import count
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from lakehouse.lake.duckdb_sql import quote, view_name
from lakehouse.models.sql.blocks import Block, KeyPart, Source
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.trace.translate import NotInDuckdbError, Scope, Typed, translate

_numbers = count(1)  # of relations: those of several models are in one database
MAX_LISTED = 200
_UNREADABLE = ("semi", "anti")  # sources whose columns only their own ON clause can read
_JOINS = {"inner": "JOIN", "cross": "CROSS JOIN", "left": "LEFT JOIN", "semi": "SEMI JOIN", "anti": "ANTI JOIN"}


class DuckdbBlocks:
    """The blocks of one model over views of its inputs, which have the inputs' names."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        plan: Plan,
        keys: Mapping[str, tuple[str, ...]],
        arguments: Mapping[str, Any],
    ) -> None:
        """Prepare the SQL.

        Args:
            connection: The database with the views.
            plan: The model's plan.
            keys: The columns that identify a row of each input.
            arguments: The parameters that the model uses.
        """
        self._connection, self._plan, self._keys, self._arguments = connection, plan, keys, arguments
        self._columns: dict[str, Mapping[str, Typed]] = {}

    def fetch(self, query: str) -> pa.Table:
        """Return the rows of a query."""
        return self._connection.sql(query).to_arrow_table()

    def stored(self, relation: str, identity: str) -> str:
        """Return the view of an input."""
        view = view_name(relation)
        if not identity:
            return view
        columns = {f"k{at}": quote(key) for at, key in enumerate(self._keys[relation])}
        return self._define("VIEW", f"SELECT *, {self.struct(columns)} AS {identity} FROM {view}")

    def cte(self, block: Block, rows: Mapping[str, str], hidden: str) -> str:
        """Create a view with the rows of a CTE, and return its name."""
        items = [f"{self._sql(block, item, rows)} AS {quote(name)}" for name, item in self._needed_items(block)]
        if not hidden and block.kind == "rows" and not items:
            items = ["1 AS _why_one"]  # it is read for its number of rows alone
        group = ""
        if block.kind == "grouped":
            if block.totals:
                raise NotInDuckdbError
            group = f"GROUP BY {', '.join(self.key_sql(block, part, rows) for part in block.refresh_key)}"
            if having := _clause(block.after_where, "having"):
                group += f" HAVING {self._sql(block, having, rows)}"
        from_sql, where = self.from_sql(block, block.sources, rows), self.where_sql(block, rows)
        select = ", ".join([*items, *filter(None, [hidden])])
        return self._define("VIEW", f"SELECT {select} FROM {from_sql} {where} {group}")

    def create(self, query: str) -> str:
        """Create a table with the rows of a query, and return its name."""
        return self._define("TABLE", query)

    def from_sql(self, _: Block, sources: Iterable[Source], rows: Mapping[str, str]) -> str:
        """Return a FROM clause over some sources of a block, without the word FROM."""
        parts: list[str] = []
        readable: list[Source] = []  # by an ON clause
        for source in sources:
            own = [*readable, source]
            on = f" ON {self._translated(own, sqlglot.parse_one(source.on, read='spark'), rows)}" if source.on else ""
            readable = own if source.join_type not in _UNREADABLE else readable
            join = f"{_JOINS[source.join_type]} " if parts else ""
            parts.append(f"{join}{rows[source.alias]} AS {self.name(source.alias)}{on}")
        return " ".join(parts)

    def where_sql(self, block: Block, rows: Mapping[str, str]) -> str:
        """Return the WHERE clause of a block."""
        where = _clause(block.where, "where")
        return f"WHERE {self._sql(block, where, rows)}" if where else ""

    def key_sql(self, block: Block, part: KeyPart, rows: Mapping[str, str]) -> str:
        """Return the SQL of a part of a block's refresh key."""
        return self._sql(block, sqlglot.parse_one(part.sql, read="spark"), rows)

    def same(self, left: str, right: str) -> str:
        """Return the condition that two values are equal, or both null."""
        return f"{left} IS NOT DISTINCT FROM {right}"

    def is_in_set(self, grouping_id: str, bit: int) -> str:
        """Return the condition that a GROUPING_ID() names the set with the column of a bit."""
        return f"(({grouping_id} >> {bit}) & 1) = 0"

    def struct(self, fields: Mapping[str, str]) -> str:
        """Return the SQL of a struct with these fields."""
        return f"struct_pack({', '.join(f'{name} := {value}' for name, value in fields.items())})"

    def name(self, alias: str) -> str:
        """Return a name in double quotes."""
        return quote(alias)

    def over(self, block: Block, function: str, over: str, rows: Mapping[str, str]) -> str:
        """Return the call of a window function over the author's PARTITION BY and ORDER BY."""
        return self._sql(block, sqlglot.parse_one(f"{function} OVER ({over})", read="spark"), rows)

    def values(self, relation: str, column: str) -> Iterable[Any]:
        """Return the values of a column of a created relation, if they are few."""
        found = self._connection.execute(f"SELECT DISTINCT {column} FROM {relation} LIMIT {MAX_LISTED + 1}").fetchall()
        return [value for (value,) in found] if len(found) <= MAX_LISTED else ()

    @property
    def semi_join(self) -> str:
        """The words of a semi join."""
        return _JOINS["semi"]

    # --- expressions --------------------------------------------------------------------------------------------------

    def _sql(self, block: Block, expression: exp.Expr, rows: Mapping[str, str]) -> str:
        return self._translated([s for s in block.sources if s.join_type not in _UNREADABLE], expression, rows)

    def _translated(self, sources: Iterable[Source], expression: exp.Expr, rows: Mapping[str, str]) -> str:
        scope = {source.alias.lower(): (source.alias, self._columns_of(rows[source.alias])) for source in sources}
        return translate(expression, Scope(scope, self._arguments)).sql

    def _columns_of(self, relation: str) -> Mapping[str, Typed]:
        """Return the columns of a relation by their names in lower case."""
        if relation not in self._columns:
            found = self._connection.sql(f"SELECT * FROM {relation}")
            columns = zip(found.columns, found.types, strict=True)
            self._columns[relation] = {name.lower(): Typed(quote(name), str(kind)) for name, kind in columns}
        return self._columns[relation]

    def _needed_items(self, block: Block) -> Iterator[tuple[str, exp.Expr]]:
        """Yield the selected expressions of a CTE that another key or condition reads, with their names."""
        for name, item in _items(block):
            if name.lower() in self._needed[block.name]:
                yield name, item

    @cached_property
    def _needed(self) -> dict[str, set[str]]:
        """The columns of each CTE that keys and conditions of later SELECTs read."""
        needed: dict[str, set[str]] = {block.name: set() for block in self._plan.blocks}
        if self._plan.blocks[-1].kind == "partitioned":  # its rows are found by the model's keys
            needed[""] = {key.lower() for key in self._plan.keys}
        for block in reversed(self._plan.blocks):
            texts = [part.sql for part in block.refresh_key if part.can_push_down or part.column]
            parts = [sqlglot.parse_one(text, read="spark") for text in [*texts, *(s.on for s in block.sources if s.on)]]
            parts += filter(None, [_clause(block.where, "where"), _clause(block.after_where, "having")])
            parts += [item for name, item in _items(block) if name.lower() in needed[block.name]]
            if block.kind == "partitioned":
                parts += [window for _, item in _items(block) for window in item.find_all(exp.Window)]
            for column in (column for part in parts for column in part.find_all(exp.Column)):
                for source in block.sources:
                    if source.relation in needed and column.table.lower() in ("", source.alias.lower()):
                        needed[source.relation].add(column.name.lower())
        return needed

    def _define(self, kind: str, query: str) -> str:
        name = f"_why_{next(_numbers)}"
        self._connection.execute(f"CREATE TEMP {kind} {name} AS {query}")
        return name


def _items(block: Block) -> list[tuple[str, exp.Expr]]:
    """Return the selected expressions of a block with their names."""
    tree = sqlglot.parse_one(f"{block.select}\nFROM t", read="spark")
    assert isinstance(tree, exp.Select)
    if tree.is_star and (block.name or block.kind == "partitioned"):
        raise NotInDuckdbError
    return [(item.alias_or_name, item.unalias()) for item in tree.expressions]


def _clause(text: str, name: str) -> exp.Expr | None:
    """Return the condition of a clause in the author's text after the FROM clause; None if it has none."""
    if not text:
        return None
    found = sqlglot.parse_one(f"SELECT 1 FROM t {text}", read="spark").args.get(name)
    return found.this if found else None
