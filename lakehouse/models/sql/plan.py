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
from sqlglot.tokens import Token

from lakehouse.errors import ConfigError
from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import (
    TOTALS,
    Block,
    NotIncremental,
    find_calls,
    grouping_expressions,
    has_totals,
    is_grouping_id,
    parse_blocks,
)
from lakehouse.models.sql.determinism import require_deterministic, used_parameters
from lakehouse.models.sql.rules import Rule, digest_rules

LAYERS = ("bronze", "silver", "gold")


@dataclass(frozen=True)
class TableName:
    """Where a relation's name stands: its first and last character, and the alias that has to follow its new name."""

    relation: str
    start: int
    end: int
    alias: str


@dataclass(frozen=True)
class Plan:
    """A model's SQL, understood.

    Attributes:
        model: `silver.clientes`.
        places: where each relation's name stands in the text.
        keys: the columns that tell its rows apart.
        unique: whether the SQL itself makes `keys` unique (it groups by them).
        blocks: its SELECTs, if it can be kept up to date by what changed; else none.
        strategy: `row-wise`, `lookup`, `grouped`, `windowed` or `full`.
        reason: why that strategy; of `full`, the clause that stands in the way and how to write it instead.
        columns_of: for a row-wise model, output columns that are an input's column as it is.
        parameters: those of `stable.PARAMETERS` that it or its rules use.
        rules: what is expected of it.
    """

    model: str
    sql: str
    table_names: tuple[TableName, ...]
    keys: tuple[str, ...]
    has_unique_keys: bool
    blocks: tuple[Block, ...]
    strategy: str
    reason: str
    source_columns: Mapping[str, str]
    parameters: frozenset[str]
    rules: tuple[Rule, ...] = ()

    @property
    def inputs(self) -> list[str]:
        return sorted({place.relation for place in self.table_names})

    @property
    def dependencies(self) -> list[str]:
        """Its inputs, and what its rules refer to."""
        return sorted({*self.inputs, *(rule.referenced_relation for rule in self.rules if rule.referenced_relation)})

    @property
    def sql_hash(self) -> str:
        """Of all that says which rows it has: its SQL, its keys, what is expected of it."""
        told = (self.sql, self.keys, *([digest_rules(self.rules)] if self.rules else []))
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def has_input_keys(self, input_keys: tuple[str, ...]) -> bool:
        """Whether rows with one key of the model come from rows with one key of its (only) input."""
        kept = {self.source_columns[k.lower()] for k in self.keys if k.lower() in self.source_columns}
        return {k.lower() for k in input_keys} <= kept

    def sql_with_names(self, names: Mapping[str, str]) -> str:
        """The SQL with each relation's name replaced by `names[relation]`."""
        text = self.sql
        for place in sorted(self.table_names, key=lambda p: p.start, reverse=True):
            text = text[: place.start] + names[place.relation] + place.alias + text[place.end + 1 :]
        return text


def plan_model(
    model: str, sql: str, keys: tuple[str, ...], where: str, input_keys: Mapping[str, tuple[str, ...]] | None = None
) -> Plan:
    """Understand a model.

    Args:
        keys: as configured; empty: those of its GROUP BY.
        where: the file, for messages.
        input_keys: by relation, the columns that tell its rows apart, as far as known.

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
    require_deterministic(model, query, tokens, where)
    places = _find_table_names(model, query, where)
    grouped = _group_keys(query)
    found = keys or grouped
    if not found:
        raise ConfigError(
            f"{model} has no keys",
            expected="`keys` in pipeline.yml, or a GROUP BY whose columns are selected",
            where=where,
        )
    totals = query.args.get("group") is not None and has_totals(query.args["group"])
    if totals and not any(is_grouping_id(p.unalias()) for p in query.expressions):
        raise ConfigError(
            f"{model} has totals that cannot be told from rows with a NULL dimension",
            expected="GROUPING_ID() among the selected columns, with GROUPING SETS, ROLLUP or CUBE",
            where=where,
            next_step="select GROUPING_ID() AS grouping_id",
        )
    parts, reason = _parse_blocks(query, sql, tokens, tuple(found), input_keys or {})
    parameters = used_parameters(model, query, where)
    strategy = _choose_strategy(parts)
    return Plan(
        model=model,
        sql=sql,
        table_names=places,
        keys=tuple(found),
        has_unique_keys=_has_unique_groups(query, tokens)
        and {k.lower() for k in grouped} <= {k.lower() for k in found},
        blocks=parts,
        strategy=strategy,
        reason=reason or _describe_strategy(strategy, parts, "as_of" in parameters),
        source_columns=_source_columns(query) if strategy == "row-wise" and isinstance(query, exp.Select) else {},
        parameters=parameters,
    )


def dependency_levels(plans: Mapping[str, Plan]) -> list[list[str]]:
    """Models in groups: each needs only models of the groups before it.

    Raises:
        ConfigError: models that depend on each other in a circle.
    """
    left, done, groups = dict(plans), set[str](), list[list[str]]()
    while left:
        ready = sorted(m for m, p in left.items() if not (set(p.dependencies) & left.keys()))
        if not ready:
            raise ConfigError(f"models depend on each other in a circle: {', '.join(sorted(left))}")
        groups.append(ready)
        done |= set(ready)
        left = {m: p for m, p in left.items() if m not in done}
    return groups


def _find_table_names(model: str, query: exp.Query, where: str) -> tuple[TableName, ...]:
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
        places.append(TableName(f"{layer}.{short}", first, last, alias))
    if not places:
        raise ConfigError(f"{model} reads no table", expected="a SELECT over the lake's tables", where=where)
    return tuple(places)


def _group_keys(query: exp.Query) -> tuple[str, ...]:
    """The output columns that the outermost GROUP BY makes unique, or nothing where that cannot be said."""
    group = query.args.get("group") if isinstance(query, exp.Select) else None
    if group is None:
        return ()
    wanted = grouping_expressions(group)
    names: dict[str, str] = {}
    for position, projection in enumerate(query.expressions, start=1):
        bare = projection.unalias()
        for key in wanted:
            by_position = isinstance(key, exp.Literal) and key.name == str(position)
            if by_position or key == bare or (isinstance(key, exp.Column) and key.name == projection.alias):
                names[key.sql()] = projection.alias_or_name
        if is_grouping_id(bare):
            names["grouping_id()"] = projection.alias_or_name
    return tuple(dict.fromkeys(names.values())) if {k.sql() for k in wanted} <= names.keys() else ()


def _has_unique_groups(query: exp.Query, tokens: list[Token]) -> bool:
    """Whether each combination of the grouping keys surely comes out once."""
    group = query.args.get("group") if isinstance(query, exp.Select) else None
    if group is None or any(t.text.lower() in functions.GENERATORS for _, t in find_calls(tokens)):
        return False
    selected = {p.unalias().sql() for p in query.expressions}
    # `GROUP BY shop` may mean a column of the table instead of the one selected under that name.
    if any(not isinstance(k, exp.Literal) and k.sql() not in selected for k in grouping_expressions(group)):
        return False
    totals = list(group.find_all(*TOTALS))
    sets = [part.sql() for total in totals for part in total.expressions]
    return len(totals) <= 1 and len(sets) == len(set(sets))


# --- how it is kept up to date ----------------------------------------------------------------------------------


def _parse_blocks(
    query: exp.Query, sql: str, tokens: list[Token], keys: tuple[str, ...], input_keys: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Block, ...], str]:
    """The model's blocks, or none and why."""
    try:
        return parse_blocks(query, sql, tokens, keys, input_keys), ""
    except NotIncremental as whole:
        return (), str(whole)


def _choose_strategy(blocks: tuple[Block, ...]) -> str:
    if not blocks:
        return "full"
    kinds = [block.kind for block in blocks]
    if any(block.has_ranges for block in blocks) or ("partitioned" in kinds and kinds[-1] != "grouped"):
        return "windowed"
    if "grouped" in kinds:
        return "grouped"
    return "row-wise" if len(blocks) == 1 and len(blocks[0].sources) == 1 else "lookup"


def _describe_strategy(strategy: str, blocks: tuple[Block, ...], follows_time: bool) -> str:
    last = blocks[-1]
    names = ", ".join(key.output or key.sql for key in last.refresh_key)
    reason = {
        "row-wise": "projections and filters of one table",
        "lookup": f"projections, filters and joins: a changed row touches the {names} that it reaches",
        "grouped": f"grouped by {names}: the groups of rows that changed are computed again",
        "windowed": f"windows or ranges: each {names} within whose reach a row changed is computed again",
    }[strategy]
    if last.totals and not any(key.can_push_down for key in last.refresh_key):
        reason += "; totals that share no column with the other sets are computed from every row"
    return reason + ("; all of it when :as_of moves" if follows_time else "")


def _source_columns(query: exp.Select) -> dict[str, str]:
    """Output columns that are a column of the table as it is, by name; a struct's field is not one."""
    table = next(query.find_all(exp.Table))
    columns = {}
    for projection in query.expressions:
        bare = projection.unalias()
        if isinstance(bare, exp.Column) and bare.table.lower() in ("", table.alias_or_name.lower()):
            columns[projection.alias_or_name.lower()] = bare.name.lower()
    return columns
