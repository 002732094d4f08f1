"""Reading a model's SQL, without Spark: what it depends on, what its keys are, and how it can be kept up to date.

The text itself is never rewritten: where a relation stands in it is looked up, and only that name is replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from lakehouse import functions
from lakehouse.errors import ConfigError

LAYERS = ("bronze", "silver", "gold")
PARAMETERS = ("as_of", "business_timezone")

_MOMENTS = frozenset({"now", "today", "yesterday", "tomorrow"})  # as in TIMESTAMP 'now'


@dataclass(frozen=True)
class Place:
    """Where a relation's name stands: its first and last character, and the alias that has to follow its new name."""

    relation: str
    first: int
    last: int
    alias: str


@dataclass(frozen=True)
class Plan:
    """A model's SQL, understood.

    Attributes:
        model: `silver.clientes`.
        places: where each relation's name stands in the text.
        keys: the columns that tell its rows apart.
        unique: whether the SQL itself makes `keys` unique (it groups by them).
        strategy: `row-wise` or `full`.
        reason: why that strategy.
        columns_of: for a row-wise model, output columns that are an input's column as it is.
        parameters: those of `PARAMETERS` that it uses.
    """

    model: str
    sql: str
    places: tuple[Place, ...]
    keys: tuple[str, ...]
    unique: bool
    strategy: str
    reason: str
    columns_of: Mapping[str, str]
    parameters: frozenset[str]

    @property
    def inputs(self) -> list[str]:
        return sorted({place.relation for place in self.places})

    @property
    def sql_hash(self) -> str:
        return hashlib.sha256(repr((self.sql, self.keys)).encode()).hexdigest()

    def keeps_keys(self, input_keys: tuple[str, ...]) -> bool:
        """Whether rows with one key of the model come from rows with one key of its (only) input."""
        kept = {self.columns_of[k.lower()] for k in self.keys if k.lower() in self.columns_of}
        return {k.lower() for k in input_keys} <= kept

    def text(self, names: Mapping[str, str]) -> str:
        """The SQL with each relation's name replaced by `names[relation]`."""
        text = self.sql
        for place in sorted(self.places, key=lambda p: p.first, reverse=True):
            text = text[: place.first] + names[place.relation] + place.alias + text[place.last + 1 :]
        return text


def plan(model: str, sql: str, keys: tuple[str, ...], where: str) -> Plan:
    """Understand a model.

    Args:
        keys: as configured; empty: those of its GROUP BY.
        where: the file, for messages.

    Raises:
        ConfigError: it cannot be parsed, is not one SELECT, is not a function of its inputs, or has no keys.
    """
    try:
        statements = [s for s in sqlglot.parse(sql, read="spark") if s is not None]
        tokens = sqlglot.tokenize(sql, read="spark")
    except SqlglotError as error:
        raise ConfigError(f"{model} cannot be parsed: {error}", expected="one SELECT", where=where) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ConfigError(f"{model} is not one SELECT", expected="one SELECT, and nothing else", where=where)
    query = statements[0]
    _refuse_unstable(model, query, tokens, where)
    places = _places(model, query, where)
    grouped = _group_keys(query)
    found = keys or grouped
    if not found:
        raise ConfigError(
            f"{model} has no keys",
            expected="`keys` in pipeline.yml, or a GROUP BY whose columns are selected",
            where=where,
        )
    if _has_totals(query) and not any(map(_is_grouping_id, query.expressions)):
        raise ConfigError(
            f"{model} has totals that cannot be told from rows with a NULL dimension",
            expected="GROUPING_ID() among the selected columns, with GROUPING SETS, ROLLUP or CUBE",
            where=where,
            next_step="select GROUPING_ID() AS grouping_id",
        )
    obstacle = _not_row_wise(query, places, tokens)
    return Plan(
        model=model,
        sql=sql,
        places=places,
        keys=tuple(found),
        unique=_groups_once(query, tokens) and {k.lower() for k in grouped} <= {k.lower() for k in found},
        strategy="full" if obstacle else "row-wise",
        reason=obstacle or "projections and filters of one table",
        columns_of=_plain_columns(query) if not obstacle and isinstance(query, exp.Select) else {},
        parameters=_parameters(model, query, where),
    )


def in_order(plans: Mapping[str, Plan]) -> list[list[str]]:
    """Models in groups: each needs only models of the groups before it.

    Raises:
        ConfigError: models that depend on each other in a circle.
    """
    left, done, groups = dict(plans), set[str](), list[list[str]]()
    while left:
        ready = sorted(m for m, p in left.items() if not (set(p.inputs) & left.keys()))
        if not ready:
            raise ConfigError(f"models depend on each other in a circle: {', '.join(sorted(left))}")
        groups.append(ready)
        done |= set(ready)
        left = {m: p for m, p in left.items() if m not in done}
    return groups


def _calls(tokens: list[Token]) -> list[Token]:
    """The names that stand before a parenthesis, as the author spells them: a parser may have renamed them."""
    named = pairwise(tokens)
    calls = [t for t, after in named if after.token_type is TokenType.L_PAREN and t.text.isidentifier()]
    return [t for t in calls if t.text.lower() not in functions.STRUCTURE]


def _refuse_unstable(model: str, query: exp.Query, tokens: list[Token], where: str) -> None:
    found = [t for t in _calls(tokens) if t.text.lower() in functions.UNSTABLE]
    found += [t for t in tokens if t.token_type is not TokenType.STRING and t.text.lower() in functions.UNSTABLE_WORDS]
    for before, token in pairwise(tokens):
        follows = before.text.lower() in ("date", "timestamp", "timestamp_ltz", "timestamp_ntz", "(")
        if follows and token.token_type is TokenType.STRING and token.text.strip().lower() in _MOMENTS:
            found.append(token)
    if query.find(exp.TableSample):
        found += [t for t in tokens if t.text.lower() == "tablesample"]
    if found:
        raise ConfigError(
            f"{model} uses {found[0].text}: the same inputs would not always give the same rows",
            expected="functions of the inputs alone; :as_of is the newest accepted snapshot's time",
            where=f"{where}:{found[0].line}",
        )


def _places(model: str, query: exp.Query, where: str) -> tuple[Place, ...]:
    ctes = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    places = []
    for table in query.find_all(exp.Table):
        layer, short = table.db.lower(), table.name
        if not layer and short.lower() in ctes:
            continue
        if layer not in LAYERS or table.catalog:
            raise ConfigError(
                f"{model} reads {table.sql('spark')}",
                expected="bronze.<table>, silver.<model>, gold.<model> or a CTE of its own",
                where=where,
            )
        first, last = table.args["db"].meta["start"], table.this.meta["end"]
        # Columns may be spelled with the bare name of a table that has no alias.
        alias = "" if table.alias else f" AS `{short}`"
        places.append(Place(f"{layer}.{short}", first, last, alias))
    if not places:
        raise ConfigError(f"{model} reads no table", expected="a SELECT over the lake's tables", where=where)
    return tuple(places)


def _parameters(model: str, query: exp.Query, where: str) -> frozenset[str]:
    used = frozenset(p.name for p in query.find_all(exp.Placeholder))
    if unknown := sorted(used - set(PARAMETERS)):
        raise ConfigError(
            f"{model} uses :{', :'.join(unknown)}",
            expected="no other parameters than " + " and ".join(f":{p}" for p in PARAMETERS),
            where=where,
        )
    return used


def _group_keys(query: exp.Query) -> tuple[str, ...]:
    """The output columns that the outermost GROUP BY makes unique, or nothing where that cannot be said."""
    group = query.args.get("group") if isinstance(query, exp.Select) else None
    if group is None:
        return ()
    wanted = _grouping_expressions(group)
    names: dict[str, str] = {}
    for position, projection in enumerate(query.expressions, start=1):
        bare = projection.unalias()
        for key in wanted:
            by_position = isinstance(key, exp.Literal) and key.name == str(position)
            if by_position or key == bare or (isinstance(key, exp.Column) and key.name == projection.alias):
                names[key.sql()] = projection.alias_or_name
        if _is_grouping_id(projection):
            names["grouping_id()"] = projection.alias_or_name
    return tuple(dict.fromkeys(names.values())) if {k.sql() for k in wanted} <= names.keys() else ()


_TOTALS = (exp.GroupingSets, exp.Rollup, exp.Cube)


def _groups_once(query: exp.Query, tokens: list[Token]) -> bool:
    """Whether each combination of the grouping keys surely comes out once."""
    group = query.args.get("group") if isinstance(query, exp.Select) else None
    if group is None or any(t.text.lower() in functions.GENERATORS for t in _calls(tokens)):
        return False
    selected = {p.unalias().sql() for p in query.expressions}
    # `GROUP BY shop` may mean a column of the table instead of the one selected under that name.
    if any(not isinstance(k, exp.Literal) and k.sql() not in selected for k in _grouping_expressions(group)):
        return False
    totals = list(group.find_all(*_TOTALS))
    sets = [part.sql() for total in totals for part in total.expressions]
    return len(totals) <= 1 and len(sets) == len(set(sets))


def _grouping_expressions(group: exp.Group) -> list[exp.Expression]:
    """What a GROUP BY groups by, out of whatever sets it stands in, each once."""
    found: dict[str, exp.Expression] = {}

    def gather(items: list[exp.Expression]) -> None:
        for item in items:
            if isinstance(item, (*_TOTALS, exp.Tuple)):
                gather(item.expressions)
            elif isinstance(item, exp.Paren):
                gather([item.this])
            else:
                found[item.sql()] = item

    gather([*group.expressions, *(s for kind in _WITH_TOTALS for s in group.args.get(kind) or [])])
    return list(found.values())


_WITH_TOTALS = ("grouping_sets", "rollup", "cube")


def _has_totals(query: exp.Query) -> bool:
    group = query.args.get("group")
    return group is not None and group.find(*_TOTALS) is not None


def _is_grouping_id(projection: exp.Expression) -> bool:
    bare = projection.unalias()
    return isinstance(bare, exp.GroupingId) or (isinstance(bare, exp.Anonymous) and bare.name.lower() == "grouping_id")


# What makes a row of the result depend on more than one row of one table, by sqlglot's names.
_CLAUSES = {
    "with_": "WITH",
    "joins": "JOIN",
    "group": "GROUP BY",
    "distinct": "DISTINCT",
    "having": "HAVING",
    "qualify": "QUALIFY",
    "limit": "LIMIT",
    "offset": "OFFSET",
    "laterals": "LATERAL VIEW",
}
_EXPRESSIONS: dict[type[exp.Expr], str] = {
    exp.Window: "a window function",
    exp.AggFunc: "an aggregate",
    exp.UDTF: "a table function",
    exp.Pivot: "PIVOT or UNPIVOT",
}


def _not_row_wise(query: exp.Query, places: tuple[Place, ...], tokens: list[Token]) -> str:
    """What keeps a model from being a function of single rows of one table; empty if nothing does."""
    if not isinstance(query, exp.Select):
        return "a set operation at the top"
    for argument, clause in _CLAUSES.items():
        if query.args.get(argument):
            return clause
    for kind, clause in _EXPRESSIONS.items():
        if query.find(kind):
            return clause
    if len(places) > 1 or sum(1 for _ in query.find_all(exp.Select)) > 1:
        return "a subquery"
    unknown = [t.text for t in _calls(tokens) if t.text.lower() not in functions.SCALAR]
    return f"{unknown[0]}(), which is not known to be a function of single rows" if unknown else ""


def _plain_columns(query: exp.Select) -> dict[str, str]:
    """Output columns that are a column of the table as it is, by name; a struct's field is not one."""
    table = next(query.find_all(exp.Table))
    columns = {}
    for projection in query.expressions:
        bare = projection.unalias()
        if isinstance(bare, exp.Column) and bare.table.lower() in ("", table.alias_or_name.lower()):
            columns[projection.alias_or_name.lower()] = bare.name.lower()
    return columns
