"""Runs the test cases of models (`cases.py`) in one session, without the lake's tables. Entry point: `run_tests`.

1. Give each row the types of its table or model; a model's types are those of its SQL over no rows.
2. Compute the model: an input that the case does not give is computed from its own inputs, or has no rows.
3. Take out the rows that expectations drop or put in quarantine, as a refresh does.
4. Compare the columns that the expected rows name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cached_property
from time import monotonic as time_now
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse import logs
from lakehouse.config.ddl import quote_identifier
from lakehouse.config.row_keys import ROW_COUNT
from lakehouse.config.strict_model import did_you_mean
from lakehouse.error_mapping import first_line
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.inspect.cases import Case, Row, compare_rows, read_cases
from lakehouse.inspect.json_rows import json_rows
from lakehouse.lake.table_ref import bronze_schema
from lakehouse.models.expectations import RowRuleEvaluator
from lakehouse.models.model import Model, run_model_query
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT
from lakehouse.runner.context import Run
from lakehouse.spark.session import SPARK_ERRORS, isolated_session, local_frame
from lakehouse.storage.paths import parse_time

Document = dict[str, Any]
OnCase = Callable[[Document], None]


def run_tests(run: Run, names: Iterable[str] = (), on_case: OnCase = lambda _: None) -> Document:
    """Run test cases, and return their results.

    Args:
        run: The command.
        names: Models, files or cases; none: all.
        on_case: Receives the result of each case as soon as there is one.

    Returns:
        The document of `lakehouse test --json`; its exit code is 5 if a case failed.

    Raises:
        ConfigError: A file is not valid, or a name is of no case.
    """
    cases = read_cases(run.pipeline, run.plans, names)
    results = []
    bench = CaseRunner(run)
    if cases:
        _ = bench.spark  # so that no case has the time of its start
    run.progress.begin("test", len(cases))
    for case in cases:
        results.append(_run_case(bench, case))
        on_case(results[-1])
        run.progress.advance()
    failed = sum(result["result"] == "failed" for result in results)
    code = ExitCode.REFUSED if failed else ExitCode.OK
    counts = {"passed": len(results) - failed, "failed": failed, "exit_code": int(code)}
    return {"pipeline": run.pipeline.name, "cases": results} | counts


def _run_case(bench: CaseRunner, case: Case) -> Document:
    started = time_now()
    differences, note = list[Document](), None
    try:
        differences = bench.differences(case)
    except ConfigError as error:
        note = logs.redact(error.found)
    except SPARK_ERRORS as error:  # a value that is not of its column's type, or SQL that fails on these rows
        note = logs.redact(first_line(error))
    return {
        "file": case.file.name,
        "case": case.name,
        "model": case.model,
        "result": "failed" if differences or note else "passed",
        "seconds": round(time_now() - started, 2),
        "differences": differences,
        "note": note,
    }


class CaseRunner:
    """Computes models over given rows, in one session."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._schemas: dict[str, T.StructType] = {}

    @cached_property
    def spark(self) -> SparkSession:
        """A session with settings for a few rows."""
        return isolated_session(self._run.spark, 0)

    def differences(self, case: Case) -> list[Document]:
        """Return how the rows of a case's model differ from the expected ones.

        Args:
            case: The case.

        Raises:
            ConfigError: The case names a column that there is not.
        """
        found = self.selected(case)
        named = dict.fromkeys(column for row in case.expect for column in row)
        fields = self._named_fields(found.schema, named or found.columns, case.model)
        rows = found.select(*[quote_identifier(f.name) for f in fields])
        wanted = json_rows(self.typed_rows(case.expect, fields, case.model))
        keys = [f.name for f in fields if f.name.lower() in {k.lower() for k in self._run.plans[case.model].keys}]
        has_keys = len(keys) == len(self._run.plans[case.model].keys)
        return compare_rows(json_rows(rows), wanted, keys if has_keys else ())

    def selected(self, case: Case) -> DataFrame:
        """Return the rows of a case's model that are compared, without those that expectations take out.

        Args:
            case: The case.
        """
        rows = self._relation(case.model, case, is_target=True)
        if not case.only:
            return rows
        fields = self._named_fields(rows.schema, case.only, case.model)
        wanted = self.typed_rows([case.only], fields, case.model).alias("w")
        same = [
            F.col(f"r.{quote_identifier(f.name)}").eqNullSafe(F.col(f"w.{quote_identifier(f.name)}")) for f in fields
        ]
        return rows.alias("r").join(wanted, on=same, how="left_semi")

    def _relation(self, relation: str, case: Case, is_target: bool = False) -> DataFrame:
        """Return the rows of a relation: given, computed, or none."""
        if relation in case.given and not is_target:
            once = {ROW_COUNT: 1} if ROW_COUNT in self.schema(relation).names else {}
            return self.typed_rows([once | dict(row) for row in case.given[relation]], self.schema(relation), relation)
        if not is_target and not self._is_computed(relation, case):
            return local_frame(self.spark, self.schema(relation))
        model = self._model(relation, case)
        inputs = {name: self._relation(name, case) for name in model.plan.inputs}
        rows = run_model_query(self.spark, model, inputs)
        rules = RowRuleEvaluator(self.spark, model.plan, model.parameters, lambda name: self._relation(name, case))
        return rules.remaining_rows(rows)

    def _is_computed(self, relation: str, case: Case) -> bool:
        """Return whether a model that the case does not give has an input, near or far, that it gives."""
        plan = self._run.plans.get(relation)
        return plan is not None and any(name in case.given or self._is_computed(name, case) for name in plan.inputs)

    def _model(self, name: str, case: Case | None) -> Model:
        plan = self._run.plans[name]
        time = case.newest_snapshot if case else "1970-01-01T00:00:00Z"
        if time is None and plan.parameters & set(NEWEST_SNAPSHOT):
            raise ConfigError(f"{name} uses :newest_snapshot, and the case does not give `newest_snapshot`")
        parameters: dict[str, Any] = dict.fromkeys(NEWEST_SNAPSHOT, parse_time(time) if time else None)
        return Model(plan, {}, parameters | {"business_timezone": self._run.pipeline.business_timezone})

    def schema(self, relation: str) -> T.StructType:
        """Return the columns of a table or model, without reading the lake.

        Args:
            relation: The table or model, with its layer.
        """
        if relation not in self._schemas:
            layer, _, short = relation.partition(".")
            if layer == "bronze":
                self._schemas[relation] = bronze_schema(self._run.pipeline.tables[short])
            else:
                model = self._model(relation, None)
                empty = {name: local_frame(self.spark, self.schema(name)) for name in model.plan.inputs}
                self._schemas[relation] = run_model_query(self.spark, model, empty).schema
        return self._schemas[relation]

    def typed_rows(self, rows: Iterable[Row], fields: T.StructType, relation: str) -> DataFrame:
        """Return rows of a case with the types of their columns; a column that a row does not name is null.

        Args:
            rows: The rows.
            fields: The columns.
            relation: The table or model, for messages.

        Raises:
            ConfigError: A row names a column that there is not.
        """
        listed = list(rows)
        self._named_fields(fields, dict.fromkeys(column for row in listed for column in row), relation)
        by_name = [{name.lower(): value for name, value in row.items()} for row in listed]
        texts = [tuple(_text(row.get(field.name.lower())) for field in fields) for row in by_name]
        frame = local_frame(self.spark, T.StructType([T.StructField(f.name, T.StringType()) for f in fields]), texts)
        return frame.select(*[_typed(field).alias(field.name) for field in fields])

    @staticmethod
    def _named_fields(schema: T.StructType, names: Iterable[str], relation: str) -> T.StructType:
        known = {field.name.lower(): field for field in schema}
        if unknown := [name for name in names if name.lower() not in known]:
            raise ConfigError(f"{relation} has no column {', '.join(unknown)}{did_you_mean(unknown[0], schema.names)}")
        return T.StructType([T.StructField(known[name.lower()].name, known[name.lower()].dataType) for name in names])


def _text(value: Any) -> str | None:
    """Return a value of YAML as the text that Spark casts to its column's type."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _typed(field: T.StructField) -> Any:
    column = F.col(quote_identifier(field.name))
    match field.dataType:
        case T.ArrayType() | T.MapType() | T.StructType():
            return F.from_json(column, field.dataType.simpleString(), {"mode": "FAILFAST"})
        case T.BinaryType():
            return F.unbase64(column)
    return column.cast(field.dataType)  # raises for a value of another type, since ANSI is on
