"""Finds window functions whose ORDER BY does not fix a unique order: the numbers of tied rows are not defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import Block, Column, Condition, NotIncremental, Source

UniqueKeys = Mapping[str, tuple[frozenset[str], ...]]
"""The sets of columns that identify a row of each relation, as far as they are known."""

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
    called = window_function(window)
    if not is_affected_by_ties(called, window.args.get("spec")):
        return
    order = window.args.get("order")
    expressions = [*partition_by(window), *(ordered.this for ordered in (order.expressions if order else []))]
    if not has_unique_rows(sources, unique_keys, {column for e in expressions if (column := source_column(e))}):
        clause = f"{function_name(called)}() over rows that its ORDER BY may leave tied"
        raise NotIncremental(clause, "add the tables' keys to ORDER BY")


def window_function(window: exp.Window) -> exp.Expr:
    """Return the function that a window calls, without FILTER and the handling of nulls.

    Args:
        window: The window.
    """
    called: exp.Expr = window.this
    while isinstance(called, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        called = called.this
    return called


def is_affected_by_ties(called: exp.Expr, spec: exp.Expr | None) -> bool:
    """Return whether the order of tied rows changes the result of a window function.

    Args:
        called: The function.
        spec: The frame of the window, if it is given.
    """
    counts_rows = spec is not None and (spec.args.get("kind") or "").upper() == "ROWS"
    if spec is not None and spec.args.get("start") == spec.args.get("end") == "UNBOUNDED":
        counts_rows = False  # the whole partition
    return function_name(called) not in _UNAFFECTED_BY_TIES or counts_rows


def function_name(called: exp.Expr) -> str:
    """Return the name of a function in lower case, without underscores.

    Args:
        called: The function.
    """
    return (called.name if isinstance(called, exp.Anonymous) else called.key).lower().replace("_", "")


def has_unique_rows(sources: Iterable[Source], unique_keys: UniqueKeys, columns: set[Column]) -> bool:
    """Return whether rows of a FROM clause with the same values in these columns are the same row.

    Args:
        sources: The FROM clause.
        unique_keys: The columns that identify a row of each relation, if known.
        columns: The columns.
    """
    joined = [source for source in sources if source.join_type not in ("semi", "anti")]
    return fixed_sources(joined, unique_keys, columns) >= {source.alias.lower() for source in joined}


def fixed_sources(sources: Iterable[Source], unique_keys: UniqueKeys, columns: set[Column]) -> set[str]:
    """Return the aliases of a FROM clause whose rows are the same if the values of these columns are.

    Args:
        sources: The FROM clause.
        unique_keys: The columns that identify a row of each relation, if known.
        columns: The columns.
    """
    joined = [source for source in sources if source.join_type not in ("semi", "anti")]
    found: set[str] = set()
    while True:
        fixed_columns = set(columns)
        for source in joined:
            for condition in source.conditions if source.join_type in ("inner", "left") else ():
                if condition.operator == "=" and not condition.days:
                    fixed_columns |= _implied_columns(source, condition, fixed_columns, found)
        with_fixed_keys = {
            source.alias.lower()
            for source in joined
            for keys in unique_keys.get(source.relation, ())
            if all((source.alias.lower(), key) in fixed_columns for key in keys)
        }
        newly_fixed = with_fixed_keys - found
        if not newly_fixed and fixed_columns == columns:
            return found
        columns, found = fixed_columns, found | newly_fixed


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
    return minimal_unique_columns(block.plain_columns, block.sources, unique_keys)


def minimal_unique_columns(
    plain_columns: Mapping[str, Column],
    sources: Iterable[Source],
    unique_keys: UniqueKeys,
    constants: Iterable[Column] = (),
) -> frozenset[str] | None:
    """Return output columns that are certain to identify a row of a plain SELECT; None if there are none.

    Args:
        plain_columns: Output columns that are an unchanged column of a source.
        sources: The FROM clause.
        unique_keys: The columns that identify a row of each relation, if known.
        constants: Columns that have the same value in all rows.
    """
    outputs, joined, always = frozenset(plain_columns), list(sources), set(constants)
    if not has_unique_rows(joined, unique_keys, set(plain_columns.values()) | always):
        return None
    for output in sorted(outputs):  # an ORDER BY has to name them all, so drop those that are not needed
        if has_unique_rows(joined, unique_keys, {plain_columns[o] for o in outputs - {output}} | always):
            outputs -= {output}
    return outputs
