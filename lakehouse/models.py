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
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse import delta
from lakehouse.delta import Head
from lakehouse.errors import DataRefused
from lakehouse.lake import Lake
from lakehouse.merge import LOCAL_ROWS, Written, make_equal
from lakehouse.plan import Plan
from lakehouse.session import SPARK_ERRORS

# Parts of the conditions by which Delta and Spark say that a Change Data Feed is no longer readable.
_GONE = (
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_CHANGE_DATA",
    "DELTA_VERSION_NOT_CONTIGUOUS",
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
_IMAGE_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


@dataclass(frozen=True)
class Refreshed:
    """What became of a model: how it was refreshed (`row-wise`, `full`, `current`, `waiting`) and why."""

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
    target = lake.model(model.name)
    heads = {relation: delta.head(spark, lake.model(relation)) for relation in model.plan.inputs}
    if missing := [relation for relation, head in heads.items() if head is None]:
        return Refreshed(model.name, "waiting", f"{', '.join(missing)} has no snapshot yet")
    inputs = {relation: head for relation, head in heads.items() if head is not None}
    target_head = delta.head(spark, target)
    before = target_head.progress() if target_head else None
    state = _state(model, inputs)
    why_whole = "asked for" if whole else _why_whole(model, target_head is not None, before, state)
    if not why_whole and before and not any(_moved(head, before["inputs"][r]) for r, head in inputs.items()):
        return Refreshed(model.name, "current")
    if not why_whole and before and model.plan.strategy == "row-wise":
        relation = model.plan.inputs[0]
        images = _images(spark, lake, relation, before["inputs"][relation]["version"], inputs[relation].version)
        if images is None:
            why_whole = f"the changes of {relation} are no longer there"
        else:
            try:
                wanted, touched = _row_wise(spark, lake, model, relation, images, inputs[relation])
                few = images.count() <= LOCAL_ROWS
                written = _write(spark, target, model, wanted, state, touched, few)
                return Refreshed(model.name, "row-wise", "", written)
            finally:
                images.unpersist()
    wanted = select(spark, model, {r: delta.read(spark, lake.model(r), h.version) for r, h in inputs.items()})
    written = _write(spark, target, model, wanted, state, None, small, rebuild=whole)
    return Refreshed(model.name, "full", why_whole or model.plan.reason, written)


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


def _moved(head: Head, recorded: Mapping[str, Any]) -> bool:
    return head.version != recorded["version"] and head.changed_since(recorded["version"])


def _images(spark: SparkSession, lake: Lake, relation: str, after: int, until: int) -> DataFrame | None:
    """The Change Data Feed of an input, held; None where retention has taken it."""
    try:
        images = delta.changes(spark, lake.model(relation), after, until).persist(StorageLevel.MEMORY_AND_DISK)
        images.count()
    except SPARK_ERRORS as error:
        if _is_gone(error):
            return None
        raise
    return images


def _is_gone(error: Exception) -> bool:
    """Whether a Change Data Feed cannot be read any more: its log, its files, or the right to read so far back."""
    return any(sign in str(error) for sign in _GONE)


def _row_wise(
    spark: SparkSession, lake: Lake, model: Model, relation: str, images: DataFrame, head: Head
) -> tuple[DataFrame, DataFrame]:
    """The rows that a model must have for the keys touched by `images`, and those keys."""
    keys, input_keys = list(model.plan.keys), model.input_keys[relation]
    old = images.where(delta.is_old_image()).drop(*_IMAGE_COLUMNS)
    newest = Window.partitionBy(*input_keys).orderBy(F.desc("_commit_version"))
    last = images.where("_change_type <> 'update_preimage'").withColumn("_cdc_rank", F.row_number().over(newest))
    now = last.where("_cdc_rank = 1 AND _change_type <> 'delete'").drop("_cdc_rank", *_IMAGE_COLUMNS)
    rows_now = select(spark, model, {relation: now})
    rows_then = select(spark, model, {relation: old})
    touched = rows_then.select(*keys).unionByName(rows_now.select(*keys)).distinct()
    if model.plan.keeps_keys(input_keys):
        return rows_now, touched
    # Rows that did not change may share a touched key: ask the whole input for those keys.
    everything = select(spark, model, {relation: delta.read(spark, lake.model(relation), head.version)})
    same = [everything[k].eqNullSafe(touched[k]) for k in keys]
    return everything.join(touched, on=same, how="left_semi"), touched


def _write(
    spark: SparkSession,
    target: str,
    model: Model,
    wanted: DataFrame,
    state: dict[str, Any],
    touched: DataFrame | None,
    few: bool,
    rebuild: bool = False,
) -> Written:
    _refuse_doubled_keys(model, wanted)
    written = make_equal(spark, target, wanted, list(model.plan.keys), state, touched, few, rebuild)
    if not written.committed:
        delta.record_progress(spark, target, state)
    return written


def _refuse_doubled_keys(model: Model, wanted: DataFrame) -> None:
    plan = model.plan
    if plan.unique or (plan.strategy == "row-wise" and plan.keeps_keys(model.input_keys[plan.inputs[0]])):
        return
    doubled = wanted.groupBy(*plan.keys).count().where("count > 1").limit(3).collect()
    if doubled:
        examples = ", ".join(str(tuple(row)[:-1]) for row in doubled)
        raise DataRefused(
            f"{model.name} has more than one row for a key, such as {examples}",
            expected=f"one row for each {', '.join(plan.keys)}",
            next_step=f"make {model.name}'s SQL, or its keys, tell them apart; the table is left as it was",
        )
