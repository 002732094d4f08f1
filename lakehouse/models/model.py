"""A model, and a refresh of it at work: what it reads and writes, as they are pinned, and the state between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.lake import delta
from lakehouse.models.expectations import EvaluationContext, RuleResult
from lakehouse.models.sql.plan import Plan
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.paths import Lake

_COLUMNS_WITH_STATISTICS = 32  # Delta notes least and greatest of the first columns only


@dataclass(frozen=True)
class Model:
    """A model and what refreshing it needs: its plan, and the keys of each of its inputs."""

    plan: Plan
    input_keys: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, Any]  # by name; only those that the plan uses are handed to Spark
    lookup_columns: tuple[str, ...] = ()  # columns by which the models after it look for rows in it

    @property
    def name(self) -> str:
        return self.plan.model

    @property
    def arguments(self) -> dict[str, Any]:
        return {p: self.parameters[p] for p in self.plan.parameters}


@dataclass(frozen=True)
class RefreshContext:
    """A refresh at work: the inputs as they are pinned, the target as it is, and the state that it will be at.

    `results` and `taken`: what came of its expectations.
    """

    spark: SparkSession
    lake: Lake
    model: Model
    inputs: Mapping[str, TableVersion]
    target_version: TableVersion | None
    new_state: dict[str, Any]
    results: list[RuleResult] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)

    @cached_property
    def recorded_state(self) -> dict[str, Any] | None:
        """The state that the target is at; None: its rows are somebody else's."""
        return self.target_version.recorded_progress() if self.target_version else None

    @property
    def previous_state(self) -> Mapping[str, Any]:
        return self.recorded_state or {}

    @cached_property
    def evaluation_context(self) -> EvaluationContext:
        ours = self.target_version.commits if self.target_version else ()
        last = next((c.metadata for c in ours if "inputs" in c.metadata), {})
        plan, given = self.model.plan, self.model.parameters
        return EvaluationContext(self.spark, self.lake, plan, given, self.target_version, last, self.read_current)

    @cached_property
    def changed_inputs(self) -> list[str]:
        """The inputs whose rows may have changed."""
        return [r for r, head in self.inputs.items() if _has_changed(head, self.previous_state["inputs"][r])]

    def read_current(self, relation: str) -> DataFrame:
        return delta.read(self.spark, self.lake.table(relation), self.inputs[relation].version)

    def read_previous(self, relation: str) -> DataFrame:
        """An input as it was, with the columns that it has now."""
        was = delta.read(self.spark, self.lake.table(relation), self.previous_state["inputs"][relation]["version"])
        fields = self.read_current(relation).schema.fields
        columns = [F.col(f"`{f.name}`") if f.name in was.columns else F.lit(None).cast(f.dataType) for f in fields]
        return was.select(*[column.alias(f.name) for column, f in zip(columns, fields, strict=True)])

    def file_order_column(self, rows: DataFrame) -> str | None:
        """The day by which the rows of a large model lie together: one that the models after it look for."""
        noted = rows.schema.fields[:_COLUMNS_WITH_STATISTICS]
        days = {f.name.lower(): f.name for f in noted if isinstance(f.dataType, T.DateType)}
        return next((days[c] for c in self.model.lookup_columns if c in days), None)

    @property
    def input_bytes(self) -> int:
        """Bytes of the inputs."""
        return sum(head.size for head in self.inputs.values())

    def read_changes(self, relation: str) -> DataFrame:
        after, until = self.previous_state["inputs"][relation]["version"], self.inputs[relation].version
        return delta.read_change_feed(self.spark, self.lake.table(relation), after, until)


def refresh_state(model: Model, inputs: Mapping[str, TableVersion]) -> dict[str, Any]:
    """What a commit of the model records: with the same state there is nothing to do."""
    arguments = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in model.arguments.items()}
    versions = {relation: {"id": head.id, "version": head.version} for relation, head in inputs.items()}
    return {
        "stage": model.name.partition(".")[0],
        "sql": model.plan.sql_hash,
        "arguments": arguments,
        "inputs": versions,
    }


def _has_changed(head: TableVersion, recorded: Mapping[str, Any]) -> bool:
    return head.version != recorded["version"] and head.has_changed_since(recorded["version"])
