"""Finds the simple conditions of an ON clause: comparisons of two columns, with a number of days between them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from lakehouse.models.sql.blocks.block import Column, Condition

_OPERATORS: dict[type[exp.Expr], tuple[str, str]] = {
    exp.EQ: ("=", "="),
    exp.LTE: ("<=", ">="),
    exp.LT: ("<=", ">="),
    exp.GTE: (">=", "<="),
    exp.GT: (">=", "<="),
}
_MINUS_ONE = exp.Neg(this=exp.Literal.number(1))


def parse_conditions(condition: exp.Expr, aliases: set[str]) -> Iterator[Condition]:
    """Yield the simple conditions that an ON clause combines by AND, each in both directions, with `<` as `<=`.

    Args:
        condition: The ON clause.
        aliases: The aliases up to this join, in lower case.
    """
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        bare = part.unnest()
        if isinstance(bare, exp.And):
            yield from parse_conditions(bare, aliases)
        elif isinstance(bare, exp.Between) and not bare.args.get("symmetric"):
            yield from _conditions_both_ways(bare.this, ">=", "<=", bare.args["low"], aliases)
            yield from _conditions_both_ways(bare.this, "<=", ">=", bare.args["high"], aliases)
        elif signs := _OPERATORS.get(type(bare)):
            yield from _conditions_both_ways(bare.this, *signs, bare.expression, aliases)


def _conditions_both_ways(
    left: exp.Expr, sign: str, reverse: str, right: exp.Expr, aliases: set[str]
) -> Iterator[Condition]:
    shifted_left, shifted_right = _column_plus_days(left, aliases), _column_plus_days(right, aliases)
    if not shifted_left or not shifted_right:
        return
    (left_column, left_days), (right_column, right_days) = shifted_left, shifted_right
    if left_column[0] != right_column[0]:
        yield Condition(left_column, sign, right_column, right_days - left_days)
        yield Condition(right_column, reverse, left_column, left_days - right_days)


def _column_plus_days(side: exp.Expr, aliases: set[str]) -> tuple[Column, int] | None:
    """Return a column and the number of days added to it; None for any other expression."""
    bare, days = side.unnest(), 0
    if isinstance(bare, exp.TsOrDsAdd) and bare.text("unit").upper() in ("", "DAY"):
        number, sign = bare.expression, 1
        if isinstance(number, exp.Mul) and number.expression == _MINUS_ONE:  # date_sub, as sqlglot parses it
            number, sign = number.this, -1
        if not isinstance(number, exp.Literal) or not number.name.isdigit():
            return None
        bare, days = bare.this.unnest(), sign * int(number.name)
    if not isinstance(bare, exp.Column) or bare.args.get("db") or bare.table.lower() not in aliases:
        return None
    return (bare.table.lower(), bare.name.lower()), days
