"""The models of a pipeline, understood together: what each reads must be there, and what it adds up must be exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lakehouse import config
from lakehouse.config import Pipeline, Table
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.models.sql.float_sums import find_float_sums, inexact_sums_error
from lakehouse.models.sql.plan import Plan, dependency_levels
from lakehouse.models.sql.plan import plan_model as plan_of
from lakehouse.models.sql.rules import output_columns, parse_rules, require_column


def load_plan(path: str | Path, model: str) -> Plan:
    """How one model is kept up to date. Starts no JVM.

    Args:
        model: its name; its layer may be left out where one layer alone has such a model.

    Raises:
        ConfigError: there is no such model.
    """
    found = plan_pipeline(config.load(path))
    names = [name for name in found if model in (name, name.partition(".")[2])]
    if len(names) != 1:
        raise ConfigError(
            f"{len(names) or 'no'} models are named {model}{did_you_mean(model, [*found])}",
            expected=f"one of {', '.join(found)}",
            where=str(path),
        )
    return found[names[0]]


def plan_pipeline(pipeline: Pipeline) -> dict[str, Plan]:
    """Every model, understood; and that what it reads is there, in its own layer or one before.

    Raises:
        ConfigError: naming the model and its file.
    """
    keys = {f"bronze.{t}": (*table.keys, *_scd2_key(table)) for t, table in pipeline.tables.items()}
    found = _plan_with_keys(pipeline, keys)
    # Again, now that the models' own keys are known: they tell whether a window's order can leave ties.
    found = _plan_with_keys(pipeline, keys | {model: plan.keys for model, plan in found.items()})
    readable = {f"bronze.{t}" for t in pipeline.tables} | {f"silver.{m}" for m in pipeline.silver}
    for name, plan in found.items():
        allowed = readable | ({f"gold.{m}" for m in pipeline.gold} if name.startswith("gold.") else set())
        if strangers := [r for r in plan.dependencies if r not in allowed]:
            near = did_you_mean(strangers[0], sorted(allowed))
            raise ConfigError(
                f"{name} reads {', '.join(strangers)}, which the pipeline does not have{near}",
                expected=f"one of {', '.join(sorted(allowed))}",
                where=str(pipeline.folder / f"{name.replace('.', '/', 1)}.sql"),
            )
    dependency_levels(found)
    _require_references(pipeline, found)
    _require_exact_sums(pipeline, found)
    return found


def _require_references(pipeline: Pipeline, plans: dict[str, Plan]) -> None:
    """Raises: ConfigError, for an expectation that refers to a column that is not there."""
    tables = {f"bronze.{name}": [c.name for c in table.columns] for name, table in pipeline.tables.items()}
    there = tables | {model: output_columns(plan.sql) for model, plan in plans.items()}
    for model, plan in plans.items():
        for rule in (rule for rule in plan.rules if rule.referenced_relation):
            called, columns = f"{model}'s expectation {rule.name}", there.get(rule.referenced_relation)
            for column in rule.referenced_columns:
                require_column(called, column, columns, str(pipeline.path), rule.referenced_relation)


def _require_exact_sums(pipeline: Pipeline, plans: dict[str, Plan]) -> None:
    doubles = {
        (f"bronze.{name.lower()}", column.name.lower())
        for name, table in pipeline.tables.items()
        for column in table.columns
        if column.canonical_type in ("DOUBLE", "FLOAT")
    }
    for model in plans:
        if sums := find_float_sums(plans, model, doubles):
            raise inexact_sums_error(sums, model, str(pipeline.folder / f"{model.replace('.', '/', 1)}.sql"))


def _plan_with_keys(pipeline: Pipeline, keys: dict[str, tuple[str, ...]]) -> dict[str, Plan]:
    found: dict[str, Plan] = {}
    for layer, models in {"silver": pipeline.silver, "gold": pipeline.gold}.items():
        for short, model in models.items():
            file = str(pipeline.folder / layer / f"{short}.sql")
            sql, name = pipeline.read_sql(layer, short), f"{layer}.{short}"
            plan = plan_of(name, sql, tuple(model.keys), file, keys)
            expected = parse_rules(name, model.expect, sql, str(pipeline.path))
            used = plan.parameters.union(*(rule.parameters for rule in expected))
            found[name] = replace(plan, rules=expected, parameters=used)
    return found


def _scd2_key(table: Table) -> tuple[str, ...]:
    """What tells a key's windows apart, in a history."""
    return ("__START_AT",) if table.scd == 2 else ()
