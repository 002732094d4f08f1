"""Computes tables and models as they were at a time, with Spark.

A table is folded from today's change sets, up to the last accepted snapshot of that time or before; a model is its SQL,
as it is written today, over its inputs at that time, less the rows that expectations take out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from lakehouse.bronze import read
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.lake.table_ref import TableRef
from lakehouse.models.expectations import RowRuleEvaluator
from lakehouse.models.model import Model, run_model_query
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT
from lakehouse.runner.context import Run


@dataclass
class RelationsAt:
    """The tables and models of a pipeline at a time.

    Attributes:
        run: The command.
        spark: The caller's own session: rows become temporary views in it.
        histories: The ledger's rows of each table.
        time: The time, with its zone.
    """

    run: Run
    spark: SparkSession
    histories: Mapping[str, LedgerHistory]
    time: datetime
    _rows: dict[str, DataFrame] = field(default_factory=dict)

    def rows(self, relation: str) -> DataFrame:
        """Return the rows of a table, with all columns of bronze, or of a model.

        Args:
            relation: The table or model, with its layer.

        Raises:
            DataRefused: The change sets up to that time were dropped.
        """
        if relation not in self._rows:
            layer, _, name = relation.partition(".")
            self._rows[relation] = self._table(name) if layer == "bronze" else self._model(relation)
        return self._rows[relation]

    def _table(self, name: str) -> DataFrame:
        table = TableRef(self.spark, self.run.lake, name, self.run.pipeline.tables[name], self.run.pipeline.tuning)
        return read.stored_rows_at(table, self.histories[name], self.time)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The parameters of models at that time."""
        times = [e.snapshot_time for history in self.histories.values() for e in history.accepted]
        newest = max((time for time in times if time <= self.time), default=None)
        return dict.fromkeys(NEWEST_SNAPSHOT, newest) | {"business_timezone": self.run.pipeline.business_timezone}

    def _model(self, name: str) -> DataFrame:
        model = Model(self.run.plans[name], {}, self.parameters)
        inputs = {relation: self.rows(relation) for relation in model.plan.inputs}
        rows = run_model_query(self.spark, model, inputs)
        return RowRuleEvaluator(self.spark, model.plan, model.parameters, self.rows).remaining_rows(rows)
