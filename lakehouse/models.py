"""Silver and gold: SELECTs kept up to date. One mechanism for both.

`refresh` asks what changed in a model's inputs since the state that its own last commit names, computes the rows that
this touches, and makes the target equal to them. Without a usable state it computes the whole model, and writes the
difference all the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse import delta
from lakehouse.delta import Head
from lakehouse.errors import DataRefused
from lakehouse.held import LOCAL_ROWS, Held, hold
from lakehouse.incremental import Input, Work, refuse_inexact
from lakehouse.lake import Lake
from lakehouse.merge import Written, make_equal
from lakehouse.plan import Plan
from lakehouse.session import SPARK_ERRORS

# Parts of the conditions by which Delta and Spark say that a Change Data Feed is no longer readable.
_GONE = (
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_CHANGE_DATA",
    "DELTA_VERSION_NOT_CONTIGUOUS",
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "BEYOND_",
    "NO_RECREATABLE",
    "INVALID_CDC",
    "FILE_NOT_EXIST",
    "FAILED_READ_FILE",  # a column has another type since
    "DELTA_SCHEMA_CHANGE",
    "INCOMPATIBLE_SCHEMA",
    "FileNotFoundException",
)

# Where computing whole is sooner done: bytes of all inputs, and changes as a part of a table's rows.
WHOLE_BELOW = 4 << 20
WHOLE_FROM = 0.2

# From here on a table's files are laid out and spared (deletion vectors), in bytes: below, it is read as fast without.
LARGE_BYTES = 64 << 20

_WITH_STATISTICS = 32  # Delta notes least and greatest of the first columns only

_IMAGE_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


@dataclass(frozen=True)
class Refreshed:
    """What became of a model: how it was refreshed (its strategy, `full`, `current` or `waiting`) and why."""

    model: str
    how: str
    why: str = ""
    written: Written = field(default_factory=Written)


@dataclass(frozen=True)
class Model:
    """A model and what refreshing it needs: its plan, and the keys of each of its inputs."""

    plan: Plan
    input_keys: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, Any]  # by name; only those that the plan uses are handed to Spark
    sought: tuple[str, ...] = ()  # columns by which the models after it look for rows in it

    @property
    def name(self) -> str:
        return self.plan.model

    @property
    def arguments(self) -> dict[str, Any]:
        return {p: self.parameters[p] for p in self.plan.parameters}


def refresh(spark: SparkSession, lake: Lake, model: Model, small: bool, whole: bool = False) -> Refreshed:
    """Bring a model up to date with its inputs.

    Args:
        spark: a session of the caller's own.
        small: the lake holds little data.
        whole: compute it whole, whatever changed, and replace the table if its columns changed.

    Raises:
        DataRefused: two rows with one key.
    """
    heads = {relation: delta.head(spark, lake.model(relation)) for relation in model.plan.inputs}
    if missing := [relation for relation, head in heads.items() if head is None]:
        return Refreshed(model.name, "waiting", f"{', '.join(missing)} has no snapshot yet")
    inputs = {relation: head for relation, head in heads.items() if head is not None}
    target_head = delta.head(spark, lake.model(model.name))
    before = target_head.progress() if target_head else None
    size = target_head.size if target_head else 0
    step = _Step(spark, lake, model, inputs, before or {}, _state(model, inputs), size)
    why_whole = "asked for" if whole else _why_whole(model, target_head is not None, before, step.state)
    if not why_whole:
        if not step.moved:
            return Refreshed(model.name, "current")
        why_whole = model.plan.reason if model.plan.strategy == "full" else _why_dear(step)
    if not why_whole:
        try:
            return _by_changes(step)
        except _DearError as dear:
            why_whole = str(dear)
        except SPARK_ERRORS as error:
            if not is_gone(error):
                raise
            why_whole = f"the changes of {', '.join(step.moved)} are no longer there"
    return Refreshed(model.name, "full", why_whole, _whole(step, small, whole))


def select(spark: SparkSession, model: Model, relations: Mapping[str, DataFrame]) -> DataFrame:
    """The author's query over these DataFrames. `spark` must be a session of the caller's own: it gets their views."""
    names = {relation: f"_{relation.replace('.', '_')}_{uuid.uuid4().hex}" for relation in relations}
    for relation, rows in relations.items():
        rows.createOrReplaceTempView(names[relation])
    return spark.sql(model.plan.text(names), args=model.arguments)


def _state(model: Model, inputs: Mapping[str, Head]) -> dict[str, Any]:
    """What a commit of the model records: with the same state there is nothing to do."""
    arguments = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in model.arguments.items()}
    versions = {relation: {"id": head.id, "version": head.version} for relation, head in inputs.items()}
    return {
        "stage": model.name.partition(".")[0],
        "sql": model.plan.sql_hash,
        "arguments": arguments,
        "inputs": versions,
    }


def _why_whole(model: Model, there: bool, before: dict[str, Any] | None, state: dict[str, Any]) -> str:
    if not there:
        return "first time"
    if before is None:
        return "its rows were written by somebody else"
    if before["sql"] != state["sql"]:
        return "its SQL changed"
    if before["arguments"] != state["arguments"]:
        return "its parameters changed"
    replaced = [r for r, at in state["inputs"].items() if before["inputs"].get(r, {}).get("id") != at["id"]]
    behind = [r for r, at in state["inputs"].items() if before["inputs"].get(r, {}).get("version", -1) > at["version"]]
    if replaced or behind:
        return f"{', '.join(replaced or behind)} was replaced"
    return ""


def _why_dear(step: _Step) -> str:
    """Why computing it whole is sooner done, as far as the sizes of the tables tell."""
    size = sum(head.size for head in step.inputs.values())
    if step.model.plan.strategy == "row-wise" or size >= WHOLE_BELOW:
        return ""
    return f"its inputs are small, {size / 1e6:.1f} MB: read sooner than what changed in them is looked for"


def _moved(head: Head, recorded: Mapping[str, Any]) -> bool:
    return head.version != recorded["version"] and head.changed_since(recorded["version"])


# --- what is to be written --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """A refresh at work: the inputs as they are pinned, the state that the target is at, and that which it will be."""

    spark: SparkSession
    lake: Lake
    model: Model
    inputs: Mapping[str, Head]
    before: Mapping[str, Any]
    state: dict[str, Any]
    size: int = 0  # bytes of the target

    @cached_property
    def moved(self) -> list[str]:
        """The inputs whose rows may have changed."""
        return [r for r, head in self.inputs.items() if _moved(head, self.before["inputs"][r])]

    def now(self, relation: str) -> DataFrame:
        return delta.read(self.spark, self.lake.model(relation), self.inputs[relation].version)

    def then(self, relation: str) -> DataFrame:
        """An input as it was, with the columns that it has now."""
        was = delta.read(self.spark, self.lake.model(relation), self.before["inputs"][relation]["version"])
        fields = self.now(relation).schema.fields
        columns = [F.col(f"`{f.name}`") if f.name in was.columns else F.lit(None).cast(f.dataType) for f in fields]
        return was.select(*[column.alias(f.name) for column, f in zip(columns, fields, strict=True)])

    def order(self, rows: DataFrame) -> str | None:
        """The day by which the rows of a large model lie together: one that the models after it look for."""
        days = {
            f.name.lower(): f.name for f in rows.schema.fields[:_WITH_STATISTICS] if isinstance(f.dataType, T.DateType)
        }
        return next((days[c] for c in self.model.sought if c in days), None)

    @property
    def is_large(self) -> bool:
        return sum(head.size for head in self.inputs.values()) >= WHOLE_BELOW

    def changes(self, relation: str) -> DataFrame:
        after, until = self.before["inputs"][relation]["version"], self.inputs[relation].version
        return delta.changes(self.spark, self.lake.model(relation), after, until)


class _DearError(Exception):
    """So much changed that computing the model whole is sooner done."""


def _whole(step: _Step, small: bool, rebuild: bool) -> Written:
    relations = {relation: step.now(relation) for relation in step.inputs}
    _refuse_inexact(step, relations)
    return _write(step, select(step.spark, step.model, relations), None, small, rebuild)


def _refuse_inexact(step: _Step, relations: Mapping[str, DataFrame]) -> None:
    if any(block.sums for block in step.model.plan.blocks):
        inputs = {relation: Input(rows) for relation, rows in relations.items()}
        work = Work(step.spark, step.model.plan, step.model.arguments, inputs)
        try:
            refuse_inexact(work, step.model.name)
        finally:
            work.release()


def _by_changes(step: _Step) -> Refreshed:
    """Write what differs for the keys that changed rows of the inputs touch.

    Raises:
        _DearError: too much changed.
    """
    plan, first = step.model.plan, step.model.plan.inputs[0]
    changed_rows = {r: hold(step.spark, step.changes(r)) for r in step.moved}
    if plan.strategy == "row-wise" and plan.keeps_keys(step.model.input_keys[first]):
        return _row_by_row(step, first, changed_rows[first])
    images = {r: held.dropping(_IMAGE_COLUMNS) for r, held in changed_rows.items()}
    inputs = {r: Input(step.now(r), images.get(r), partial(step.then, r)) for r in step.inputs}
    work = Work(step.spark, plan, step.model.arguments, inputs)
    try:
        changed = ", ".join(f"{_count(step, r, held)} of {r}" for r, held in images.items())
        touched = work.touched()
        if touched is None:
            delta.record_progress(step.spark, step.lake.model(step.model.name), step.state)
            return Refreshed(step.model.name, plan.strategy, f"rows changed: {changed}; no key touched")
        written = _write(step, touched.rows, touched.keys, touched.keys.local is not None)
        return Refreshed(step.model.name, plan.strategy, f"rows changed: {changed}", written)
    finally:
        work.release()
        for held in changed_rows.values():
            held.release()


def _count(step: _Step, relation: str, images: Held) -> int:
    """How many images of changed rows there are.

    Raises:
        _DearError: more than a part of the table that is still worth it.
    """
    if images.local is not None:
        return int(images.local.num_rows)
    changed, rows = images.rows.count(), step.now(relation).count()
    if changed > WHOLE_FROM * rows:
        raise _DearError(f"much of {relation} changed: {changed:,} changes, {rows:,} rows")
    return changed


def is_gone(error: Exception) -> bool:
    """Whether a Change Data Feed cannot be read any more: its log, its files, or the right to read so far back."""
    return any(sign in str(error) for sign in _GONE)


def _row_by_row(step: _Step, relation: str, images: Held) -> Refreshed:
    """For a row of the input there is one row at most, under its key: the input itself need not be read."""
    try:
        old = images.rows.where(delta.is_old_image()).drop(*_IMAGE_COLUMNS)
        newest = Window.partitionBy(*step.model.input_keys[relation]).orderBy(F.desc("_commit_version"))
        last = images.rows.where("_change_type <> 'update_preimage'")
        last = last.withColumn("_cdc_rank", F.row_number().over(newest))
        now = last.where("_cdc_rank = 1 AND _change_type <> 'delete'").drop("_cdc_rank", *_IMAGE_COLUMNS)
        rows_now = select(step.spark, step.model, {relation: now})
        rows_then = select(step.spark, step.model, {relation: old})
        # By its day, too, is a row to be found: files are skipped by it, and by few keys only.
        named = [*step.model.plan.keys, *filter(None, [step.order(rows_now)])]
        touched = rows_then.select(*named).unionByName(rows_now.select(*named)).distinct()
        count = images.rows.count() if images.local is None else images.local.num_rows
        few = count <= LOCAL_ROWS
        written = _write(step, rows_now, hold(step.spark, touched) if few else Held(touched), few)
        return Refreshed(step.model.name, "row-wise", f"rows changed: {count} of {relation}", written)
    finally:
        images.release()


def _write(step: _Step, wanted: DataFrame, touched: Held | None, few: bool, rebuild: bool = False) -> Written:
    target, keys = step.lake.model(step.model.name), list(step.model.plan.keys)
    order, large = step.order(wanted) if step.is_large else None, step.size >= LARGE_BYTES
    checked = not _is_unique(step.model)
    held = hold(step.spark, wanted) if few and checked else None  # else the query would run once for each
    rows = held.rows if held else wanted
    try:
        if checked:
            _refuse_doubled_keys(step.model, rows)
        written = make_equal(step.spark, target, rows, keys, step.state, touched, few, rebuild, large, order)
    finally:
        if held:
            held.release()
    if not written.committed:
        delta.record_progress(step.spark, target, step.state)
    return written


def _is_unique(model: Model) -> bool:
    """Whether no two rows can have one key."""
    plan = model.plan
    return plan.unique or (plan.strategy == "row-wise" and plan.keeps_keys(model.input_keys[plan.inputs[0]]))


def _refuse_doubled_keys(model: Model, wanted: DataFrame) -> None:
    plan = model.plan
    doubled = wanted.groupBy(*plan.keys).count().where("count > 1").limit(3).collect()
    if doubled:
        examples = ", ".join(str(tuple(row)[:-1]) for row in doubled)
        raise DataRefused(
            f"{model.name} has more than one row for a key, such as {examples}",
            expected=f"one row for each {', '.join(plan.keys)}",
            next_step=f"make {model.name}'s SQL, or its keys, tell them apart; the table is left as it was",
        )
