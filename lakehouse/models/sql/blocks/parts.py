"""A GROUP BY with totals, taken apart where its sets share no column."""

from __future__ import annotations

from collections import Counter

from lakehouse.models.sql.blocks.block import Block, KeyPart


def split_totals(block: Block) -> list[tuple[str, tuple[int, ...]]]:
    """What follows a block's WHERE, and by which parts of the key rows may be left out below it.

    Where the sets of totals share no column, they are taken apart: those with the column that most of them have, which
    need the touched rows alone, and the others.
    """
    below = tuple(at for at, key in enumerate(block.refresh_key) if key.can_push_down)
    counted = Counter(at for each in block.grouping_sets for at in each if _can_filter_by(block, block.refresh_key[at]))
    if below or not counted:
        return [(block.after_where, below)]
    shared = counted.most_common(1)[0][0]
    taken = [[each for each in block.grouping_sets if (shared in each) is has] for has in (True, False)]
    return [(_group_by_sql(block, sets), tuple(sorted(set.intersection(*map(set, sets))))) for sets in taken if sets]


def _can_filter_by(block: Block, key: KeyPart) -> bool:
    return key.column is not None and any(s.is_inner_joined and s.alias.lower() == key.column[0] for s in block.sources)


def _group_by_sql(block: Block, sets: list[tuple[int, ...]]) -> str:
    """The block's GROUP BY with some of its sets alone; all columns are named, so that GROUPING_ID() stays as it is."""
    texts = [key.sql for key in block.refresh_key[:-1]]
    listed = ", ".join(f"({', '.join(texts[at] for at in each)})" for each in sets)
    return f"GROUP BY {', '.join(texts)} GROUPING SETS ({listed}){block.after_where[len(block.totals) :]}"
