"""A model's SQL as blocks: each CTE in order, the model's own SELECT last. A CTE is a model that is not stored.

A block can be kept up to date if the rows that it gives for a *touch key* depend on nothing but the rows of its FROM
that have that key: a GROUP BY's expressions, what all windows are partitioned by, or any column of a plain SELECT.
Only what is known to be so is let through, by allow-lists of clauses and functions; the rest raises `Whole`.

The author's text is cut, never written anew: a parser that renames a function would change what is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token

from lakehouse import functions
from lakehouse.clauses import Clauses, cut

TOTALS = (exp.GroupingSets, exp.Rollup, exp.Cube)

Column = tuple[str, str]  # the alias of a source and a column of it, both in lower case


class Whole(Exception):
    """Why a model has to be computed whole: the clause that stands in the way, and how to write it instead."""

    def __init__(self, clause: str, advice: str = "") -> None:
        super().__init__(f"{clause}: {advice}" if advice else clause)


@dataclass(frozen=True)
class Test:
    """A plain condition of an ON: `column` `sign` (`=`, `<=` or `>=`) `other` and so many days."""

    column: Column
    sign: str
    other: Column
    days: int = 0


@dataclass(frozen=True)
class Source:
    """A relation in a FROM. `side`: `first`, `inner`, `cross`, `left`, `semi` or `anti`."""

    alias: str
    relation: str
    side: str
    on: str = ""
    tests: tuple[Test, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether its columns can be read after the join, and no row of its is made up of nulls."""
        return self.side in ("first", "inner", "cross")


@dataclass(frozen=True)
class Key:
    """A part of a touch key: its text, the output column that it is (empty: not selected), and whether a filter by it
    may be moved below the GROUP BY."""

    text: str
    output: str
    below: bool = True


@dataclass(frozen=True)
class Block:
    """One SELECT.

    Attributes:
        name: of the CTE; empty for the model's own.
        select, where, rest: the author's text: up to FROM, the WHERE, what follows it.
        group: the GROUP BY's text, where it makes totals; else empty.
        sources: what stands between them, in order.
        kind: `rows`, `grouped` or `partitioned`.
        key: the touch key; empty: the whole row.
        plain: outputs that are a column of a source as it is.
        loose: aliases that nothing but their own ON reads.
        sums: functions and arguments that give another last digit by the order of rows, if the type is inexact.
    """

    name: str
    select: str
    sources: tuple[Source, ...]
    where: str
    rest: str
    group: str
    kind: str
    key: tuple[Key, ...]
    plain: Mapping[str, Column] = field(hash=False)
    loose: frozenset[str]
    sums: tuple[tuple[str, str], ...]

    @property
    def ranges(self) -> bool:
        return any(test.sign != "=" for source in self.sources for test in source.tests)


Distinguishes = Mapping[str, Iterable[frozenset[str]]]  # by relation: sets of columns that tell its rows apart


def blocks(
    query: exp.Expr, sql: str, tokens: list[Token], keys: tuple[str, ...], apart: Mapping[str, tuple[str, ...]]
) -> tuple[Block, ...]:
    """The blocks of a model.

    Args:
        keys: the model's.
        apart: by relation, the columns that tell its rows apart, as far as known.

    Raises:
        Whole: it cannot be kept up to date by what changed.
    """
    if not isinstance(query, exp.Select):
        raise Whole("a set operation at the top (UNION, EXCEPT, INTERSECT)", "write a model for each part of it")
    parts = cut(sql, tokens)
    ctes: list[exp.CTE] = query.args["with_"].expressions if query.args.get("with_") else []
    if query.args.get("with_") and query.args["with_"].args.get("recursive"):
        raise Whole("WITH RECURSIVE")
    if [name for name, _ in parts] != [*(cte.alias.lower() for cte in ctes), ""]:
        raise Whole("WITH with a list of columns", "name them in its SELECT")
    selects = [*(cte.this for cte in ctes), query]
    known: dict[str, frozenset[str]] = {r: frozenset(k.lower() for k in found) for r, found in apart.items()}
    found: list[Block] = []
    for (name, clauses), select in zip(parts, selects, strict=True):
        reader = _Reader(name, select, clauses, set(known) | {b.name for b in found}, known)
        block = reader.block(keys if not name else ())
        if name and (tells := reader.tells_apart(block)):
            known[name] = tells
        elif name:
            known.pop(name, None)
        found.append(block)
    return tuple(b for b in found if not b.name or b.name in _used(found))


def _used(found: list[Block]) -> set[str]:
    used: set[str] = set()
    for block in reversed(found):
        if not block.name or block.name in used:
            used |= {source.relation for source in block.sources}
    return used


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
_SIDES = {("", ""): "inner", ("", "INNER"): "inner", ("", "CROSS"): "cross", ("LEFT", ""): "left"}
_SIDES |= {("LEFT", "OUTER"): "left", ("LEFT", "SEMI"): "semi", ("LEFT", "ANTI"): "anti"}
_SIDES |= {("", "SEMI"): "semi", ("", "ANTI"): "anti"}


class _Reader:
    """One SELECT being read: its tree beside its text."""

    def __init__(
        self, name: str, select: exp.Expr, clauses: Clauses, relations: set[str], known: Mapping[str, frozenset[str]]
    ) -> None:
        if not isinstance(select, exp.Select):
            raise Whole("UNION, EXCEPT or INTERSECT", "write a model for each part of it")
        self.name, self.tree, self.text, self.known = name, select, clauses, known

    def block(self, keys: tuple[str, ...]) -> Block:
        self._refuse_clauses()
        self.sources = self._sources()
        self.aliases = {source.alias.lower(): source for source in self.sources}
        self.items = self._items()
        self._refuse_functions()
        self.plain = {n.lower(): c for n, (e, _) in self.items.items() if (c := self.column(e))}
        kind, key = self._touch_key(keys)
        group = self.tree.args.get("group")
        return Block(
            name=self.name,
            select=self.text.select,
            sources=self.sources,
            where=self.text.where,
            rest=self.text.rest,
            group=self.text.group if group and has_totals(group) else "",
            kind=kind,
            key=key,
            plain=self.plain,
            loose=self._loose(),
            sums=tuple((call.name, call.argument) for call in self.text.calls if call.name in functions.SUMS),
        )

    # --- what stands in the way ---------------------------------------------------------------------------------

    def _refuse_clauses(self) -> None:
        if self.name and self.tree.args.get("with_"):
            raise Whole("WITH inside WITH", "put the CTEs side by side")
        for clause, value in self.tree.args.items():
            if value and clause not in _ALLOWED:
                raise Whole(*_REFUSED.get(clause, (clause.rstrip("_").upper(),)))
        own = [self.tree.args.get(c) for c in sorted(_ALLOWED - {"with_", "expressions"})]
        parts = [*self.tree.expressions, *self.tree.args.get("joins", ()), *filter(None, own)]
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
        if self.tree.args.get("group") and self.tree.args["group"].args.get("all"):
            raise Whole("GROUP BY ALL", "name the columns")
        distinct = self.tree.args.get("distinct")
        if distinct and (distinct.args.get("on") or self.tree.args.get("group")):
            raise Whole("DISTINCT with GROUP BY or ON", "a GROUP BY alone")
        if self.tree.args.get("having") and not self.tree.args.get("group"):
            raise Whole("HAVING without GROUP BY", "GROUP BY GROUPING SETS (())")

    def _refuse_functions(self) -> None:
        for call in self.text.calls:
            if call.over:
                if call.name not in functions.WINDOW:
                    raise Whole(f"{call.name}() OVER, which is not known to be exact in any order of rows")
            elif call.name in functions.LISTS and not call.sorted:
                raise Whole(f"{call.name}(), whose order is open", f"array_sort({call.name}(...))")
            elif call.name not in functions.SCALAR | functions.AGGREGATES | functions.LISTS | functions.GROUPING:
                what = "which is not known to give the same for the same rows"
                raise Whole(f"{call.name}(), {what}", functions.INSTEAD.get(call.name, ""))
            elif call.name not in functions.SCALAR and not self.tree.args.get("group"):
                advice = "GROUP BY GROUPING SETS (()), with GROUPING_ID() selected"
                raise Whole(f"{call.name}() without GROUP BY, an aggregate over everything", advice)
        if self.windows() and self.tree.args.get("group"):
            raise Whole("a window function over groups", "group in a CTE, and read it in the SELECT with the window")
        if self.windows() and self.tree.args.get("distinct"):
            raise Whole("DISTINCT over a window function", "compute the window in a CTE")

    def windows(self) -> list[exp.Window]:
        parts = [*self.tree.expressions, *filter(None, [self.tree.args.get("order")])]
        return [window for part in parts for window in part.find_all(exp.Window)]

    # --- FROM -----------------------------------------------------------------------------------------------------

    def _sources(self) -> tuple[Source, ...]:
        origin = self.tree.args.get("from_")
        joins: list[exp.Join] = self.tree.args.get("joins") or []
        if origin is None:
            raise Whole("a SELECT without FROM", "read a table")
        if len(self.text.joins) != len(joins):
            raise Whole("a comma between tables", "JOIN ... ON, or CROSS JOIN")
        found = [Source(_alias(origin.this), _relation(origin.this), "first")]
        for join, on in zip(joins, self.text.joins, strict=True):
            found.append(self._joined(join, on, {s.alias.lower() for s in found}))
        if len({s.alias.lower() for s in found}) < len(found):
            raise Whole("two tables of one name", "give each an alias of its own")
        return tuple(found)

    def _joined(self, join: exp.Join, on: str, before: set[str]) -> Source:
        side = _SIDES.get(((join.side or "").upper(), (join.kind or "").upper()))
        if side is None or join.args.get("method") or join.args.get("using"):
            words = " ".join(w for w in (join.method, join.side, join.kind, "JOIN") if w)
            using = " USING" if join.args.get("using") else ""
            raise Whole(f"{words.upper()}{using}", "LEFT JOIN ... ON" if not using else "write the condition out: ON")
        condition = join.args.get("on")
        if (condition is None) != (side == "cross") or bool(on) != (condition is not None):
            raise Whole("a JOIN without ON", "JOIN ... ON, or CROSS JOIN")
        alias = _alias(join.this)
        tests = tuple(_tests(condition, before | {alias.lower()})) if condition is not None else ()
        return Source(alias, _relation(join.this), side, on, tests)

    def _loose(self) -> frozenset[str]:
        """Aliases that are read by their own ON alone; none, where a column does not say whose it is."""
        used: set[str] = set()
        joins: list[exp.Join] = self.tree.args.get("joins") or []
        own = {id(j.args.get("on")): _alias(j.this).lower() for j in joins}
        parts = [self.tree.args.get("where"), *(e for e, _ in self.items.values()), *(j.args.get("on") for j in joins)]
        if self.tree.args.get("group"):
            parts.append(self.tree.args["group"])
        if self.tree.is_star:
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

    def column(self, bare: exp.Expr) -> Column | None:
        """The source's column that an expression is, if it surely is one."""
        if not isinstance(bare, exp.Column) or bare.args.get("db") or isinstance(bare.this, exp.Star):
            return None
        alias = bare.table.lower() or (next(iter(self.aliases)) if len(self.aliases) == 1 else "")
        return (alias, bare.name.lower()) if alias in self.aliases else None

    # --- SELECT ---------------------------------------------------------------------------------------------------

    def _items(self) -> dict[str, tuple[exp.Expr, str]]:
        """The selected expressions by name, each with its text without the name."""
        texts = self.text.items
        if len(texts) != len(self.tree.expressions):
            raise Whole("a SELECT list that could not be taken apart")
        found: dict[str, tuple[exp.Expr, str]] = {}
        for text, projection in zip(texts, self.tree.expressions, strict=True):
            if projection.is_star:
                continue
            bare = projection.unalias()
            body = text.bare if isinstance(projection, exp.Alias) else text.whole
            if sqlglot.parse_one(body, read="spark") != bare:
                raise Whole(f"{body}, which could not be taken apart from its name", "write AS before the name")
            if not isinstance(projection, exp.Alias | exp.Column):
                raise Whole(f"{body} without a name", "name it: AS ...")
            if projection.alias_or_name.lower() in (n.lower() for n in found):
                raise Whole(f"two columns named {projection.alias_or_name}", "name them apart")
            found[projection.alias_or_name] = (bare, body)
        return found

    def _touch_key(self, keys: tuple[str, ...]) -> tuple[str, tuple[Key, ...]]:
        if group := self.tree.args.get("group"):
            found = self._group_key(group)
            kind = "grouped"
        elif self.windows():
            found, kind = self._partition_key(), "partitioned"
        else:
            found = [self._output_key(name) for name in keys or ()]
            kind = "grouped" if self.tree.args.get("distinct") else "rows"
            if kind == "grouped" and not keys:
                if self.tree.is_star:
                    raise Whole("SELECT DISTINCT *", "name the columns")
                found = [Key(text, name) for name, (_, text) in self.items.items()]
        if not self.name and (apart := [k for k in found if k.output.lower() not in {n.lower() for n in keys}]):
            missing = apart[0].output or apart[0].text
            what = "grouped" if kind == "grouped" else "partitioned"
            raise Whole(
                f"{missing}, by which the rows are {what}, is none of the keys", "select it, and add it to `keys`"
            )
        return kind, tuple(found)

    def _output_key(self, name: str) -> Key:
        for output, (_, text) in self.items.items():
            if output.lower() == name.lower():
                return Key(text, output)
        if self.tree.is_star and len(self.sources) == 1:
            return Key(f"`{self.sources[0].alias}`.`{name}`", name)
        raise Whole(f"the key {name} is not selected by its name", "select it: AS " + name)

    def _group_key(self, group: exp.Group) -> list[Key]:
        if any(isinstance(e, exp.Tuple | exp.Paren) for e in group.expressions):
            raise Whole("GROUP BY (...)", "write the columns without parentheses")
        wanted, below = grouping_expressions(group), _in_all_sets(group)
        found = []
        for expression in wanted:
            if isinstance(expression, exp.Literal):
                bare, text, output = self._by_position(expression)
                if has_totals(group):
                    raise Whole("GROUP BY a position, with totals", "write the expression")
            else:
                outputs = [(n, t) for n, (e, t) in self.items.items() if e == expression]
                aliases = {n.lower() for n, (e, _) in self.items.items() if e != expression}
                named = (
                    isinstance(expression, exp.Column) and not expression.table and expression.name.lower() in aliases
                )
                if named and not outputs:
                    name = expression.name
                    raise Whole(f"GROUP BY {name}, a name given in SELECT", "write the expression, or its position")
                output, text = outputs[0] if outputs else ("", _spelled(expression))
                bare = expression
            if bare.find(exp.AggFunc):
                raise Whole("GROUP BY an aggregate")
            found.append(Key(text, output, not has_totals(group) or expression.sql() in below))
        if has_totals(group):
            ids = [Key(text, name, False) for name, (e, text) in self.items.items() if is_grouping_id(e)]
            if not ids or any(not key.output for key in found):
                raise Whole("totals whose columns, or GROUPING_ID(), are not selected", "select them")
            found.append(ids[0])
        return found

    def _by_position(self, literal: exp.Expr) -> tuple[exp.Expr, str, str]:
        position = int(literal.name) if literal.name.isdigit() else 0
        if self.tree.is_star or not 0 < position <= len(self.items):
            raise Whole(f"GROUP BY {literal.sql()}", "write the expression")
        output = list(self.items)[position - 1]
        return *self.items[output], output

    def _partition_key(self) -> list[Key]:
        windows = self.windows()
        shared = [e for e in windows[0].args.get("partition_by") or [] if all(e in _partition(w) for w in windows)]
        if not shared:
            raise Whole("windows that share no PARTITION BY", "partition all windows of a SELECT by a common column")
        for window in windows:
            self._refuse_ties(window)
        found = []
        for expression in shared:
            outputs = [(n, t) for n, (e, t) in self.items.items() if e == expression]
            text = outputs[0][1] if outputs else _spelled(expression)
            found.append(Key(text, outputs[0][0] if outputs else ""))
        return found

    def _refuse_ties(self, window: exp.Window) -> None:
        """Among rows that its ORDER BY does not tell apart, a row number is anybody's."""
        name, spec = _function(window), window.args.get("spec")
        by_rows = spec is not None and (spec.args.get("kind") or "").upper() == "ROWS"
        if name in _NO_TIES and not by_rows:
            return
        order = window.args.get("order")
        columns = [*_partition(window), *(o.this for o in (order.expressions if order else []))]
        plain = {c for e in columns if (c := self.column(e))}
        if not self._settles(plain):
            raise Whole(
                f"{name}() over rows that its ORDER BY may leave tied", "add the keys of the tables to ORDER BY"
            )

    # --- which rows are which -------------------------------------------------------------------------------------

    def _settles(self, columns: set[Column]) -> bool:
        """Whether rows of the FROM that are equal in these columns are one row."""
        real = [s for s in self.sources if s.side not in ("semi", "anti")]
        settled: set[str] = set()
        while True:
            known = set(columns)
            for source in real:
                for test in source.tests if source.side in ("inner", "left") else ():
                    if test.sign == "=" and not test.days:
                        known |= self._follows(source, test, known, settled)
            more = {s.alias.lower() for s in real if self._is_settled(s, known)} - settled
            if not more and known == columns:
                return settled >= {s.alias.lower() for s in real}
            columns, settled = known, settled | more

    def _follows(self, source: Source, test: Test, known: set[Column], settled: set[str]) -> set[Column]:
        pairs = [(test.column, test.other), (test.other, test.column)]
        own = source.alias.lower()
        return {
            there
            for here, there in pairs
            if (here in known or here[0] in settled) and (source.side == "inner" or there[0] == own)
        }

    def _is_settled(self, source: Source, known: set[Column]) -> bool:
        keys = self.known.get(source.relation)
        alias = source.alias.lower()
        return keys is not None and all((alias, key) in known for key in keys)

    def tells_apart(self, block: Block) -> frozenset[str] | None:
        """Columns of a CTE that surely tell its rows apart."""
        if block.kind == "grouped":
            return frozenset(k.output.lower() for k in block.key) if all(k.output for k in block.key) else None
        outputs = frozenset(block.plain)
        if not self._settles(set(block.plain.values())):
            return None
        for output in sorted(outputs):  # the fewer, the easier for an ORDER BY to name them
            if self._settles({block.plain[o] for o in outputs - {output}}):
                outputs -= {output}
        return outputs


# --- parts of a tree --------------------------------------------------------------------------------------------------


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

    gather([*group.expressions, *(s for kind in _TRAILING for s in group.args.get(kind) or [])])
    return list(found.values())


_TRAILING = ("grouping_sets", "rollup", "cube")  # as in GROUP BY a, b WITH ROLLUP


def has_totals(group: exp.Group) -> bool:
    return group.find(*TOTALS) is not None


def is_grouping_id(bare: exp.Expr) -> bool:
    return isinstance(bare, exp.GroupingId) or (isinstance(bare, exp.Anonymous) and bare.name.lower() == "grouping_id")


def _in_all_sets(group: exp.Group) -> set[str]:
    """The grouping expressions that stand in every set: only by these may rows be left out before grouping."""
    if any(group.args.get(kind) for kind in _TRAILING):
        return set()
    found = {e.sql() for e in group.expressions if not isinstance(e, (*TOTALS, exp.Tuple, exp.Paren))}
    sets = [e for e in group.expressions if isinstance(e, TOTALS)]
    if (
        len(sets) == 1
        and isinstance(sets[0], exp.GroupingSets)
        and not any(s.find(*TOTALS) for s in sets[0].expressions)
    ):
        members = [{m.sql() for m in _members(s)} for s in sets[0].expressions]
        found |= set.intersection(*members) if members else set()
    return found


def _members(item: exp.Expr) -> list[exp.Expr]:
    if isinstance(item, exp.Tuple):
        return list(item.expressions)
    return [item.this] if isinstance(item, exp.Paren) else [item]


def _partition(window: exp.Window) -> list[exp.Expr]:
    return list(window.args.get("partition_by") or [])


# By sqlglot's names: a tie changes nothing of what these give, unless they count rows.
_NO_TIES = {name.replace("_", "") for name in functions.RANKS | functions.AGGREGATES} | {"logicalor", "logicaland"}


def _function(window: exp.Window) -> str:
    """The function over a window, in letters alone."""
    called = window.this
    while isinstance(called, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        called = called.this
    return (called.name if isinstance(called, exp.Anonymous) else called.key).lower().replace("_", "")


def _spelled(expression: exp.Expr) -> str:
    """The text of a key that is not selected."""
    if not isinstance(expression, exp.Column) or expression.args.get("db"):
        raise Whole(f"{expression.sql('spark')}, a key that is not selected", "select it under a name")
    return ".".join(f"`{name}`" for name in (expression.table, expression.name) if name)


def _alias(table: exp.Expr) -> str:
    if not isinstance(table, exp.Table):
        raise Whole("a derived table", "make it a CTE")
    if table.args.get("alias") and table.args["alias"].args.get("columns"):
        raise Whole("a table with a list of columns", "name them where they are selected")
    return table.alias_or_name


def _relation(table: exp.Expr) -> str:
    return f"{table.db.lower()}.{table.name}" if table.db else table.name.lower()  # type: ignore[attr-defined]


_SIGNS: dict[type[exp.Expr], tuple[str, str]] = {
    exp.EQ: ("=", "="),
    exp.LTE: ("<=", ">="),
    exp.LT: ("<=", ">="),
    exp.GTE: (">=", "<="),
    exp.GT: (">=", "<="),
}


def _tests(condition: exp.Expr, aliases: set[str]) -> Iterator[Test]:
    """The plain conditions among those that an ON joins by AND, each read both ways. `<` is taken for `<=`."""
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        bare = part.unnest()
        if isinstance(bare, exp.And):
            yield from _tests(bare, aliases)
        elif isinstance(bare, exp.Between) and not bare.args.get("symmetric"):
            yield from _both_ways(bare.this, ">=", "<=", bare.args["low"], aliases)
            yield from _both_ways(bare.this, "<=", ">=", bare.args["high"], aliases)
        elif signs := _SIGNS.get(type(bare)):
            yield from _both_ways(bare.this, *signs, bare.expression, aliases)


def _both_ways(left: exp.Expr, sign: str, reverse: str, right: exp.Expr, aliases: set[str]) -> Iterator[Test]:
    here, there = _shifted(left, aliases), _shifted(right, aliases)
    if here and there and here[0][0] != there[0][0]:
        days = there[1] - here[1]
        yield Test(here[0], sign, there[0], days)
        yield Test(there[0], reverse, here[0], -days)


def _shifted(side: exp.Expr, aliases: set[str]) -> tuple[Column, int] | None:
    """A column and how many days are added to it."""
    bare, days = side.unnest(), 0
    if isinstance(bare, exp.TsOrDsAdd) and bare.text("unit").upper() in ("", "DAY"):
        number, sign = bare.expression, 1
        if isinstance(number, exp.Mul):  # as the parser has date_sub: days * -1
            number, sign = number.this, -1
        if not isinstance(number, exp.Literal) or not number.name.isdigit():
            return None
        bare, days = bare.this.unnest(), sign * int(number.name)
    if not isinstance(bare, exp.Column) or bare.args.get("db") or bare.table.lower() not in aliases:
        return None
    return (bare.table.lower(), bare.name.lower()), days
