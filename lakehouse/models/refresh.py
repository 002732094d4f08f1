"""Silver and gold: SELECTs kept up to date. One mechanism for both.

`refresh` asks what changed in a model's inputs since the state that its own last commit names, computes the rows that
this touches, holds them against what is expected of them (expect/), and makes the target equal to those that are left.
Without a usable state it computes the whole model, and writes the difference all the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse.errors import DataRefused
from lakehouse.lake import delta
from lakehouse.lake.cached_rows import MAX_LOCAL_ROWS, CachedRows, cache_rows
from lakehouse.lake.delta import is_feed_unreadable
from lakehouse.lake.merge import WriteResult, merge_to_match
from lakehouse.models import expectations
from lakehouse.models.expectations import ExpectationsNotMet, ReferencedRelation, RuleResult
from lakehouse.models.incremental import IncrementalQuery, ModelInput, require_exact_sums
from lakehouse.models.model import Model, RefreshContext, refresh_state
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage.paths import Lake

__all__ = ["Model", "RefreshResult", "refresh", "run_model_query"]


# Where computing whole is sooner done: bytes of all inputs, and changes as a part of a table's rows.
FULL_REFRESH_BELOW_BYTES = 4 << 20
FULL_REFRESH_FROM_SHARE = 0.2

# From here on a table's files are laid out and spared (deletion vectors), in bytes: below, it is read as fast without.
LARGE_TABLE_BYTES = 64 << 20

_IMAGE_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


@dataclass(frozen=True)
class RefreshResult:
    """What became of a model: how it was refreshed (its strategy, `full`, `current` or `waiting`) and why.

    `taken`: rows that expectations took out, by what became of them.
    """

    model: str
    status: str
    reason: str = ""
    written: WriteResult = field(default_factory=WriteResult)
    rejected: Mapping[str, int] = field(default_factory=dict)


OnResults = Callable[[Sequence[RuleResult]], object]


def refresh(
    spark: SparkSession,
    lake: Lake,
    model: Model,
    is_small_lake: bool,
    full_refresh: bool = False,
    on_results: OnResults = lambda results: None,
) -> RefreshResult:
    """Bring a model up to date with its inputs.

    Args:
        spark: a session of the caller's own.
        small: the lake holds little data.
        whole: compute it whole, whatever changed, and replace the table if its columns changed.
        told: hears what came of the model's expectations, once it is written or refused.

    Raises:
        DataRefused: two rows with one key, or an expectation that says `fail`.
    """
    heads = {relation: delta.current_version(spark, lake.table(relation)) for relation in model.plan.dependencies}
    if missing := [relation for relation, head in heads.items() if head is None]:
        return RefreshResult(model.name, "waiting", f"{', '.join(missing)} is not there yet")
    inputs = {relation: head for relation, head in heads.items() if head is not None}
    step = RefreshContext(
        spark, lake, model, inputs, delta.current_version(spark, lake.table(model.name)), refresh_state(model, inputs)
    )
    try:
        done = _choose_and_refresh(step, is_small_lake, full_refresh)
    except ExpectationsNotMet as unmet:
        on_results(unmet.results)
        raise
    on_results(step.results)
    return done


def _choose_and_refresh(step: RefreshContext, is_small_lake: bool, full_refresh: bool) -> RefreshResult:
    model = step.model
    anew = _full_refresh_reason(
        model, step.target_version is not None, step.recorded_state, step.new_state
    ) or expectations.full_refresh_reason(step.evaluation_context)
    why_whole = "asked for" if full_refresh else anew
    if not why_whole:
        if not step.changed_inputs:
            return _refresh_unchanged(step)
        why_whole = model.plan.reason if model.plan.strategy == "full" else _small_inputs_reason(step)
    if not why_whole:
        try:
            why_whole = _reference_reason(step)
            if not why_whole:
                return _incremental_refresh(step)
        except _TooManyChangesError as dear:
            why_whole = str(dear)
        except SPARK_ERRORS as error:
            if not is_feed_unreadable(error):
                raise
            why_whole = f"the changes of {', '.join(step.changed_inputs)} are no longer there"
    written = _full_refresh(step, is_small_lake, full_refresh)
    if not (anew or step.changed_inputs or written.committed):  # the same rows were judged by the same rules before
        step.results.clear()
    return RefreshResult(model.name, "full", why_whole, written, step.rejected)


def _refresh_unchanged(step: RefreshContext) -> RefreshResult:
    """Nothing changed; but time has gone by, by which a rule may say that it should have."""
    if expectations.is_freshness_due(step.evaluation_context):
        _record_progress(step)
    return RefreshResult(step.model.name, "current")


def _record_progress(step: RefreshContext) -> None:
    """Progress, where no row has to change."""
    carried, results = expectations.evaluate_unchanged(step.evaluation_context)
    delta.record_progress(step.spark, step.lake.table(step.model.name), step.new_state | carried)
    step.results.extend(results)


def run_model_query(spark: SparkSession, model: Model, relations: Mapping[str, DataFrame]) -> DataFrame:
    """The author's query over these DataFrames. `spark` must be a session of the caller's own: it gets their views."""
    names = {relation: f"_{relation.replace('.', '_')}_{uuid.uuid4().hex}" for relation in relations}
    for relation, rows in relations.items():
        rows.createOrReplaceTempView(names[relation])
    return spark.sql(model.plan.sql_with_names(names), args=model.arguments)


def _full_refresh_reason(model: Model, there: bool, before: dict[str, Any] | None, state: dict[str, Any]) -> str:
    if not there:
        return "first time"
    if before is None:
        return "its rows were written by somebody else"
    if before["sql"] != state["sql"]:
        return "its SQL, its keys or what is expected of it changed"
    if before["arguments"] != state["arguments"]:
        return "its parameters changed"
    replaced = [r for r, at in state["inputs"].items() if before["inputs"].get(r, {}).get("id") != at["id"]]
    behind = [r for r, at in state["inputs"].items() if before["inputs"].get(r, {}).get("version", -1) > at["version"]]
    if replaced or behind:
        return f"{', '.join(replaced or behind)} was replaced"
    return ""


def _small_inputs_reason(step: RefreshContext) -> str:
    """Why computing it whole is sooner done, as far as the sizes of the tables tell."""
    size = step.input_bytes
    if step.model.plan.strategy == "row-wise" or size >= FULL_REFRESH_BELOW_BYTES:
        return ""
    return f"its inputs are small, {size / 1e6:.1f} MB: read sooner than what changed in them is looked for"


def _reference_reason(step: RefreshContext) -> str:
    """Why changes of what a rule refers to ask for all rows to be judged again; empty, if they do not."""
    for rule in (rule for rule in step.model.plan.rules if rule.referenced_relation in step.changed_inputs):
        now, then = (
            partial(step.read_current, rule.referenced_relation),
            partial(step.read_previous, rule.referenced_relation),
        )
        failing = step.previous_state.get("failing", {}).get(rule.name, 0)
        if why := expectations.why_refers(
            step.spark, rule, ReferencedRelation(now, then, step.read_changes(rule.referenced_relation)), failing
        ):
            return why
    return ""


# --- what is to be written --------------------------------------------------------------------------------------


class _TooManyChangesError(Exception):
    """So much changed that computing the model whole is sooner done."""


def _full_refresh(step: RefreshContext, small: bool, rebuild: bool) -> WriteResult:
    relations = {relation: step.read_current(relation) for relation in step.model.plan.inputs}
    _require_exact_sums(step, relations)
    return _evaluate_and_write(step, run_model_query(step.spark, step.model, relations), None, small, rebuild)


def _require_exact_sums(step: RefreshContext, relations: Mapping[str, DataFrame]) -> None:
    if any(block.sums for block in step.model.plan.blocks):
        inputs = {relation: ModelInput(rows) for relation, rows in relations.items()}
        work = IncrementalQuery(step.spark, step.model.plan, step.model.arguments, inputs)
        try:
            require_exact_sums(work, step.model.name)
        finally:
            work.release()


def _incremental_refresh(step: RefreshContext) -> RefreshResult:
    """Write what differs for the keys that changed rows of the inputs touch.

    Raises:
        _DearError: too much changed.
    """
    plan, first = step.model.plan, step.model.plan.inputs[0]
    moved = [r for r in step.changed_inputs if r in plan.inputs]
    if not moved:
        _record_progress(step)
        return RefreshResult(
            step.model.name, plan.strategy, f"changes of {', '.join(step.changed_inputs)} that matter to no row"
        )
    changed_rows = {r: cache_rows(step.spark, step.read_changes(r)) for r in moved}
    if _is_one_row_per_input_row(step.model):
        return _refresh_row_by_row(step, first, changed_rows[first])
    images = {r: held.drop(_IMAGE_COLUMNS) for r, held in changed_rows.items()}
    inputs = {r: ModelInput(step.read_current(r), images.get(r), partial(step.read_previous, r)) for r in plan.inputs}
    work = IncrementalQuery(step.spark, plan, step.model.arguments, inputs)
    try:
        changed = ", ".join(f"{_count_changes(step, r, held)} of {r}" for r, held in images.items())
        touched = work.affected_rows()
        if touched is None:
            _record_progress(step)
            return RefreshResult(step.model.name, plan.strategy, f"rows changed: {changed}; no key touched")
        written = _evaluate_and_write(step, touched.rows, touched.keys, touched.keys.local_rows is not None)
        return RefreshResult(step.model.name, plan.strategy, f"rows changed: {changed}", written, step.rejected)
    finally:
        work.release()
        for held in changed_rows.values():
            held.release()


def _count_changes(step: RefreshContext, relation: str, images: CachedRows) -> int:
    """How many images of changed rows there are.

    Raises:
        _DearError: more than a part of the table that is still worth it.
    """
    if images.local_rows is not None:
        return int(images.local_rows.num_rows)
    changed, rows = images.rows.count(), step.read_current(relation).count()
    if changed > FULL_REFRESH_FROM_SHARE * rows:
        raise _TooManyChangesError(f"much of {relation} changed: {changed:,} changes, {rows:,} rows")
    return changed


def _refresh_row_by_row(step: RefreshContext, relation: str, images: CachedRows) -> RefreshResult:
    """For a row of the input there is one row at most, under its key: the input itself need not be read."""
    try:
        old = images.rows.where(delta.is_before_image()).drop(*_IMAGE_COLUMNS)
        newest = Window.partitionBy(*step.model.input_keys[relation]).orderBy(F.desc("_commit_version"))
        last = images.rows.where("_change_type <> 'update_preimage'")
        last = last.withColumn("_cdc_rank", F.row_number().over(newest))
        now = last.where("_cdc_rank = 1 AND _change_type <> 'delete'").drop("_cdc_rank", *_IMAGE_COLUMNS)
        rows_now = run_model_query(step.spark, step.model, {relation: now})
        rows_then = run_model_query(step.spark, step.model, {relation: old})
        # By its day, too, is a row to be found: files are skipped by it, and by few keys only.
        named = [*step.model.plan.keys, *filter(None, [step.file_order_column(rows_now)])]
        touched = rows_then.select(*named).unionByName(rows_now.select(*named)).distinct()
        count = images.rows.count() if images.local_rows is None else images.local_rows.num_rows
        few = count <= MAX_LOCAL_ROWS
        written = _evaluate_and_write(
            step, rows_now, cache_rows(step.spark, touched) if few else CachedRows(touched), few
        )
        return RefreshResult(
            step.model.name, "row-wise", f"rows changed: {count} of {relation}", written, step.rejected
        )
    finally:
        images.release()


def _evaluate_and_write(
    step: RefreshContext, rows: DataFrame, affected_keys: CachedRows | None, expect_few: bool, rebuild: bool = False
) -> WriteResult:
    if not step.evaluation_context.is_needed:
        return _write_with_unique_keys(step, rows, affected_keys, expect_few, rebuild)
    with expectations.evaluate(step.evaluation_context, rows, affected_keys, expect_few) as verdict:
        _require_unique_keys(step.model, verdict.remaining_rows)
        told, results = verdict.apply_policies()
        written = _write_rows(step, verdict.remaining_rows, affected_keys, expect_few, rebuild, told)
        step.results.extend(results)
        step.rejected.update(verdict.rejected)
    return written


def _write_with_unique_keys(
    step: RefreshContext, wanted: DataFrame, affected_keys: CachedRows | None, expect_few: bool, rebuild: bool
) -> WriteResult:
    if _has_unique_keys(step.model):
        return _write_rows(step, wanted, affected_keys, expect_few, rebuild, {})
    held = cache_rows(step.spark, wanted) if expect_few else None  # else the query would run once for each
    rows = held.rows if held else wanted
    try:
        _require_unique_keys(step.model, rows)
        return _write_rows(step, rows, affected_keys, expect_few, rebuild, {})
    finally:
        if held:
            held.release()


def _write_rows(
    step: RefreshContext,
    wanted: DataFrame,
    affected_keys: CachedRows | None,
    expect_few: bool,
    rebuild: bool,
    evaluation_state: Mapping[str, Any],
) -> WriteResult:
    target, keys, state = (
        step.lake.table(step.model.name),
        list(step.model.plan.keys),
        {**step.new_state, **evaluation_state},
    )
    order = step.file_order_column(wanted) if step.input_bytes >= FULL_REFRESH_BELOW_BYTES else None
    large = step.target_version is not None and step.target_version.size >= LARGE_TABLE_BYTES
    written = merge_to_match(step.spark, target, wanted, keys, state, affected_keys, expect_few, rebuild, large, order)
    if not written.committed:
        delta.record_progress(step.spark, target, state)
    return written


def _has_unique_keys(model: Model) -> bool:
    """Whether no two rows can have one key."""
    return model.plan.has_unique_keys or _is_one_row_per_input_row(model)


def _is_one_row_per_input_row(model: Model) -> bool:
    """Whether each row of its only input gives one row at most, under that one's key. A CTE that nobody reads is an
    input, too."""
    plan = model.plan
    return (
        plan.strategy == "row-wise" and len(plan.inputs) == 1 and plan.has_input_keys(model.input_keys[plan.inputs[0]])
    )


def _require_unique_keys(model: Model, rows: DataFrame) -> None:
    if _has_unique_keys(model):
        return
    plan = model.plan
    doubled = rows.groupBy(*plan.keys).count().where("count > 1").limit(3).collect()
    if doubled:
        examples = ", ".join(str(tuple(row)[:-1]) for row in doubled)
        raise DataRefused(
            f"{model.name} has more than one row for a key, such as {examples}",
            expected=f"one row for each {', '.join(plan.keys)}",
            next_step=f"make {model.name}'s SQL, or its keys, tell them apart; the table is left as it was",
        )
