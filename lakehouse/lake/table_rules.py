"""Explains a write that a table itself refuses: by a CHECK or NOT NULL constraint, or by a property such as appendOnly.

A user set these on the table: the lake's own tables have none. They are respected, and the error names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession

from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.lake import delta
from lakehouse.spark.collect import select_collectable
from lakehouse.spark.faults import SparkFault, read_fault
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.text import key_text

_CHECK = "delta.constraints."
_NOT_NULL = "NOT NULL of "
_PROPERTY = re.compile(r"\bdelta\.[A-Za-z][\w.]*\w")
_MAX_EXAMPLES = 3


@contextmanager
def explain_refusal(
    spark: SparkSession, address: str, keys: Iterable[str] = (), written: DataFrame | None = None
) -> Iterator[None]:
    """Raise an error that names the table and its rule, if the table refuses rows that are written in this context.

    Args:
        spark: The session that writes.
        address: The table's address.
        keys: The columns that identify a row.
        written: The rows that are inserted or updated, if they can be read again.

    Raises:
        DataRefused: A row does not meet a constraint of the table.
        ConfigError: A property of the table forbids the write.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        fault = read_fault(error)
        if not fault.condition.startswith("DELTA_"):
            raise
        if fault.sqlstate.startswith("23"):
            raise _constraint_error(spark, address, list(keys), written, fault) from error
        if fault.kind == "sql":
            raise _property_error(address, fault) from error
        raise


def _constraint_error(
    spark: SparkSession, address: str, keys: list[str], written: DataFrame | None, fault: SparkFault
) -> DataRefused:
    rules = _constraints(spark, address)
    broken, examples = list(rules), ""
    if written is not None:
        for name, condition in rules.items():
            rows = select_collectable(written.where(f"NOT coalesce(({condition}), FALSE)"), keys)
            if found := rows.limit(_MAX_EXAMPLES).collect():
                broken = [name]
                examples = f", such as {'; '.join(key_text(keys, row) for row in found)}"
                break
    named = "; ".join(broken) or fault.condition
    what = f"rows do not meet a constraint of the table: {named}"
    drop = f"ALTER TABLE {delta.sql_name(address)} "
    is_check = bool(broken) and broken[0].startswith("CHECK")
    column = quote_identifier(broken[0].removeprefix(_NOT_NULL)) if broken else "..."
    drop += f"DROP CONSTRAINT {broken[0].split()[1]}" if is_check else f"ALTER COLUMN {column} DROP NOT NULL"
    return DataRefused(
        f"{what}{examples}",
        kept=what,
        expected="rows that meet it; nothing was written",
        where=address,
        next_step=f"correct the rows at their source, or remove the constraint (`{drop}` in Spark);"
        " then `lakehouse run PIPELINE` writes them",
    )


def _constraints(spark: SparkSession, address: str) -> dict[str, str]:
    """Return the conditions of a table's constraints by their names, as people write them."""
    properties = delta.properties(spark, address)
    checks = {
        f"CHECK {name.removeprefix(_CHECK)} ({condition})": condition
        for name, condition in properties.items()
        if name.startswith(_CHECK)
    }
    columns = [field.name for field in delta.schema(spark, address) if not field.nullable]
    return checks | {f"{_NOT_NULL}{name}": f"{quote_identifier(name)} IS NOT NULL" for name in columns}


def _property_error(address: str, fault: SparkFault) -> ConfigError:
    found = _PROPERTY.search(fault.message)
    name = "delta.appendOnly" if "APPEND_ONLY" in fault.condition else found[0] if found else ""
    unset = f"ALTER TABLE {delta.sql_name(address)} UNSET TBLPROPERTIES ('{name}')"
    return ConfigError(
        f"the table refuses the write{f' because of its property {name}' if name else ''}: {fault.message}",
        kept=f"the table refuses the write{f' because of its property {name}' if name else ''}: {fault.name}",
        expected="a table whose rows may be inserted, updated and deleted; nothing was written",
        where=address,
        next_step=f"`{unset}` in Spark; then run the same command again"
        if name
        else "undo what was set on the table; then run the same command again",
    )
