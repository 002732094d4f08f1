"""What is known of the rows of a FROM that matter, source by source, and what follows from one for the others.

A touched key says which values a column can have; an equality or a range of days in a join hands that on to another
source. Nothing may follow that would take away a row that counts: not across types, and not to a source whose rows may
be made up of nulls, but by the very join that makes them up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import types as T

from lakehouse.lake.cached_rows import ValueRange
from lakehouse.models.sql.blocks import Block, Condition, Source

SourceBounds = dict[str, dict[str, ValueRange]]  # by alias and column, both in lower case
ColumnTypes = Callable[[str], Mapping[str, T.DataType]]  # a source's columns, by its alias


def add_bounds(bounds: SourceBounds, block: Block, alias: str, column: str, value_range: ValueRange) -> None:
    """Note what is known of a source's column, unless nulls may be made up for it."""
    if any(s.is_inner_joined and s.alias.lower() == alias for s in block.sources):
        bounds.setdefault(alias, {})[column] = value_range


def propagate_bounds(
    sources: tuple[Source, ...], bounds: SourceBounds, column_types: ColumnTypes, joined_to: str = ""
) -> SourceBounds:
    """What follows for the other sources, through the conditions of the joins.

    Args:
        kinds: the types of a source's columns, by its alias: where a comparison casts, nothing follows.
        reached_by: an alias that all rows of the FROM are joined to as if by an inner join.
    """
    found = {alias: dict(spans) for alias, spans in bounds.items()}
    for _ in sources:
        for source in sources:
            for test in source.conditions:
                known = found.get(test.other[0], {}).get(test.other[1])
                if known and _can_propagate(sources, source, test, joined_to):
                    _propagate(found, test, known, column_types)
    return found


def _can_propagate(sources: tuple[Source, ...], source: Source, condition: Condition, joined_to: str) -> bool:
    alias, own = condition.column[0], source.alias.lower()
    if alias in (joined_to, own):
        return alias == own != joined_to
    kept = any(s.is_inner_joined and s.alias.lower() == alias for s in sources)
    return kept and (source.join_type == "inner" or own == joined_to)


def _propagate(bounds: SourceBounds, condition: Condition, known: ValueRange, column_types: ColumnTypes) -> None:
    alias, column = condition.column
    follows = known.implied_range(condition.operator, condition.days)
    if follows and column_types(alias).get(column) == follows.data_type:
        there = bounds.setdefault(alias, {})
        there[column] = there[column].intersect(follows) if column in there else follows
