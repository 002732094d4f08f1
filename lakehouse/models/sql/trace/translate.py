"""Translates expressions of Spark's SQL to DuckDB's: only those of which both give the same result for every value.

Numbers that are not exact, most functions of texts and times, and comparisons that cast are left to Spark. Functions of
texts are computed if all texts are printable ASCII, which no locale, alphabet or line end concerns; another text stops
the query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlglot import exp

from lakehouse.lake.duckdb_sql import literal

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_PLAIN = re.compile(r"[ -~]*")
# Characters, classes without nesting, groups without options, escapes that both have; `(?i)` at the begin.
_SHARED_PATTERN = re.compile(
    r"(\(\?i\))?(?:[^\\\[\](){}*+?]|\\[sdwSDW.+*?()|\[\]{}^$\\/-]|\[\^?(?:[^\\\[\]&~]|\\[sdw])+\]|\((?!\?)|\)|[*+?](?![*+?]))*"
)
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"})
_INSTANT = "TIMESTAMP WITH TIME ZONE"
_COMPARED_AS_THEY_ARE = frozenset({"VARCHAR", "DATE", _INSTANT, "TIMESTAMP", "BOOLEAN"})
_COMPARISONS: Mapping[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
    exp.NullSafeNEQ: "IS DISTINCT FROM",
}
_ARITHMETIC: Mapping[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_PARTS_OF_A_DAY: Mapping[type[exp.Expr], str] = {exp.Year: "year", exp.Month: "month", exp.Day: "day"}
_RANKS: Mapping[type[exp.Expr], str] = {
    exp.RowNumber: "row_number()",
    exp.Rank: "rank()",
    exp.DenseRank: "dense_rank()",
}
_STOP = "error('a text for Spark'"
_MINUS_ONE = exp.Neg(this=exp.Literal.number(1))


class NotInDuckdbError(Exception):
    """It is not certain that DuckDB gives the same result as Spark."""


@dataclass(frozen=True)
class Typed:
    """An expression of DuckDB.

    Attributes:
        sql: Its SQL.
        type: Its type, in DuckDB's words; `NULL` for a null without a type.
        day: The text of a literal that has the form of a day; else empty.
        is_plain: Whether it is text of printable ASCII for certain.
    """

    sql: str
    type: str
    day: str = ""
    is_plain: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is a number that is exact."""
        return self.type in _INTEGERS or self.type.startswith("DECIMAL")


@dataclass(frozen=True)
class Scope:
    """What names mean.

    Attributes:
        sources: By alias in lower case: the alias, and the columns by their names in lower case.
        arguments: The parameters of the model.
    """

    sources: Mapping[str, tuple[str, Mapping[str, Typed]]]
    arguments: Mapping[str, Any]


def translate(expression: exp.Expr, scope: Scope) -> Typed:
    """Return an expression for DuckDB.

    Args:
        expression: The expression, as sqlglot parses Spark's SQL.
        scope: What the names in it mean.

    Raises:
        NotInDuckdbError: It may give another result.
    """
    return _Translator(scope).typed(expression)


class _Translator:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def typed(self, node: exp.Expr) -> Typed:
        """Return an expression for DuckDB."""
        kind = type(node)
        if kind in _COMPARISONS:
            return self._compared(self.typed(node.this), _COMPARISONS[kind], self.typed(node.expression))
        if kind in _ARITHMETIC:
            return self._calculated(self.typed(node.this), _ARITHMETIC[kind], self.typed(node.expression))
        if kind in _PARTS_OF_A_DAY:
            day = self.typed(node.this.this if isinstance(node.this, exp.TsOrDsToDate) else node.this)
            return Typed(f"{_PARTS_OF_A_DAY[kind]}({_require(day, 'DATE').sql})", "BIGINT")
        match node:
            case exp.Paren():
                inner = self.typed(node.this)
                return Typed(f"({inner.sql})", inner.type)
            case exp.Column():
                return self._column(node)
            case exp.Literal() | exp.Null() | exp.Boolean() | exp.Placeholder():
                return self._constant(node)
            case exp.Neg(this=exp.Literal(is_string=False)):
                return Typed(f"-{self.typed(node.this).sql}", self.typed(node.this).type)
            case exp.And() | exp.Or():
                word = "AND" if isinstance(node, exp.And) else "OR"
                parts = [_require(self.typed(side), "BOOLEAN").sql for side in (node.this, node.expression)]
                return Typed(f"({f' {word} '.join(parts)})", "BOOLEAN")
            case exp.Not():
                return Typed(f"(NOT {_require(self.typed(node.this), 'BOOLEAN').sql})", "BOOLEAN")
            case exp.Is(expression=exp.Null()):
                return Typed(f"({self.typed(node.this).sql} IS NULL)", "BOOLEAN")
            case exp.Between() if not node.args.get("symmetric"):
                value = self.typed(node.this)
                low = self._compared(value, ">=", self.typed(node.args["low"]))
                high = self._compared(value, "<=", self.typed(node.args["high"]))
                return Typed(f"({low.sql} AND {high.sql})", "BOOLEAN")
            case exp.In() if node.expressions and not node.args.get("query"):
                value = self.typed(node.this)
                parts = [self._compared(value, "=", self.typed(each)).sql for each in node.expressions]
                return Typed(f"({' OR '.join(parts)})", "BOOLEAN")
            case exp.Case() | exp.If() | exp.Coalesce() | exp.Nullif():
                return self._chosen(node)
            case exp.Cast(to=exp.DataType(this=exp.DType.DATE)):
                return self._as_day(self.typed(node.this))
            case exp.TsOrDsAdd() | exp.AddMonths() | exp.DateDiff():
                return self._of_days(node)
            case exp.Mod(expression=exp.Literal(is_string=False)) if node.expression.name.strip("0").isdigit():
                left, right = self.typed(node.this), self.typed(node.expression)
                if left.type in _INTEGERS:
                    return Typed(f"({left.sql} % {right.sql})", "BIGINT")
            case exp.Upper() | exp.Lower() | exp.Trim() | exp.Length() | exp.Concat() | exp.DPipe():
                return self._of_texts(node)
            case exp.RegexpLike() | exp.RegexpReplace():
                return self._of_pattern(node)
            case exp.Count() | exp.Min() | exp.Max() | exp.Sum():
                return self._aggregate(node)
            case exp.Window():
                return self._window(node)
        raise NotInDuckdbError

    def _column(self, node: exp.Column) -> Typed:
        if node.args.get("db") or isinstance(node.this, exp.Star):
            raise NotInDuckdbError
        alias, name = node.table.lower(), node.name.lower()
        found = [
            (own_name, columns[name])
            for key, (own_name, columns) in self._scope.sources.items()
            if alias in ("", key) and name in columns
        ]
        if len(found) != 1:
            raise NotInDuckdbError
        ((source, column),) = found
        return Typed(f'"{source}".{column.sql}', column.type)

    def _constant(self, node: exp.Expr) -> Typed:
        match node:
            case exp.Null():
                return Typed("NULL", "NULL")
            case exp.Boolean():
                return Typed(str(node.this).lower(), "BOOLEAN")
            case exp.Literal(is_string=True):
                day = node.name if _DAY.fullmatch(node.name) else ""
                return Typed(literal(node.name), "VARCHAR", day, bool(_PLAIN.fullmatch(node.name)))
            case exp.Literal() if node.name.isdigit() and len(node.name) <= 18:
                return Typed(node.name, "BIGINT")
            case exp.Literal() if re.fullmatch(r"\d{1,10}\.\d{1,10}", node.name):
                return Typed(node.name, "DECIMAL")
            case exp.Placeholder():
                value = self._scope.arguments.get(node.name)
                if isinstance(value, datetime):
                    return Typed(f"TIMESTAMPTZ {literal(value.isoformat())}", _INSTANT)
                if isinstance(value, str):
                    return Typed(literal(value), "VARCHAR")
        raise NotInDuckdbError

    def _compared(self, left: Typed, operator: str, right: Typed) -> Typed:
        left, right = _common(left, right)
        return Typed(f"({left.sql} {operator} {right.sql})", "BOOLEAN")

    def _calculated(self, left: Typed, operator: str, right: Typed) -> Typed:
        if left.type not in _INTEGERS or right.type not in _INTEGERS:
            raise NotInDuckdbError
        return Typed(f"(CAST({left.sql} AS HUGEINT) {operator} {right.sql})", "HUGEINT")

    def _chosen(self, node: exp.Expr) -> Typed:
        """Return a CASE, IF, COALESCE or NULLIF, all of whose values are of one type."""
        match node:
            case exp.Coalesce():
                values = [self.typed(each) for each in [node.this, *node.expressions]]
                return Typed(f"coalesce({', '.join(v.sql for v in values)})", _one_type(values))
            case exp.Nullif():
                left, right = self.typed(node.this), self.typed(node.expression)
                equal = self._compared(left, "=", right)
                return Typed(f"CASE WHEN {equal.sql} THEN NULL ELSE {left.sql} END", left.type)
            case exp.If():
                branches, default, operand = [node], node.args.get("false"), None
            case _:
                branches, default, operand = node.args["ifs"], node.args.get("default"), node.this
        texts, values = [], []
        for branch in branches:
            condition = self.typed(branch.this)
            if operand is not None:
                condition = self._compared(self.typed(operand), "=", condition)
            values.append(self.typed(branch.args["true"]))
            texts.append(f"WHEN {_require(condition, 'BOOLEAN').sql} THEN {values[-1].sql}")
        if default is not None:
            values.append(self.typed(default))
            texts.append(f"ELSE {values[-1].sql}")
        return Typed(f"CASE {' '.join(texts)} END", _one_type(values))

    def _as_day(self, value: Typed) -> Typed:
        if value.day:
            return Typed(f"DATE '{value.day}'", "DATE")
        if value.type not in ("DATE", "TIMESTAMP", _INSTANT):
            raise NotInDuckdbError
        return Typed(f"CAST({value.sql} AS DATE)", "DATE")  # both in UTC

    def _of_days(self, node: exp.Expr) -> Typed:
        """Return datediff, or date_add, date_sub or add_months of a day and a number that is written out."""
        if isinstance(node, exp.DateDiff):
            if node.args.get("unit"):
                raise NotInDuckdbError
            left, right = (
                side.this if isinstance(side, exp.TsOrDsToDate) else side for side in node.iter_expressions()
            )
            days = [_require(self.typed(side), "DATE").sql for side in (left, right)]
            return Typed(f"({' - '.join(days)})", "BIGINT")
        day, number, sign = _require(self.typed(node.this), "DATE"), node.expression, "+"
        if isinstance(number, exp.Mul) and number.expression == _MINUS_ONE:  # date_sub, as sqlglot parses it
            number, sign = number.this, "-"
        is_number = isinstance(number, exp.Literal) and number.name.isdigit() and len(number.name) < 7
        if not is_number or node.text("unit").upper() not in ("", "DAY"):
            raise NotInDuckdbError
        if isinstance(node, exp.AddMonths):
            return Typed(f"CAST({day.sql} + INTERVAL {number.name} MONTH AS DATE)", "DATE")
        return Typed(f"({day.sql} {sign} {number.name})", "DATE")

    def _of_texts(self, node: exp.Expr) -> Typed:
        if isinstance(node, exp.Concat | exp.DPipe):
            sides = node.expressions if isinstance(node, exp.Concat) else [node.this, node.expression]
            parts = [_require(self.typed(side), "VARCHAR") for side in sides]
            text = " || ".join(part.sql for part in parts)
            return Typed(f"({text})", "VARCHAR", is_plain=all(part.is_plain for part in parts))
        if isinstance(node, exp.Trim) and (node.args.get("position") or node.expression):
            raise NotInDuckdbError
        text, name = _plain(self.typed(node.this)).sql, type(node).__name__.lower()
        if isinstance(node, exp.Length):
            return Typed(f"length({text})", "BIGINT")
        return Typed(f"{name}({text})", "VARCHAR", is_plain=True)

    def _of_pattern(self, node: exp.Expr) -> Typed:
        """Return RLIKE or regexp_replace with a pattern that Java's and DuckDB's expressions read alike."""
        pattern = node.expression
        if not (isinstance(pattern, exp.Literal) and pattern.is_string and _is_shared_pattern(pattern.name)):
            raise NotInDuckdbError
        text = _plain(self.typed(node.this)).sql
        if isinstance(node, exp.RegexpLike):
            if node.args.get("flag"):
                raise NotInDuckdbError
            return Typed(f"regexp_matches({text}, {literal(pattern.name)})", "BOOLEAN")
        new = node.args.get("replacement")
        is_text = isinstance(new, exp.Literal) and new.is_string and not set(new.name) & set("$\\")
        if not is_text or any(node.args.get(name) for name in ("position", "occurrence", "modifiers")):
            raise NotInDuckdbError
        if "(" in pattern.name or re.match(pattern.name, ""):
            raise NotInDuckdbError
        assert new is not None
        replaced = f"regexp_replace({text}, {literal(pattern.name)}, {literal(new.name)}, 'g')"
        return Typed(replaced, "VARCHAR", is_plain=bool(_PLAIN.fullmatch(new.name)))

    def _aggregate(self, node: exp.Expr) -> Typed:
        name, argument = type(node).__name__.lower(), node.this
        if isinstance(node, exp.Count):
            if isinstance(argument, exp.Star | exp.Literal):
                return Typed("count(*)", "BIGINT")
            if isinstance(argument, exp.Distinct) and len(argument.expressions) == 1:
                return Typed(f"count(DISTINCT {_comparable(self.typed(argument.expressions[0])).sql})", "BIGINT")
            if node.expressions:
                raise NotInDuckdbError
            return Typed(f"count({self.typed(argument).sql})", "BIGINT")
        value = self.typed(argument)
        if isinstance(node, exp.Sum):
            if value.type not in _INTEGERS:
                raise NotInDuckdbError
            return Typed(f"sum({value.sql})", "HUGEINT")
        return Typed(f"{name}({_comparable(value).sql})", value.type)

    def _window(self, node: exp.Window) -> Typed:
        order = node.args.get("order")
        if node.args.get("spec") or node.args.get("alias") or node.args.get("first"):
            raise NotInDuckdbError
        parts = [_comparable(self.typed(each)).sql for each in node.args.get("partition_by") or ()]
        over = f"PARTITION BY {', '.join(parts)}" if parts else ""
        sorts = []
        for ordered in order.expressions if order else ():
            direction = "DESC" if ordered.args.get("desc") else "ASC"
            nulls = "FIRST" if ordered.args.get("nulls_first") else "LAST"
            sorts.append(f"{_comparable(self.typed(ordered.this)).sql} {direction} NULLS {nulls}")
        over += f" ORDER BY {', '.join(sorts)}" if sorts else ""
        if _STOP in over:  # DuckDB partitions and sorts by no expression that may stop it
            raise NotInDuckdbError
        called = self._window_function(node.this)
        return Typed(f"{called.sql} OVER ({over})", called.type)

    def _window_function(self, node: exp.Expr) -> Typed:
        if type(node) in _RANKS:
            return Typed(_RANKS[type(node)], "BIGINT")
        if isinstance(node, exp.Lag | exp.Lead):
            value, offset = self.typed(node.this), node.args.get("offset")
            is_plain = offset is None or (isinstance(offset, exp.Literal) and offset.name.isdigit())
            if not is_plain or node.args.get("default"):
                raise NotInDuckdbError
            steps = offset.name if offset is not None else "1"
            return Typed(f"{type(node).__name__.lower()}({value.sql}, {steps})", value.type)
        if isinstance(node, exp.Count | exp.Min | exp.Max | exp.Sum):
            return self._aggregate(node)
        raise NotInDuckdbError


def _require(value: Typed, kind: str) -> Typed:
    if value.type not in (kind, "NULL"):
        raise NotInDuckdbError
    return value


def _comparable(value: Typed) -> Typed:
    """Return a value whose order both have in common."""
    if not (value.is_number or value.type in _COMPARED_AS_THEY_ARE):
        raise NotInDuckdbError
    return value


def _plain(value: Typed) -> Typed:
    """Return a text that is printable ASCII, or that stops the query, so that Spark does the work."""
    _require(value, "VARCHAR")
    if value.is_plain:
        return value
    stop = f"{_STOP} || substring({value.sql}, 1, 0))"
    is_plain = f"regexp_full_match({value.sql}, '[ -~]*')"
    checked = f"CASE WHEN {value.sql} IS NULL THEN NULL WHEN {is_plain} THEN {value.sql} ELSE {stop} END"
    return Typed(f"({checked})", "VARCHAR", is_plain=True)


def _is_shared_pattern(pattern: str) -> bool:
    """Return whether Java and RE2 find the same with a regular expression in printable ASCII."""
    match = _SHARED_PATTERN.fullmatch(pattern)
    return match is not None and (match[1] is None or pattern.isascii())


def _common(left: Typed, right: Typed) -> tuple[Typed, Typed]:
    """Return two values that can be compared without a cast, or with one that both do alike."""
    if left.type == "DATE" and right.day:
        return left, Typed(f"DATE '{right.day}'", "DATE")
    if right.type == "DATE" and left.day:
        return Typed(f"DATE '{left.day}'", "DATE"), right
    is_null = "NULL" in (left.type, right.type)
    is_same = left.type == right.type and left.type in _COMPARED_AS_THEY_ARE
    if not (is_null or is_same or (left.is_number and right.is_number)):
        raise NotInDuckdbError
    return left, right


def _one_type(values: list[Typed]) -> str:
    kinds = {value.type for value in values} - {"NULL"}
    if len(kinds) > 1 and not kinds <= _INTEGERS:
        raise NotInDuckdbError
    return max(kinds, default="NULL", key=lambda kind: kind == "HUGEINT")
