"""Windows, and whether their order leaves ties: among rows that it does not tell apart, a row number is anybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import Block, Column, Source, Test, Whole

Known = Mapping[str, frozenset[str]]  # by relation, columns that tell its rows apart


def windows(tree: exp.Select) -> list[exp.Window]:
    parts = [*tree.expressions, *filter(None, [tree.args.get("order")])]
    return [window for part in parts for window in part.find_all(exp.Window)]


def partition(window: exp.Window) -> list[exp.Expr]:
    return list(window.args.get("partition_by") or [])


def refuse_ties(
    window: exp.Window, sources: Iterable[Source], known: Known, column: Callable[[exp.Expr], Column | None]
) -> None:
    """Raises Whole for a window whose result depends on the order of rows that its ORDER BY leaves tied.

    Args:
        column: the source's column that an expression is.
    """
    name, spec = _function(window), window.args.get("spec")
    by_rows = spec is not None and (spec.args.get("kind") or "").upper() == "ROWS"
    if name in _NO_TIES and not by_rows:
        return
    order = window.args.get("order")
    told = [*partition(window), *(o.this for o in (order.expressions if order else []))]
    if not settles(sources, known, {c for e in told if (c := column(e))}):
        raise Whole(f"{name}() over rows that its ORDER BY may leave tied", "add the tables' keys to ORDER BY")


# By sqlglot's names: a tie changes nothing of what these give, unless they count rows.
_NO_TIES = {name.replace("_", "") for name in functions.RANKS | functions.AGGREGATES} | {"logicalor", "logicaland"}


def _function(window: exp.Window) -> str:
    """The function over a window, in letters alone."""
    called = window.this
    while isinstance(called, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        called = called.this
    return (called.name if isinstance(called, exp.Anonymous) else called.key).lower().replace("_", "")


# --- which rows are which ---------------------------------------------------------------------------------------


def settles(sources: Iterable[Source], known: Known, columns: set[Column]) -> bool:
    """Whether rows of a FROM that are equal in these columns are one row."""
    real = [s for s in sources if s.side not in ("semi", "anti")]
    settled: set[str] = set()
    while True:
        told = set(columns)
        for source in real:
            for test in source.tests if source.side in ("inner", "left") else ():
                if test.sign == "=" and not test.days:
                    told |= _follows(source, test, told, settled)
        more = {s.alias.lower() for s in real if _is_settled(s, known, told)} - settled
        if not more and told == columns:
            return settled >= {s.alias.lower() for s in real}
        columns, settled = told, settled | more


def _follows(source: Source, test: Test, told: set[Column], settled: set[str]) -> set[Column]:
    """What one condition adds: of a LEFT JOIN nothing about the rows on its left, which may have no partner."""
    pairs = [(test.column, test.other), (test.other, test.column)]
    return {
        there
        for here, there in pairs
        if (here in told or here[0] in settled) and (source.side == "inner" or there[0] == source.alias.lower())
    }


def _is_settled(source: Source, known: Known, told: set[Column]) -> bool:
    keys = known.get(source.relation)
    return keys is not None and all((source.alias.lower(), key) in told for key in keys)


def tells_apart(block: Block, known: Known) -> frozenset[str] | None:
    """Columns of a CTE that surely tell its rows apart."""
    if block.kind == "grouped":
        return frozenset(k.output.lower() for k in block.key) if all(k.output for k in block.key) else None
    outputs = frozenset(block.plain)
    if not settles(block.sources, known, set(block.plain.values())):
        return None
    for output in sorted(outputs):  # the fewer, the easier for an ORDER BY to name them
        if settles(block.sources, known, {block.plain[o] for o in outputs - {output}}):
            outputs -= {output}
    return outputs
