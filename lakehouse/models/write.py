"""Writes the rows of a refresh: evaluates expectations, requires unique keys and merges the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame

from lakehouse.errors import DataRefused
from lakehouse.failpoints import failpoint
from lakehouse.lake import delta
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.merge import MergeTarget, WriteResult, delete_doubled, merge_to_match
from lakehouse.models import expectations
from lakehouse.models.expectations import RuleResult
from lakehouse.models.model import Model, RefreshContext
from lakehouse.models.readable import require_readable
from lakehouse.models.storable import require_storable


@dataclass(frozen=True)
class ComputedRows:
    """The rows that a refresh computed.

    Attributes:
        rows: All rows that the model has for the affected keys.
        affected_keys: The keys to bring up to date; None for the whole table.
        expect_few: Whether few rows are expected, so that the driver may collect them.
        rebuild: Whether to replace the table if its columns changed, and not only if those of an input did.
    """

    rows: DataFrame
    affected_keys: CachedRows | None = None
    expect_few: bool = False
    rebuild: bool = False


@dataclass(frozen=True)
class ModelWrite:
    """The result of writing a model.

    Attributes:
        written: The rows that changed in the table.
        rejected: The rows that expectations rejected, by `quarantined` and `dropped`.
        rule_results: The result of each rule.
    """

    written: WriteResult = field(default_factory=WriteResult)
    rejected: Mapping[str, int] = field(default_factory=dict)
    rule_results: tuple[RuleResult, ...] = ()


def write_rows(context: RefreshContext, computed: ComputedRows) -> ModelWrite:
    """Write the rows that meet the model's expectations, in at most one commit that records the new state.

    Args:
        context: The refresh.
        computed: The rows to write.

    Returns:
        The counts and the result of each rule.

    Raises:
        DataRefused: Two rows share a key, or a rule with `on_fail: fail` is not met.
        ConfigError: A table cannot have one of the columns.
    """
    require_storable(context.model.name, computed.rows.schema)
    computed = replace(computed, rows=require_readable(context.model, computed.rows))
    if not expectations.is_evaluation_needed(context):
        # To require unique keys, the rows are read twice. Few rows are cached, so that the query runs once.
        is_cached = computed.expect_few and not context.model.has_unique_keys
        cached = context.cache(computed.rows) if is_cached else None
        rows = cached or CachedRows(computed.rows)
        try:
            _require_unique_keys(context.model, rows)
            return ModelWrite(_merge(context, computed, rows, {}))
        finally:
            if cached:
                cached.release()
    with expectations.evaluate(context, computed.rows, computed.affected_keys, computed.expect_few) as evaluation:
        _require_unique_keys(context.model, evaluation.remaining)
        state, results = evaluation.apply_policies()
        written = _merge(context, computed, evaluation.remaining, state)
        return ModelWrite(written, evaluation.rejected, tuple(results))


def record_unchanged(context: RefreshContext) -> tuple[RuleResult, ...]:
    """Record the new state without changing a row; return the results of the rules that depend on time."""
    carried_state, results = expectations.evaluate_unchanged(context)
    delta.record_progress(context.spark, context.target, context.new_state | carried_state)
    return tuple(results)


def _merge(
    context: RefreshContext, computed: ComputedRows, rows: CachedRows, evaluation_state: Mapping[str, Any]
) -> WriteResult:
    tuning, state = context.model.tuning, {**context.new_state, **evaluation_state}
    layer, _, name = context.model.name.partition(".")
    target = MergeTarget(
        context.spark,
        context.target,
        list(context.model.plan.keys),
        is_large=context.target_version is not None and context.target_version.size >= tuning.large_table_bytes,
        replace=lambda: computed.rebuild or context.has_retyped_input,
        sort_by=context.file_order_column(rows.rows)
        if context.input_bytes >= tuning.full_refresh_below_bytes
        else None,
        tuning=tuning,
        temp_root=context.lake.local_path("plain"),
        rebuild=f"{layer} PIPELINE {name} --full-refresh",
    )
    failpoint("before_model", context.model.name)
    if context.target_version is not None and context.recorded_state is None:  # another writer changed its rows
        delete_doubled(target)
    written = merge_to_match(target, rows, state, computed.affected_keys, computed.expect_few)
    failpoint("after_model", context.model.name)
    if not written.committed:
        delta.record_progress(context.spark, context.target, state)
    return written


def _require_unique_keys(model: Model, rows: CachedRows) -> None:
    if model.has_unique_keys or rows.has_unique(model.plan.keys):
        return
    keys = model.plan.keys
    duplicates = rows.rows.groupBy(*keys).count().where("count > 1").limit(3).collect()
    if duplicates:
        examples = ", ".join(str(tuple(row)[:-1]) for row in duplicates)
        raise DataRefused(
            f"{model.name} has more than one row for a key, such as {examples}",
            kept=f"{model.name} has more than one row for a key",
            expected=f"one row for each {', '.join(keys)}",
            next_step=f"make the keys of {model.name} unique, in its SQL or in `keys`; the table stays as it is",
        )
