"""Computes a row of a model for many states of the rows of bronze that made it, in one query of Spark.

State 0 has the rows of the earlier time; each later state has one more change, and the last one has all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.inspect.why.source_changes import Row, SourceChange
from lakehouse.lake import small_tables
from lakehouse.models.expectations import RowRuleEvaluator
from lakehouse.models.model import Model, ReadRelation, run_model_query
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.states import STATE, with_states

_FROM, _TO = "_why_from", "_why_to"


@dataclass
class States:
    """The states of the rows of bronze that made a row.

    Attributes:
        spark: The caller's own session.
        plans: The plan of each model.
        schemas: The columns of each table of bronze.
        unchanged: By table, its rows that are in all states.
        changes: The changes, in the order in which they are applied.
        read_reference: Reads the relations that expectations reference.
    """

    spark: SparkSession
    plans: Mapping[str, Plan]
    schemas: Mapping[str, T.StructType]
    unchanged: Mapping[str, Sequence[Row]]
    changes: Sequence[SourceChange]
    read_reference: ReadRelation
    _bronze: dict[str, DataFrame] = field(default_factory=dict)

    def rows(
        self, relation: str, parameters: Mapping[str, Any], condition: Callable[[DataFrame], DataFrame]
    ) -> list[Row | None]:
        """Return the row of a relation in each state; None where there is none.

        Args:
            relation: The table or model.
            parameters: The parameters of models.
            condition: Selects the row.

        Raises:
            NoStatesError: A model cannot be computed for many states at once.
        """
        found = condition(self._relation(relation, parameters)).toArrow().to_pylist()
        by_state = {row.pop(STATE): row for row in found}
        return [by_state.get(state) for state in range(len(self.changes) + 1)]

    def _relation(self, relation: str, parameters: Mapping[str, Any]) -> DataFrame:
        if relation not in self.plans:
            if relation not in self._bronze:
                self._bronze[relation] = self._table(relation)
            return self._bronze[relation]
        model = Model(self.plans[relation], {}, parameters)
        inputs = {name: self._relation(name, parameters) for name in model.plan.inputs}
        rows = run_model_query(self.spark, model, inputs, with_states)
        return RowRuleEvaluator(self.spark, model.plan, parameters, self.read_reference).remaining_rows(rows)

    def _table(self, relation: str) -> DataFrame:
        """Return the rows of a table of bronze in each state."""
        last, fields = len(self.changes), self.schemas[relation]
        rows: list[tuple[Row, int, int]] = [(row, 0, last) for row in self.unchanged.get(relation, ())]
        for number, change in enumerate(self.changes, start=1):
            if change.table == relation:
                rows += [(before, 0, number - 1) for before, _ in change.rows if before is not None]
                rows += [(after, number, last) for _, after in change.rows if after is not None]
        schema = T.StructType([*fields, T.StructField(_FROM, T.LongType()), T.StructField(_TO, T.LongType())])
        listed = [{**row, _FROM: first, _TO: until} for row, first, until in rows]
        table = pa.Table.from_pylist(listed, small_tables.arrow_schema(schema))
        states = F.explode(F.sequence(_FROM, _TO)).alias(STATE)
        columns = [F.col(quote_identifier(field.name)) for field in fields]
        return small_tables.to_frame(self.spark, table, schema).select(*columns, states)
