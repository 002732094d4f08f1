"""The order in which a large table lies: by the day that the models after it look for. Nobody has to configure it.

Delta skips a file if the least and greatest values that its log notes leave out what is asked for, and that helps only
where rows of one day lie together. Which day is asked for, the models themselves tell: it is the column by which what
is known of touched keys becomes literals (`boxes`, `held`). Needs no Spark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lakehouse.models.sql.blocks import Block
from lakehouse.models.sql.blocks.block import Column
from lakehouse.models.sql.plan import Plan


def lookup_columns(plans: Mapping[str, Plan]) -> dict[str, tuple[str, ...]]:
    """By relation, the columns by which models look for touched rows in it: those of most models first."""
    counts: dict[str, Counter[str]] = {}
    for plan in plans.values():
        for relation, column in _lookup_columns_of(plan):
            counts.setdefault(relation, Counter())[column] += 1
    return {r: tuple(sorted(found, key=lambda c: (-found[c], c))) for r, found in counts.items()}


def _lookup_columns_of(plan: Plan) -> set[tuple[str, str]]:
    """The stored relations' columns that a model's touch keys are, or are joined to."""
    ctes = {block.name: block for block in plan.blocks if block.name}
    found: set[tuple[str, str]] = set()
    seen: set[tuple[str, Column]] = set()
    left = [
        (block, key.column) for block in plan.blocks for key in block.refresh_key if key.can_push_down and key.column
    ]
    while left:
        block, column = left.pop()
        if (block.name, column) in seen:
            continue
        seen.add((block.name, column))
        relation = next(s.relation for s in block.sources if s.alias.lower() == column[0])
        if relation not in ctes:
            found.add((relation, column[1]))
        elif column[1] in ctes[relation].plain_columns:
            left.append((ctes[relation], ctes[relation].plain_columns[column[1]]))
        left += [(block, other) for other in _joined_columns(block, column)]
    return found


def _joined_columns(block: Block, column: Column) -> list[Column]:
    """The columns that the joins hold against one."""
    tests = [test for source in block.sources for test in source.conditions]
    return [t.column for t in tests if t.other == column] + [t.other for t in tests if t.column == column]
