"""The models of a pipeline, understood together: what each reads must be there, and what it adds up must be exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lakehouse import config
from lakehouse.config import Pipeline, Table
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.models.sql.float_sums import declared_inexact, inexact_sums
from lakehouse.models.sql.plan import Plan, in_order
from lakehouse.models.sql.plan import plan as plan_of
from lakehouse.models.sql.rules import outputs, refuse_stranger, rules


def plan_for(path: str | Path, model: str) -> Plan:
    """How one model is kept up to date. Starts no JVM.

    Args:
        model: its name; its layer may be left out where one layer alone has such a model.

    Raises:
        ConfigError: there is no such model.
    """
    found = plans(config.load(path))
    names = [name for name in found if model in (name, name.partition(".")[2])]
    if len(names) != 1:
        raise ConfigError(
            f"{len(names) or 'no'} models are named {model}{did_you_mean(model, [*found])}",
            expected=f"one of {', '.join(found)}",
            where=str(path),
        )
    return found[names[0]]


def plans(pipeline: Pipeline) -> dict[str, Plan]:
    """Every model, understood; and that what it reads is there, in its own layer or one before.

    Raises:
        ConfigError: naming the model and its file.
    """
    keys = {f"bronze.{t}": (*table.keys, *_window_start(table)) for t, table in pipeline.tables.items()}
    found = _planned(pipeline, keys)
    # Again, now that the models' own keys are known: they tell whether a window's order can leave ties.
    found = _planned(pipeline, keys | {model: plan.keys for model, plan in found.items()})
    readable = {f"bronze.{t}" for t in pipeline.tables} | {f"silver.{m}" for m in pipeline.silver}
    for name, plan in found.items():
        allowed = readable | ({f"gold.{m}" for m in pipeline.gold} if name.startswith("gold.") else set())
        if strangers := [r for r in plan.reads if r not in allowed]:
            near = did_you_mean(strangers[0], sorted(allowed))
            raise ConfigError(
                f"{name} reads {', '.join(strangers)}, which the pipeline does not have{near}",
                expected=f"one of {', '.join(sorted(allowed))}",
                where=str(pipeline.folder / f"{name.replace('.', '/', 1)}.sql"),
            )
    in_order(found)
    _refuse_references(pipeline, found)
    _refuse_sums_of_double(pipeline, found)
    return found


def _refuse_references(pipeline: Pipeline, found: dict[str, Plan]) -> None:
    """Raises: ConfigError, for an expectation that refers to a column that is not there."""
    tables = {f"bronze.{name}": [c.name for c in table.columns] for name, table in pipeline.tables.items()}
    there = tables | {model: outputs(plan.sql) for model, plan in found.items()}
    for model, plan in found.items():
        for rule in (rule for rule in plan.rules if rule.relation):
            called, columns = f"{model}'s expectation {rule.name}", there.get(rule.relation)
            for column in rule.others:
                refuse_stranger(called, column, columns, str(pipeline.path), rule.relation)


def _refuse_sums_of_double(pipeline: Pipeline, found: dict[str, Plan]) -> None:
    doubles = {
        (f"bronze.{name.lower()}", column.name.lower())
        for name, table in pipeline.tables.items()
        for column in table.columns
        if column.canonical_type in ("DOUBLE", "FLOAT")
    }
    for model in found:
        if sums := declared_inexact(found, model, doubles):
            raise inexact_sums(sums, model, str(pipeline.folder / f"{model.replace('.', '/', 1)}.sql"))


def _planned(pipeline: Pipeline, keys: dict[str, tuple[str, ...]]) -> dict[str, Plan]:
    found: dict[str, Plan] = {}
    for layer, models in {"silver": pipeline.silver, "gold": pipeline.gold}.items():
        for short, model in models.items():
            file = str(pipeline.folder / layer / f"{short}.sql")
            sql, name = pipeline.read_sql(layer, short), f"{layer}.{short}"
            plan = plan_of(name, sql, tuple(model.keys), file, keys)
            expected = rules(name, model.expect, sql, str(pipeline.path))
            used = plan.parameters.union(*(rule.parameters for rule in expected))
            found[name] = replace(plan, rules=expected, parameters=used)
    return found


def _window_start(table: Table) -> tuple[str, ...]:
    """What tells a key's windows apart, in a history."""
    return ("__START_AT",) if table.scd == 2 else ()
