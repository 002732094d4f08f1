"""What is expected of a model, understood without Spark: each expectation as a condition that its rows meet or not.

    row rules     check, not_null, values, range, reference: of one row, which is warned of, dropped, put in quarantine,
                  or makes the refresh fail
    whole rules   unique, rows, freshness: of the model as a whole; warn or fail

A row meets a condition where it is true: a `check` that comes to null is not met. The short forms let null pass, which
is for `not_null` to refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse.config.expect import TABLE_RULES, Expectation, RowBand
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import find_calls
from lakehouse.models.sql.determinism import require_deterministic, used_parameters

REJECTING_POLICIES = ("drop", "quarantine")
_LAYERS = ("bronze", "silver", "gold")


@dataclass(frozen=True)
class Rule:
    """An expectation of a model.

    Attributes:
        spec: as configured.
        about: what is expected, for people.
        condition: of a row rule, SQL that is true of rows that meet it; of a reference, of those that refer to nothing.
        columns: those that it is about, as far as the form says.
        relation, others: of a reference, where the values have to be, and in which columns.
        parameters: those that the condition uses.
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
        return self.spec.kind

    @property
    def on_fail(self) -> str:
        return self.spec.policy

    @property
    def is_table_rule(self) -> bool:
        """Whether it is about the model as a whole."""
        return self.kind in TABLE_RULES

    @property
    def evaluated_rows(self) -> str:
        """What a refresh by what changed has to look at for it."""
        if self.referenced_relation:
            relation = self.referenced_relation
            return f"the rows touched; all rows, when values of {relation} go, or come while rows do not meet it"
        if self.is_table_rule:
            return "the table as it would be"
        return "the rows touched; all rows, when :as_of moves" if "as_of" in self.parameters else "the rows touched"

    @property
    def can_reject_rows(self) -> bool:
        return self.on_fail in REJECTING_POLICIES


def digest_rules(rules: Iterable[Rule]) -> str:
    """Another one, where anything about them changed."""
    told = [(rule.name, rule.on_fail, rule.spec.model_dump_json(exclude={"on_fail"})) for rule in rules]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def parse_rules(model: str, expect: Mapping[str, Expectation], sql: str, where: str) -> tuple[Rule, ...]:
    """The expectations of a model, understood.

    Args:
        sql: of the model, which has been understood.
        where: the pipeline's file, for messages.

    Raises:
        ConfigError: one of them is no condition on a row, or names a column that the model does not select.
    """
    columns = output_columns(sql) if expect else None
    return tuple(_parse_rule(model, name, spec, columns, where) for name, spec in expect.items())


def output_columns(sql: str) -> list[str] | None:
    """The columns that a SELECT gives; None where it does not say."""
    query = sqlglot.parse_one(sql, read="spark")
    if not isinstance(query, exp.Query) or query.is_star:
        return None
    return query.named_selects


def _parse_rule(model: str, name: str, spec: Expectation, columns: list[str] | None, where: str) -> Rule:
    label = f"{model}'s expectation {name}"
    if spec.check is not None:
        return _parse_check(label, name, spec, spec.check, columns, where)
    rule = _parse_short_form(label, name, spec, where)
    for column in rule.columns:
        require_column(label, column, columns, where)
    return rule


def require_column(
    label: str, column: str, columns: Collection[str] | None, where: str, owner: str = "the model"
) -> None:
    """Raises: ConfigError, if a column is none of those that are known."""
    if columns is not None and column.lower() not in {c.lower() for c in columns}:
        raise ConfigError(
            f"{label} names {column}, which {owner} does not have{did_you_mean(column, columns)}",
            expected=f"one of {', '.join(columns)}",
            where=where,
        )


# --- check ------------------------------------------------------------------------------------------------------------


def _parse_check(label: str, name: str, spec: Expectation, text: str, columns: list[str] | None, where: str) -> Rule:
    try:
        found = [part for part in sqlglot.parse(text, read="spark") if part is not None]
        tokens = sqlglot.tokenize(text, read="spark")
    except SqlglotError as error:
        raise ConfigError(f"{label} cannot be parsed: {error}", expected=_EXPECTED_CONDITION, where=where) from error
    if len(found) != 1 or isinstance(found[0], exp.Query | exp.Alias) or found[0].find(exp.Query, exp.Star):
        raise ConfigError(f"{label} is no condition: {text}", expected=_EXPECTED_CONDITION, where=where)
    condition = found[0]
    require_deterministic(label, condition, tokens, where)
    for _, token in find_calls(tokens):
        if token.text.lower() not in functions.SCALAR:
            raise ConfigError(
                f"{label} uses {token.text}, which is not known to be a function of one row",
                expected=_EXPECTED_CONDITION,
                where=where,
                next_step="compute it in the model's SQL, under a name, and check that",
            )
    for column in _condition_columns(condition):
        require_column(label, column, columns, where)
    # On lines of its own: the author's text may end in a comment.
    return Rule(name, spec, text, f"(\n{text}\n)", parameters=used_parameters(label, condition, where))


_EXPECTED_CONDITION = 'a condition on the columns of one row, such as "qtde_pontos >= 0"'


def _condition_columns(condition: exp.Expr) -> Iterator[str]:
    """The columns that a condition reads; of `a.b`, a field of a column, the column."""
    for column in condition.find_all(exp.Column):
        inside = column.find_ancestor(exp.Lambda)
        own = {argument.name.lower() for argument in inside.expressions} if inside else set()
        name = next(part.name for part in column.parts)
        if name.lower() not in own:
            yield name


# --- short forms ------------------------------------------------------------------------------------------------------


def _parse_short_form(label: str, name: str, spec: Expectation, where: str) -> Rule:
    if spec.reference is not None:
        return _parse_reference(label, name, spec, spec.reference, where)
    if spec.unique is not None:
        return Rule(name, spec, f"{', '.join(spec.unique)} unique", columns=tuple(spec.unique))
    if spec.rows is not None:
        return Rule(name, spec, f"rows: {', '.join(_describe_row_band(spec.rows))}")
    if spec.freshness is not None:
        about = f"{spec.freshness.column} within {_format_duration(spec.freshness.within)} of :as_of"
        return Rule(name, spec, about, columns=(spec.freshness.column,))
    parts = list(_column_conditions(spec))
    passes = "" if spec.not_null else "{0} IS NULL OR "
    each = [f"({passes.format(quote_identifier(column))}{quote_identifier(column)} {test})" for column, test in parts]
    about = " AND ".join(f"{column} {test}" for column, test in parts)
    return Rule(name, spec, about, " AND ".join(each), tuple(dict.fromkeys(column for column, _ in parts)))


def _format_duration(within: timedelta) -> str:
    """As pipeline.yml has it.

    >>> _format_duration(timedelta(hours=36))
    '36h'
    """
    seconds = int(within.total_seconds())
    size, unit = next(
        (size, unit) for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")) if not seconds % size
    )
    return f"{seconds // size}{unit}"


def _describe_row_band(band: RowBand) -> Iterator[str]:
    if band.min is not None:
        yield f"at least {band.min:,}"
    if band.max is not None:
        yield f"at most {band.max:,}"
    if band.max_change is not None:
        yield f"at most {100 * band.max_change:.4g} % more or fewer than before"


def _column_conditions(spec: Expectation) -> Iterator[tuple[str, str]]:
    """Columns, and what is expected of each, as SQL has it after the column."""
    yield from ((column, "IS NOT NULL") for column in spec.not_null or ())
    for column, values in (spec.values or {}).items():
        yield column, f"IN ({', '.join(map(_sql_literal, values)) or 'NULL'})"
    for column, bounds in (spec.range or {}).items():
        for sign, bound in ((">=", bounds.min), ("<=", bounds.max)):
            if bound is not None:
                yield column, f"{sign} {_sql_literal(bound)}"


def _sql_literal(value: Any) -> str:
    return exp.convert(value).sql("spark")


def _parse_reference(label: str, name: str, spec: Expectation, pairs: Mapping[str, str], where: str) -> Rule:
    places = {column: to.rpartition(".") for column, to in pairs.items()}
    relations = {relation for relation, _, _ in places.values()}
    relation = next(iter(relations))
    if len(relations) != 1 or relation.partition(".")[0] not in _LAYERS or relation.count(".") != 1:
        raise ConfigError(
            f"{label} refers to {', '.join(pairs.values())}",
            expected="columns of one table or model, such as silver.clientes.id_cliente",
            where=where,
        )
    nothing = " OR ".join(f"{quote_identifier(column)} IS NULL" for column in pairs)
    about = f"{', '.join(pairs)} in {', '.join(pairs.values())}"
    return Rule(name, spec, about, nothing, tuple(pairs), relation, tuple(column for _, _, column in places.values()))


def quote_identifier(column: str) -> str:
    return "`" + column.replace("`", "``") + "`"
