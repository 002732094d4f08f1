"""Chooses between no refresh, an incremental refresh and a full refresh of a model, with the reason.

A full refresh is chosen if, in this order:

1. it was requested;
2. the recorded state does not fit: no table, another writer, other SQL, keys, expectations or parameters, an input
   that was replaced, or a quarantine that does not match the table;
3. the model's SQL cannot be refreshed incrementally;
4. the inputs are so small that reading them costs less than finding the changes;
5. the changes of an input can no longer be read;
6. a changed input is referenced by a rule, so that the rule must be evaluated on all rows.

An incremental refresh raises `TooManyChanges` if it finds that a full refresh costs less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import delta
from lakehouse.lake.cached_rows import CachedRows, filter_to_ranges
from lakehouse.models.model import RefreshContext
from lakehouse.models.sql.rules import Rule
from lakehouse.spark.session import SPARK_ERRORS


@dataclass(frozen=True)
class RefreshChoice:
    """The choice of how to refresh a model.

    Attributes:
        kind: `none` if nothing changed, `incremental` or `full`.
        reason: Why the refresh is full; else empty.
        is_state_outdated: Whether the recorded state does not fit, so that all rules must be evaluated on all rows.
    """

    kind: Literal["none", "incremental", "full"]
    reason: str = ""
    is_state_outdated: bool = False


class TooManyChanges(Exception):
    """So many rows changed that a full refresh costs less. The message is the reason for the full refresh."""


def choose_refresh(context: RefreshContext, full_refresh: bool) -> RefreshChoice:
    """Choose how to refresh a model.

    Args:
        context: The refresh.
        full_refresh: Whether a full refresh was requested.

    Returns:
        The choice with its reason.
    """
    outdated = _outdated_state_reason(context)
    if full_refresh or outdated:
        return RefreshChoice("full", "requested" if full_refresh else outdated, bool(outdated))
    if not context.changed_inputs:
        return RefreshChoice("none")
    plan, size = context.model.plan, context.input_bytes
    if plan.strategy == "full":
        return RefreshChoice("full", plan.reason)
    if plan.strategy != "row-wise" and size < context.model.tuning.full_refresh_below_bytes:
        reason = f"its inputs are small, {size / 1e6:.1f} MB: reading them costs less than finding what changed"
        return RefreshChoice("full", reason)
    recorded = context.previous_state["inputs"]
    incomplete = [
        name
        for name in context.changed_inputs
        if context.inputs[name].has_missing_commits_since(recorded[name]["version"])
    ]
    if incomplete:
        return RefreshChoice("full", _unreadable_reason(incomplete))
    try:
        reason = _reference_reason(context)
    except SPARK_ERRORS as error:
        reason = unreadable_feed_reason(context, error)
    return RefreshChoice("full", reason) if reason else RefreshChoice("incremental")


def unreadable_feed_reason(context: RefreshContext, error: Exception) -> str:
    """Return the reason for a full refresh after the change feed of an input could not be read.

    Args:
        context: The refresh.
        error: Spark's error.

    Raises:
        Exception: `error` itself, if it has another cause.
    """
    if not delta.is_feed_unreadable(error):
        raise error
    return _unreadable_reason(context.changed_inputs)


def count_changes(context: RefreshContext, relation: str, images: CachedRows) -> int:
    """Return the number of row images of an input.

    Args:
        context: The refresh.
        relation: The input.
        images: Its rows before and after each change.

    Raises:
        TooManyChanges: More than the share of the input's rows that an incremental refresh is worth.
    """
    if images.local_rows is not None:
        return int(images.local_rows.num_rows)
    changed, rows = images.rows.count(), context.read_current(relation).count()
    if changed > context.model.tuning.full_refresh_share * rows:
        raise TooManyChanges(f"much of {relation} changed: {changed:,} changes, {rows:,} rows")
    return changed


def _outdated_state_reason(context: RefreshContext) -> str:
    """Return why the recorded state or the quarantine does not fit; empty if both do."""
    recorded, new = context.recorded_state, context.new_state
    if context.target_version is None:
        return "first refresh"
    if recorded is None:
        return "another writer changed its rows"
    if recorded["sql"] != new["sql"]:
        return "its SQL, keys or expectations changed"
    if recorded["arguments"] != new["arguments"]:
        return "its parameters changed"
    recorded_inputs = recorded["inputs"]
    other_tables = [name for name, at in new["inputs"].items() if recorded_inputs.get(name, {}).get("id") != at["id"]]
    older_versions = [
        name for name, at in new["inputs"].items() if recorded_inputs.get(name, {}).get("version", -1) > at["version"]
    ]
    if replaced := other_tables or older_versions:
        return f"{', '.join(replaced)} was replaced"
    had_quarantined_rows = context.last_refresh_state.get("quarantined")
    if not had_quarantined_rows and not any(rule.on_fail == "quarantine" for rule in context.model.plan.rules):
        return ""
    if had_quarantined_rows and not context.quarantine_state.rows:
        return "its quarantine is missing"
    return "" if context.quarantine_state.is_in_step else "a run was interrupted after it wrote the quarantine"


def _unreadable_reason(inputs: list[str]) -> str:
    return f"the changes of {', '.join(inputs)} can no longer be read"


def _reference_reason(context: RefreshContext) -> str:
    """Return why a rule must be evaluated on all rows after a change of the relation it references; empty if not.

    Any row may reference a value that was removed. Only rows that failed before may reference a value that was added.
    """
    for rule in context.model.plan.rules:
        relation = rule.referenced_relation
        if relation not in context.changed_inputs:
            continue
        changes, is_before_image = context.read_changes(relation).rows, delta.is_before_image()
        if _has_values_missing_in(context, rule, changes.where(is_before_image), context.read_current(relation)):
            return f"{rule.name} refers to values of {relation} that were removed"
        has_failing_rows = context.previous_state.get("failing", {}).get(rule.name, 0)
        if not has_failing_rows and rule.on_fail != "drop":  # dropped rows are recorded nowhere
            continue
        if _has_values_missing_in(context, rule, changes.where(~is_before_image), context.read_previous(relation)):
            return f"{rule.name} refers to {relation}, which has new values"
    return ""


def _has_values_missing_in(context: RefreshContext, rule: Rule, images: DataFrame, table: DataFrame) -> bool:
    """Return whether row images have referenced values that no row of a table has."""
    columns = [F.col(quote_identifier(column)) for column in rule.referenced_columns]
    values = context.cache(images.select(*columns).dropna().distinct())
    try:
        candidates = filter_to_ranges(table.select(*columns), values.value_ranges())
        return not values.rows.join(candidates, on=list(values.rows.columns), how="left_anti").isEmpty()
    finally:
        values.release()
