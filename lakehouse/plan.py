"""Reading a model's SQL, without Spark: what it depends on, what its keys are, and how it can be kept up to date.

The text itself is never rewritten: where a relation stands in it is looked up, and only that name is replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from lakehouse.errors import ConfigError

LAYERS = ("bronze", "silver", "gold")
PARAMETERS = ("as_of", "business_timezone")

# The same inputs must always give the same rows; these give others by the clock, by chance or by the order of reading.
_UNSTABLE = frozenset(
    [
        "now",
        "current_timestamp",
        "current_date",
        "curdate",
        "localtimestamp",
        "unix_timestamp",
        "rand",
        "randn",
        "random",
        "uuid",
        "shuffle",
        "randstr",
        "uniform",
        "input_file_name",
        "monotonically_increasing_id",
        "spark_partition_id",
        "current_user",
        "session_user",
        "first",
        "first_value",
        "last",
        "last_value",
        "any_value",
        "approx_count_distinct",
        "approx_percentile",
        "percentile_approx",
        "approx_top_k",
    ]
)
_UNSTABLE_WORDS = {TokenType.CURRENT_TIMESTAMP, TokenType.CURRENT_DATE, TokenType.CURRENT_TIME, TokenType.CURRENT_USER}


@dataclass(frozen=True)
class Plan:
    """A model's SQL, understood.

    Attributes:
        model: `silver.clientes`.
        places: where each relation's name stands in the text: (first, last) character, both included.
        keys: the columns that tell its rows apart.
        unique: whether the SQL itself makes `keys` unique (it groups by them).
        strategy: `row-wise` or `full`.
        reason: why that strategy.
        columns_of: for a row-wise model, output columns that are an input's column as it is.
        parameters: those of `PARAMETERS` that it uses.
    """

    model: str
    sql: str
    places: tuple[tuple[str, int, int], ...]
    keys: tuple[str, ...]
    unique: bool
    strategy: str
    reason: str
    columns_of: Mapping[str, str]
    parameters: frozenset[str]

    @property
    def inputs(self) -> list[str]:
        return sorted({relation for relation, _, _ in self.places})

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
        for relation, first, last in sorted(self.places, key=lambda p: p[1], reverse=True):
            text = text[:first] + names[relation] + text[last + 1 :]
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
    _refuse_unstable(model, tokens, where)
    places = _places(model, query, where)
    grouped = _group_keys(query)
    found = keys or grouped
    if not found:
        raise ConfigError(
            f"{model} has no keys",
            expected="`keys` in pipeline.yml, or a GROUP BY whose columns are selected",
            where=where,
        )
    if _has_totals(query) and not _has_grouping_id(query):
        raise ConfigError(
            f"{model} has totals that cannot be told from rows with a NULL dimension",
            expected="GROUPING_ID() among the selected columns, with GROUPING SETS, ROLLUP or CUBE",
            where=where,
            next_step="select GROUPING_ID() AS grouping_id",
        )
    obstacle = _not_row_wise(query, places)
    return Plan(
        model=model,
        sql=sql,
        places=places,
        keys=tuple(found),
        unique=bool(grouped) and {k.lower() for k in grouped} <= {k.lower() for k in found},
        strategy="full" if obstacle else "row-wise",
        reason=obstacle or "projections and filters of one table",
        columns_of={} if obstacle else _plain_columns(query),
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


def _refuse_unstable(model: str, tokens: list[Token], where: str) -> None:
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        called = following is not None and following.token_type is TokenType.L_PAREN
        if token.token_type in _UNSTABLE_WORDS or (called and token.text.lower() in _UNSTABLE):
            raise ConfigError(
                f"{model} uses {token.text}: the same inputs would not always give the same rows",
                expected="functions of the inputs alone; :as_of is the newest accepted snapshot's time",
                where=f"{where}:{token.line}",
            )


def _places(model: str, query: exp.Query, where: str) -> tuple[tuple[str, int, int], ...]:
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
        places.append((f"{layer}.{short}", first, last))
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
        if isinstance(bare, exp.GroupingId) or (isinstance(bare, exp.Anonymous) and bare.name.lower() == "grouping_id"):
            names["grouping_id()"] = projection.alias_or_name
    return tuple(dict.fromkeys(names.values())) if {k.sql() for k in wanted} <= names.keys() else ()


_TOTALS = (exp.GroupingSets, exp.Rollup, exp.Cube)


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


def _has_grouping_id(query: exp.Query) -> bool:
    return any("grouping_id" in p.unalias().sql("spark").lower() for p in query.expressions)


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
_EXPRESSIONS = {exp.Window: "a window function", exp.AggFunc: "an aggregate", exp.UDTF: "a table function"}


def _not_row_wise(query: exp.Query, places: tuple[tuple[str, int, int], ...]) -> str:
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
    return ""


def _plain_columns(query: exp.Query) -> dict[str, str]:
    columns = {}
    for projection in query.expressions:
        bare = projection.unalias()
        if isinstance(bare, exp.Column):
            columns[projection.alias_or_name.lower()] = bare.name.lower()
    return columns
