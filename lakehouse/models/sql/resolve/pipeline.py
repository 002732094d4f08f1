"""Resolves all models of a pipeline: each reads the results of those before it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import sqlglot
from sqlglot import exp

from lakehouse.config import Pipeline
from lakehouse.config.strict_model import did_you_mean
from lakehouse.models.sql.calls import check_calls
from lakehouse.models.sql.faults import Fault, node_offset, place, to_error
from lakehouse.models.sql.plan import Plan, dependency_levels
from lakehouse.models.sql.resolve.expressions import Expressions
from lakehouse.models.sql.resolve.query import QueryResolver
from lakehouse.models.sql.resolve.relation import UNKNOWN, Relation, as_input, bronze_relation
from lakehouse.models.sql.resolve.result import check_result
from lakehouse.models.sql.resolve.scope import Scope, Source

_UTC = ("UTC", "Etc/UTC", "GMT", "Etc/GMT", "Z", "Zulu", "Etc/Zulu", "Etc/UCT", "UCT", "Etc/Universal", "Universal")


@dataclass(frozen=True)
class ResolvedModel:
    """The properties of a model that are known without Spark.

    Attributes:
        result: The columns that its SQL returns, with the columns of its inputs that they come from.
        faults: The parts that Spark, Delta or a comparison would refuse.
        limit_warnings: Each LIMIT in an order that may leave ties.
        day_warnings: Each day, month or hour that is taken of an instant in UTC.
        is_complete: Whether every name could be resolved, so that the origins of all columns are known.
    """

    result: Relation
    faults: tuple[Fault, ...] = ()
    limit_warnings: tuple[str, ...] = ()
    day_warnings: tuple[str, ...] = ()
    is_complete: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """The parts that are allowed, and may not be meant."""
        return self.limit_warnings + self.day_warnings


def resolve_pipeline(pipeline: Pipeline, plans: Mapping[str, Plan]) -> dict[str, ResolvedModel]:
    """Resolve all models of a pipeline.

    SQL that only Spark can judge is left to the first run: functions of other libraries, table-valued
    functions, PIVOT, types that are not certain.

    Args:
        pipeline: The pipeline.
        plans: The plans of its models.

    Raises:
        ConfigError: With all faults.
    """
    relations = {f"bronze.{name}": bronze_relation(f"bronze.{name}", t) for name, t in pipeline.tables.items()}
    resolved: dict[str, ResolvedModel] = {}
    faults: list[Fault] = []
    for model in (model for level in dependency_levels(plans) for model in level):
        plan, file = plans[model], pipeline.sql_path(model)
        one = resolve_model(plan, relations, file, _has_other_functions(pipeline))
        resolved[model] = one if pipeline.business_timezone not in _UTC else replace(one, day_warnings=())
        relations[model] = replace(as_input(model, one.result), keys=(frozenset(k.lower() for k in plan.keys),))
        faults += [*one.faults, *_check_keys(pipeline, plan, one.result)]
    for model, plan in plans.items():
        faults += _check_rules(pipeline, plan, resolved[model].result, relations)
    if faults:
        raise to_error(faults)
    return resolved


def resolve_model(
    plan: Plan, relations: Mapping[str, Relation], file: str, has_other_functions: bool = False
) -> ResolvedModel:
    """Resolve one model; one whose expressions are nested too deeply is left to Spark.

    Args:
        plan: The model.
        relations: The relations that it reads.
        file: Its file, for messages.
        has_other_functions: Whether the session may know functions that Spark itself does not have.
    """
    try:
        return _resolve(plan, relations, file, has_other_functions)
    except RecursionError:
        return ResolvedModel(UNKNOWN)


def _resolve(plan: Plan, relations: Mapping[str, Relation], file: str, has_other_functions: bool) -> ResolvedModel:
    query = sqlglot.parse_one(plan.sql, read="spark")
    assert isinstance(query, exp.Query)  # the plan was made from it
    resolver = QueryResolver(plan.model, relations)
    result, expressions = resolver.resolve(query), resolver.expressions
    faults = [*expressions.faults, *check_result(expressions, query, result)]
    faults += check_calls(plan.model, plan.sql, query, has_other_functions)
    placed = [place(fault, plan.sql, file) for fault in sorted(faults, key=_order)]
    limits, days = tuple(_order_warnings(expressions, plan, file)), tuple(_day_warnings(expressions, plan, file))
    return ResolvedModel(result, tuple(placed), limits, days, expressions.is_complete and not result.is_open)


def _has_other_functions(pipeline: Pipeline) -> bool:
    """Return whether the session may know functions that Spark itself does not have.

    A catalog has those of its users, Databricks its own, and a session that spark-submit configures may have an
    extension with more.
    """
    return not isinstance(pipeline.lake, str) or "PYSPARK_GATEWAY_PORT" in os.environ


def _order(fault: Fault) -> int:
    return -1 if fault.offset is None else fault.offset


def _day_warnings(expressions: Expressions, plan: Plan, file: str) -> Iterator[str]:
    for node, column in expressions.day_expressions:
        name = column.sql("spark")
        local = node.copy()
        for part in list(local.find_all(exp.Column)):
            if part.sql("spark") == name:
                shifted = exp.Anonymous(
                    this="from_utc_timestamp", expressions=[part.copy(), exp.Placeholder(this="business_timezone")]
                )
                part.replace(shifted)
        where = place(Fault("", offset=node_offset(node)), plan.sql, file).where
        yield (
            f"{where} {plan.model} takes the day or the hour of {name} in UTC, but a day of this pipeline begins in "
            f"business_timezone; write {local.sql('spark', normalize_functions='lower')}"
        )


def _order_warnings(expressions: Expressions, plan: Plan, file: str) -> Iterator[str]:
    for limit in expressions.unordered_limits:
        where = place(Fault("", offset=node_offset(limit)), plan.sql, file).where
        yield f"{where} {plan.model} has a LIMIT whose ORDER BY may leave ties; add columns that identify a row"
    for call, instead in expressions.unordered_values:
        where = place(Fault("", offset=node_offset(call)), plan.sql, file).where
        yield f"{where} {plan.model} takes values of rows in an order that is not defined; write {instead}"


# --- keys and expectations --------------------------------------------------------------------------------------------


def _check_keys(pipeline: Pipeline, plan: Plan, result: Relation) -> Iterator[Fault]:
    layer, _, short = plan.model.partition(".")
    for at, key in enumerate(plan.keys):
        if not result.has_unknown_names and not result.find(key):
            hint = did_you_mean(key, result.names)
            found = f"{plan.model} has the key {key}, which its SQL does not select{hint}"
            yield Fault(found, _one_of(result), pipeline.location(layer, short, "keys", at))


def _check_rules(
    pipeline: Pipeline, plan: Plan, result: Relation, relations: Mapping[str, Relation]
) -> Iterator[Fault]:
    layer, _, short = plan.model.partition(".")
    for rule in plan.rules:
        label, where = f"{plan.model}'s expectation {rule.name}", pipeline.location(layer, short, "expect", rule.name)
        for column in rule.columns:
            if not result.has_unknown_names and not result.find(column):
                hint = did_you_mean(column, result.names)
                yield Fault(f"{label} names {column}, which the model does not have{hint}", _one_of(result), where)
        referenced = relations.get(rule.referenced_relation)
        for column in rule.referenced_columns if referenced else ():
            if referenced and not referenced.has_unknown_names and not referenced.find(column):
                hint = did_you_mean(column, referenced.names)
                found = f"{label} names {column}, which {rule.referenced_relation} does not have{hint}"
                yield Fault(found, _one_of(referenced), where)
        if rule.spec.check is not None:
            yield from check_condition(rule.spec.check, label, where, result, "the model does not have")


def check_condition(text: str, label: str, where: str, relation: Relation, owner: str) -> Iterator[Fault]:
    """Yield the faults of a condition on one row.

    Args:
        text: The condition, which can be parsed.
        label: How messages name it.
        where: The place in pipeline.yml, for messages.
        relation: The columns that it may name.
        owner: The owner of a name that lacks a column, for messages, such as `the model does not have`.
    """
    tree = sqlglot.parse_one(text, read="spark")
    expressions = Expressions(label, "names", lambda query, ctes, scope: UNKNOWN)
    expressions.visit(tree, Scope([Source("", relation)], owner=owner), {})
    found = {fault.found: fault for fault in [*expressions.faults, *check_calls(label, text, tree, False)]}
    for fault in found.values():
        yield replace(fault, where=where, offset=None)


def _one_of(relation: Relation) -> str:
    return f"one of {', '.join(relation.names)}"
