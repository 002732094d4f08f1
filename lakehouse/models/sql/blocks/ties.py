"""Finds window functions whose ORDER BY does not fix a unique order: the numbers of tied rows are not defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import Block, Column, Condition, NotIncremental, Source

UniqueKeys = Mapping[str, frozenset[str]]
"""The columns that identify a row of each relation."""

# By sqlglot's names: functions whose result ties do not change, unless their frame counts rows.
_UNAFFECTED_BY_TIES = {name.replace("_", "") for name in functions.RANKS | functions.AGGREGATES} | {
    "logicalor",
    "logicaland",
}


def find_windows(tree: exp.Select) -> list[exp.Window]:
    """Return the windows that a SELECT uses.

    Args:
        tree: The SELECT.
    """
    parts = [*tree.expressions, *filter(None, [tree.args.get("order")])]
    return [window for part in parts for window in part.find_all(exp.Window)]


def partition_by(window: exp.Window) -> list[exp.Expr]:
    """Return the expressions that a window is partitioned by.

    Args:
        window: The window.
    """
    return list(window.args.get("partition_by") or [])


def require_unique_order(
    window: exp.Window,
    sources: Iterable[Source],
    unique_keys: UniqueKeys,
    source_column: Callable[[exp.Expr], Column | None],
) -> None:
    """Raise if the result of a window depends on the order of rows that its ORDER BY leaves tied.

    Args:
        window: The window.
        sources: The FROM clause.
        unique_keys: The columns that identify a row of each relation, if known.
        source_column: Returns the source's column that an expression is, or None.

    Raises:
        NotIncremental: With the function.
    """
    called, spec = window.this, window.args.get("spec")
    while isinstance(called, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        called = called.this
    name = (called.name if isinstance(called, exp.Anonymous) else called.key).lower().replace("_", "")
    counts_rows = spec is not None and (spec.args.get("kind") or "").upper() == "ROWS"
    if name in _UNAFFECTED_BY_TIES and not counts_rows:
        return
    order = window.args.get("order")
    expressions = [*partition_by(window), *(ordered.this for ordered in (order.expressions if order else []))]
    if not has_unique_rows(sources, unique_keys, {column for e in expressions if (column := source_column(e))}):
        raise NotIncremental(f"{name}() over rows that its ORDER BY may leave tied", "add the tables' keys to ORDER BY")


def has_unique_rows(sources: Iterable[Source], unique_keys: UniqueKeys, columns: set[Column]) -> bool:
    """Return whether rows of a FROM clause with the same values in these columns are the same row.

    Args:
        sources: The FROM clause.
        unique_keys: The columns that identify a row of each relation, if known.
        columns: The columns.
    """
    joined = [source for source in sources if source.join_type not in ("semi", "anti")]
    fixed_sources: set[str] = set()
    while True:
        fixed_columns = set(columns)
        for source in joined:
            for condition in source.conditions if source.join_type in ("inner", "left") else ():
                if condition.operator == "=" and not condition.days:
                    fixed_columns |= _implied_columns(source, condition, fixed_columns, fixed_sources)
        with_fixed_keys = {
            source.alias.lower()
            for source in joined
            if (keys := unique_keys.get(source.relation)) is not None
            and all((source.alias.lower(), key) in fixed_columns for key in keys)
        }
        newly_fixed = with_fixed_keys - fixed_sources
        if not newly_fixed and fixed_columns == columns:
            return fixed_sources >= {source.alias.lower() for source in joined}
        columns, fixed_sources = fixed_columns, fixed_sources | newly_fixed


def _implied_columns(
    source: Source, condition: Condition, fixed_columns: set[Column], fixed_sources: set[str]
) -> set[Column]:
    """Return the columns whose values one equality fixes.

    A LEFT JOIN fixes no column on its left, because rows there may have no match.
    """
    pairs = [(condition.column, condition.other), (condition.other, condition.column)]
    return {
        other
        for column, other in pairs
        if (column in fixed_columns or column[0] in fixed_sources)
        and (source.join_type == "inner" or other[0] == source.alias.lower())
    }


def unique_columns(block: Block, unique_keys: UniqueKeys) -> frozenset[str] | None:
    """Return columns that are certain to identify a row of a CTE; None if there are none.

    Args:
        block: The CTE.
        unique_keys: The columns that identify a row of each relation, if known.
    """
    if block.kind == "grouped":
        return (
            frozenset(k.output.lower() for k in block.refresh_key) if all(k.output for k in block.refresh_key) else None
        )
    outputs = frozenset(block.plain_columns)
    if not has_unique_rows(block.sources, unique_keys, set(block.plain_columns.values())):
        return None
    for output in sorted(outputs):  # an ORDER BY has to name them all, so drop those that are not needed
        if has_unique_rows(block.sources, unique_keys, {block.plain_columns[o] for o in outputs - {output}}):
            outputs -= {output}
    return outputs
