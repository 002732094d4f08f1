"""Windows, and whether their order leaves ties: among rows that it does not tell apart, a row number is anybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import Block, Column, Condition, NotIncremental, Source

UniqueKeys = Mapping[str, frozenset[str]]  # by relation, columns that tell its rows apart


def find_windows(tree: exp.Select) -> list[exp.Window]:
    parts = [*tree.expressions, *filter(None, [tree.args.get("order")])]
    return [window for part in parts for window in part.find_all(exp.Window)]


def partition_by(window: exp.Window) -> list[exp.Expr]:
    return list(window.args.get("partition_by") or [])


def require_unique_order(
    window: exp.Window,
    sources: Iterable[Source],
    unique_keys: UniqueKeys,
    source_column: Callable[[exp.Expr], Column | None],
) -> None:
    """Raises Whole for a window whose result depends on the order of rows that its ORDER BY leaves tied.

    Args:
        column: the source's column that an expression is.
    """
    name, spec = _function_name(window), window.args.get("spec")
    by_rows = spec is not None and (spec.args.get("kind") or "").upper() == "ROWS"
    if name in _UNAFFECTED_BY_TIES and not by_rows:
        return
    order = window.args.get("order")
    told = [*partition_by(window), *(o.this for o in (order.expressions if order else []))]
    if not has_unique_rows(sources, unique_keys, {c for e in told if (c := source_column(e))}):
        raise NotIncremental(f"{name}() over rows that its ORDER BY may leave tied", "add the tables' keys to ORDER BY")


# By sqlglot's names: a tie changes nothing of what these give, unless they count rows.
_UNAFFECTED_BY_TIES = {name.replace("_", "") for name in functions.RANKS | functions.AGGREGATES} | {
    "logicalor",
    "logicaland",
}


def _function_name(window: exp.Window) -> str:
    """The function over a window, in letters alone."""
    called = window.this
    while isinstance(called, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        called = called.this
    return (called.name if isinstance(called, exp.Anonymous) else called.key).lower().replace("_", "")


# --- which rows are which ---------------------------------------------------------------------------------------


def has_unique_rows(sources: Iterable[Source], unique_keys: UniqueKeys, columns: set[Column]) -> bool:
    """Whether rows of a FROM that are equal in these columns are one row."""
    real = [s for s in sources if s.join_type not in ("semi", "anti")]
    settled: set[str] = set()
    while True:
        told = set(columns)
        for source in real:
            for test in source.conditions if source.join_type in ("inner", "left") else ():
                if test.operator == "=" and not test.days:
                    told |= _implied_columns(source, test, told, settled)
        more = {s.alias.lower() for s in real if _is_single_row(s, unique_keys, told)} - settled
        if not more and told == columns:
            return settled >= {s.alias.lower() for s in real}
        columns, settled = told, settled | more


def _implied_columns(
    source: Source, test: Condition, fixed_columns: set[Column], fixed_sources: set[str]
) -> set[Column]:
    """What one condition adds: of a LEFT JOIN nothing about the rows on its left, which may have no partner."""
    pairs = [(test.column, test.other), (test.other, test.column)]
    return {
        there
        for here, there in pairs
        if (here in fixed_columns or here[0] in fixed_sources)
        and (source.join_type == "inner" or there[0] == source.alias.lower())
    }


def _is_single_row(source: Source, unique_keys: UniqueKeys, fixed_columns: set[Column]) -> bool:
    keys = unique_keys.get(source.relation)
    return keys is not None and all((source.alias.lower(), key) in fixed_columns for key in keys)


def unique_columns(block: Block, unique_keys: UniqueKeys) -> frozenset[str] | None:
    """Columns of a CTE that surely tell its rows apart."""
    if block.kind == "grouped":
        return (
            frozenset(k.output.lower() for k in block.refresh_key) if all(k.output for k in block.refresh_key) else None
        )
    outputs = frozenset(block.plain_columns)
    if not has_unique_rows(block.sources, unique_keys, set(block.plain_columns.values())):
        return None
    for output in sorted(outputs):  # the fewer, the easier for an ORDER BY to name them
        if has_unique_rows(block.sources, unique_keys, {block.plain_columns[o] for o in outputs - {output}}):
            outputs -= {output}
    return outputs
