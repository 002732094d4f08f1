"""Evaluates the freshness rules of a model of which no row changed: time alone can break them."""

from __future__ import annotations

from typing import Any

from lakehouse.models.expectations.results import RESULTS_KEY, RuleResult, not_met_error, to_state
from lakehouse.models.expectations.table_rules import ResultingTable
from lakehouse.models.model import RefreshContext


def is_freshness_due(context: RefreshContext) -> bool:
    """Return whether `:as_of` changed since a freshness rule of the model was last evaluated."""
    recorded = context.last_refresh_state
    return as_of_state(context) != {name: recorded[name] for name in ("as_of",) if name in recorded}


def as_of_state(context: RefreshContext) -> dict[str, Any]:
    """Return the part of the new state that `is_freshness_due` compares: `as_of`, if a rule is about freshness."""
    has_freshness_rule = any(rule.spec.freshness for rule in context.model.plan.rules)
    return {"as_of": context.model.parameters["as_of"].isoformat()} if has_freshness_rule else {}


def evaluate_unchanged(context: RefreshContext) -> tuple[dict[str, Any], list[RuleResult]]:
    """Evaluate the freshness rules of a model of which no row changed.

    Args:
        context: The refresh.

    Returns:
        The evaluation's part of the state to record, and the result of each freshness rule.

    Raises:
        ExpectationsNotMet: A freshness rule with `on_fail: fail` is not met.
    """
    recorded, model = context.last_refresh_state, context.model
    carried_state = {name: recorded[name] for name in ("failing", "quarantined") if name in recorded}
    results, table = list[RuleResult](), context.read_target()
    if is_freshness_due(context) and table is not None:
        unchanged = ResultingTable(model.name, None, table, 0, None, None, model.parameters["as_of"])
        for rule in (rule for rule in model.plan.rules if rule.spec.freshness):
            outcome = unchanged.evaluate(rule, 0)
            results.append(
                RuleResult(model.name, rule.name, rule.on_fail, 0, None, None, outcome.is_met, outcome.observed)
            )
    if broken := [result for result in results if result.fails_refresh]:
        failures = [f"{result.model} does not meet {result.rule}: {result.observed}" for result in broken]
        raise not_met_error(context, results, failures)
    if kept := recorded.get(RESULTS_KEY, {}) | to_state(results):
        carried_state[RESULTS_KEY] = kept
    return carried_state | as_of_state(context), results
