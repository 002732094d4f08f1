"""What a join's condition says plainly: a column compared with another, maybe some days apart."""

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


def parse_conditions(condition: exp.Expr, aliases: set[str]) -> Iterator[Condition]:
    """The plain conditions among those that an ON joins by AND, each read both ways. `<` is taken for `<=`."""
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
    here, there = _column_plus_days(left, aliases), _column_plus_days(right, aliases)
    if here and there and here[0][0] != there[0][0]:
        days = there[1] - here[1]
        yield Condition(here[0], sign, there[0], days)
        yield Condition(there[0], reverse, here[0], -days)


_MINUS_ONE = exp.Neg(this=exp.Literal.number(1))


def _column_plus_days(side: exp.Expr, aliases: set[str]) -> tuple[Column, int] | None:
    """A column and how many days are added to it."""
    bare, days = side.unnest(), 0
    if isinstance(bare, exp.TsOrDsAdd) and bare.text("unit").upper() in ("", "DAY"):
        number, sign = bare.expression, 1
        if isinstance(number, exp.Mul) and number.expression == _MINUS_ONE:  # as the parser has date_sub
            number, sign = number.this, -1
        if not isinstance(number, exp.Literal) or not number.name.isdigit():
            return None
        bare, days = bare.this.unnest(), sign * int(number.name)
    if not isinstance(bare, exp.Column) or bare.args.get("db") or bare.table.lower() not in aliases:
        return None
    return (bare.table.lower(), bare.name.lower()), days
