"""Parses a model's expectations into rules, without Spark.

    row rules     check, not_null, values, range, reference: a condition on one row; a row that does not meet it is
                  dropped, quarantined or warned about, or the refresh fails
    table rules   unique, rows, freshness: a condition on the whole table; warn or fail

A row meets a condition if it is true. So a `check` that evaluates to null is not met. The short forms accept null,
except `not_null`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.tokens import Token

from lakehouse.config.ddl import quote_identifier
from lakehouse.config.expect import TABLE_RULES, Expectation
from lakehouse.config.layers import TABLE_LAYERS
from lakehouse.errors import ConfigError
from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import find_calls
from lakehouse.models.sql.calls import wrong_argument_counts
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT, require_deterministic, used_parameters
from lakehouse.models.sql.faults import describe_syntax_error, to_error

REJECTING_POLICIES = ("drop", "quarantine")
_EXPECTED_CONDITION = 'a condition on the columns of one row, such as "qtde_pontos >= 0"'


@dataclass(frozen=True)
class Rule:
    """A parsed expectation.

    Attributes:
        name: The name in pipeline.yml.
        spec: The configured expectation.
        description: The expectation, for people.
        condition: For a row rule, the SQL that is true for rows that meet it; for a reference, the SQL that is true for
            rows that reference nothing.
        columns: The columns that the rule is about, if its form names them.
        referenced_relation: For a reference, the relation that must contain the values.
        referenced_columns: For a reference, the columns that must contain them.
        parameters: The parameters that the condition uses.
    """

    name: str
    spec: Expectation
    description: str
    condition: str = ""
    columns: tuple[str, ...] = ()
    referenced_relation: str = ""
    referenced_columns: tuple[str, ...] = ()
    parameters: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        """The form, such as `check` or `not_null`."""
        return self.spec.kind

    @property
    def on_fail(self) -> str:
        """The policy: `warn`, `drop`, `quarantine` or `fail`."""
        return self.spec.policy

    @property
    def is_table_rule(self) -> bool:
        """Whether the rule is about the whole table."""
        return self.kind in TABLE_RULES

    @property
    def can_reject_rows(self) -> bool:
        """Whether rows that do not meet the rule do not reach the table."""
        return self.on_fail in REJECTING_POLICIES

    @property
    def evaluated_rows(self) -> str:
        """The rows that an incremental refresh evaluates the rule on, for people."""
        if self.referenced_relation:
            relation = self.referenced_relation
            return (
                f"the affected rows; all rows if values of {relation} are removed, or added while rows do not meet it"
            )
        if self.is_table_rule:
            return "the table as the refresh would leave it"
        used = [name for name in NEWEST_SNAPSHOT if name in self.parameters]
        return "the affected rows" + (f"; all rows if :{used[0]} changes" if used else "")


def digest_rules(rules: Iterable[Rule]) -> str:
    """Return a hash that differs if anything about the rules differs.

    Args:
        rules: The rules of a model, in order.
    """
    parts = [(rule.name, rule.on_fail, rule.spec.model_dump_json(exclude={"on_fail"})) for rule in rules]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def parse_rules(model: str, expect: Mapping[str, Expectation], where: str) -> tuple[Rule, ...]:
    """Parse the expectations of a model; `resolve.resolve_pipeline` requires that their columns exist.

    Args:
        model: The model's name.
        expect: The configured expectations by name.
        where: The pipeline's file, for messages.

    Raises:
        ConfigError: An expectation is not a condition on a row.
    """
    sources = (_RuleSource(name, spec, f"{model}'s expectation {name}", where) for name, spec in expect.items())
    return tuple(
        _parse_short_form(source) if source.spec.check is None else _parse_check(source, source.spec.check)
        for source in sources
    )


@dataclass(frozen=True)
class _RuleSource:
    """An expectation to parse.

    Attributes:
        name: The name in pipeline.yml.
        spec: The configured expectation.
        label: How messages name it.
        where: The pipeline's file.
    """

    name: str
    spec: Expectation
    label: str
    where: str


# --- check ------------------------------------------------------------------------------------------------------------


def _parse_check(source: _RuleSource, text: str) -> Rule:
    label, where = source.label, source.where
    tokens: list[Token] = []
    try:
        tokens = sqlglot.tokenize(text, read="spark")
        expressions = [part for part in sqlglot.parse(text, read="spark") if part is not None]
    except Exception as error:  # as of `plan_model`
        if faults := list(wrong_argument_counts(label, tokens)):
            raise to_error(replace(fault, where=where) for fault in faults) from error
        found = f"{label} cannot be parsed: {describe_syntax_error(error)}"
        raise ConfigError(found, expected=_EXPECTED_CONDITION, where=where) from error
    condition = expressions[0] if len(expressions) == 1 else None
    if condition is None or isinstance(condition, exp.Query | exp.Alias) or condition.find(exp.Query, exp.Star):
        raise ConfigError(f"{label} is not a condition: {text}", expected=_EXPECTED_CONDITION, where=where)
    require_deterministic(label, condition, tokens, where)
    for _, token in find_calls(tokens):
        if token.text.lower() not in functions.SCALAR:
            raise ConfigError(
                f"{label} uses {token.text}, which is not known to be a function of one row",
                expected=_EXPECTED_CONDITION,
                where=where,
                next_step="compute it in the model's SQL as a column, and check that column",
            )
    # On its own lines, because the author's text may end in a comment.
    parameters = used_parameters(label, condition, where)
    return Rule(source.name, source.spec, text, f"(\n{text}\n)", parameters=parameters)


# --- short forms ------------------------------------------------------------------------------------------------------


def _parse_short_form(source: _RuleSource) -> Rule:
    name, spec = source.name, source.spec
    if spec.reference is not None:
        return _parse_reference(source, spec.reference)
    if spec.unique is not None:
        return Rule(name, spec, f"{', '.join(spec.unique)} unique", columns=tuple(spec.unique))
    if (band := spec.rows) is not None:
        limits = [f"at least {band.min:,}"] if band.min is not None else []
        if band.max is not None:
            limits.append(f"at most {band.max:,}")
        if band.max_change is not None:
            limits.append(f"at most {100 * band.max_change:.4g} % more or fewer than before")
        return Rule(name, spec, f"rows: {', '.join(limits)}")
    if spec.freshness is not None:
        description = f"{spec.freshness.column} within {_format_duration(spec.freshness.within)} of :as_of"
        return Rule(name, spec, description, columns=(spec.freshness.column,))
    conditions = list(_column_conditions(spec))
    null_passes = "" if spec.not_null else "{0} IS NULL OR "
    texts = [
        f"({null_passes.format(quote_identifier(column))}{quote_identifier(column)} {test})"
        for column, test in conditions
    ]
    description = " AND ".join(f"{column} {test}" for column, test in conditions)
    columns = tuple(dict.fromkeys(column for column, _ in conditions))
    return Rule(name, spec, description, " AND ".join(texts), columns)


def _parse_reference(source: _RuleSource, pairs: Mapping[str, str]) -> Rule:
    targets = {column: target.rpartition(".") for column, target in pairs.items()}
    relations = {relation for relation, _, _ in targets.values()}
    relation = next(iter(relations))
    if len(relations) != 1 or relation.partition(".")[0] not in TABLE_LAYERS or relation.count(".") != 1:
        raise ConfigError(
            f"{source.label} refers to {', '.join(pairs.values())}",
            expected="columns of one table or model, such as silver.clientes.id_cliente",
            where=source.where,
        )
    is_null = " OR ".join(f"{quote_identifier(column)} IS NULL" for column in pairs)
    description = f"{', '.join(pairs)} in {', '.join(pairs.values())}"
    referenced_columns = tuple(column for _, _, column in targets.values())
    return Rule(source.name, source.spec, description, is_null, tuple(pairs), relation, referenced_columns)


def _column_conditions(spec: Expectation) -> Iterator[tuple[str, str]]:
    """Yield each column and the condition on it, as SQL has it after the column."""
    yield from ((column, "IS NOT NULL") for column in spec.not_null or ())
    for column, values in (spec.values or {}).items():
        yield column, f"IN ({', '.join(map(_sql_literal, values)) or 'NULL'})"
    for column, bounds in (spec.range or {}).items():
        for sign, bound in ((">=", bounds.min), ("<=", bounds.max)):
            if bound is not None:
                yield column, f"{sign} {_sql_literal(bound)}"


def _sql_literal(value: Any) -> str:
    return exp.convert(value).sql("spark")


def _format_duration(duration: timedelta) -> str:
    """Return a duration as pipeline.yml writes it.

    >>> _format_duration(timedelta(hours=36))
    '36h'
    """
    seconds = int(duration.total_seconds())
    units = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    size, unit = next((size, unit) for size, unit in units if not seconds % size)
    return f"{seconds // size}{unit}"
