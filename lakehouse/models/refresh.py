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
from lakehouse.lake.delta import is_feed_unreadable
from lakehouse.lake.merge import WriteResult, merge_to_match
from lakehouse.lake.small_rows import MAX_LOCAL_ROWS, CachedRows, cache_rows
from lakehouse.models import expectations
from lakehouse.models.expectations import Referred, Result, Unmet
from lakehouse.models.incremental import Input, Work, refuse_inexact
from lakehouse.models.model import Model, Step, state_of
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage.paths import Lake

__all__ = ["Model", "Refreshed", "refresh", "select"]


# Where computing whole is sooner done: bytes of all inputs, and changes as a part of a table's rows.
WHOLE_BELOW = 4 << 20
WHOLE_FROM = 0.2

# From here on a table's files are laid out and spared (deletion vectors), in bytes: below, it is read as fast without.
LARGE_BYTES = 64 << 20

_IMAGE_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


@dataclass(frozen=True)
class Refreshed:
    """What became of a model: how it was refreshed (its strategy, `full`, `current` or `waiting`) and why.

    `taken`: rows that expectations took out, by what became of them.
    """

    model: str
    how: str
    why: str = ""
    written: WriteResult = field(default_factory=WriteResult)
    taken: Mapping[str, int] = field(default_factory=dict)


Told = Callable[[Sequence[Result]], object]


def refresh(
    spark: SparkSession, lake: Lake, model: Model, small: bool, whole: bool = False, told: Told = lambda results: None
) -> Refreshed:
    """Bring a model up to date with its inputs.

    Args:
        spark: a session of the caller's own.
        small: the lake holds little data.
        whole: compute it whole, whatever changed, and replace the table if its columns changed.
        told: hears what came of the model's expectations, once it is written or refused.

    Raises:
        DataRefused: two rows with one key, or an expectation that says `fail`.
    """
    heads = {relation: delta.current_version(spark, lake.table(relation)) for relation in model.plan.reads}
    if missing := [relation for relation, head in heads.items() if head is None]:
        return Refreshed(model.name, "waiting", f"{', '.join(missing)} is not there yet")
    inputs = {relation: head for relation, head in heads.items() if head is not None}
    step = Step(
        spark, lake, model, inputs, delta.current_version(spark, lake.table(model.name)), state_of(model, inputs)
    )
    try:
        done = _refreshed(step, small, whole)
    except Unmet as unmet:
        told(unmet.results)
        raise
    told(step.results)
    return done


def _refreshed(step: Step, small: bool, whole: bool) -> Refreshed:
    model = step.model
    anew = _why_whole(model, step.head is not None, step.known, step.state) or expectations.why_whole(step.task)
    why_whole = "asked for" if whole else anew
    if not why_whole:
        if not step.moved:
            return _at_rest(step)
        why_whole = model.plan.reason if model.plan.strategy == "full" else _why_dear(step)
    if not why_whole:
        try:
            why_whole = _why_refers(step)
            if not why_whole:
                return _by_changes(step)
        except _DearError as dear:
            why_whole = str(dear)
        except SPARK_ERRORS as error:
            if not is_feed_unreadable(error):
                raise
            why_whole = f"the changes of {', '.join(step.moved)} are no longer there"
    written = _whole(step, small, whole)
    if not (anew or step.moved or written.committed):  # the same rows were judged by the same rules before
        step.results.clear()
    return Refreshed(model.name, "full", why_whole, written, step.taken)


def _at_rest(step: Step) -> Refreshed:
    """Nothing changed; but time has gone by, by which a rule may say that it should have."""
    if expectations.has_aged(step.task):
        _record(step)
    return Refreshed(step.model.name, "current")


def _record(step: Step) -> None:
    """Progress, where no row has to change."""
    carried, results = expectations.at_rest(step.task)
    delta.record_progress(step.spark, step.lake.table(step.model.name), step.state | carried)
    step.results.extend(results)


def select(spark: SparkSession, model: Model, relations: Mapping[str, DataFrame]) -> DataFrame:
    """The author's query over these DataFrames. `spark` must be a session of the caller's own: it gets their views."""
    names = {relation: f"_{relation.replace('.', '_')}_{uuid.uuid4().hex}" for relation in relations}
    for relation, rows in relations.items():
        rows.createOrReplaceTempView(names[relation])
    return spark.sql(model.plan.text(names), args=model.arguments)


def _why_whole(model: Model, there: bool, before: dict[str, Any] | None, state: dict[str, Any]) -> str:
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


def _why_dear(step: Step) -> str:
    """Why computing it whole is sooner done, as far as the sizes of the tables tell."""
    size = step.size
    if step.model.plan.strategy == "row-wise" or size >= WHOLE_BELOW:
        return ""
    return f"its inputs are small, {size / 1e6:.1f} MB: read sooner than what changed in them is looked for"


def _why_refers(step: Step) -> str:
    """Why changes of what a rule refers to ask for all rows to be judged again; empty, if they do not."""
    for rule in (rule for rule in step.model.plan.rules if rule.relation in step.moved):
        now, then = partial(step.now, rule.relation), partial(step.then, rule.relation)
        failing = step.before.get("failing", {}).get(rule.name, 0)
        if why := expectations.why_refers(step.spark, rule, Referred(now, then, step.changes(rule.relation)), failing):
            return why
    return ""


# --- what is to be written --------------------------------------------------------------------------------------


class _DearError(Exception):
    """So much changed that computing the model whole is sooner done."""


def _whole(step: Step, small: bool, rebuild: bool) -> WriteResult:
    relations = {relation: step.now(relation) for relation in step.model.plan.inputs}
    _refuse_inexact(step, relations)
    return _write(step, select(step.spark, step.model, relations), None, small, rebuild)


def _refuse_inexact(step: Step, relations: Mapping[str, DataFrame]) -> None:
    if any(block.sums for block in step.model.plan.blocks):
        inputs = {relation: Input(rows) for relation, rows in relations.items()}
        work = Work(step.spark, step.model.plan, step.model.arguments, inputs)
        try:
            refuse_inexact(work, step.model.name)
        finally:
            work.release()


def _by_changes(step: Step) -> Refreshed:
    """Write what differs for the keys that changed rows of the inputs touch.

    Raises:
        _DearError: too much changed.
    """
    plan, first = step.model.plan, step.model.plan.inputs[0]
    moved = [r for r in step.moved if r in plan.inputs]
    if not moved:
        _record(step)
        return Refreshed(step.model.name, plan.strategy, f"changes of {', '.join(step.moved)} that matter to no row")
    changed_rows = {r: cache_rows(step.spark, step.changes(r)) for r in moved}
    if _is_row_for_row(step.model):
        return _row_by_row(step, first, changed_rows[first])
    images = {r: held.drop(_IMAGE_COLUMNS) for r, held in changed_rows.items()}
    inputs = {r: Input(step.now(r), images.get(r), partial(step.then, r)) for r in plan.inputs}
    work = Work(step.spark, plan, step.model.arguments, inputs)
    try:
        changed = ", ".join(f"{_count(step, r, held)} of {r}" for r, held in images.items())
        touched = work.touched()
        if touched is None:
            _record(step)
            return Refreshed(step.model.name, plan.strategy, f"rows changed: {changed}; no key touched")
        written = _write(step, touched.rows, touched.keys, touched.keys.local_rows is not None)
        return Refreshed(step.model.name, plan.strategy, f"rows changed: {changed}", written, step.taken)
    finally:
        work.release()
        for held in changed_rows.values():
            held.release()


def _count(step: Step, relation: str, images: CachedRows) -> int:
    """How many images of changed rows there are.

    Raises:
        _DearError: more than a part of the table that is still worth it.
    """
    if images.local_rows is not None:
        return int(images.local_rows.num_rows)
    changed, rows = images.rows.count(), step.now(relation).count()
    if changed > WHOLE_FROM * rows:
        raise _DearError(f"much of {relation} changed: {changed:,} changes, {rows:,} rows")
    return changed


def _row_by_row(step: Step, relation: str, images: CachedRows) -> Refreshed:
    """For a row of the input there is one row at most, under its key: the input itself need not be read."""
    try:
        old = images.rows.where(delta.is_before_image()).drop(*_IMAGE_COLUMNS)
        newest = Window.partitionBy(*step.model.input_keys[relation]).orderBy(F.desc("_commit_version"))
        last = images.rows.where("_change_type <> 'update_preimage'")
        last = last.withColumn("_cdc_rank", F.row_number().over(newest))
        now = last.where("_cdc_rank = 1 AND _change_type <> 'delete'").drop("_cdc_rank", *_IMAGE_COLUMNS)
        rows_now = select(step.spark, step.model, {relation: now})
        rows_then = select(step.spark, step.model, {relation: old})
        # By its day, too, is a row to be found: files are skipped by it, and by few keys only.
        named = [*step.model.plan.keys, *filter(None, [step.order(rows_now)])]
        touched = rows_then.select(*named).unionByName(rows_now.select(*named)).distinct()
        count = images.rows.count() if images.local_rows is None else images.local_rows.num_rows
        few = count <= MAX_LOCAL_ROWS
        written = _write(step, rows_now, cache_rows(step.spark, touched) if few else CachedRows(touched), few)
        return Refreshed(step.model.name, "row-wise", f"rows changed: {count} of {relation}", written, step.taken)
    finally:
        images.release()


def _write(step: Step, wanted: DataFrame, touched: CachedRows | None, few: bool, rebuild: bool = False) -> WriteResult:
    if not step.task.is_asked:
        return _write_checked(step, wanted, touched, few, rebuild)
    with expectations.judge(step.task, wanted, touched, few) as verdict:
        _refuse_doubled_keys(step.model, verdict.good)
        told, results = verdict.settle()
        written = _write_rows(step, verdict.good, touched, few, rebuild, told)
        step.results.extend(results)
        step.taken.update(verdict.taken)
    return written


def _write_checked(step: Step, wanted: DataFrame, touched: CachedRows | None, few: bool, rebuild: bool) -> WriteResult:
    if _is_unique(step.model):
        return _write_rows(step, wanted, touched, few, rebuild, {})
    held = cache_rows(step.spark, wanted) if few else None  # else the query would run once for each
    rows = held.rows if held else wanted
    try:
        _refuse_doubled_keys(step.model, rows)
        return _write_rows(step, rows, touched, few, rebuild, {})
    finally:
        if held:
            held.release()


def _write_rows(
    step: Step, wanted: DataFrame, touched: CachedRows | None, few: bool, rebuild: bool, told: Mapping[str, Any]
) -> WriteResult:
    target, keys, state = step.lake.table(step.model.name), list(step.model.plan.keys), {**step.state, **told}
    order = step.order(wanted) if step.size >= WHOLE_BELOW else None
    large = step.head is not None and step.head.size >= LARGE_BYTES
    written = merge_to_match(step.spark, target, wanted, keys, state, touched, few, rebuild, large, order)
    if not written.committed:
        delta.record_progress(step.spark, target, state)
    return written


def _is_unique(model: Model) -> bool:
    """Whether no two rows can have one key."""
    return model.plan.unique or _is_row_for_row(model)


def _is_row_for_row(model: Model) -> bool:
    """Whether each row of its only input gives one row at most, under that one's key. A CTE that nobody reads is an
    input, too."""
    plan = model.plan
    return plan.strategy == "row-wise" and len(plan.inputs) == 1 and plan.keeps_keys(model.input_keys[plan.inputs[0]])


def _refuse_doubled_keys(model: Model, wanted: DataFrame) -> None:
    if _is_unique(model):
        return
    plan = model.plan
    doubled = wanted.groupBy(*plan.keys).count().where("count > 1").limit(3).collect()
    if doubled:
        examples = ", ".join(str(tuple(row)[:-1]) for row in doubled)
        raise DataRefused(
            f"{model.name} has more than one row for a key, such as {examples}",
            expected=f"one row for each {', '.join(plan.keys)}",
            next_step=f"make {model.name}'s SQL, or its keys, tell them apart; the table is left as it was",
        )
