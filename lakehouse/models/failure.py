"""Turns an error of Spark during a refresh into one that says what has to be corrected: the data, or the model's SQL.

    data    exit code 5: a value that the SQL cannot compute; the error names the expression and rows that have it
    sql     exit code 2: the SQL is wrong whatever the rows are
    neither the error stays as it is: the environment failed, or it is a bug

Spark's own classification decides (`lakehouse/spark/faults.py`). If it has none, or calls the SQL wrong after it has
read rows (`to_number('x', '999')`), the rows decide: a query that fails only for some has a value that does not fit.
"""

from __future__ import annotations

import re

from lakehouse.error_mapping import to_lakehouse_error
from lakehouse.errors import ConfigError, DataRefused, LakehouseError
from lakehouse.models.failing_rows import FailingRows, find_failing_rows
from lakehouse.models.model import RefreshContext, run_model_query
from lakehouse.models.sql.faults import text_position
from lakehouse.spark.faults import SparkFault, read_fault
from lakehouse.spark.session import SPARK_ERRORS


def is_caused_by_values(error: Exception) -> bool:
    """Return whether values of rows may be the cause of Spark's error.

    Args:
        error: The error.
    """
    fault = read_fault(error)
    return fault.kind == "data" or (not fault.is_before_rows and _is_from_a_library(fault, error))


def is_refused_before_rows(error: Exception) -> bool:
    """Return whether Spark refused a query before it read a row, because of the columns and types that it names.

    Args:
        error: Spark's error.
    """
    return read_fault(error).is_before_rows


def to_model_error(context: RefreshContext, error: Exception) -> Exception:
    """Return the error with which a refresh ends.

    Args:
        context: The refresh.
        error: Spark's error.

    Returns:
        `DataRefused` if a value is the cause, `ConfigError` if the SQL is, else `error` itself.
    """
    fault = read_fault(error)
    if fault.is_before_rows:
        return error if _can_be_analyzed(context) else _sql_error(context, fault)
    if fault.kind == "data":
        return _data_error(context, fault, find_failing_rows(context))
    if fault.kind == "sql" or _is_from_a_library(fault, error):
        rows = find_failing_rows(context)
        if rows.is_value:
            return _data_error(context, fault, rows)
    return _sql_error(context, fault) if fault.kind == "sql" else error


def _is_from_a_library(fault: SparkFault, error: Exception) -> bool:
    """Return whether a library of Java raised the error, such as its formatter, and not Spark or the environment."""
    is_unknown = not fault.condition or fault.sqlstate[:2] in ("38", "39")
    return is_unknown and type(to_lakehouse_error(error)) is LakehouseError


def _can_be_analyzed(context: RefreshContext) -> bool:
    """Return whether the author's SQL itself is right, so that a query made from it is wrong."""
    try:
        run_model_query(context.spark, context.model, {r: context.read_current(r) for r in context.model.plan.inputs})
    except SPARK_ERRORS:
        return False
    return True


def _data_error(context: RefreshContext, fault: SparkFault, rows: FailingRows) -> DataRefused:
    model, version = context.model.name, context.target_version
    what = f"{model} cannot be computed"
    fragment = f" in {_one_line(fault.fragment)}" if fault.fragment else ""
    examples = f"\nfor rows of {rows.relation}, such as {'; '.join(rows.keys)}" if rows.keys else ""
    table = f"the table stays at version {version.version}" if version else "the table is not created"
    tolerant = "a condition or a `try_` function in the SQL"
    if fault.tolerant_function:
        tolerant = f"`{fault.tolerant_function}` in the SQL, which gives null instead"
    return DataRefused(
        f"{what}: {fault.message}{fragment}{examples}",
        kept=f"{what}: {fault.name or 'a value does not fit'}{fragment}",
        expected=f"values that its SQL can compute; nothing was written: {table}, and models that read it wait",
        where=_place(context, fault),
        next_step=f"correct the rows at their source, or write {tolerant};"
        " then `lakehouse run PIPELINE` computes it again",
    )


def _sql_error(context: RefreshContext, fault: SparkFault) -> ConfigError:
    fragment = f" in {_one_line(fault.fragment)}" if fault.fragment else ""
    return ConfigError(
        f"{context.model.name}'s SQL cannot be run: {fault.message}{fragment}",
        kept=f"{context.model.name}'s SQL cannot be run: {fault.name}{fragment}",
        expected="SQL that Spark can run over the columns and types of its inputs; nothing was written",
        where=_place(context, fault),
        next_step="correct the SQL; then `lakehouse run PIPELINE` computes the model",
    )


def _place(context: RefreshContext, fault: SparkFault) -> str:
    """Return the model's file, with line and column if the fragment is in it once."""
    model, fragment = context.model, fault.fragment
    if fragment and model.plan.sql.count(fragment) == 1:
        return f"{model.sql_path}:{text_position(model.plan.sql, model.plan.sql.index(fragment))}"
    return model.sql_path or context.target


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
