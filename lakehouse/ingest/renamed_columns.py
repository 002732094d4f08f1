"""Finds the column of a file that has the values of a missing one, so that a refusal can offer it as `names`.

Each unknown column is read in the place of the missing one, and the rows are compared with those of the lake. It is
offered if nine of ten rows with a known key have the value that the missing column had, and no other column is as good.
The driver compares; a table that only Spark can compare, or with `pii` or `feed`, gets no offer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from lakehouse.errors import DataRefused
from lakehouse.ingest.comparison import LocalComparison
from lakehouse.ingest.context import IngestContext
from lakehouse.ingest.readers.missing_columns import MissingColumns
from lakehouse.storage.landing import LandedSnapshot

CompareInDriver = Callable[[IngestContext, frozenset[str], ExitStack], LocalComparison | None]
"""Compares the snapshot for a context, with columns that it may lack; returns None if only Spark can."""

_MIN_SHARE = 0.9
_MAX_BYTES = 256 << 20  # of all comparisons together
_PLAIN = re.compile(r"[A-Za-z_][\w -]*")  # names that YAML reads as text; others are quoted


def with_offered_names(
    context: IngestContext, snapshot: LandedSnapshot, refused: DataRefused, compare: CompareInDriver
) -> DataRefused:
    """Return a refusal with the `names` that would accept the snapshot, if its columns were renamed.

    Args:
        context: The table's ingest.
        snapshot: The snapshot, with files that are prepared for reading.
        refused: The refusal.
        compare: Compares the snapshot as another configuration reads it.
    """
    table = context.config
    if not isinstance(refused, MissingColumns) or table.pii or table.feed or not context.history.accepted:
        return refused
    missing = [column.name for column in table.columns if table.name_in_files(column.name) in refused.missing]
    pairs = len(missing) * len(refused.unknown)
    if not pairs or snapshot.size * pairs > _MAX_BYTES:
        return refused
    offers = {}
    for column in missing:
        shares = {
            name: _share_of_equal_values(context, column, name, frozenset(missing) - {column}, compare)
            for name in refused.unknown
        }
        best = max(shares, key=lambda name: shares[name])
        if shares[best] >= _MIN_SHARE and [*shares.values()].count(shares[best]) == 1:
            offers[column] = best
    if not offers:
        return refused
    names = ", ".join(f"{_yaml_text(column)}: {_yaml_text(name)}" for column, name in offers.items())
    return DataRefused(
        refused.found,
        kept=refused.kept,
        expected=refused.expected,
        where=refused.where,
        next_step=f"set `names: {{{names}}}` in the table, whose values are there; or correct the source",
    )


def _yaml_text(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _share_of_equal_values(
    context: IngestContext, column: str, name: str, others: frozenset[str], compare: CompareInDriver
) -> float:
    """Return the share of rows with the value that a column has in the lake, if another column of the file is read."""
    names = {**context.config.names, column: name}
    config = context.config.model_copy(update={"names": names})
    as_named = replace(context, table=replace(context.table, config=config))
    with ExitStack() as stack:
        try:
            comparison = compare(as_named, others, stack)
        except DataRefused:
            return 0.0
        if comparison is None:
            return 0.0
        return comparison.rows.share_of_equal_values(column)
