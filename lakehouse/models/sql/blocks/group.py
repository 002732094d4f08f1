"""Parses GROUP BY clauses: the grouping expressions, the grouping sets, and how totals can be split."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from sqlglot import exp

from lakehouse.models.sql.blocks.block import Block

TOTALS = (exp.GroupingSets, exp.Rollup, exp.Cube)

_TRAILING_FORMS = ("grouping_sets", "rollup", "cube")  # as in GROUP BY a, b WITH ROLLUP
_MAX_ITEMS = 6


def grouping_expressions(group: exp.Group) -> list[exp.Expr]:
    """Return the expressions that a GROUP BY groups by in any of its sets, each once.

    Args:
        group: The GROUP BY.
    """
    found: dict[str, exp.Expr] = {}

    def gather(items: list[exp.Expr]) -> None:
        for item in items:
            if isinstance(item, (*TOTALS, exp.Tuple)):
                gather(item.expressions)
            elif isinstance(item, exp.Paren):
                gather([item.this])
            else:
                found[item.sql("spark")] = item

    trailing = [total for form in _TRAILING_FORMS for total in group.args.get(form) or []]
    gather([*group.expressions, *trailing])
    return list(found.values())


def has_totals(group: exp.Group) -> bool:
    """Return whether a GROUP BY makes totals.

    Args:
        group: The GROUP BY.
    """
    return group.find(*TOTALS) is not None


def is_grouping_id(expression: exp.Expr) -> bool:
    """Return whether an expression is GROUPING_ID().

    Args:
        expression: A selected expression without its alias.
    """
    is_unparsed = isinstance(expression, exp.Anonymous) and expression.name.lower() == "grouping_id"
    return isinstance(expression, exp.GroupingId) or is_unparsed


def grouping_sets(group: exp.Group) -> list[frozenset[str]] | None:
    """Return the grouping sets of a GROUP BY with totals; None if there are too many or they are nested.

    Args:
        group: The GROUP BY.
    """
    plain = [frozenset([e.sql("spark")]) for e in group.expressions if not isinstance(e, TOTALS)]
    totals = [e for e in group.expressions if isinstance(e, TOTALS)]
    trailing = [(form, total) for form in _TRAILING_FORMS for total in group.args.get(form) or []]
    if len(totals) + len(trailing) != 1:
        return None
    if not trailing:
        in_every_set = frozenset[str]().union(*plain)
        sets = _expand_total(totals[0], _listed_sets(totals[0]))
        return [in_every_set | each for each in sets] if sets is not None else None
    form, total = trailing[0]
    return _expand_total(total, _listed_sets(total) if form == "grouping_sets" else plain)


def _listed_sets(total: exp.Expr) -> list[frozenset[str]]:
    """Return the expressions of each item of GROUPING SETS, ROLLUP or CUBE."""
    sets = []
    for item in total.expressions:
        members = (
            item.expressions if isinstance(item, exp.Tuple) else [item.this if isinstance(item, exp.Paren) else item]
        )
        sets.append(frozenset(member.sql("spark") for member in members))
    return sets


def _expand_total(total: exp.Expr, items: list[frozenset[str]]) -> list[frozenset[str]] | None:
    if any(e.find(*TOTALS) for e in total.expressions) or len(items) > _MAX_ITEMS:
        return None
    if isinstance(total, exp.GroupingSets):
        return items
    sizes = range(len(items), -1, -1)
    if isinstance(total, exp.Rollup):
        chosen = [items[:size] for size in sizes]
    else:
        chosen = [list(c) for size in sizes for c in combinations(items, size)]
    return [frozenset[str]().union(*each) for each in chosen]


def split_totals(block: Block) -> list[tuple[str, tuple[int, ...]]]:
    """Return the parts in which the rows of a block can be computed.

    If no column is in all grouping sets, the sets are split: those with the column that most sets have need the rows of
    the affected keys only; the others need more rows.

    Args:
        block: The block.

    Returns:
        For each part, the text after the WHERE clause, and the positions of the key parts by which rows can be filtered
        before the GROUP BY.
    """
    pushdown_parts = tuple(at for at, key in enumerate(block.refresh_key) if key.can_push_down)
    inner_joined = {source.alias.lower() for source in block.sources if source.is_inner_joined}
    columns = [key.column for key in block.refresh_key]
    filterable = {at for at, column in enumerate(columns) if column is not None and column[0] in inner_joined}
    counts = Counter(at for each in block.grouping_sets for at in each if at in filterable)
    if pushdown_parts or not counts:
        return [(block.after_where, pushdown_parts)]
    most_common = counts.most_common(1)[0][0]
    with_column = [each for each in block.grouping_sets if most_common in each]
    without_column = [each for each in block.grouping_sets if most_common not in each]
    # Each part's GROUP BY names all columns, so that GROUPING_ID() is the same.
    texts, after_group = [key.sql for key in block.refresh_key[:-1]], block.after_where[len(block.totals) :]
    parts = []
    for sets in filter(None, (with_column, without_column)):
        listed = ", ".join(f"({', '.join(texts[at] for at in each)})" for each in sets)
        group_by = f"GROUP BY {', '.join(texts)} GROUPING SETS ({listed}){after_group}"
        parts.append((group_by, tuple(sorted(set.intersection(*map(set, sets))))))
    return parts
