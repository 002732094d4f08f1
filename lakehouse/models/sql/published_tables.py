"""Checks, without Spark and without a server, that PostgreSQL can have the tables that a pipeline publishes."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from lakehouse.config import Pipeline
from lakehouse.config.postgres_tables import JSON_TYPE, PlannedColumn, atomic_type, require_possible
from lakehouse.models.sql.resolve import Relation

_NESTED = (exp.DType.ARRAY, exp.DType.STRUCT, exp.DType.MAP)
_UNSUPPORTED = (exp.DType.VARIANT, exp.DType.INTERVAL, exp.DType.TIME)


def require_publishable(
    pipeline: Pipeline, relations: Mapping[str, Relation], keys: Mapping[str, tuple[str, ...]]
) -> None:
    """Raise if a table that is published has columns that PostgreSQL cannot have; unknown ones are left to `publish`.

    Args:
        pipeline: The pipeline.
        relations: The known columns of each table and model.
        keys: Their key columns.

    Raises:
        ConfigError: With everything that PostgreSQL cannot have in one of the tables.
    """
    tables = pipeline.publish.tables if pipeline.publish else {}
    for source in tables:
        if source in relations:
            columns = [_plan(column.name, column.type) for column in relations[source].columns if column.name]
            where = pipeline.location("publish", "postgres", "tables", source)
            require_possible(source, columns, keys.get(source, ()), where)


def _plan(name: str, data_type: exp.DataType | None) -> PlannedColumn:
    if data_type is None:
        return PlannedColumn(name, None)
    parts = [data_type, *data_type.find_all(exp.DataType)]
    if any(part.this in _UNSUPPORTED or isinstance(part.this, exp.Interval) for part in parts):
        return PlannedColumn(name, None, data_type.sql("spark"))
    if data_type.this in _NESTED:
        return PlannedColumn(name, JSON_TYPE)
    return PlannedColumn(name, atomic_type(data_type.sql("spark")))
