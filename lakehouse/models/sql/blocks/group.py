"""A GROUP BY: what it groups by, and in which sets."""

from __future__ import annotations

from itertools import combinations

from sqlglot import exp

TOTALS = (exp.GroupingSets, exp.Rollup, exp.Cube)


def grouping_expressions(group: exp.Group) -> list[exp.Expr]:
    """What a GROUP BY groups by, out of whatever sets it stands in, each once."""
    found: dict[str, exp.Expr] = {}

    def gather(items: list[exp.Expr]) -> None:
        for item in items:
            if isinstance(item, (*TOTALS, exp.Tuple)):
                gather(item.expressions)
            elif isinstance(item, exp.Paren):
                gather([item.this])
            else:
                found[item.sql()] = item

    gather([*group.expressions, *(s for kind in _TRAILING_FORMS for s in group.args.get(kind) or [])])
    return list(found.values())


_TRAILING_FORMS = ("grouping_sets", "rollup", "cube")  # as in GROUP BY a, b WITH ROLLUP


def has_totals(group: exp.Group) -> bool:
    return group.find(*TOTALS) is not None


def is_grouping_id(bare: exp.Expr) -> bool:
    return isinstance(bare, exp.GroupingId) or (isinstance(bare, exp.Anonymous) and bare.name.lower() == "grouping_id")


def grouping_sets(group: exp.Group) -> list[frozenset[str]] | None:
    """The sets that a GROUP BY with totals groups by; None where they are more than can be told."""
    plain = [frozenset([e.sql()]) for e in group.expressions if not isinstance(e, TOTALS)]
    totals = [e for e in group.expressions if isinstance(e, TOTALS)]
    trailing = [(kind, part) for kind in _TRAILING_FORMS for part in group.args.get(kind) or []]
    if len(totals) + len(trailing) != 1:
        return None
    if not trailing:
        always = frozenset[str]().union(*plain)
        found = _expand_total(totals[0], [frozenset(m.sql() for m in _set_members(e)) for e in totals[0].expressions])
        return [always | each for each in found] if found is not None else None
    kind, part = trailing[0]
    listed = [frozenset(m.sql() for m in _set_members(e)) for e in part.expressions]
    return _expand_total(part, listed if kind == "grouping_sets" else plain)


def _expand_total(total: exp.Expr, items: list[frozenset[str]]) -> list[frozenset[str]] | None:
    if any(e.find(*TOTALS) for e in total.expressions) or len(items) > _MAX_ITEMS:
        return None
    if isinstance(total, exp.GroupingSets):
        return items
    counts = range(len(items), -1, -1)
    chosen = (
        [items[:n] for n in counts]
        if isinstance(total, exp.Rollup)
        else [list(c) for n in counts for c in combinations(items, n)]
    )
    return [frozenset[str]().union(*each) for each in chosen]


_MAX_ITEMS = 6


def _set_members(item: exp.Expr) -> list[exp.Expr]:
    if isinstance(item, exp.Tuple):
        return list(item.expressions)
    return [item.this] if isinstance(item, exp.Paren) else [item]
