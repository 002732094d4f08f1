"""Resolves the names in one query and derives the columns that it returns.

The walk follows Spark's rules: which clause can read which names, what `*` stands for, what a subquery can read of the
query around it. A name that only Spark can decide (of a table-valued function, a PIVOT, a view that is not declared) is
left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlglot import exp

from lakehouse.models.sql import functions
from lakehouse.models.sql.resolve import grouping, types, windows
from lakehouse.models.sql.resolve.expressions import Expressions
from lakehouse.models.sql.resolve.relation import UNKNOWN, OutputColumn, Relation
from lakehouse.models.sql.resolve.scope import Found, NotFound, Scope, Source

_GENERATORS = (exp.Explode, exp.ExplodeOuter, exp.Posexplode, exp.PosexplodeOuter, exp.Inline, exp.Stack)


class QueryResolver:
    """Resolves the queries of one model; `expressions` has their known properties, and the faults."""

    def __init__(self, model: str, relations: Mapping[str, Relation]) -> None:
        """Prepare the model.

        Args:
            model: The model's name, for messages.
            relations: The relations that it may read, by name.
        """
        self._relations = {name.lower(): relation for name, relation in relations.items()}
        self.expressions = Expressions(model, "reads", self.resolve)

    def resolve(
        self, query: exp.Expr, ctes: Mapping[str, Relation] | None = None, outer: Scope | None = None
    ) -> Relation:
        """Return the relation that a query gives.

        Args:
            query: The query.
            ctes: The CTEs that it can read, by name in lower case.
            outer: The scope around it, for a subquery.
        """
        ctes = self._with_ctes(query, ctes or {}, outer)
        if isinstance(query, exp.Subquery):
            relation = self.resolve(query.this, ctes, outer) if isinstance(query.this, exp.Query) else UNKNOWN
            return relation.renamed(self._alias_columns(query))
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, ctes, outer)
        if isinstance(query, exp.Select) and query.args.get("from_") is None and query.args.get("laterals"):
            return UNKNOWN
        if isinstance(query, exp.Select):
            return self._select(query, ctes, outer)
        return self._values(query) if isinstance(query, exp.Values) else UNKNOWN

    def _with_ctes(self, query: exp.Expr, ctes: Mapping[str, Relation], outer: Scope | None) -> Mapping[str, Relation]:
        with_clause = query.args.get("with_")
        if not with_clause:
            return ctes
        known = dict(ctes)
        for cte in with_clause.expressions:
            name, columns = cte.alias.lower(), self._alias_columns(cte)
            if with_clause.args.get("recursive"):
                first = cte.this
                while isinstance(first, exp.SetOperation):
                    first = first.this
                anchor = QueryResolver(self.expressions.model, self._relations).resolve(first, known, outer)
                untyped = tuple(OutputColumn(c.name, None, c.origins, c.revealed) for c in anchor.columns)
                known[name] = Relation(untyped, anchor.is_open).renamed(columns)
            known[name] = self.resolve(cte.this, known, outer).renamed(columns)
        return known

    @staticmethod
    def _alias_columns(node: exp.Expr) -> list[str]:
        alias = node.args.get("alias")
        return [column.name for column in alias.columns] if isinstance(alias, exp.TableAlias) else []

    def _set_operation(self, query: exp.SetOperation, ctes: Mapping[str, Relation], outer: Scope | None) -> Relation:
        left, right = self.resolve(query.this, ctes, outer), self.resolve(query.expression, ctes, outer)
        if left.is_open or right.is_open or query.args.get("by_name"):
            return UNKNOWN
        if len(left.columns) != len(right.columns):
            self.expressions.report(
                query.expression,
                f"has a {query.key.upper()} of {len(left.columns)} and {len(right.columns)} columns",
                "the same number of columns on both sides",
            )
            return Relation(left.columns, is_open=True)
        columns = []
        for ours, theirs in zip(left.columns, right.columns, strict=True):
            columns.append(
                OutputColumn(
                    ours.name,
                    types.common_type([ours.type, theirs.type]),
                    _merge(ours.origins, theirs.origins),
                    _merge(ours.revealed, theirs.revealed),
                    ours.collation or theirs.collation,
                    ours.is_local_time and theirs.is_local_time,
                )
            )
        is_distinct = bool(query.args.get("distinct"))
        keys = (frozenset(n.lower() for n in left.names),) if is_distinct and len(left.names) == len(columns) else ()
        relation = Relation(tuple(columns), keys=keys if isinstance(query, exp.Union) else (*left.keys, *keys))
        output = Scope([Source("", relation)])
        for part in (p for clause in ("order", "limit", "offset") if (p := query.args.get(clause)) is not None):
            for column in part.find_all(exp.Column):
                if not column.table and column.find_ancestor(exp.Query) is query:
                    self.expressions.resolve_column(column, (column.name,), output)
        windows.require_unique_limit(self.expressions, query, relation)
        return relation

    def _values(self, values: exp.Values) -> Relation:
        first = values.expressions[0] if values.expressions else None
        width = len(first.expressions) if isinstance(first, exp.Tuple) else 1
        return Relation(tuple(OutputColumn(f"col{at + 1}") for at in range(width))).renamed(self._alias_columns(values))

    def _select(self, select: exp.Select, ctes: Mapping[str, Relation], outer: Scope | None) -> Relation:
        if select.args.get("kind") or isinstance(next(iter(select.expressions), None), exp.QueryTransform):
            return UNKNOWN
        scope = Scope(outer=outer)
        star = self._from_clause(select, scope, ctes)
        self.expressions.visit(select.args.get("where"), scope, ctes, use_aliases=False)
        columns, is_open = self._select_list(select, scope, ctes, star)
        self.expressions.visit(select.args.get("group"), scope, ctes)
        scope.outputs = columns
        for clause in ("having", "qualify", "order", "sort", "cluster", "distribute"):
            self.expressions.visit(select.args.get(clause), scope, ctes, outputs_first=True)
        for window in select.args.get("windows") or []:
            self.expressions.visit(window, scope, ctes)
        groups = grouping.check(self.expressions, select, scope)
        relation = Relation(tuple(columns), is_open)
        keys = windows.check(self.expressions, select, scope, relation, groups)
        return Relation(relation.columns, is_open, keys)

    def _select_list(
        self, select: exp.Select, scope: Scope, ctes: Mapping[str, Relation], star: list[OutputColumn] | None
    ) -> tuple[list[OutputColumn], bool]:
        columns, is_open = [], False
        for projection in select.expressions:
            bare = projection.unalias()
            if isinstance(bare, exp.Star) or (isinstance(bare, exp.Column) and isinstance(bare.this, exp.Star)):
                expanded = self._expand_star(bare, scope, star)
                columns += expanded or []
                is_open |= expanded is None
                continue
            self.expressions.visit(bare, scope, ctes)
            made = self._output_columns(projection, bare)
            is_open |= made is None
            columns += made or []
            scope.aliases += [c for c in made or [] if isinstance(projection, exp.Alias | exp.Aliases)]
        return columns, is_open

    def _expand_star(self, node: exp.Expr, scope: Scope, star: list[OutputColumn] | None) -> list[OutputColumn] | None:
        """Return the columns that a star stands for; None if they are not known."""
        options = node.this if isinstance(node, exp.Column) else node
        if options.args.get("replace") or options.args.get("rename"):
            return None
        excepted = options.args.get("except_") or options.args.get("except") or []
        if isinstance(node, exp.Column):
            parts = [part.name for part in node.parts[:-1]]
            named = [
                (at, s.relation) for at, s in enumerate(scope.sources) if s.is_visible and s.alias == parts[-1].lower()
            ]
            if len(parts) == 1 and len(named) == 1:
                columns = None if named[0][1].is_open else _placed(named[0][1], named[0][0])
            elif named or any(s.relation.is_open for s in scope.sources):
                return None
            else:
                return self._expand_struct(node, tuple(parts), scope)
        else:
            columns = star
        if columns is None or any(isinstance(e, exp.Dot) or getattr(e, "table", "") for e in excepted):
            return None
        names = {column.name.lower() for column in columns if column.name}
        for unknown in (e for e in excepted if e.name.lower() not in names):
            self.expressions.report_missing(
                unknown, unknown.name, NotFound("which the star does not have", tuple(names))
            )
        dropped = {e.name.lower() for e in excepted}
        return [column for column in columns if not column.name or column.name.lower() not in dropped]

    def _expand_struct(self, node: exp.Column, parts: tuple[str, ...], scope: Scope) -> list[OutputColumn] | None:
        found = scope.resolve(parts)
        if isinstance(found, NotFound):
            self.expressions.report_missing(node, ".".join(parts), found)
        if not isinstance(found, Found) or found.type is None or found.type.this != types.DType.STRUCT:
            return None
        origins = found.column
        return [
            OutputColumn(member.name, member.args.get("kind"), origins.origins, origins.revealed)
            for member in found.type.expressions
            if isinstance(member, exp.ColumnDef)
        ]

    def _output_columns(self, projection: exp.Expr, bare: exp.Expr) -> list[OutputColumn] | None:
        """Return the columns of a selected expression; None if a generator makes columns that are not known."""
        if isinstance(bare, _GENERATORS) or (isinstance(bare, exp.Anonymous) and bare.name.lower() in _GENERATOR_NAMES):
            names = [projection.alias] if isinstance(projection, exp.Alias) else None
            names = [a.name for a in projection.expressions] if isinstance(projection, exp.Aliases) else names
            return [OutputColumn(name, None, *self.expressions.origins(bare)) for name in names] if names else None
        if isinstance(projection, exp.Aliases):
            return [OutputColumn(a.name, None, *self.expressions.origins(bare)) for a in projection.expressions]
        name, text = (projection.alias, "") if isinstance(projection, exp.Alias) else _own_name(bare)
        return [self.expressions.output_column(bare, name, text)]

    def _from_clause(self, select: exp.Select, scope: Scope, ctes: Mapping[str, Relation]) -> list[OutputColumn] | None:
        """Fill the scope with the FROM clause; return the columns that `*` stands for, None if they are not known."""
        from_clause = select.args.get("from_")
        if from_clause is None:
            return []
        star = self._add_source(from_clause.this, scope, ctes)
        for join in select.args.get("joins") or []:
            star = self._join(join, scope, ctes, star)
        for lateral in select.args.get("laterals") or []:
            added = self._add_source(lateral, scope, ctes)
            star = None if star is None or added is None else star + added
        return star

    def _join(
        self, join: exp.Join, scope: Scope, ctes: Mapping[str, Relation], star: list[OutputColumn] | None
    ) -> list[OutputColumn] | None:
        before = len(scope.sources)
        added = self._add_source(join.this, scope, ctes)
        is_filter = (join.kind or "").upper() in ("SEMI", "ANTI")
        shared = {column.name.lower() for column in join.args.get("using") or []}
        if (join.method or "").upper() == "NATURAL":
            here = {n.lower() for s in scope.sources[:before] if s.is_visible for n in s.relation.names}
            shared = {n.lower() for s in scope.sources[before:] for n in s.relation.names} & here
        for column in join.args.get("using") or []:
            self._resolve_using(column, scope, before)
        self.expressions.visit(join.args.get("on"), scope, ctes, use_aliases=False, in_on_clause=True)
        scope.joins.append((before, len(scope.sources), join))
        scope.merged |= shared
        for source in scope.sources[before:] if is_filter else ():
            source.is_visible = False
        if is_filter:
            return star
        if star is None or added is None:
            return None
        return [
            *(c for c in star if (c.name or "").lower() in shared),
            *(c for c in (*star, *added) if (c.name or "").lower() not in shared),
        ]

    def _resolve_using(self, column: exp.Expr, scope: Scope, before: int) -> None:
        for sources in (scope.sources[:before], scope.sources[before:]):
            visible = [s.relation for s in sources if s.is_visible]
            if not any(r.is_open or r.find(column.name) for r in visible):
                names = tuple(n for r in visible for n in r.names)
                self.expressions.report_missing(
                    column, column.name, NotFound("in USING, which one side does not have", names)
                )
                return

    def _add_source(self, node: exp.Expr, scope: Scope, ctes: Mapping[str, Relation]) -> list[OutputColumn] | None:
        """Add a relation of a FROM clause to a scope; return its columns, None if they are not known."""
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table) and not node.alias:
            return self._add_source(node.this, scope, ctes)  # (a JOIN b)
        relation, alias = self._source_relation(node, scope, ctes)
        position = len(scope.sources)
        scope.sources.append(Source(alias.lower(), relation))
        star = None if relation.is_open else _placed(relation, position)
        for join in node.args.get("joins") or [] if not isinstance(node, exp.Query) else []:
            star = self._join(join, scope, ctes, star)
        return star

    def _source_relation(self, node: exp.Expr, scope: Scope, ctes: Mapping[str, Relation]) -> tuple[Relation, str]:
        if node.args.get("pivots"):
            scope.sources.append(Source(node.alias_or_name.lower(), UNKNOWN))
            return UNKNOWN, node.args["pivots"][0].alias or ""
        columns = self._alias_columns(node)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            if node.db:
                relation = self._relations.get(f"{node.db}.{node.name}".lower(), UNKNOWN)
            else:
                relation = ctes.get(node.name.lower(), UNKNOWN)
            if node.args.get("version") or node.args.get("changes") or node.args.get("when"):
                relation = UNKNOWN
            return relation.renamed(columns), node.alias_or_name
        if isinstance(node, exp.Lateral):
            return self._lateral_relation(node, scope, ctes), node.alias
        if isinstance(node, exp.Query):
            return self.resolve(node, ctes, scope.outer), node.alias
        if isinstance(node, exp.Values):
            return self._values(node), node.alias
        if isinstance(node, exp.Table):
            self.expressions.visit(node.this, scope, ctes, use_aliases=False)
        return UNKNOWN.renamed(columns), node.alias_or_name

    def _lateral_relation(self, node: exp.Lateral, scope: Scope, ctes: Mapping[str, Relation]) -> Relation:
        columns = self._alias_columns(node)
        if isinstance(node.this, exp.Query):
            inside = Scope(list(scope.sources), set(scope.merged), outer=scope.outer)
            return self.resolve(node.this, ctes, inside).renamed(columns)
        self.expressions.visit(node.this, scope, ctes, use_aliases=False)
        origins = self.expressions.origins(node.this)
        if not columns:
            return UNKNOWN
        element: exp.DataType | None = None
        if len(columns) == 1 and isinstance(node.this, exp.Explode | exp.ExplodeOuter):
            container = self.expressions.type_of(node.this.this)
            is_array = container is not None and container.this == types.DType.ARRAY and container.expressions
            element = container.expressions[0] if container is not None and is_array else None
        # The position in the array identifies an element, together with the row that has the array.
        has_position = len(columns) == 2 and isinstance(node.this, exp.Posexplode | exp.PosexplodeOuter)
        keys = (frozenset([columns[0].lower()]),) if has_position else ()
        return Relation(tuple(OutputColumn(name, element, *origins) for name in columns), keys=keys)


_GENERATOR_NAMES = functions.words("inline_outer json_tuple variant_explode variant_explode_outer stack")


def _merge(*origins: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys(origin for each in origins for origin in each))


def _own_name(node: exp.Expr) -> tuple[str | None, str]:
    """Return the name that Spark gives an expression without AS, or None and the text that it would be."""
    if isinstance(node, exp.Column) and len(node.parts) <= 2:
        return str(node.name), ""
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Column) and len(node.this.parts) <= 2:
        return str(node.this.name), ""
    named_by_text = isinstance(node, exp.Binary | exp.Unary | exp.Func | exp.Window | exp.Between | exp.In)
    text = node.sql("spark") if named_by_text and not isinstance(node, exp.Dot | exp.Paren) else ""
    return (str(node.name), "") if isinstance(node, exp.Column) else (None, text)


def _placed(relation: Relation, position: int) -> list[OutputColumn]:
    return [replace(c, place=(position, c.name.lower()) if c.name else None) for c in relation.columns]
