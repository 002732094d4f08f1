"""Leaves out the rows of bronze that are marked as deleted (`missing: {then: mark}`), for readers of live rows.

Models, publishing, `show` and the report read live rows. So do readers of the Change Data Feed: to them, a row that is
marked is deleted, and one that is taken back is inserted.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.lake import small_tables
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.cdc import DELETE, MISSING_SINCE

_CHANGE_TYPE = "_change_type"
_BEFORE_IMAGES = ("update_preimage", "delete")


def is_marked() -> Column:
    """Return whether a row of bronze (scd 1) is that of a key that was deleted, which `then: mark` keeps."""
    return F.col(MISSING_SINCE).isNotNull() & (F.col("_cdc_operation") == DELETE)


def live_rows(relation: str, rows: DataFrame) -> DataFrame:
    """Return the rows of a table or model without marked ones.

    Args:
        relation: The table or model, such as `bronze.clientes`.
        rows: Its rows.
    """
    return rows.where(~F.coalesce(is_marked(), F.lit(False))) if _has_marks(relation, rows.columns) else rows


def live_changes(relation: str, images: DataFrame) -> DataFrame:
    """Return the Change Data Feed of a table or model as a reader of its live rows sees it.

    Args:
        relation: The table or model.
        images: Its Change Data Feed.
    """
    if not _has_marks(relation, images.columns):
        return images
    is_dead, kind = F.coalesce(is_marked(), F.lit(False)), F.col(_CHANGE_TYPE)
    seen = images.where(~(is_dead & kind.isin(*_BEFORE_IMAGES)))
    return seen.withColumn(_CHANGE_TYPE, F.when(is_dead, "delete").otherwise(kind)).select(*images.columns)


def live_cached_changes(relation: str, changes: CachedRows) -> CachedRows:
    """Return the same of changes that the driver may have in memory.

    Args:
        relation: The table or model.
        changes: Its Change Data Feed.
    """
    local = changes.local_rows
    if local is None or not _has_marks(relation, local.column_names):
        return CachedRows(live_changes(relation, changes.rows)) if local is None else changes
    is_deleted = pc.equal(local.column("_cdc_operation"), DELETE)
    is_dead = pc.fill_null(pc.and_(pc.is_valid(local.column(MISSING_SINCE)), is_deleted), False)
    if not pc.any(is_dead).as_py():
        return changes
    kind = local.column(_CHANGE_TYPE)
    is_before = pc.is_in(kind, value_set=pa.array(_BEFORE_IMAGES))
    kinds = pc.if_else(is_dead, "delete", kind)
    rows = local.set_column(local.column_names.index(_CHANGE_TYPE), _CHANGE_TYPE, kinds)
    rows = rows.filter(pc.invert(pc.and_(is_dead, is_before)))
    return CachedRows(small_tables.to_frame(changes.rows.sparkSession, rows, changes.rows.schema), rows)


def _has_marks(relation: str, columns: list[str]) -> bool:
    return relation.startswith("bronze.") and MISSING_SINCE in columns
