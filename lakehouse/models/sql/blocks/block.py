"""What is known of a SELECT that can be kept up to date by what changed; and the error for one that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Column = tuple[str, str]  # the alias of a source and a column of it, both in lower case


class NotIncremental(Exception):
    """Why a model has to be computed whole: the clause that stands in the way, and how to write it instead."""

    def __init__(self, clause: str, advice: str = "") -> None:
        super().__init__(f"{clause}: {advice}" if advice else clause)


@dataclass(frozen=True)
class Condition:
    """A plain condition of an ON: `column` `sign` (`=`, `<=` or `>=`) `other` and so many days."""

    column: Column
    operator: str
    other: Column
    days: int = 0


@dataclass(frozen=True)
class Source:
    """A relation in a FROM. `side`: `first`, `inner`, `cross`, `left`, `semi` or `anti`."""

    alias: str
    relation: str
    join_type: str
    on: str = ""
    conditions: tuple[Condition, ...] = ()

    @property
    def is_inner_joined(self) -> bool:
        """Whether its columns can be read after the join, and no row of its is made up of nulls."""
        return self.join_type in ("first", "inner", "cross")


@dataclass(frozen=True)
class KeyPart:
    """A part of a touch key: its text, the output column that it is (empty: not selected), the source's column that it
    is, if it is one, and whether a filter by it may be moved below the GROUP BY."""

    sql: str
    output: str
    column: Column | None = None
    can_push_down: bool = True


@dataclass(frozen=True)
class Block:
    """One SELECT.

    Attributes:
        name: of the CTE; empty for the model's own.
        select, where, rest: the author's text: up to FROM, the WHERE, what follows it.
        group: the GROUP BY's text, where it makes totals; else empty.
        sources: what stands between them, in order.
        kind: `rows`, `grouped` or `partitioned`.
        key: the touch key; empty: the whole row.
        sets: with totals, the sets of them, as places in `key`; empty where they cannot be told.
        plain: outputs that are a column of a source as it is.
        loose: aliases that nothing but their own ON reads.
        sums: functions and arguments that give another last digit by the order of rows, if the type is inexact.
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
        return any(test.operator != "=" for source in self.sources for test in source.conditions)
