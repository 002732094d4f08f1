"""Propagates the values that matter from one source of a FROM clause to the others, so that files are skipped.

The affected keys limit the values that a column can have. An equality or a range of days in a join condition limits a
column of another source as well. A limit must never remove a row that counts. So nothing is propagated to a column of
another type, nor to a source whose rows an outer join may fill with nulls, except through that join itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import types as T

from lakehouse.lake.cached_rows import ValueRange
from lakehouse.models.sql.blocks import Block, Condition, Source

SourceBounds = dict[str, dict[str, ValueRange]]
"""The values that matter by alias and column, both in lower case."""
ColumnTypes = Callable[[str], Mapping[str, T.DataType]]
"""Returns the types of a source's columns, by the source's alias."""


def add_bounds(bounds: SourceBounds, block: Block, alias: str, column: str, value_range: ValueRange) -> None:
    """Add the value range of a source's column, unless a join may fill the column with nulls.

    Args:
        bounds: The known bounds; changed in place.
        block: The SELECT.
        alias: The source's alias in lower case.
        column: The column in lower case.
        value_range: The values that matter.
    """
    if any(source.is_inner_joined and source.alias.lower() == alias for source in block.sources):
        bounds.setdefault(alias, {})[column] = value_range


def propagate_bounds(
    sources: tuple[Source, ...], bounds: SourceBounds, column_types: ColumnTypes, joined_to: str = ""
) -> SourceBounds:
    """Return the bounds of all sources that follow from some, through the join conditions.

    Args:
        sources: The FROM clause.
        bounds: The known bounds.
        column_types: Returns the types of a source's columns. A comparison that casts propagates nothing.
        joined_to: The alias of a source whose rows all other rows are restricted to, as by an inner join.
    """
    result = {alias: dict(value_ranges) for alias, value_ranges in bounds.items()}
    for _ in sources:
        for source in sources:
            for condition in source.conditions:
                other_alias, other_column = condition.other
                known = result.get(other_alias, {}).get(other_column)
                if not known or not _can_propagate(sources, source, condition, joined_to):
                    continue
                alias, column = condition.column
                implied = known.implied_range(condition.operator, condition.days)
                if implied and column_types(alias).get(column) == implied.data_type:
                    of_source = result.setdefault(alias, {})
                    of_source[column] = of_source[column].intersect(implied) if column in of_source else implied
    return result


def _can_propagate(sources: tuple[Source, ...], source: Source, condition: Condition, joined_to: str) -> bool:
    """Return whether a condition in the ON of `source` may restrict the rows of its column's source."""
    alias, source_alias = condition.column[0], source.alias.lower()
    if alias in (joined_to, source_alias):
        return alias == source_alias != joined_to
    is_inner_joined = any(s.is_inner_joined and s.alias.lower() == alias for s in sources)
    return is_inner_joined and (source.join_type == "inner" or source_alias == joined_to)
