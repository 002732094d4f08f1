"""Plans a model from its SQL, without Spark: the relations it reads, its keys, and how it can be refreshed.

The author's text is never rewritten by a parser: only the names of relations are replaced, at their positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token

from lakehouse.config.ddl import quote_identifier
from lakehouse.config.layers import TABLE_LAYERS
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
from lakehouse.models.sql.calls import wrong_argument_counts
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT, require_deterministic, used_parameters
from lakehouse.models.sql.faults import describe_syntax_error, place, syntax_error_position, to_error
from lakehouse.models.sql.rules import Rule, digest_rules


@dataclass(frozen=True)
class TableName:
    """A relation's name in a model's text.

    Attributes:
        relation: The relation, such as `silver.customers`.
        start: The position of the name's first character.
        end: The position of its last character.
        alias: The alias to add after the new name, or empty if the author gives one.
    """

    relation: str
    start: int
    end: int
    alias: str


@dataclass(frozen=True)
class Plan:
    """A parsed model.

    Attributes:
        model: The name, such as `silver.customers`.
        sql: The author's text.
        table_names: The names of relations in the text.
        keys: The columns that identify a row.
        has_unique_keys: Whether the SQL itself makes the keys unique, because it groups by them.
        blocks: The SELECTs, if the model can be refreshed incrementally; else none.
        strategy: `row-wise`, `lookup`, `grouped`, `windowed` or `full`.
        reason: The reason for the strategy; for `full`, the unsupported clause and its replacement.
        source_columns: Output columns of a row-wise model that are an unchanged column of the input, by output column.
        parameters: The parameters of `determinism.PARAMETERS` that the SQL or the rules use.
        rules: The model's expectations.
        warnings: Parts of its SQL that are allowed, and may not be meant.
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
    warnings: tuple[str, ...] = ()

    @property
    def inputs(self) -> list[str]:
        """The relations that the SQL reads."""
        return sorted({name.relation for name in self.table_names})

    @property
    def dependencies(self) -> list[str]:
        """The inputs and the relations that rules reference."""
        return sorted({*self.inputs, *(rule.referenced_relation for rule in self.rules if rule.referenced_relation)})

    @property
    def sql_hash(self) -> str:
        """The hash of everything that decides which rows the model has: its SQL, keys and rules."""
        definition = (self.sql, self.keys, *([digest_rules(self.rules)] if self.rules else []))
        return hashlib.sha256(repr(definition).encode()).hexdigest()

    def has_input_keys(self, input_keys: tuple[str, ...]) -> bool:
        """Return whether the model's keys contain the keys of its only input, unchanged.

        Args:
            input_keys: The key columns of the input.
        """
        own_columns = {self.source_columns[k.lower()] for k in self.keys if k.lower() in self.source_columns}
        return {k.lower() for k in input_keys} <= own_columns

    def sql_with_names(self, names: Mapping[str, str]) -> str:
        """Return the SQL with each relation's name replaced.

        Args:
            names: The new name of each relation.
        """
        text = self.sql
        for name in sorted(self.table_names, key=lambda name: name.start, reverse=True):
            text = text[: name.start] + names[name.relation] + name.alias + text[name.end + 1 :]
        return text


@dataclass(frozen=True)
class ParsedModel:
    """A model's SQL, parsed, with its keys.

    Attributes:
        name: The name, such as `silver.customers`.
        sql: The author's text.
        where: The file, for messages.
        query: The syntax tree.
        tokens: The tokens of the text.
        group_keys: The columns that the GROUP BY makes unique.
        keys: The configured keys, or the columns of the GROUP BY.
    """

    name: str
    sql: str
    where: str
    query: exp.Query
    tokens: list[Token]
    group_keys: tuple[str, ...]
    keys: tuple[str, ...]


def parse_model(model: str, sql: str, keys: tuple[str, ...], where: str) -> ParsedModel:
    """Parse a model's SQL.

    Args:
        model: The name, such as `silver.customers`.
        sql: The author's text.
        keys: The configured keys; if empty, the columns of the GROUP BY.
        where: The file, for messages.

    Raises:
        ConfigError: The SQL cannot be parsed, is not one SELECT, may give other rows for the same inputs, reads
            something else than relations of the lake, or has no keys.
    """
    query, tokens = _parse(model, sql, where)
    require_deterministic(model, query, tokens, where)
    _find_table_names(model, query, where)
    group_keys = _group_keys(query)
    if not keys and not group_keys:
        group = query.args.get("group")
        raise ConfigError(
            f"{model} has no keys{': GROUP BY ALL does not name them' if group and group.args.get('all') else ''}",
            expected="`keys` in pipeline.yml, or a GROUP BY whose columns are selected",
            where=where,
        )
    _require_grouping_id(model, query, where)
    return ParsedModel(model, sql, where, query, tokens, group_keys, tuple(keys or group_keys))


def plan_model(
    model: str, sql: str, keys: tuple[str, ...], where: str, input_keys: Mapping[str, tuple[str, ...]] | None = None
) -> Plan:
    """Parse a model's SQL and plan its refresh, as `parse_model` and `plan_parsed` do.

    Args:
        model: The name, such as `silver.customers`.
        sql: The author's text.
        keys: The configured keys; if empty, the columns of the GROUP BY.
        where: The file, for messages.
        input_keys: The columns that identify a row of each relation, if known.
    """
    return plan_parsed(parse_model(model, sql, keys, where), input_keys or {})


def plan_parsed(parsed: ParsedModel, input_keys: Mapping[str, tuple[str, ...]]) -> Plan:
    """Plan the refresh of a model.

    Args:
        parsed: The model.
        input_keys: The columns that identify a row of each relation, if known.
    """
    query, tokens = parsed.query, parsed.tokens
    try:
        blocks, unsupported = parse_blocks(query, parsed.sql, tokens, parsed.keys, input_keys), ""
    except NotIncremental as error:
        blocks, unsupported = (), str(error)
    except SqlglotError:  # a part that is no expression by itself
        blocks, unsupported = (), "SQL that cannot be split into columns"
    parameters = used_parameters(parsed.name, query, parsed.where)
    strategy = _choose_strategy(blocks)
    return Plan(
        model=parsed.name,
        sql=parsed.sql,
        table_names=_find_table_names(parsed.name, query, parsed.where),
        keys=parsed.keys,
        has_unique_keys=_has_unique_groups(query, tokens)
        and {k.lower() for k in parsed.group_keys} <= {k.lower() for k in parsed.keys},
        blocks=blocks,
        strategy=strategy,
        reason=unsupported or _describe_strategy(strategy, blocks, [*filter(parameters.__contains__, NEWEST_SNAPSHOT)]),
        source_columns=_source_columns(query) if strategy == "row-wise" and isinstance(query, exp.Select) else {},
        parameters=parameters,
    )


def dependency_levels(plans: Mapping[str, Plan]) -> list[list[str]]:
    """Return the names of models in levels: each model depends only on models of the levels before its own.

    Args:
        plans: The plans by model.

    Raises:
        ConfigError: Models depend on each other in a circle.
    """
    remaining, levels = dict(plans), list[list[str]]()
    while remaining:
        ready = sorted(m for m, plan in remaining.items() if not (set(plan.dependencies) & remaining.keys()))
        if not ready:
            raise ConfigError(
                f"models depend on each other in a circle: {', '.join(sorted(remaining))}",
                expected="models that read tables of bronze, or models that do not depend on them",
                where=", ".join(f"{name.replace('.', '/')}.sql" for name in sorted(remaining)),
                next_step="remove one of these references",
            )
        levels.append(ready)
        remaining = {m: plan for m, plan in remaining.items() if m not in ready}
    return levels


def _parse(model: str, sql: str, where: str) -> tuple[exp.Query, list[Token]]:
    tokens: list[Token] = []
    try:
        dialect = Dialect.get_or_raise("spark")
        tokens = dialect.tokenize(sql)
        statements = [statement for statement in dialect.parser().parse(tokens, sql) if statement is not None]
    except Exception as error:  # sqlglot's own, and others of its functions on text that is no SQL: MAP('a')
        if faults := list(wrong_argument_counts(model, tokens)):  # sqlglot refuses them as well, without the name
            raise to_error(place(fault, sql, where) for fault in faults) from error
        raise ConfigError(
            f"{model} cannot be parsed: {describe_syntax_error(error)}",
            expected="one SELECT",
            where=where + syntax_error_position(error),
        ) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ConfigError(f"{model} is not one SELECT", expected="one SELECT, and nothing else", where=where)
    return statements[0], tokens


def _require_grouping_id(model: str, query: exp.Query, where: str) -> None:
    """Raise if the query has totals without GROUPING_ID(): these look like rows with a NULL dimension."""
    has_no_totals = query.args.get("group") is None or not has_totals(query.args["group"])
    if has_no_totals or any(is_grouping_id(projection.unalias()) for projection in query.expressions):
        return
    raise ConfigError(
        f"{model} has totals that cannot be distinguished from rows with a NULL dimension",
        expected="GROUPING_ID() among the selected columns, with GROUPING SETS, ROLLUP or CUBE",
        where=where,
        next_step="select GROUPING_ID() AS grouping_id",
    )


def _find_table_names(model: str, query: exp.Query, where: str) -> tuple[TableName, ...]:
    ctes = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    names = []
    for table in query.find_all(exp.Table):
        layer, short = table.db.lower(), table.name
        if table.find_ancestor(exp.Hint):
            continue
        if not layer and short.lower() in ctes:
            continue
        if layer not in TABLE_LAYERS or table.catalog:
            relation = "<name>" if layer else short
            raise ConfigError(
                f"{model} reads {table.sql('spark')}",
                expected=f"a table (bronze.{relation}), a model (silver.{relation}, gold.{relation})"
                " or a CTE of its own",
                where=where,
            )
        start, end = table.args["db"].meta["start"], table.this.meta["end"]
        # Columns may be qualified with the bare name of a table that has no alias.
        alias = "" if table.alias else f" AS {quote_identifier(short)}"
        names.append(TableName(f"{layer}.{short}", start, end, alias))
    if not names:
        raise ConfigError(f"{model} reads no table", expected="a SELECT over the lake's tables", where=where)
    return tuple(names)


def _group_keys(query: exp.Query) -> tuple[str, ...]:
    """Return the output columns that the outermost GROUP BY makes unique; none if that is not certain."""
    group = query.args.get("group") if isinstance(query, exp.Select) else None
    if group is None:
        return ()
    expressions = grouping_expressions(group)
    names: dict[str, str] = {}
    for position, projection in enumerate(query.expressions, start=1):
        bare = projection.unalias()
        for key in expressions:
            by_position = isinstance(key, exp.Literal) and key.name == str(position)
            if by_position or key == bare or (isinstance(key, exp.Column) and key.name == projection.alias):
                names[key.sql("spark")] = projection.alias_or_name
        if is_grouping_id(bare):
            names["grouping_id()"] = projection.alias_or_name
    return tuple(dict.fromkeys(names.values())) if {key.sql("spark") for key in expressions} <= names.keys() else ()


def _has_unique_groups(query: exp.Query, tokens: list[Token]) -> bool:
    """Return whether each combination of the grouping keys is certain to appear once."""
    group = query.args.get("group") if isinstance(query, exp.Select) else None
    if group is None or any(t.text.lower() in functions.GENERATORS for _, t in find_calls(tokens)):
        return False
    selected = {p.unalias().sql("spark") for p in query.expressions}
    # `GROUP BY shop` may mean a column of the table instead of the one selected under that name.
    if any(not isinstance(k, exp.Literal) and k.sql("spark") not in selected for k in grouping_expressions(group)):
        return False
    totals = list(group.find_all(*TOTALS))
    sets = [part.sql("spark") for total in totals for part in total.expressions]
    return len(totals) <= 1 and len(sets) == len(set(sets))


def _choose_strategy(blocks: tuple[Block, ...]) -> str:
    if not blocks:
        return "full"
    kinds = [block.kind for block in blocks]
    if any(block.has_ranges for block in blocks) or ("partitioned" in kinds and kinds[-1] != "grouped"):
        return "windowed"
    if "grouped" in kinds:
        return "grouped"
    return "row-wise" if len(blocks) == 1 and len(blocks[0].sources) == 1 else "lookup"


def _describe_strategy(strategy: str, blocks: tuple[Block, ...], times: list[str]) -> str:
    final_block = blocks[-1]
    names = ", ".join(key.output or key.sql for key in final_block.refresh_key)
    reason = {
        "row-wise": "projections and filters of one table",
        "lookup": f"projections, filters and joins: a changed row affects the {names} that it joins",
        "grouped": f"grouped by {names}: the groups of changed rows are computed again",
        "windowed": f"windows or ranges: each {names} within reach of a changed row is computed again",
    }[strategy]
    if final_block.totals and not any(key.can_push_down for key in final_block.refresh_key):
        reason += "; totals that share no column with the other sets are computed from all rows"
    return reason + (f"; all rows when :{times[0]} changes" if times else "")


def _source_columns(query: exp.Select) -> dict[str, str]:
    """Return the output columns that are an unchanged column of the table; a field of a struct is not one."""
    table = next(query.find_all(exp.Table))
    columns = {}
    for projection in query.expressions:
        bare = projection.unalias()
        if isinstance(bare, exp.Column) and bare.table.lower() in ("", table.alias_or_name.lower()):
            columns[projection.alias_or_name.lower()] = bare.name.lower()
    return columns
