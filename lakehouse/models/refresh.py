"""Refreshes a silver or gold model: brings its table up to date with its inputs, in at most one commit.

Steps of `refresh`:

1. read the current version of every relation that the model depends on, and pin it (`model.py`);
2. choose between no refresh, an incremental and a full refresh (`choose_refresh.py`);
3. compute the rows: all of them, or those of the keys that changed rows affect (`incremental.py`);
4. evaluate the model's expectations on these rows, before any is written (`expectations/`);
5. merge the differences into the table, with the new state in the same commit (`write.py`).

If Spark cannot compute the rows, the table stays as it is. The error says whether data or SQL is the cause
(`failure.py`), unless an input is not as the model's SQL expects it: then the model waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.merge import WriteResult
from lakehouse.models import expectations
from lakehouse.models.block_reader import BlockReader, ModelInput
from lakehouse.models.choose_refresh import TooManyChanges, choose_refresh, count_changes, unreadable_feed_reason
from lakehouse.models.expectations import RuleResult
from lakehouse.models.failure import is_caused_by_values, is_refused_before_rows, to_model_error
from lakehouse.models.incremental import IncrementalQuery
from lakehouse.models.model import Model, RefreshContext, run_model_query
from lakehouse.models.write import ComputedRows, ModelWrite, record_unchanged, write_rows
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage.paths import Lake

_UNCOMPUTABLE_REASON = "a changed row has, or had, a value that cannot be computed"
_FEED_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


@dataclass(frozen=True)
class RefreshResult:
    """The result of refreshing a model.

    Attributes:
        model: The model's name.
        status: The strategy of the refresh, or `full`, `current` or `waiting`.
        reason: Why, for people.
        written: The rows that changed in the table.
        rejected: The rows that expectations rejected, by `quarantined` and `dropped`.
        rule_results: The result of each rule that was evaluated.
        earlier_results: If nothing changed: the results that the model's last commit recorded.
    """

    model: str
    status: str
    reason: str = ""
    written: WriteResult = field(default_factory=WriteResult)
    rejected: Mapping[str, int] = field(default_factory=dict)
    rule_results: tuple[RuleResult, ...] = ()
    earlier_results: tuple[RuleResult, ...] = ()


def refresh(
    spark: SparkSession, lake: Lake, model: Model, is_small_lake: bool, full_refresh: bool = False
) -> RefreshResult:
    """Bring a model's table up to date with its inputs.

    Args:
        spark: The caller's own session.
        lake: The lake's paths.
        model: The model.
        is_small_lake: Whether the lake holds little data, so that the driver may collect the rows of a full refresh.
        full_refresh: Whether to compute all rows, changed or not, and to replace the table if its columns changed.

    Returns:
        How the model was refreshed, and the counts.

    Raises:
        DataRefused: Two rows share a key, a rule with `on_fail: fail` is not met (`ExpectationsNotMet`, which has the
            results of all rules), or the SQL cannot compute a value.
        ConfigError: The model adds up inexact numbers, its columns changed without `full_refresh`, or its SQL is wrong.
    """
    versions = {relation: delta.current_version(spark, lake.table(relation)) for relation in model.plan.dependencies}
    if missing := [relation for relation, version in versions.items() if version is None]:
        return RefreshResult(model.name, "waiting", waits_for(missing, "not there yet"))
    inputs = {relation: version for relation, version in versions.items() if version is not None}
    context = RefreshContext(spark, lake, model, inputs, delta.current_version(spark, lake.table(model.name)))
    try:
        return _refresh(context, is_small_lake, full_refresh)
    except SPARK_ERRORS as error:
        if is_refused_before_rows(error) and (outdated := context.outdated_inputs):
            return RefreshResult(model.name, "waiting", waits_for(outdated, "not refreshed with its current columns"))
        if (explained := to_model_error(context, error)) is error:
            raise
        raise explained from error


def waits_for(relations: Iterable[str], reason: str) -> str:
    """Return the note of a model that waits for inputs.

    Args:
        relations: The inputs.
        reason: Why they cannot be read yet.
    """
    return f"waits for {', '.join(relations)}: {reason}"


def _refresh(context: RefreshContext, is_small_lake: bool, full_refresh: bool) -> RefreshResult:
    choice = choose_refresh(context, full_refresh)
    if choice.kind == "none":
        # Time passes without changes, and a freshness rule may no longer be met.
        is_due = expectations.is_freshness_due(context)
        if is_due:
            return RefreshResult(context.model.name, "current", rule_results=record_unchanged(context))
        earlier = expectations.from_state(context.model.name, context.last_refresh_state)
        return RefreshResult(context.model.name, "current", earlier_results=tuple(earlier))
    if context.reads_small_tables:
        # Each input is one partition: a join that sorts it needs no job of its own, as a broadcast would.
        context.spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    reason = choice.reason
    if choice.kind == "incremental":
        try:
            return _incremental_refresh(context)
        except TooManyChanges as error:
            reason = str(error)
        except SPARK_ERRORS as error:
            # The rows as they were are computed as well: a value that was corrected since must not stop the model.
            is_value = is_caused_by_values(error) and not delta.is_feed_unreadable(error)
            reason = _UNCOMPUTABLE_REASON if is_value else unreadable_feed_reason(context, error)
    done = _full_refresh(context, is_small_lake, full_refresh)
    if not (choice.is_state_outdated or context.changed_inputs or done.written.committed):
        done = replace(done, rule_results=())  # the same rules already evaluated the same rows
    return _result(context, "full", reason, done)


def _result(context: RefreshContext, status: str, reason: str, done: ModelWrite) -> RefreshResult:
    return RefreshResult(context.model.name, status, reason, done.written, done.rejected, done.rule_results)


def _full_refresh(context: RefreshContext, is_small_lake: bool, rebuild: bool) -> ModelWrite:
    model = context.model
    relations = {relation: context.read_current(relation) for relation in model.plan.inputs}
    if any(block.sums for block in model.plan.blocks):
        inputs = {relation: ModelInput(rows) for relation, rows in relations.items()}
        reader = BlockReader(context.spark, model.plan, model.arguments, inputs)
        try:
            reader.require_exact_sums(model.name)
        finally:
            reader.release()
    rows = run_model_query(context.spark, model, relations)
    return write_rows(context, ComputedRows(rows, None, is_small_lake, rebuild))


def _incremental_refresh(context: RefreshContext) -> RefreshResult:
    """Compute and write the rows of the keys that changed rows of the inputs affect.

    Raises:
        TooManyChanges: A full refresh costs less.
    """
    plan = context.model.plan
    changed_inputs = [relation for relation in context.changed_inputs if relation in plan.inputs]
    if not changed_inputs:  # only relations that rules reference changed
        reason = f"changes of {', '.join(context.changed_inputs)} that affect no row"
        return _result(context, plan.strategy, reason, ModelWrite(rule_results=record_unchanged(context)))
    changes = {relation: context.cache_changes(relation) for relation in changed_inputs}
    try:
        if context.model.is_one_row_per_input_row:
            return _refresh_row_by_row(context, plan.inputs[0], changes[plan.inputs[0]])
        return _refresh_affected_keys(context, changes)
    finally:
        for cached in changes.values():
            cached.release()


def _refresh_row_by_row(context: RefreshContext, relation: str, changes: CachedRows) -> RefreshResult:
    """Refresh a model that has at most one row per input row, under the same key, without reading the input."""
    spark, model = context.spark, context.model
    before_images = changes.rows.where(delta.is_before_image()).drop(*_FEED_COLUMNS)
    newest_first = Window.partitionBy(*model.input_keys[relation]).orderBy(F.desc("_commit_version"))
    after_images = changes.rows.where("_change_type <> 'update_preimage'")
    newest_images = after_images.withColumn("_cdc_rank", F.row_number().over(newest_first)).where("_cdc_rank = 1")
    current_rows = newest_images.where("_change_type <> 'delete'").drop("_cdc_rank", *_FEED_COLUMNS)
    new_rows = run_model_query(spark, model, {relation: current_rows})
    old_rows = run_model_query(spark, model, {relation: before_images})
    # The file order column is part of the affected keys, so that files are skipped by its values as well.
    columns, order = list(model.plan.keys), context.file_order_column(new_rows)
    if order and order.lower() not in map(str.lower, columns):
        columns.append(order)
    affected = old_rows.select(*columns).unionByName(new_rows.select(*columns)).distinct()
    count = changes.rows.count() if changes.local_rows is None else changes.local_rows.num_rows
    expect_few = count <= model.tuning.local_rows
    affected_keys = context.cache(affected) if expect_few else CachedRows(affected)
    done = write_rows(context, ComputedRows(new_rows, affected_keys, expect_few))
    return _result(context, "row-wise", f"rows changed: {count} of {relation}", done)


def _refresh_affected_keys(context: RefreshContext, changes: Mapping[str, CachedRows]) -> RefreshResult:
    """Refresh a model that joins, groups or uses windows, by computing the rows of the affected keys again."""
    plan = context.model.plan
    images = {relation: cached.drop(_FEED_COLUMNS) for relation, cached in changes.items()}
    inputs = {
        relation: ModelInput(
            context.read_current(relation), images.get(relation), partial(context.read_previous, relation)
        )
        for relation in plan.inputs
    }
    reader = BlockReader(context.spark, plan, context.model.arguments, inputs)
    query = IncrementalQuery(context.spark, reader, context.model.tuning.local_rows)
    try:
        counts = {relation: count_changes(context, relation, cached) for relation, cached in images.items()}
        reason = "rows changed: " + ", ".join(f"{count} of {relation}" for relation, count in counts.items())
        affected = query.affected_rows()
        if affected is None:
            done = ModelWrite(rule_results=record_unchanged(context))
            return _result(context, plan.strategy, f"{reason}; no key affected", done)
        computed = ComputedRows(affected.rows, affected.keys, affected.keys.local_rows is not None)
        return _result(context, plan.strategy, reason, write_rows(context, computed))
    finally:
        query.release()
        reader.release()
