"""Finds the columns by which models look up rows in a relation, to order the files of large tables by them.

Delta skips a file if the minimum and maximum values in its log exclude the wanted ones. That helps only if rows of one
day lie in the same files. The models show which day column matters: it is the one that the values of affected keys
restrict (`pushdown.py`). So nobody has to configure it. This module needs no Spark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lakehouse.models.sql.blocks.block import Column
from lakehouse.models.sql.plan import Plan


def lookup_columns(plans: Mapping[str, Plan]) -> dict[str, tuple[str, ...]]:
    """Return the columns by which models look up affected rows, by relation.

    Args:
        plans: All plans of the pipeline.

    Returns:
        Column names in lower case; those that most models use come first.
    """
    counts: dict[str, Counter[str]] = {}
    for plan in plans.values():
        for relation, column in _lookup_columns_of(plan):
            counts.setdefault(relation, Counter())[column] += 1
    return {
        relation: tuple(sorted(columns, key=lambda column: (-columns[column], column)))
        for relation, columns in counts.items()
    }


def _lookup_columns_of(plan: Plan) -> set[tuple[str, str]]:
    """Return the columns of stored relations that are a part of a refresh key, or are joined to one."""
    ctes = {block.name: block for block in plan.blocks if block.name}
    found: set[tuple[str, str]] = set()
    seen: set[tuple[str, Column]] = set()
    queue = [
        (block, key.column) for block in plan.blocks for key in block.refresh_key if key.can_push_down and key.column
    ]
    while queue:
        block, column = queue.pop()
        if (block.name, column) in seen:
            continue
        seen.add((block.name, column))
        alias, name = column
        relation = next(source.relation for source in block.sources if source.alias.lower() == alias)
        if relation not in ctes:
            found.add((relation, name))
        elif name in ctes[relation].plain_columns:
            queue.append((ctes[relation], ctes[relation].plain_columns[name]))
        conditions = [condition for source in block.sources for condition in source.conditions]
        queue += [(block, c.column) for c in conditions if c.other == column]
        queue += [(block, c.other) for c in conditions if c.column == column]
    return found
