"""Raises for clauses and functions that an incremental refresh does not support: all that are not known to be safe."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import NotIncremental
from lakehouse.models.sql.blocks.clauses import FunctionCall
from lakehouse.models.sql.blocks.ties import find_windows

# The clauses that a SELECT may have, by sqlglot's names, and what to write instead of the others.
_ALLOWED = {"with_", "expressions", "from_", "joins", "where", "group", "having", "distinct", "order"}
_UNSUPPORTED = {
    "limit": ("LIMIT", "the rows cannot be found group by group; filter by a value instead"),
    "offset": ("OFFSET", "filter by a value instead"),
    "qualify": ("QUALIFY", "compute the window in a CTE, and filter by it in WHERE"),
    "laterals": ("LATERAL VIEW", "compute it in a model of its own, or as an array"),
    "windows": ("WINDOW", "write the window into each OVER (...)"),
    "sort": ("SORT BY", "leave it out: a table has no order"),
    "cluster": ("CLUSTER BY", "leave it out: a table has no order"),
    "distribute": ("DISTRIBUTE BY", "leave it out: a table has no order"),
}
_UNSUPPORTED_NODES: dict[type[exp.Expr], tuple[str, str]] = {
    exp.Pivot: ("PIVOT or UNPIVOT", "write a CASE for each column"),
    exp.Lateral: ("LATERAL", "compute it in a model of its own"),
    exp.SetOperation: ("UNION, EXCEPT or INTERSECT", "write a model for each part of it"),
}


def require_supported_clauses(tree: exp.Select, is_cte: bool) -> None:
    """Raise if a SELECT has a clause that is not supported.

    Args:
        tree: The SELECT.
        is_cte: Whether it is a CTE.

    Raises:
        NotIncremental: With the clause, and its replacement.
    """
    if is_cte and tree.args.get("with_"):
        raise NotIncremental("WITH inside WITH", "put the CTEs side by side")
    for clause, value in tree.args.items():
        if value and clause not in _ALLOWED:
            raise NotIncremental(*_UNSUPPORTED.get(clause, (clause.rstrip("_").upper(),)))
    clauses = [tree.args.get(name) for name in sorted(_ALLOWED - {"with_", "expressions"})]
    parts = [*tree.expressions, *tree.args.get("joins", ()), *filter(None, clauses)]
    for part in chain.from_iterable(p if isinstance(p, list) else [p] for p in parts):
        if not isinstance(part, exp.Expr):
            continue
        for node, refused in _UNSUPPORTED_NODES.items():
            if part.find(node):
                raise NotIncremental(*refused)
        if part.find(exp.Select):
            if isinstance(part, exp.From | exp.Join):
                raise NotIncremental("a derived table", "make it a CTE")
            raise NotIncremental("a subquery", "write LEFT SEMI JOIN or LEFT ANTI JOIN")
    if tree.args.get("group") and tree.args["group"].args.get("all"):
        raise NotIncremental("GROUP BY ALL", "name the columns")
    distinct = tree.args.get("distinct")
    if distinct and (distinct.args.get("on") or tree.args.get("group")):
        raise NotIncremental("DISTINCT with GROUP BY or ON", "a GROUP BY alone")
    if tree.args.get("having") and not tree.args.get("group"):
        raise NotIncremental("HAVING without GROUP BY", "GROUP BY GROUPING SETS (())")


def require_supported_functions(tree: exp.Select, calls: Iterable[FunctionCall]) -> None:
    """Raise if a SELECT has a function that is not supported, or not at its place.

    Args:
        tree: The SELECT.
        calls: Its function calls.

    Raises:
        NotIncremental: With the function, and its replacement.
    """
    for call in calls:
        if call.has_over:
            if call.name not in functions.WINDOW:
                raise NotIncremental(f"{call.name}() OVER, which is not known to be exact in any order of rows")
        elif call.name in functions.COLLECTING and not call.is_sorted:
            raise NotIncremental(f"{call.name}(), whose order is not defined", f"array_sort({call.name}(...))")
        elif call.name not in functions.SCALAR | functions.AGGREGATES | functions.COLLECTING | functions.GROUPING:
            clause = f"{call.name}(), which is not known to give the same result for the same rows"
            raise NotIncremental(clause, functions.ALTERNATIVES.get(call.name, ""))
        elif call.name not in functions.SCALAR and not tree.args.get("group"):
            advice = "GROUP BY GROUPING SETS (()), with GROUPING_ID() selected"
            raise NotIncremental(f"{call.name}() without GROUP BY, an aggregate over everything", advice)
    if find_windows(tree) and tree.args.get("group"):
        raise NotIncremental(
            "a window function over groups", "group in a CTE, and read it in the SELECT with the window"
        )
    if find_windows(tree) and tree.args.get("distinct"):
        raise NotIncremental("DISTINCT over a window function", "compute the window in a CTE")
