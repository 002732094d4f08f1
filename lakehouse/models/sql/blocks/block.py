"""Defines a SELECT that can be refreshed incrementally, and the error for one that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Column = tuple[str, str]
"""The alias of a source and one of its columns, both in lower case."""


class NotIncremental(Exception):
    """A model needs full refreshes because of a clause. The message names it, and its replacement."""

    def __init__(self, clause: str, advice: str = "") -> None:
        """Make the error.

        Args:
            clause: The unsupported clause.
            advice: The SQL to write instead.
        """
        super().__init__(f"{clause}: {advice}" if advice else clause)


@dataclass(frozen=True)
class Condition:
    """A simple condition of an ON clause: `column` `operator` (`=`, `<=` or `>=`) `other` plus `days`."""

    column: Column
    operator: str
    other: Column
    days: int = 0


@dataclass(frozen=True)
class Source:
    """A relation in a FROM clause.

    Attributes:
        alias: Its alias, or its name.
        relation: The relation or CTE.
        join_type: `first`, `inner`, `cross`, `left`, `semi` or `anti`.
        on: The text of its ON clause, or empty.
        conditions: The simple conditions of its ON clause.
    """

    alias: str
    relation: str
    join_type: str
    on: str = ""
    conditions: tuple[Condition, ...] = ()

    @property
    def is_inner_joined(self) -> bool:
        """Whether later clauses can read its columns and these are never filled with nulls by a join."""
        return self.join_type in ("first", "inner", "cross")


@dataclass(frozen=True)
class KeyPart:
    """A part of a refresh key.

    Attributes:
        sql: The author's text.
        output: The output column; empty if it is not selected.
        column: The source's column, if the part is an unchanged column.
        can_push_down: Whether rows can be filtered by it before the GROUP BY.
    """

    sql: str
    output: str
    column: Column | None = None
    can_push_down: bool = True


@dataclass(frozen=True)
class Block:
    """One SELECT.

    Attributes:
        name: The name of the CTE; empty for the model's own SELECT.
        select: The author's text before FROM.
        sources: The relations of the FROM clause, in order.
        where: The author's WHERE clause.
        after_where: The author's text after the WHERE clause.
        totals: The author's GROUP BY clause, if it makes totals; else empty.
        kind: `rows`, `grouped` or `partitioned`.
        refresh_key: The parts of the refresh key; empty if the whole row is the key.
        grouping_sets: With totals, the grouping sets as positions in the key; empty if they cannot be determined.
        plain_columns: Output columns that are an unchanged column of a source.
        unread_aliases: Aliases that only their own ON clause reads.
        sums: Functions and arguments whose last digit depends on the order of rows if the type is inexact.
    """

    name: str
    select: str
    sources: tuple[Source, ...]
    where: str
    after_where: str
    totals: str
    kind: str
    refresh_key: tuple[KeyPart, ...]
    grouping_sets: tuple[tuple[int, ...], ...]
    plain_columns: Mapping[str, Column] = field(hash=False)
    unread_aliases: frozenset[str]
    sums: tuple[tuple[str, str], ...]

    @property
    def has_ranges(self) -> bool:
        """Whether a join compares columns by `<=` or `>=`."""
        return any(condition.operator != "=" for source in self.sources for condition in source.conditions)
