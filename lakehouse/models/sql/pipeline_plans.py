"""Plans all models of a pipeline together and checks their inputs, references and sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lakehouse import config
from lakehouse.config import Pipeline
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.models.sql.faults import text_position
from lakehouse.models.sql.feed_conditions import require_feed_conditions
from lakehouse.models.sql.float_sums import find_float_sums, inexact_sums_error
from lakehouse.models.sql.plan import ParsedModel, Plan, dependency_levels, parse_model, plan_parsed
from lakehouse.models.sql.published_tables import require_publishable
from lakehouse.models.sql.resolve import Origin, bronze_relation, lineage, resolve_pipeline
from lakehouse.models.sql.rules import parse_rules


def load_plan(path: str | Path, model: str) -> tuple[Plan, dict[str, tuple[Origin, ...]]]:
    """Return the plan of one model, and for each of its columns the columns of bronze that its value comes from.

    Starts no JVM, and needs no lake.

    Args:
        path: The pipeline's folder or file.
        model: The model's name; the layer may be left out if only one layer has a model of that name.

    Raises:
        ConfigError: There is no such model, or the pipeline is not valid.
    """
    pipeline = config.load(path)
    plans = plan_pipeline(pipeline)
    names = [name for name in plans if model in (name, name.partition(".")[2])]
    if len(names) != 1:
        raise ConfigError(
            f"{len(names) or 'no'} models are named {model}{did_you_mean(model, [*plans])}",
            expected=f"one of {', '.join(plans)}",
            where=str(path),
        )
    (name,) = names
    return plans[name], lineage(resolve_pipeline(pipeline, plans))[name]


def plan_pipeline(pipeline: Pipeline) -> dict[str, Plan]:
    """Return the plans of all models by name.

    Args:
        pipeline: The pipeline.

    Raises:
        ConfigError: A model is not valid, reads a relation that is not in its own layer or one before it, references
            an unknown column, adds up DOUBLE, depends on itself, or is nested too deeply.
    """
    try:
        return _plan_pipeline(pipeline)
    except RecursionError:  # of sqlglot, which follows each level by a call
        raise ConfigError(
            "the SQL of a model or a rule is nested too deeply",
            expected="a few hundred levels of parentheses, calls and subqueries at most",
            where=str(pipeline.folder),
        ) from None


def _plan_pipeline(pipeline: Pipeline) -> dict[str, Plan]:
    require_feed_conditions(pipeline)
    keys = {
        # A key has several rows in a history, one for each period.
        f"bronze.{name}": (*table.keys, *(("__START_AT",) if table.scd == 2 else ()))
        for name, table in pipeline.tables.items()
    }
    parsed = _parse_models(pipeline)
    keys |= {name: model.keys for name, model in parsed.items()}  # they decide whether a window's order is unique
    plans = {name: _with_rules(pipeline, plan_parsed(model, keys)) for name, model in parsed.items()}
    _require_known_relations(pipeline, plans)
    dependency_levels(plans)
    resolved = resolve_pipeline(pipeline, plans)
    relations = {f"bronze.{name}": bronze_relation(f"bronze.{name}", table) for name, table in pipeline.tables.items()}
    relations |= {model: one.result for model, one in resolved.items()}
    require_publishable(pipeline, relations, keys)
    float_columns = {
        (f"bronze.{name.lower()}", column.name.lower())
        for name, table in pipeline.tables.items()
        for column in table.columns
        if column.canonical_type in ("DOUBLE", "FLOAT")
    }
    for model in plans:
        if sums := find_float_sums(plans, model, float_columns):
            raise inexact_sums_error(sums, model, pipeline.sql_path(model))
    return {model: replace(plan, warnings=resolved[model].warnings) for model, plan in plans.items()}


def _parse_models(pipeline: Pipeline) -> dict[str, ParsedModel]:
    layers = {"silver": pipeline.silver, "gold": pipeline.gold}
    return {
        (name := f"{layer}.{short}"): parse_model(
            name, pipeline.read_sql(layer, short), tuple(model.keys), pipeline.sql_path(name)
        )
        for layer, models in layers.items()
        for short, model in models.items()
    }


def _with_rules(pipeline: Pipeline, plan: Plan) -> Plan:
    """Return a plan with the model's expectations, and the parameters that these use."""
    layer, _, short = plan.model.partition(".")
    model = (pipeline.silver if layer == "silver" else pipeline.gold)[short]
    rules = tuple(
        parsed
        for rule, spec in model.expect.items()
        for parsed in parse_rules(plan.model, {rule: spec}, pipeline.location(layer, short, "expect", rule))
    )
    return replace(plan, rules=rules, parameters=plan.parameters.union(*(rule.parameters for rule in rules)))


def _require_known_relations(pipeline: Pipeline, plans: dict[str, Plan]) -> None:
    """Raise if a model depends on a relation that is not in its own layer or one before it."""
    silver_or_before = {f"bronze.{table}" for table in pipeline.tables} | {f"silver.{m}" for m in pipeline.silver}
    for name, plan in plans.items():
        known = silver_or_before | ({f"gold.{m}" for m in pipeline.gold} if name.startswith("gold.") else set())
        if unknown := [relation for relation in plan.dependencies if relation not in known]:
            suggestion = did_you_mean(unknown[0], sorted(known))
            raise ConfigError(
                f"{name} reads {', '.join(unknown)}, which the pipeline does not have{suggestion}",
                expected=f"one of {', '.join(sorted(known))}",
                where=_place_of(pipeline, plan, unknown[0]),
            )


def _place_of(pipeline: Pipeline, plan: Plan, relation: str) -> str:
    """Return where a model names a relation: in its SQL, or in an expectation."""
    starts = [name.start for name in plan.table_names if name.relation == relation]
    if starts:
        return f"{pipeline.sql_path(plan.model)}:{text_position(plan.sql, starts[0])}"
    layer, _, short = plan.model.partition(".")
    rule = next(rule.name for rule in plan.rules if rule.referenced_relation == relation)
    return pipeline.location(layer, short, "expect", rule)
