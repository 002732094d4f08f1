"""What is known of the rows of a FROM that matter, source by source, and what follows from one for the others.

A touched key says which values a column can have; an equality or a range of days in a join hands that on to another
source. Nothing may follow that would take away a row that counts: not across types, and not to a source whose rows may
be made up of nulls, but by the very join that makes them up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import types as T

from lakehouse.lake.small_rows import ValueRange
from lakehouse.models.sql.blocks import Block, Source, Test

Boxes = dict[str, dict[str, ValueRange]]  # by alias and column, both in lower case
Kinds = Callable[[str], Mapping[str, T.DataType]]  # a source's columns, by its alias


def note(boxes: Boxes, block: Block, alias: str, column: str, span: ValueRange) -> None:
    """Note what is known of a source's column, unless nulls may be made up for it."""
    if any(s.is_kept and s.alias.lower() == alias for s in block.sources):
        boxes.setdefault(alias, {})[column] = span


def spread(sources: tuple[Source, ...], boxes: Boxes, kinds: Kinds, reached_by: str = "") -> Boxes:
    """What follows for the other sources, through the conditions of the joins.

    Args:
        kinds: the types of a source's columns, by its alias: where a comparison casts, nothing follows.
        reached_by: an alias that all rows of the FROM are joined to as if by an inner join.
    """
    found = {alias: dict(spans) for alias, spans in boxes.items()}
    for _ in sources:
        for source in sources:
            for test in source.tests:
                known = found.get(test.other[0], {}).get(test.other[1])
                if known and _may_follow(sources, source, test, reached_by):
                    _follow(found, test, known, kinds)
    return found


def _may_follow(sources: tuple[Source, ...], source: Source, test: Test, reached_by: str) -> bool:
    alias, own = test.column[0], source.alias.lower()
    if alias in (reached_by, own):
        return alias == own != reached_by
    kept = any(s.is_kept and s.alias.lower() == alias for s in sources)
    return kept and (source.side == "inner" or own == reached_by)


def _follow(boxes: Boxes, test: Test, known: ValueRange, kinds: Kinds) -> None:
    alias, column = test.column
    follows = known.implied_range(test.sign, test.days)
    if follows and kinds(alias).get(column) == follows.data_type:
        there = boxes.setdefault(alias, {})
        there[column] = there[column].intersect(follows) if column in there else follows
