"""Requires window functions to have a unique order where ties change their result, and finds unique keys of results.

The rules are those of `blocks/ties.py`; here they apply to every SELECT, also to those that are refreshed in full.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import is_grouping_id
from lakehouse.models.sql.blocks.block import Column, Condition, Source
from lakehouse.models.sql.blocks.join_conditions import parse_conditions
from lakehouse.models.sql.blocks.ties import (
    fixed_sources,
    function_name,
    is_affected_by_ties,
    minimal_unique_columns,
    window_function,
)
from lakehouse.models.sql.resolve.expressions import Expressions
from lakehouse.models.sql.resolve.grouping import Groups, signature
from lakehouse.models.sql.resolve.relation import Keys, Relation
from lakehouse.models.sql.resolve.scope import Scope

_BY_POSITION = {name.replace("_", "") for name in functions.BY_POSITION}
_COLLECTED = (exp.ArrayAgg, exp.ArrayUniqueAgg)
_VALUES_OF_A_ROW = (exp.FirstValue, exp.LastValue, exp.NthValue, exp.First, exp.Last)


def check(resolver: Expressions, select: exp.Select, scope: Scope, relation: Relation, groups: Groups) -> Keys:
    """Report windows that leave ties, and return the unique keys of a SELECT.

    Args:
        resolver: The resolver, which has visited the SELECT.
        select: The SELECT.
        scope: Its scope.
        relation: The columns that it returns.
        groups: Its grouping.
    """
    rows = _Rows(resolver, select, scope, groups)
    named = {w.name.lower(): w for w in select.args.get("windows") or []}
    for window in _own_windows(select):
        rows.require_unique_order(window, named)
    for projection in select.expressions:
        rows.note_values(projection)
    keys = _result_keys(rows, select, relation)
    if select.args.get("limit") is not None or select.args.get("offset") is not None:
        rows.note_limit(select, relation, keys)
        limit = select.args.get("limit")
        if isinstance(limit, exp.Limit) and limit.expression is not None and limit.expression.name == "1":
            return (frozenset(),)
    return keys


def require_unique_limit(resolver: Expressions, query: exp.SetOperation, relation: Relation) -> None:
    """Note the LIMIT of a UNION whose order may leave ties.

    Args:
        resolver: The resolver.
        query: The UNION.
        relation: The columns that it returns.
    """
    limit = query.args.get("limit") or query.args.get("offset")
    if limit is None:
        return
    order = query.args.get("order")
    names = {o.this.name.lower() for o in (order.expressions if order else []) if isinstance(o.this, exp.Column)}
    if not any(key <= names for key in (*relation.keys, frozenset(n.lower() for n in relation.names))):
        resolver.unordered_limits.append(limit)


class _Rows:
    """The rows of a SELECT before its windows: those of the FROM clause, or its groups."""

    def __init__(self, resolver: Expressions, select: exp.Select, scope: Scope, groups: Groups) -> None:
        self.resolver, self.select, self.scope, self.groups = resolver, select, scope, groups
        self.unique_keys = {_relation_name(at): source.relation.keys for at, source in enumerate(scope.sources)}
        self.sources = self._sources()
        self.aliases = {p.alias.lower(): p.this for p in select.expressions if isinstance(p, exp.Alias)}
        self.constants, self.equal = self._where()

    def _sources(self) -> list[Source]:
        joined = {at: (join, first) for first, end, join in self.scope.joins for at in range(first, end)}
        sources = []
        for at in range(len(self.scope.sources)):
            name = _relation_name(at)
            join, first = joined.get(at, (None, 0))
            if join is None:
                sources.append(Source(name, name, "first"))
                continue
            side, kind = (join.side or "").upper(), (join.kind or "").upper()
            join_type = "semi" if kind in ("SEMI", "ANTI") else {"": "inner", "LEFT": "left"}.get(side, "cross")
            conditions = self._conditions(join, at) if at == first else ()
            sources.append(Source(name, name, join_type, conditions=tuple(conditions)))
        return sources

    def _conditions(self, join: exp.Join, at: int) -> Iterable[Condition]:
        on = join.args.get("on")
        if on is not None:
            yield from parse_conditions(self._with_source_names(on), {_relation_name(n) for n in range(at + 1)})
        for column in join.args.get("using") or []:
            left = [n for n in range(at) if self.scope.sources[n].relation.find(column.name)]
            if len(left) == 1:
                here, there = (_relation_name(at), column.name.lower()), (_relation_name(left[0]), column.name.lower())
                yield Condition(here, "=", there)
                yield Condition(there, "=", here)

    def _with_source_names(self, node: exp.Expr) -> exp.Expr:
        """Return a copy whose columns are qualified with the names of their sources."""
        copy = node.copy()
        for original, column in list(zip(node.walk(), copy.walk(), strict=True)):
            place = self.resolver.place(original) if isinstance(original, exp.Column) else None
            if place is not None:
                new = exp.column(place[1], table=_relation_name(place[0]))
                if column is copy:
                    return new
                column.replace(new)
        return copy

    def _where(self) -> tuple[set[Column], list[tuple[Column, Column]]]:
        where = self.select.args.get("where")
        if where is None:
            return set(), []
        constants: set[Column] = set()
        for part in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            bare = part.unnest()
            if isinstance(bare, exp.EQ):
                for side, other in ((bare.this, bare.expression), (bare.expression, bare.this)):
                    if isinstance(other, exp.Literal) and (column := self.column(side)) is not None:
                        constants.add(column)
            elif isinstance(bare, exp.Is) and isinstance(bare.expression, exp.Null):
                constants |= {column} if (column := self.column(bare.this)) is not None else set()
        names = {_relation_name(at) for at in range(len(self.sources))}
        conditions = parse_conditions(self._with_source_names(where.this), names)
        return constants, [(c.column, c.other) for c in conditions if c.operator == "=" and not c.days]

    def column(self, node: exp.Expr) -> Column | None:
        """Return the source's column that an expression is, also by an alias of the SELECT list."""
        found = self.resolver.found(node)
        if found is not None and found.source is None and not found.fields and node.name.lower() in self.aliases:
            node = self.aliases[node.name.lower()]
        place = self.resolver.place(node)
        return (_relation_name(place[0]), place[1]) if place else None

    def fixed_columns(self, expressions: Iterable[exp.Expr]) -> set[Column]:
        """Return the columns whose values are the same in rows with the same values of these expressions."""
        fixed = {column for e in expressions if (column := self.column(e)) is not None} | self.constants
        while implied := {other for column, other in self.equal if column in fixed} - fixed:
            fixed |= implied
        return fixed

    def missing_columns(self, expressions: list[exp.Expr]) -> list[str] | None:
        """Return the columns that the order of rows lacks; None if it is unique."""
        return self._missing_groups(expressions) if self.groups.is_aggregated else self._missing_of_rows(expressions)

    def _missing_of_rows(self, expressions: list[exp.Expr]) -> list[str] | None:
        fixed = self.fixed_columns(expressions)
        known = fixed_sources(self.sources, self.unique_keys, fixed)
        # Of a relation whose columns are not known, nobody can tell.
        known |= {_relation_name(at) for at, s in enumerate(self.scope.sources) if s.relation.is_open}
        names = {s.alias for s in self.sources if s.join_type != "semi"}
        if known >= names or self._reads_only(fixed, known):
            return None
        missing = []
        for at, source in enumerate(self.scope.sources):
            name = _relation_name(at)
            if name not in names or name in known:
                continue
            prefix = f"{source.alias}." if source.alias else ""
            keys = [k for k in source.relation.keys if k]
            columns = sorted(next((key for key in keys if len(key) == min(map(len, keys))), ()))
            by_lower = {n.lower(): n for n in source.relation.names}
            unfixed = [f"{prefix}{by_lower.get(c, c)}" for c in columns if (name, c) not in fixed]
            missing += unfixed or [f"columns that identify a row of {source.alias or 'the derived table'}"]
        return missing

    def _missing_groups(self, expressions: list[exp.Expr]) -> list[str] | None:
        if self.groups.expressions is None:
            return None  # GROUP BY ALL and the like
        given = {signature(self.resolver, self._without_alias(e)) for e in expressions}
        missing = [e.sql("spark") for e in self.groups.expressions if signature(self.resolver, e) not in given]
        if self.groups.has_totals and not any(is_grouping_id(self._without_alias(e)) for e in expressions):
            missing.append("GROUPING_ID()")
        return missing or None

    def _without_alias(self, node: exp.Expr) -> exp.Expr:
        found = self.resolver.found(node)
        is_alias = found is not None and found.source is None and not found.fields
        return self.aliases.get(node.name.lower(), node) if is_alias else node

    def _reads_only(self, fixed: set[Column], known: set[str]) -> bool:
        """Return whether the SELECT reads no other columns: then tied rows are equal, in any order."""
        clauses = [self.select.args.get(name) for name in ("having", "qualify", "order")]
        for part in [*self.select.expressions, *filter(None, clauses)]:
            if part.is_star:
                return False
            for column in part.find_all(exp.Column):
                found = self.resolver.found(column)
                if found is None:
                    return False
                place = self._place(column)
                if found.source is not None and not found.is_outer and place not in fixed and place[0] not in known:
                    return False
        return True

    def _place(self, column: exp.Column) -> Column:
        found = self.resolver.found(column)
        assert found is not None
        return _relation_name(found.source or 0), (found.column.name or "").lower()

    def require_unique_order(self, window: exp.Window, named: dict[str, exp.Window]) -> None:
        """Report a window whose order leaves ties that change its result."""
        partition, order = list(window.args.get("partition_by") or []), window.args.get("order")
        spec, base, others = window.args.get("spec"), window, dict(named)
        while (name := base.args.get("alias")) is not None and name.name.lower() in others:
            base = others.pop(name.name.lower())
            partition = partition or list(base.args.get("partition_by") or [])
            order, spec = order or base.args.get("order"), spec or base.args.get("spec")
        called = window_function(window)
        counts_rows = spec is not None and (spec.args.get("kind") or "").upper() == "ROWS"
        if not is_affected_by_ties(called, spec) or not (counts_rows or function_name(called) in _BY_POSITION):
            return
        ordered = [o.this for o in (order.expressions if order else [])]
        expressions = [*partition, *ordered]
        if isinstance(called, _VALUES_OF_A_ROW) and not counts_rows and order is not None:
            given = {signature(self.resolver, e) for e in expressions}
            if signature(self.resolver, called.this) in given:
                return
        missing = self.missing_columns(expressions)
        if missing is None:
            return
        name = called.name if isinstance(called, exp.Anonymous) else called.sql_name()  # type: ignore[attr-defined]
        self.resolver.report(
            window,
            f"uses {name.upper()}() over rows that its ORDER BY may leave tied: the same inputs would not always give "
            "the same rows",
            "an order that is unique in each partition",
            f"add {', '.join(missing)} to its ORDER BY",
        )

    def note_values(self, projection: exp.Expr) -> None:
        """Note the aggregates of a projection whose value depends on the order of rows."""
        selected = projection.unalias()
        for call in selected.find_all(exp.ArgMax, exp.ArgMin, exp.Mode, *_COLLECTED, exp.GroupConcat):
            if isinstance(call.parent, exp.Window) or call.find_ancestor(exp.Select) is not self.select:
                continue
            if isinstance(call, _COLLECTED):  # inside of another function, the order may not matter
                if call is selected:
                    self._note_value(call, f"array_sort({call.sql('spark', normalize_functions='lower')})")
            elif isinstance(call, exp.Mode):  # Spark's `true` asks for the least of the most frequent values
                if call.this and not call.args.get("deterministic"):
                    self._note_value(call, f"mode({call.this.sql('spark')}, true)")
            elif isinstance(call, exp.GroupConcat):
                if not isinstance(call.this, exp.Order):
                    value = call.this.sql("spark")
                    self._note_value(call, f"listagg(...) WITHIN GROUP (ORDER BY {value})")
            elif isinstance(call, exp.ArgMax | exp.ArgMin) and self._may_tie(call):
                by, value = call.expression.sql("spark"), call.this.sql("spark")
                field = call.this.name if isinstance(call.this, exp.Column) else "x"
                alias = value if isinstance(call.this, exp.Column) else f"{value} AS x"
                if isinstance(call, exp.ArgMax):
                    self._note_value(call, f"MAX(STRUCT({by}, {alias})).{field}")
                else:  # a struct with NULL in front would be the least
                    self._note_value(call, f"MIN(STRUCT({by}, {alias})).{field}, of rows whose {by} is not NULL")

    def _note_value(self, call: exp.Expr, instead: str) -> None:
        self.resolver.unordered_values.append((call, instead))

    def _may_tie(self, call: exp.ArgMax | exp.ArgMin) -> bool:
        """Return whether two rows of a group may be the greatest, or the least, with different values."""
        by = call.expression
        groups = () if self.groups.has_totals else self.groups.expressions
        if groups is None:
            return False
        parts = [p.expression if isinstance(p, exp.PropertyEQ) else p for p in by.expressions]
        ordered = parts if isinstance(by, exp.Struct) else [by]
        if signature(self.resolver, call.this) in {signature(self.resolver, e) for e in ordered}:
            return False
        return self._missing_of_rows([*groups, *ordered]) is not None

    def note_limit(self, select: exp.Select, relation: Relation, keys: Keys) -> None:
        """Note a LIMIT whose order may leave ties."""
        order = select.args.get("order")
        ordered = [o.this for o in (order.expressions if order else [])]
        names = {e.name.lower() for e in ordered if isinstance(e, exp.Column)}
        if any(key <= names for key in keys):
            return
        all_names = frozenset(n.lower() for n in relation.names)
        if not relation.has_unknown_names and all_names <= names:
            return
        if select.args.get("distinct") or self.missing_columns(ordered) is not None:
            self.resolver.unordered_limits.append(select.args.get("limit") or select.args["offset"])


def _relation_name(position: int) -> str:
    return f"source{position}"


def _own_windows(select: exp.Select) -> list[exp.Window]:
    parts = [*select.expressions, *filter(None, [select.args.get("order"), select.args.get("qualify")])]
    found: list[exp.Window] = []

    def gather(node: exp.Expr) -> None:
        if isinstance(node, exp.Window):
            found.append(node)
        for child in node.iter_expressions():
            if not isinstance(child, exp.Query):
                gather(child)

    for part in parts:
        gather(part)
    return found


def _result_keys(rows: _Rows, select: exp.Select, relation: Relation) -> Keys:
    if relation.is_open:
        return ()
    all_names = frozenset(name.lower() for name in relation.names)
    distinct = (all_names,) if select.args.get("distinct") and not relation.has_unknown_names else ()
    groups = rows.groups
    if groups.is_aggregated:
        if groups.expressions is None:
            return distinct
        outputs = {signature(rows.resolver, p.unalias()): p.alias_or_name.lower() for p in select.expressions}
        names = [outputs.get(signature(rows.resolver, e), "") for e in groups.expressions]
        if groups.has_totals:
            names += [p.alias_or_name.lower() for p in select.expressions if is_grouping_id(p.unalias())][:1] or [""]
        return distinct if "" in names else (frozenset(names), *distinct)
    if any(isinstance(p.unalias(), exp.UDTF | exp.Explode | exp.Inline) for p in select.expressions):
        return distinct
    plain = {
        column.name.lower(): (_relation_name(column.place[0]), column.place[1])
        for column in relation.columns
        if column.name and column.place
    }
    constants = rows.fixed_columns([])
    unique = minimal_unique_columns(plain, rows.sources, rows.unique_keys, constants)
    numbered = [
        frozenset([projection.alias.lower(), *(name for name, place in plain.items() if place in partition)])
        for projection in select.expressions
        if isinstance(projection, exp.Alias)
        and isinstance(projection.this, exp.Window)
        and isinstance(projection.this.this, exp.RowNumber)
        and not projection.this.args.get("alias")
        for partition in [{rows.column(e) for e in projection.this.args.get("partition_by") or []}]
        if partition <= set(plain.values())
    ]
    return (*((unique,) if unique is not None else ()), *numbered, *distinct)
