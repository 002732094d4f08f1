"""Reading a model's SELECTs: each beside its text, from FROM to the touch key."""

from __future__ import annotations

from collections.abc import Mapping

import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import Block, Column, KeyPart, NotIncremental, Source
from lakehouse.models.sql.blocks.clauses import Clauses, split_selects
from lakehouse.models.sql.blocks.group import grouping_expressions, grouping_sets, has_totals, is_grouping_id
from lakehouse.models.sql.blocks.join_conditions import parse_conditions
from lakehouse.models.sql.blocks.ties import (
    UniqueKeys,
    find_windows,
    partition_by,
    require_unique_order,
    unique_columns,
)
from lakehouse.models.sql.blocks.unsupported import require_supported_clauses, require_supported_functions


def parse_blocks(
    query: exp.Expr, sql: str, tokens: list[Token], keys: tuple[str, ...], unique_keys: Mapping[str, tuple[str, ...]]
) -> tuple[Block, ...]:
    """The blocks of a model.

    Args:
        keys: the model's.
        apart: by relation, the columns that tell its rows apart, as far as known.

    Raises:
        Whole: it cannot be kept up to date by what changed.
    """
    if not isinstance(query, exp.Select):
        raise NotIncremental(
            "a set operation at the top (UNION, EXCEPT, INTERSECT)", "write a model for each part of it"
        )
    parts = split_selects(sql, tokens)
    ctes: list[exp.CTE] = query.args["with_"].expressions if query.args.get("with_") else []
    if query.args.get("with_") and query.args["with_"].args.get("recursive"):
        raise NotIncremental("WITH RECURSIVE")
    if [name for name, _ in parts] != [*(cte.alias.lower() for cte in ctes), ""]:
        raise NotIncremental("WITH with a list of columns", "name them in its SELECT")
    selects = [*(cte.this for cte in ctes), query]
    known: dict[str, frozenset[str]] = {r: frozenset(k.lower() for k in found) for r, found in unique_keys.items()}
    found: list[Block] = []
    for (name, clauses), select in zip(parts, selects, strict=True):
        reader = _SelectParser(name, select, clauses, known)
        found.append(block := reader.parse(keys if not name else ()))
        if told := unique_columns(block, known):
            known[name] = told
    return tuple(b for b in found if not b.name or b.name in _used_ctes(found))


def _used_ctes(blocks: list[Block]) -> set[str]:
    used: set[str] = set()
    for block in reversed(blocks):
        if not block.name or block.name in used:
            used |= {source.relation for source in block.sources}
    return used


_JOIN_TYPES = {("", ""): "inner", ("", "INNER"): "inner", ("", "CROSS"): "cross", ("LEFT", ""): "left"}
_JOIN_TYPES |= {("LEFT", "OUTER"): "left", ("LEFT", "SEMI"): "semi", ("LEFT", "ANTI"): "anti"}
_JOIN_TYPES |= {("", "SEMI"): "semi", ("", "ANTI"): "anti"}


class _SelectParser:
    """One SELECT being read: its tree beside its text."""

    def __init__(self, name: str, select: exp.Expr, clauses: Clauses, known: UniqueKeys) -> None:
        if not isinstance(select, exp.Select):
            raise NotIncremental("UNION, EXCEPT or INTERSECT", "write a model for each part of it")
        self.grouping_sets: tuple[tuple[int, ...], ...] = ()
        self.name, self.select, self.clauses, self.unique_keys = name, select, clauses, known

    def parse(self, keys: tuple[str, ...]) -> Block:
        require_supported_clauses(self.select, bool(self.name))
        self.sources = self._parse_sources()
        self.aliases = {source.alias.lower(): source for source in self.sources}
        self.items = self._select_expressions()
        require_supported_functions(self.select, self.clauses.calls)
        self.plain_columns = {n.lower(): c for n, (e, _) in self.items.items() if (c := self.source_column(e))}
        kind, key = self._refresh_key(keys)
        group = self.select.args.get("group")
        return Block(
            name=self.name,
            select=self.clauses.select,
            sources=self.sources,
            where=self.clauses.where,
            after_where=self.clauses.after_where,
            totals=self.clauses.group_by if group and has_totals(group) else "",
            kind=kind,
            refresh_key=key,
            grouping_sets=self.grouping_sets,
            plain_columns=self.plain_columns,
            unread_aliases=self._unread_aliases(),
            sums=tuple((call.name, call.argument) for call in self.clauses.calls if call.name in functions.SUMS),
        )

    # --- FROM -----------------------------------------------------------------------------------------------------

    def _parse_sources(self) -> tuple[Source, ...]:
        origin = self.select.args.get("from_")
        joins: list[exp.Join] = self.select.args.get("joins") or []
        if origin is None:
            raise NotIncremental("a SELECT without FROM", "read a table")
        if len(self.clauses.join_conditions) != len(joins):
            raise NotIncremental("a comma between tables", "JOIN ... ON, or CROSS JOIN")
        found = [Source(_table_alias(origin.this), _relation_name(origin.this), "first")]
        for join, on in zip(joins, self.clauses.join_conditions, strict=True):
            found.append(self._parse_join(join, on, {s.alias.lower() for s in found}))
        if len({s.alias.lower() for s in found}) < len(found):
            raise NotIncremental("two tables of one name", "give each an alias of its own")
        return tuple(found)

    def _parse_join(self, join: exp.Join, on: str, earlier_aliases: set[str]) -> Source:
        side = _JOIN_TYPES.get(((join.side or "").upper(), (join.kind or "").upper()))
        if side is None or join.args.get("method") or join.args.get("using"):
            words = " ".join(w for w in (join.method, join.side, join.kind, "JOIN") if w)
            using = " USING" if join.args.get("using") else ""
            raise NotIncremental(
                f"{words.upper()}{using}", "LEFT JOIN ... ON" if not using else "write the condition out: ON"
            )
        condition = join.args.get("on")
        if (condition is None) != (side == "cross") or bool(on) != (condition is not None):
            raise NotIncremental("a JOIN without ON", "JOIN ... ON, or CROSS JOIN")
        alias = _table_alias(join.this)
        tests = tuple(parse_conditions(condition, earlier_aliases | {alias.lower()})) if condition is not None else ()
        return Source(alias, _relation_name(join.this), side, on, tests)

    def _unread_aliases(self) -> frozenset[str]:
        """Aliases that are read by their own ON alone; none, where a column does not say whose it is."""
        used: set[str] = set()
        joins: list[exp.Join] = self.select.args.get("joins") or []
        own = {id(j.args.get("on")): _table_alias(j.this).lower() for j in joins}
        parts = [
            self.select.args.get("where"),
            *(e for e, _ in self.items.values()),
            *(j.args.get("on") for j in joins),
        ]
        if self.select.args.get("group"):
            parts.append(self.select.args["group"])
        if self.select.is_star:
            return frozenset()
        for part in filter(None, parts):
            for column in part.find_all(exp.Column):
                whose = (column.args.get("db") or column.args.get("table")) if column.args.get("table") else None
                alias = whose.name.lower() if whose is not None else ""
                if alias not in self.aliases:
                    return frozenset()
                if alias != own.get(id(part)):
                    used.add(alias)
        return frozenset(set(self.aliases) - used)

    def source_column(self, bare: exp.Expr) -> Column | None:
        """The source's column that an expression is, if it surely is one."""
        if not isinstance(bare, exp.Column) or bare.args.get("db") or isinstance(bare.this, exp.Star):
            return None
        alias = bare.table.lower() or (next(iter(self.aliases)) if len(self.aliases) == 1 else "")
        return (alias, bare.name.lower()) if alias in self.aliases else None

    # --- SELECT ---------------------------------------------------------------------------------------------------

    def _select_expressions(self) -> dict[str, tuple[exp.Expr, str]]:
        """The selected expressions by name, each with its text without the name."""
        texts = self.clauses.items
        if len(texts) != len(self.select.expressions):
            raise NotIncremental("a SELECT list that could not be taken apart")
        found: dict[str, tuple[exp.Expr, str]] = {}
        for text, projection in zip(texts, self.select.expressions, strict=True):
            if projection.is_star:
                continue
            bare = projection.unalias()
            body = text.expression if isinstance(projection, exp.Alias) else text.text
            if sqlglot.parse_one(body, read="spark") != bare:
                raise NotIncremental(
                    f"{body}, which could not be taken apart from its name", "write AS before the name"
                )
            if not isinstance(projection, exp.Alias | exp.Column):
                raise NotIncremental(f"{body} without a name", "name it: AS ...")
            if projection.alias_or_name.lower() in (n.lower() for n in found):
                raise NotIncremental(f"two columns named {projection.alias_or_name}", "name them apart")
            found[projection.alias_or_name] = (bare, body)
        return found

    def _refresh_key(self, keys: tuple[str, ...]) -> tuple[str, tuple[KeyPart, ...]]:
        if group := self.select.args.get("group"):
            found = self._group_key(group)
            kind = "grouped"
        elif find_windows(self.select):
            found, kind = self._partition_key(), "partitioned"
        else:
            found = [self._output_key(name) for name in keys or ()]
            kind = "grouped" if self.select.args.get("distinct") else "rows"
            if kind == "grouped" and not keys:
                if self.select.is_star:
                    raise NotIncremental("SELECT DISTINCT *", "name the columns")
                found = [KeyPart(text, name, self.source_column(e)) for name, (e, text) in self.items.items()]
        for key in found:
            self._require_no_select_names(key)
        if not self.name and (apart := [k for k in found if k.output.lower() not in {n.lower() for n in keys}]):
            missing = apart[0].output or apart[0].sql
            what = "grouped" if kind == "grouped" else "partitioned"
            reason = f"{missing}, by which the rows are {what}, is none of the keys"
            raise NotIncremental(reason, "select it, and add it to `keys`")
        return kind, tuple(found)

    def _require_no_select_names(self, key: KeyPart) -> None:
        """A key is computed on its own, where a name that the SELECT gives to a column before it means nothing."""
        before = list(self.items)[: list(self.items).index(key.output)] if key.output in self.items else self.items
        given = {name.lower() for name in before if self.plain_columns.get(name.lower(), ("", ""))[1] != name.lower()}
        for column in sqlglot.parse_one(key.sql, read="spark").find_all(exp.Column):
            if not column.table and column.name.lower() in given:
                raise NotIncremental(
                    f"a key that reads {column.name}, a name given in SELECT", "write the expression out"
                )

    def _output_key(self, name: str) -> KeyPart:
        for output, (expression, text) in self.items.items():
            if output.lower() == name.lower():
                return KeyPart(text, output, self.source_column(expression))
        if self.select.is_star and len(self.sources) == 1:
            alias = self.sources[0].alias
            return KeyPart(f"`{alias}`.`{name}`", name, (alias.lower(), name.lower()))
        raise NotIncremental(f"the key {name} is not selected by its name", "select it: AS " + name)

    def _group_key(self, group: exp.Group) -> list[KeyPart]:
        if any(isinstance(e, exp.Tuple | exp.Paren) for e in group.expressions):
            raise NotIncremental("GROUP BY (...)", "write the columns without parentheses")
        wanted, sets = grouping_expressions(group), grouping_sets(group)
        below = frozenset.intersection(*sets) if sets else frozenset[str]()
        found = []
        for expression in wanted:
            if isinstance(expression, exp.Literal):
                bare, text, output = self._expression_at(expression)
                if has_totals(group):
                    raise NotIncremental("GROUP BY a position, with totals", "write the expression")
            else:
                outputs = [(n, t) for n, (e, t) in self.items.items() if e == expression]
                if not outputs and _unqualified_name(expression) in {n.lower() for n in self.items}:
                    given = f"GROUP BY {expression.name}, a name given in SELECT"
                    raise NotIncremental(given, "write the expression, or its position")
                output, text = outputs[0] if outputs else ("", _column_sql(expression))
                bare = expression
            if bare.find(exp.AggFunc):
                raise NotIncremental("GROUP BY an aggregate")
            found.append(
                KeyPart(text, output, self.source_column(bare), not has_totals(group) or expression.sql() in below)
            )
        if has_totals(group):
            ids = [
                KeyPart(text, name, can_push_down=False) for name, (e, text) in self.items.items() if is_grouping_id(e)
            ]
            if not ids or any(not key.output for key in found):
                raise NotIncremental("totals whose columns, or GROUPING_ID(), are not selected", "select them")
            found.append(ids[0])
            if sets and len({key.column for key in found[:-1]} - {None}) == len(found) - 1:  # no two of one column
                places = {expression.sql(): at for at, expression in enumerate(wanted)}
                self.grouping_sets = tuple(tuple(sorted(places[e] for e in each)) for each in sets)
        return found

    def _expression_at(self, literal: exp.Expr) -> tuple[exp.Expr, str, str]:
        position = int(literal.name) if literal.name.isdigit() else 0
        if self.select.is_star or not 0 < position <= len(self.items):
            raise NotIncremental(f"GROUP BY {literal.sql()}", "write the expression")
        output = list(self.items)[position - 1]
        return *self.items[output], output

    def _partition_key(self) -> list[KeyPart]:
        found_windows = find_windows(self.select)
        shared = [e for e in partition_by(found_windows[0]) if all(e in partition_by(w) for w in found_windows)]
        if not shared:
            raise NotIncremental(
                "windows that share no PARTITION BY", "partition all windows of a SELECT by a common column"
            )
        for window in found_windows:
            require_unique_order(window, self.sources, self.unique_keys, self.source_column)
        found = []
        for expression in shared:
            outputs = [(n, t) for n, (e, t) in self.items.items() if e == expression]
            text = outputs[0][1] if outputs else _column_sql(expression)
            found.append(KeyPart(text, outputs[0][0] if outputs else "", self.source_column(expression)))
        return found


def _unqualified_name(expression: exp.Expr) -> str:
    return expression.name.lower() if isinstance(expression, exp.Column) and not expression.table else ""


def _column_sql(expression: exp.Expr) -> str:
    """The text of a key that is not selected."""
    if not isinstance(expression, exp.Column) or expression.args.get("db"):
        raise NotIncremental(f"{expression.sql('spark')}, a key that is not selected", "select it under a name")
    return ".".join(f"`{name}`" for name in (expression.table, expression.name) if name)


def _table_alias(table: exp.Expr) -> str:
    if not isinstance(table, exp.Table):
        raise NotIncremental("a derived table", "make it a CTE")
    if table.args.get("alias") and table.args["alias"].args.get("columns"):
        raise NotIncremental("a table with a list of columns", "name them where they are selected")
    return table.alias_or_name


def _relation_name(table: exp.Expr) -> str:
    return f"{table.db.lower()}.{table.name}" if table.db else table.name.lower()  # type: ignore[attr-defined]
