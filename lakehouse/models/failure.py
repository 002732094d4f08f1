"""Turns an error of Spark during a refresh into one that names the cause: the data, or the model's SQL.

    data    exit code 5: a value that the SQL cannot compute; the error names the expression and rows that have it
    sql     exit code 2: the SQL is wrong for any rows
    neither the error stays as it is: the environment failed, or it is a bug

Spark's own classification decides (`lakehouse/spark/faults.py`), with two exceptions. A value that the SQL itself has,
such as `CAST('x' AS INT)`, fails for any rows: the SQL is wrong. And if Spark has no classification, or calls
the SQL wrong after it has read rows (`to_number('x', '999')`), the rows decide: a query that fails only for some has a
value that does not fit.
"""

from __future__ import annotations

import re
from dataclasses import replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse.error_mapping import to_lakehouse_error
from lakehouse.errors import ConfigError, DataRefused, LakehouseError
from lakehouse.models.failing_rows import FailingRows, fails_without_rows, find_failing_rows
from lakehouse.models.model import RefreshContext, run_model_query, with_relation_names
from lakehouse.models.readable import unreadable_value
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
    fault = _in_authors_words(read_fault(error))
    if fault.is_before_rows and not _can_be_analyzed(context):
        return _sql_error(context, fault)
    if fault.kind == "data":
        is_constant = _has_no_column(context, fault)
        rows = find_failing_rows(context, is_value=not (is_constant and fault.fragment))
        if is_constant and (fails_without_rows(context) or (rows.is_query and not rows.is_value)):
            return _sql_error(context, fault)
        return _data_error(context, fault, rows)
    if fault.kind == "sql" or _is_from_a_library(fault, error):
        rows = find_failing_rows(context)
        if rows.is_value:
            return _data_error(context, fault, rows)
        # Spark raises errors of its analysis while it reads rows, too. Then the author's own query fails as well; if
        # it does not, a query that was made from it is wrong.
        if rows.is_query or (fault.kind == "sql" and not fault.is_before_rows):
            return _sql_error(context, fault)
    return error


def _in_authors_words(fault: SparkFault) -> SparkFault:
    """Return a fault with the names of relations in place of those of the views that stand for them."""
    return replace(fault, fragment=with_relation_names(fault.fragment), message=with_relation_names(fault.message))


def _has_no_column(context: RefreshContext, fault: SparkFault) -> bool:
    """Return whether the SQL that failed has no value of a row in it; without that SQL, whether it may have none."""
    try:
        parsed = sqlglot.parse_one(fault.fragment or context.model.plan.sql, read="spark")
    except SqlglotError:
        return False
    kinds = (exp.Column, exp.Subquery, exp.AggFunc) if fault.fragment else (exp.AggFunc,)
    return parsed.find(*kinds) is None


def _is_from_a_library(fault: SparkFault, error: Exception) -> bool:
    """Return whether a library of Java raised the error, such as its formatter, and not Spark or the environment.

    An expression of Spark that fails by a defect counts as one.
    """
    has_class = bool(fault.condition) and not fault.condition.startswith("_LEGACY_ERROR")
    is_unknown = not has_class or bool(fault.expression) or fault.sqlstate[:2] in ("38", "39")
    return is_unknown and not fault.is_defect and type(to_lakehouse_error(error)) is LakehouseError


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
    own = unreadable_value(fault.message)
    if own:
        tolerant = f"a condition or `try_validate_utf8` in the SQL of {own.partition(':')[0]}"
    return DataRefused(
        f"{what}: {own or fault.message}{fragment}{examples}",
        kept=f"{what}: {own or fault.name or 'a value does not fit'}{fragment}",
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
