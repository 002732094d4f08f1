"""Defines a model and the context of one refresh: its pinned inputs, its target table and its states.

`run_model_query` runs the author's SQL over given DataFrames; `lakehouse verify` uses it as well.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.config.tuning import Tuning
from lakehouse.lake import delta, small_tables
from lakehouse.lake.cached_rows import CachedRows, cache_rows
from lakehouse.lake.marked_rows import live_cached_changes, live_rows
from lakehouse.lake.quarantine import QuarantineState, read_state
from lakehouse.models.sql.plan import Plan
from lakehouse.schema.mismatch import schema_mismatches
from lakehouse.spark.collect import with_nullable_fields
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.paths import Lake

_COLUMNS_WITH_STATISTICS = 32  # Delta records minimum and maximum values of the first columns only

_VIEW_NAME = re.compile(r"\b_(bronze|silver|gold)_(\w+?)_[0-9a-f]{32}\b")  # of `run_model_query`

ReadRelation = Callable[[str], DataFrame]
"""Reads the current rows of a relation, by its name."""


@dataclass(frozen=True)
class Model:
    """A model, with the keys, parameters and thresholds of its refresh.

    Attributes:
        plan: The model's SQL, keys and rules.
        input_keys: The key columns of each input, by relation.
        parameters: All parameters by name. Spark receives only those that the plan uses.
        lookup_columns: The columns by which later models look up rows in this one.
        tuning: The thresholds of the run.
        sql_path: The file with its SQL, for messages.
        input_hashes: The current `sql_hash` of every model, by name: its inputs are up to date if they record it.
        input_columns: The columns that each table of bronze has to have, by relation.
        may_have_bytes: Whether a value of an input or of its own may be BINARY (`readable.py`).
    """

    plan: Plan
    input_keys: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, Any]
    lookup_columns: tuple[str, ...] = ()
    tuning: Tuning = field(default_factory=Tuning)
    sql_path: str = ""
    input_hashes: Mapping[str, str] = field(default_factory=dict)
    input_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may_have_bytes: bool = False

    @property
    def name(self) -> str:
        """The layer and name, such as `silver.customers`."""
        return self.plan.model

    @property
    def arguments(self) -> dict[str, Any]:
        """The parameters that the plan uses."""
        return {name: self.parameters[name] for name in self.plan.parameters}

    @property
    def is_one_row_per_input_row(self) -> bool:
        """Whether each row of the only input gives at most one row, under the key of that input row.

        A CTE that no SELECT reads is an input, too.
        """
        plan = self.plan
        if plan.strategy != "row-wise" or len(plan.inputs) != 1:
            return False
        return plan.has_input_keys(self.input_keys[plan.inputs[0]])

    @property
    def has_unique_keys(self) -> bool:
        """Whether the SQL itself makes the keys unique, so that no check is needed."""
        return self.plan.has_unique_keys or self.is_one_row_per_input_row


@dataclass(frozen=True)
class RefreshContext:
    """The inputs and the target of one refresh.

    Attributes:
        spark: The refresh's own session.
        lake: The lake's paths.
        model: The model to refresh.
        inputs: The current version of each relation that the model depends on. All reads use these versions.
        target_version: The current version of the model's table; None if there is no table.
    """

    spark: SparkSession
    lake: Lake
    model: Model
    inputs: Mapping[str, TableVersion]
    target_version: TableVersion | None

    @property
    def target(self) -> str:
        """The address of the model's table."""
        return self.lake.table(self.model.name)

    @cached_property
    def new_state(self) -> dict[str, Any]:
        """The state that the refresh's commit records; a table with the same state needs no refresh."""
        arguments = self.model.arguments
        return {
            "stage": self.model.name.partition(".")[0],
            "sql": self.model.plan.sql_hash,
            "arguments": {k: v.isoformat() if isinstance(v, datetime) else v for k, v in arguments.items()},
            "inputs": {name: {"id": table.id, "version": table.version} for name, table in self.inputs.items()},
        }

    @cached_property
    def recorded_state(self) -> dict[str, Any] | None:
        """The recorded state of the target's rows; None if there is no table or another writer changed its rows."""
        return self.target_version.recorded_progress() if self.target_version else None

    @property
    def previous_state(self) -> Mapping[str, Any]:
        """The recorded state, or an empty one."""
        return self.recorded_state or {}

    @cached_property
    def last_refresh_state(self) -> Mapping[str, Any]:
        """The state that the last refresh recorded, even if another writer changed rows since; else an empty one."""
        return self.target_version.last_refresh_metadata if self.target_version else {}

    @property
    def last_refresh_version(self) -> int:
        """The target's version that the last refresh wrote; -1 if there is none."""
        return self.target_version.last_refresh_version if self.target_version else -1

    @cached_property
    def quarantine_state(self) -> QuarantineState:
        """The state of the model's quarantine before the refresh."""
        return read_state(self.spark, self.lake, self.model.name, self.last_refresh_version)

    @cached_property
    def changed_inputs(self) -> list[str]:
        """The inputs whose rows may have changed since the recorded state."""
        recorded = self.previous_state["inputs"]
        return [
            name
            for name, table in self.inputs.items()
            if table.has_unread_changes(recorded[name]["id"], recorded[name]["version"])
        ]

    @property
    def has_retyped_input(self) -> bool:
        """Whether an input lost a column or has it with another type since the recorded state: it was rebuilt.

        The model's own columns then follow, also in the run after a rebuild that was killed.
        """
        return any(self._is_retyped(name, at) for name, at in self.previous_state.get("inputs", {}).items())

    def _is_retyped(self, relation: str, recorded: Mapping[str, Any]) -> bool:
        current, address = self.inputs.get(relation), self.lake.table(relation)
        if current is None or current.id != recorded["id"] or current.version == recorded["version"]:
            return False  # another table in the place of the input says nothing about its earlier columns
        try:
            earlier, now = (delta.schema(self.spark, address, v) for v in (recorded["version"], current.version))
        except SPARK_ERRORS:  # the earlier version is no longer in the log
            return False
        return bool(schema_mismatches(earlier, now))

    @property
    def outdated_inputs(self) -> list[str]:
        """The inputs that are not as the pipeline has them now: they were refused, or their stage has not run."""
        return [relation for relation in self.inputs if self._is_outdated(relation)]

    def _is_outdated(self, relation: str) -> bool:
        if wanted := self.model.input_columns.get(relation):
            names = {name.lower() for name in delta.schema(self.spark, self.lake.table(relation)).names}
            return not {name.lower() for name in wanted} <= names
        recorded = self.inputs[relation].last_refresh_metadata
        return bool(recorded) and recorded.get("sql") != self.model.input_hashes.get(relation, recorded.get("sql"))

    @property
    def input_bytes(self) -> int:
        """The size of all inputs in bytes."""
        return sum(table.size for table in self.inputs.values())

    @property
    def reads_small_tables(self) -> bool:
        """Whether the driver reads all inputs and the target."""
        tables = [*self.inputs.values(), *filter(None, [self.target_version])]
        return all(table.size <= self.model.tuning.small_table_bytes for table in tables)

    def read_target(self) -> DataFrame | None:
        """Return the rows of the model's table; None if there is no table."""
        return self._read(self.target, self.target_version.version) if self.target_version else None

    def read_current(self, relation: str) -> DataFrame:
        """Return the rows of an input at its pinned version."""
        return live_rows(relation, self._read(self.lake.table(relation), self.inputs[relation].version))

    def read_previous(self, relation: str) -> DataFrame:
        """Return the rows of an input at the version of the recorded state, with the columns that it has now."""
        version = self.previous_state["inputs"][relation]["version"]
        previous = live_rows(relation, self._read(self.lake.table(relation), version))
        return previous.select(
            *[
                (F.col(quote_identifier(f.name)) if f.name in previous.columns else F.lit(None).cast(f.dataType)).alias(
                    f.name
                )
                for f in self.read_current(relation).schema
            ]
        )

    def read_changes(self, relation: str) -> CachedRows:
        """Return an input's change feed from the recorded state (excluded) to its pinned version (included)."""
        after, until = self.previous_state["inputs"][relation]["version"], self.inputs[relation].version
        max_bytes = self.model.tuning.small_table_bytes
        changes = small_tables.read_changes(self.spark, self.lake.table(relation), after, until, max_bytes)
        return live_cached_changes(relation, changes)

    def cache_changes(self, relation: str) -> CachedRows:
        """Return an input's change feed cached, as `read_changes` gives it; the caller releases it."""
        changes = self.read_changes(relation)
        few = changes.local_rows is not None and changes.local_rows.num_rows <= self.model.tuning.local_rows
        return changes if few else self.cache(changes.rows)

    def _read(self, address: str, version: int) -> DataFrame:
        return small_tables.read(self.spark, address, self.model.tuning.small_table_bytes, version)

    def cache(self, rows: DataFrame) -> CachedRows:
        """Compute rows once and return them cached; the caller releases them."""
        return cache_rows(self.spark, rows, self.model.tuning.local_rows)

    def file_order_column(self, rows: DataFrame) -> str | None:
        """Return the DATE column to order the table's files by: the first that later models look rows up by."""
        fields = rows.schema.fields[:_COLUMNS_WITH_STATISTICS]
        dates = {field.name.lower(): field.name for field in fields if isinstance(field.dataType, T.DateType)}
        return next((dates[column] for column in self.model.lookup_columns if column in dates), None)


def run_model_query(
    spark: SparkSession, model: Model, relations: Mapping[str, DataFrame], rewrite: Callable[[str], str] = str
) -> DataFrame:
    """Return the rows of the author's SQL over given DataFrames.

    Args:
        spark: The caller's own session: the DataFrames become temporary views in it.
        model: The model whose SQL to run.
        relations: The rows to use for each relation that the SQL reads.
        rewrite: Returns the SQL to run in place of the author's, such as `states.with_states`.

    Returns:
        The rows with the columns that the SQL selects, before any expectation.
    """
    names = {relation: f"_{relation.replace('.', '_', 1)}_{uuid.uuid4().hex}" for relation in relations}
    for relation, rows in relations.items():
        rows.createOrReplaceTempView(names[relation])
    return with_nullable_fields(spark.sql(rewrite(model.plan.sql_with_names(names)), args=model.arguments))


def with_relation_names(text: str) -> str:
    """Return a message of Spark with the names of relations in place of those of the views of `run_model_query`.

    >>> with_relation_names("x FROM _bronze_items_a141b5b0f4c449819fc3cf65c23dfcc5 AS x")
    'x FROM bronze.items AS x'

    Args:
        text: The message.
    """
    return _VIEW_NAME.sub(r"\1.\2", text)
