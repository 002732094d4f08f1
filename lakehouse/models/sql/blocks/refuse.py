"""What stands in the way of keeping a SELECT up to date by what changed. What is not known to be safe is refused."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import Whole
from lakehouse.models.sql.blocks.clauses import Call
from lakehouse.models.sql.blocks.ties import windows

# What a SELECT may have, by sqlglot's names, and what to write instead of what it may not.
_ALLOWED = {"with_", "expressions", "from_", "joins", "where", "group", "having", "distinct", "order"}
_REFUSED = {
    "limit": ("LIMIT", "a number of rows is no function of single groups; filter by a value instead"),
    "offset": ("OFFSET", "filter by a value instead"),
    "qualify": ("QUALIFY", "compute the window in a CTE, and filter by it in WHERE"),
    "laterals": ("LATERAL VIEW", "compute it in a model of its own, or as an array"),
    "windows": ("WINDOW", "write the window into each OVER (...)"),
    "sort": ("SORT BY", "leave it out: a table has no order"),
    "cluster": ("CLUSTER BY", "leave it out: a table has no order"),
    "distribute": ("DISTRIBUTE BY", "leave it out: a table has no order"),
}
_NODES: dict[type[exp.Expr], tuple[str, str]] = {
    exp.Pivot: ("PIVOT or UNPIVOT", "write a CASE for each column"),
    exp.Lateral: ("LATERAL", "compute it in a model of its own"),
    exp.SetOperation: ("UNION, EXCEPT or INTERSECT", "write a model for each part of it"),
}


def refuse_clauses(tree: exp.Select, is_cte: bool) -> None:
    """Raises Whole for a clause that is not known."""
    if is_cte and tree.args.get("with_"):
        raise Whole("WITH inside WITH", "put the CTEs side by side")
    for clause, value in tree.args.items():
        if value and clause not in _ALLOWED:
            raise Whole(*_REFUSED.get(clause, (clause.rstrip("_").upper(),)))
    own = [tree.args.get(c) for c in sorted(_ALLOWED - {"with_", "expressions"})]
    parts = [*tree.expressions, *tree.args.get("joins", ()), *filter(None, own)]
    for part in chain.from_iterable(p if isinstance(p, list) else [p] for p in parts):
        if not isinstance(part, exp.Expr):
            continue
        for node, refused in _NODES.items():
            if part.find(node):
                raise Whole(*refused)
        if part.find(exp.Select):
            where = "a derived table" if isinstance(part, exp.From | exp.Join) else "a subquery"
            advice = "make it a CTE" if where == "a derived table" else "write LEFT SEMI JOIN or LEFT ANTI JOIN"
            raise Whole(where, advice)
    if tree.args.get("group") and tree.args["group"].args.get("all"):
        raise Whole("GROUP BY ALL", "name the columns")
    distinct = tree.args.get("distinct")
    if distinct and (distinct.args.get("on") or tree.args.get("group")):
        raise Whole("DISTINCT with GROUP BY or ON", "a GROUP BY alone")
    if tree.args.get("having") and not tree.args.get("group"):
        raise Whole("HAVING without GROUP BY", "GROUP BY GROUPING SETS (())")


def refuse_functions(tree: exp.Select, calls: Iterable[Call]) -> None:
    """Raises Whole for a function that is not known, or stands where it cannot."""
    for call in calls:
        if call.over:
            if call.name not in functions.WINDOW:
                raise Whole(f"{call.name}() OVER, which is not known to be exact in any order of rows")
        elif call.name in functions.LISTS and not call.sorted:
            raise Whole(f"{call.name}(), whose order is open", f"array_sort({call.name}(...))")
        elif call.name not in functions.SCALAR | functions.AGGREGATES | functions.LISTS | functions.GROUPING:
            what = "which is not known to give the same for the same rows"
            raise Whole(f"{call.name}(), {what}", functions.INSTEAD.get(call.name, ""))
        elif call.name not in functions.SCALAR and not tree.args.get("group"):
            advice = "GROUP BY GROUPING SETS (()), with GROUPING_ID() selected"
            raise Whole(f"{call.name}() without GROUP BY, an aggregate over everything", advice)
    if windows(tree) and tree.args.get("group"):
        raise Whole("a window function over groups", "group in a CTE, and read it in the SELECT with the window")
    if windows(tree) and tree.args.get("distinct"):
        raise Whole("DISTINCT over a window function", "compute the window in a CTE")
