"""Defines what a trace needs of Spark or DuckDB: the SQL of a model's blocks, and relations made by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from lakehouse.models.sql.blocks import Block, KeyPart, Source


class BlockSql(Protocol):
    """Writes and runs the SQL of a model's blocks over its inputs."""

    def stored(self, relation: str, identity: str) -> str:
        """Return the name of a stored relation, with its key in the hidden column `identity`; "": without it."""

    def cte(self, block: Block, rows: Mapping[str, str], hidden: str) -> str:
        """Create a relation with the rows of a CTE, and return its name.

        Args:
            block: The CTE.
            rows: The relation to read for each source, by alias.
            hidden: The SQL of a hidden column and its name; empty for none.
        """

    def create(self, query: str) -> str:
        """Create a relation with the rows of a query, and return its name."""

    def from_sql(self, block: Block, sources: Iterable[Source], rows: Mapping[str, str]) -> str:
        """Return a FROM clause over some sources of a block, without the word FROM."""

    def where_sql(self, block: Block, rows: Mapping[str, str]) -> str:
        """Return the WHERE clause of a block; empty for none."""

    def key_sql(self, block: Block, part: KeyPart, rows: Mapping[str, str]) -> str:
        """Return the SQL of a part of a block's refresh key."""

    def same(self, left: str, right: str) -> str:
        """Return the condition that two values are equal, or both null."""

    def is_in_set(self, grouping_id: str, bit: int) -> str:
        """Return the condition that a GROUPING_ID() names the set with the column of a bit."""

    def struct(self, fields: Mapping[str, str]) -> str:
        """Return the SQL of a struct with these fields."""

    def name(self, alias: str) -> str:
        """Return a name as the dialect quotes it."""

    def over(self, block: Block, function: str, over: str, rows: Mapping[str, str]) -> str:
        """Return the call of a window function over the author's PARTITION BY and ORDER BY."""

    def values(self, relation: str, column: str) -> Iterable[Any]:
        """Return the values of a column of a created relation, if they are few and cost little; else none."""

    @property
    def semi_join(self) -> str:
        """The words of a semi join."""
