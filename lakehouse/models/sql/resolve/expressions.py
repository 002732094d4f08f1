"""Resolves the names in expressions, and derives their types, origins and collations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.faults import Fault, node_offset
from lakehouse.models.sql.resolve import types
from lakehouse.models.sql.resolve.relation import UNKNOWN, OutputColumn, Relation
from lakehouse.models.sql.resolve.scope import Found, NotFound, Scope, Source

Ctes = Mapping[str, Relation]
"""The CTEs that a query can read, by name in lower case."""

ResolveQuery = Callable[[exp.Expr, Ctes, Scope], Relation]
"""Returns the relation that a subquery gives, with the CTEs and the scope around it."""

_COUNTS = (exp.Count, exp.CountIf, exp.ApproxDistinct)
_LOCAL_TIME = (exp.AtTimeZone, exp.ConvertTimezone)
_LOCAL_TIME_NAMES = ("from_utc_timestamp", "convert_timezone")
_UNITS = functions.words(
    """
    year years quarter month months week weeks day days dayofyear hour hours minute minutes second seconds
    millisecond microsecond
    """
)
_SHORT_UNITS = ("minute", "second", "millisecond", "microsecond", "epoch")
_MOST_SHOWN = 12
_DAY_PARTS = (
    *(exp.TimestampTrunc, exp.DateTrunc, exp.Year, exp.Quarter, exp.Month, exp.Week, exp.WeekOfYear, exp.Day),
    *(exp.DayOfMonth, exp.DayOfWeek, exp.DayOfYear, exp.Dayname, exp.Hour, exp.Extract, exp.LastDay),
)
_DAY_NAMES = functions.words("date_part datepart weekday monthname dayname date_format")


class Expressions:
    """The expressions of one model, with the known meanings of the names in them.

    Attributes:
        model: The model's name, or another subject for messages.
        faults: The faults that were found.
        day_expressions: Each expression that takes the day or the hour of an instant in UTC, with its column.
        unordered_limits: Each LIMIT in an order that may leave ties.
        unordered_values: Each aggregate whose value depends on the order of rows, with what to write instead.
        is_complete: Whether every name could be resolved.
    """

    def __init__(self, model: str, verb: str, resolve_query: ResolveQuery) -> None:
        """Prepare the model.

        Args:
            model: The model's name, or another subject for messages.
            verb: The verb that joins the subject and a column, for messages.
            resolve_query: Resolves a subquery.
        """
        self.model, self._verb, self._resolve_query = model, verb, resolve_query
        self.faults: list[Fault] = []
        self.day_expressions: list[tuple[exp.Expr, exp.Column]] = []
        self.unordered_limits: list[exp.Expr] = []
        self.unordered_values: list[tuple[exp.Expr, str]] = []
        self.is_complete = True
        self._found: dict[int, Found] = {}
        self._subqueries: dict[int, Relation] = {}

    def found(self, column: exp.Expr) -> Found | None:
        """Return the column that a name means; None if that is not known."""
        return self._found.get(id(column))

    def type_of(self, node: exp.Expr) -> exp.DataType | None:
        """Return the type of an expression; None if it is not certain."""

        def leaf_type(leaf: exp.Expr) -> exp.DataType | None:
            if isinstance(leaf, exp.Column):
                found = self.found(leaf)
                return found.type if found else None
            relation = self._subqueries.get(id(leaf))
            return relation.columns[0].type if relation and len(relation.columns) == 1 else None

        return types.expression_type(node, leaf_type)

    def collation_of(self, node: exp.Expr) -> str:
        """Return the collation of an expression's text, if it is another than UTF8_BINARY."""

        def column_collation(column: exp.Column) -> str:
            found = self.found(column)
            return found.column.collation if found and not found.fields else ""

        return next(types.walk_collations(node, column_collation), "")

    def output_column(self, node: exp.Expr, name: str | None, text: str) -> OutputColumn:
        """Return the column that a selected expression makes.

        Args:
            node: The expression, without its alias.
            name: The column's name; None if only Spark knows it.
            text: The expression's text, if it has no name.
        """
        origins, revealed = self.origins(node)
        return OutputColumn(
            name,
            self.type_of(node),
            origins,
            revealed,
            self.collation_of(node),
            self._is_local_time(node),
            text,
            self.place(node),
        )

    def place(self, node: exp.Expr) -> tuple[int, str] | None:
        """Return the source and the column, in lower case, that an expression is; None if it is not a plain column.

        Args:
            node: The expression.
        """
        found = self.found(node)
        if found is None or found.source is None or found.is_outer or found.fields or not found.column.name:
            return None
        return found.source, found.column.name.lower()

    def _is_local_time(self, node: exp.Expr) -> bool:
        if isinstance(node, _LOCAL_TIME) or (
            isinstance(node, exp.Anonymous) and node.name.lower() in _LOCAL_TIME_NAMES
        ):
            return True
        if node.find(exp.Placeholder) or any(
            self._is_shift(part) for part in node.find_all(*_LOCAL_TIME, exp.Anonymous)
        ):
            return True
        columns = [found for column in node.find_all(exp.Column) if (found := self.found(column))]
        return any(found.column.is_local_time for found in columns)

    @staticmethod
    def _is_shift(node: exp.Expr) -> bool:
        return isinstance(node, _LOCAL_TIME) or node.name.lower() in _LOCAL_TIME_NAMES

    def origins(self, node: exp.Expr) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
        """Return the origins of an expression's value, and those that are not only counted.

        Args:
            node: The expression.
        """
        origins: dict[tuple[str, str], None] = {}
        revealed: dict[tuple[str, str], None] = {}

        def gather(part: exp.Expr, is_counted: bool) -> None:
            column: OutputColumn | None = None
            if isinstance(part, exp.Query):
                for column in self._subqueries.get(id(part), UNKNOWN).columns:
                    origins.update(dict.fromkeys(column.origins))
                    revealed.update(dict.fromkeys(() if is_counted else column.revealed))
                return
            if (found := self.found(part)) is not None:
                origins.update(dict.fromkeys(found.column.origins))
                revealed.update(dict.fromkeys(() if is_counted else found.column.revealed))
            for child in part.iter_expressions():
                gather(child, is_counted or isinstance(part, _COUNTS))

        gather(node, False)
        return tuple(origins), tuple(revealed)

    def report(self, node: exp.Expr, found: str, expected: str = "", next_step: str = "") -> None:
        """Add a fault.

        Args:
            node: The expression that has it.
            found: The finding, without the model's name.
            expected: The correct form.
            next_step: The change to make.
        """
        self.faults.append(Fault(f"{self.model} {found}", expected, "", next_step, node_offset(node)))

    def report_missing(self, node: exp.Expr, name: str, missing: NotFound) -> None:
        shown = missing.known[:_MOST_SHOWN]
        more = ", ..." if len(missing.known) > len(shown) else ""
        expected = f"one of {', '.join(shown)}{more}" if shown else "the table's alias before the column"
        self.report(node, f"{self._verb} {name}, {missing.reason}", expected)

    def visit(
        self,
        node: exp.Expr | None,
        scope: Scope,
        ctes: Mapping[str, Relation],
        arguments: frozenset[str] = frozenset(),
        **rules: bool,
    ) -> None:
        """Resolve the names in an expression.

        Args:
            node: The expression, or a clause.
            scope: The names that it can read.
            ctes: The CTEs that its subqueries can read.
            arguments: The arguments of the lambda functions around it.
            rules: The arguments of `Scope.resolve`.
        """
        if node is None or isinstance(node, exp.DataType | exp.Star | exp.Hint):
            return
        if isinstance(node, exp.Query):
            self._subqueries[id(node)] = self._resolve_query(node, ctes, self._outer_for_subquery(scope, arguments))
            if isinstance(node, exp.Subquery):
                self._subqueries[id(node.this)] = self._subqueries[id(node)]
            return
        if isinstance(node, exp.Column):
            parts = tuple(part.name for part in node.parts)
            if parts[0].lower() not in arguments and not isinstance(node.this, exp.Star):
                self.resolve_column(node, parts, scope, **rules)
            return
        if isinstance(node, exp.Dot) and self._resolve_dots(node, scope, ctes, arguments, rules):
            return
        if isinstance(node, exp.Lambda):
            arguments |= {argument.name.lower() for argument in node.expressions}
        for child in node.iter_expressions():
            self.visit(child, scope, ctes, arguments, **rules)
        self._note_day(node)

    @staticmethod
    def _outer_for_subquery(scope: Scope, arguments: frozenset[str]) -> Scope:
        if not arguments:
            return scope
        names = Relation(tuple(OutputColumn(argument) for argument in arguments))
        return Scope([Source("", names)], outer=scope)

    def _resolve_dots(
        self,
        node: exp.Dot,
        scope: Scope,
        ctes: Mapping[str, Relation],
        arguments: frozenset[str],
        rules: dict[str, bool],
    ) -> bool:
        """Resolve a name of more than four parts, or the fields of an expression; return whether it is done."""
        fields: list[str] = []
        base: exp.Expr = node
        while isinstance(base, exp.Dot):
            if not isinstance(base.expression, exp.Identifier):
                return False
            fields.insert(0, base.expression.name)
            base = base.this
        if isinstance(base, exp.Identifier):  # the argument of a lambda function
            return True
        self.visit(base, scope, ctes, arguments, **rules)
        _, error = types.select_fields(self.type_of(base), tuple(fields))
        if error:
            self.report(node, f"{self._verb} {node.sql('spark')}, but {error}", "a field of a struct")
        return True

    def resolve_column(self, node: exp.Column, parts: tuple[str, ...], scope: Scope, **rules: bool) -> None:
        found = scope.resolve(parts, **rules)
        if isinstance(found, Found):
            self._found[id(node)] = found
            if found.error:
                self.report(node, f"{self._verb} {'.'.join(parts)}, but {found.error}", "a field of a struct")
        elif found is None:
            self.is_complete = False
        elif not self._is_unit(node):
            self.report_missing(node, ".".join(parts), found)

    @staticmethod
    def _is_unit(node: exp.Column) -> bool:
        """Return whether a name can be a unit of time, which sqlglot may take for a column: `f(MONTH, a, b)`."""
        return not node.table and node.name.lower() in _UNITS and isinstance(node.parent, exp.Func)

    def _note_day(self, node: exp.Expr) -> None:
        """Note an expression that takes the day, or a part of the time, of a TIMESTAMP that is in UTC."""
        if not is_day_expression(node) or node.find(exp.Placeholder) or self._is_local_time(node):
            return
        for column in node.find_all(exp.Column):
            found = self.found(column)
            if found and found.type is not None and found.type.this in types.TIMESTAMPS:
                self.day_expressions.append((node, column))
                return


def is_day_expression(node: exp.Expr) -> bool:
    """Return whether an expression depends on where a day or an hour begins.

    Args:
        node: The expression.
    """
    if isinstance(node, exp.Cast):
        return bool(node.to.this == types.DType.DATE)
    unit = node.this if isinstance(node, exp.Extract) else node.args.get("unit")
    if isinstance(unit, exp.Expr) and unit.name.lower().rstrip("s") in _SHORT_UNITS:
        return False  # the same in every zone
    if isinstance(node, exp.TsOrDsToDate):
        return not isinstance(node.parent, _DAY_PARTS)  # sqlglot adds it to DAY(x) and the like
    if isinstance(node, exp.TimeToStr):
        return True
    return isinstance(node, _DAY_PARTS) or (isinstance(node, exp.Anonymous) and node.name.lower() in _DAY_NAMES)
