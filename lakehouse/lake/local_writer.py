"""Writes small Delta tables on a disk from the driver, with delta-rs, in the place of Spark.

A MERGE costs Spark planning and small jobs, however few rows there are; delta-rs takes a fraction of the time
(docs/decisions/0023-small-tables.md). It makes the same commit: the same rows, Change Data Feed and
metadata. Every function returns False if it did not write, because the table needs something that only Spark does; the
caller then lets Spark write.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError
from pyspark.sql import types as T

from lakehouse.failpoints import failpoint
from lakehouse.lake import delta
from lakehouse.storage import delta_log
from lakehouse.storage.file_io import store_path

# A table with other features, such as deletion vectors or row tracking, is written by Spark.
_WRITABLE_FEATURES = frozenset(
    {"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "timestampNtz"}
)
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # delta-rs parses names in expressions
_WRITER = WriterProperties(compression="ZSTD")


def create(
    address: str,
    rows: pa.Table | pa.RecordBatchReader,
    schema: T.StructType,
    properties: Mapping[str, str],
    progress: Mapping[str, Any] | None = None,
) -> bool:
    """Create a table from rows, in one commit.

    Args:
        address: The table's address, where there is no table.
        rows: The rows, or a reader of them, for more than fit in memory.
        schema: Their columns.
        properties: The table's properties.
        progress: The metadata that the commit records; None: none.

    Returns:
        Whether the table was created.
    """
    if not delta.is_on_disk(address) or not has_plain_columns(schema):
        return False
    # Delta's columns may all be null, whatever the rows have.
    columns = pa.schema([pa.field(field.name, field.type, nullable=True) for field in rows.schema])
    nullable = rows.cast(columns)

    def write(commit: CommitProperties) -> None:
        write_deltalake(
            address,
            nullable,
            mode="error",
            configuration=dict(properties),
            commit_properties=commit,
            writer_properties=_WRITER,
        )

    return _commit(address, progress, write)


def append(address: str, rows: pa.Table, progress: Mapping[str, Any] | None = None) -> bool:
    """Append rows to a table, in one commit.

    Args:
        address: The table's address.
        rows: The rows, with the table's columns.
        progress: The metadata that the commit records; None: none.

    Returns:
        Whether the rows were appended.
    """
    files = delta.data_files(address)
    if files is None or not _can_write(address, files):
        return False

    def write(commit: CommitProperties) -> None:
        write_deltalake(address, rows, mode="append", commit_properties=commit, writer_properties=_WRITER)

    return _commit(address, progress, write)


def merge(
    address: str, actions: pa.Table, keys: list[str], action: str, progress: Mapping[str, Any], max_bytes: int
) -> bool:
    """Insert, update and delete rows of a table, in one commit.

    Args:
        address: The table's address.
        actions: Rows with unique keys and, in the column `action`, I, U or D.
        keys: The key columns; null is a value like any other.
        action: The name of the column with the action.
        progress: The metadata that the commit records.
        max_bytes: The size of the table up to which the driver writes it.

    Returns:
        Whether the rows were written.
    """
    files = delta.data_files(address)
    if files is None or files.listed.size > max_bytes or not _can_write(address, files):
        return False
    columns = [name for name in actions.column_names if name != action]
    same_row = " AND ".join(f"(t.{_quote(key)} IS NOT DISTINCT FROM s.{_quote(key)})" for key in keys)
    values = {column: f"s.{_quote(column)}" for column in columns}

    def write(commit: CommitProperties) -> None:
        (
            DeltaTable(address)
            .merge(
                actions,
                predicate=same_row,
                source_alias="s",
                target_alias="t",
                commit_properties=commit,
                writer_properties=_WRITER,
            )
            .when_matched_delete(f"s.{_quote(action)} = 'D'")
            .when_matched_update(values, f"s.{_quote(action)} <> 'D'")
            .when_not_matched_insert(values, f"s.{_quote(action)} <> 'D'")
            .execute()
        )

    return _commit(address, progress, write)


def _commit(address: str, progress: Mapping[str, Any] | None, write: Callable[[CommitProperties], None]) -> bool:
    """Write with the metadata that Spark would record; return whether there is a commit of it."""
    transaction, folder = str(uuid.uuid4()), store_path(address)
    before = delta_log.newest_version(folder)
    metadata = {"txnId": transaction}
    if progress is not None:
        metadata["userMetadata"] = delta.user_metadata(progress)
    try:
        # No retry: if somebody else has committed in the meantime, Spark compares with that commit.
        failpoint("before_driver_commit", address)
        write(CommitProperties(custom_metadata=metadata, max_commit_retries=0))
        failpoint("after_driver_commit", address)
    except (DeltaError, OSError, ValueError):
        # Nothing was written, or the commit was made and only what follows it failed, such as a checkpoint.
        new_versions = range(before + 1, delta_log.newest_version(folder) + 1)
        return any(delta_log.commit_id(folder, version) == transaction for version in new_versions)
    return True


def _can_write(address: str, files: delta.DataFiles) -> bool:
    is_known = files.listed.writer_features <= _WRITABLE_FEATURES
    return is_known and not files.has_constraints and delta.is_on_disk(address) and has_plain_columns(files.schema)


def has_plain_columns(schema: T.StructType) -> bool:
    """Return whether columns have plain names and nothing beside their type."""
    # A computed column and a constraint are metadata of the column.
    return all(_PLAIN_NAME.fullmatch(field.name) and not field.metadata for field in schema)


def _quote(name: str) -> str:
    return f'"{name}"'
