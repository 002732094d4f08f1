"""Lists the data files of a Delta table without Spark, from the table's log, for tables that the driver reads itself.

The format is Delta's protocol (github.com/delta-io/delta, PROTOCOL.md: "Action Reconciliation", "Version Checksum
File"). Tables that need more than that, such as mapped columns, are left to Spark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lakehouse.storage import file_io
from lakehouse.storage.delta_log import log_file, newest_version, read_checksum
from lakehouse.storage.file_io import StorePath

MAX_FILES = 500  # of a table that the driver reads: each costs the driver about a millisecond

# What these features change does not concern a table none of whose files has a deletion vector or mapped columns.
_READABLE_FEATURES = frozenset({"columnMapping", "deletionVectors", "timestampNtz", "vacuumProtocolCheck"})
# A table's protocol lists its features from version 7 on; earlier versions stand for some ("Protocol Evolution").
_FEATURES_LISTED = 7
_FEATURES_BY_VERSION: Mapping[int, frozenset[str]] = {
    2: frozenset({"appendOnly", "invariants"}),
    3: frozenset({"checkConstraints"}),
    4: frozenset({"changeDataFeed", "generatedColumns"}),
    5: frozenset({"columnMapping"}),
    6: frozenset({"identityColumns"}),
}
_PARTS_OF_A_FILE = ("path", "size", "modificationTime", "stats", "tags", "deletionVector")
_COLUMN_MAPPING = "delta.columnMapping.mode"
_MAX_CHECKPOINT_ROWS = 100_000  # of a log that the driver reads: a tenth of a second
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")

Action = Mapping[str, Any]
"""One action of the log, such as `{"add": {...}}`."""


@dataclass(frozen=True)
class DataFile:
    """One data file of a table.

    Attributes:
        path: The file.
        size: Its bytes.
        row_count: Its rows, if the log has their number.
        commit_version: The version that added its rows, if the table tracks rows; else 0.
        has_vector: Whether a deletion vector says which of its rows were deleted.
        action: The action of the log that added it.
    """

    path: StorePath
    size: int
    row_count: int | None = None
    commit_version: int = 0
    has_vector: bool = False
    action: Action = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class TableFiles:
    """The rows of one version of a table.

    Attributes:
        id: Delta's id of the table, which changes if the table is replaced.
        schema: The columns, as Spark writes them in JSON.
        properties: The table's properties.
        writer_features: The features of Delta that a writer of the table has to know.
        files: The files, which hold all rows and, apart from those with a deletion vector, no others.
    """

    id: str
    schema: str
    properties: Mapping[str, str]
    writer_features: frozenset[str]
    files: tuple[DataFile, ...]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def row_count(self) -> int | None:
        """The number of rows, if the log has it for each file."""
        counts = [file.row_count for file in self.files]
        return None if None in counts else sum(filter(None, counts))


@dataclass(frozen=True)
class ChangeFile:
    """A file with changed rows.

    Attributes:
        path: The file.
        version: The version that made the changes.
        is_change_data: Whether the file has the column `_change_type`; if not, all its rows were inserted.
        size: Its bytes.
    """

    path: StorePath
    version: int
    is_change_data: bool
    size: int


class _NeedsSparkError(Exception):
    """The table uses a part of the protocol that this module does not read."""


# A log that is not as the protocol says, or of which a file was deleted in the meantime: Spark reads it, or reports it.
_UNREADABLE_ERRORS = (_NeedsSparkError, AttributeError, KeyError, OSError, TypeError, ValueError)


def list_files(
    table: StorePath, version: int, with_vectors: bool = False, max_files: int = MAX_FILES
) -> TableFiles | None:
    """Return the data files of one version of a table, or None if only Spark can tell.

    Args:
        table: The folder of the table.
        version: The version.
        with_vectors: Whether the caller can read deletion vectors; if not, only Spark can.
        max_files: The number of files up to which the driver reads the log.
    """
    try:
        checksum = read_checksum(table / "_delta_log", version)
        if checksum is not None and checksum.get("allFiles") is not None and checksum.get("protocol"):
            actions: list[Action] = [{"protocol": checksum["protocol"]}, {"metaData": checksum["metadata"]}]
            actions += [{"add": add} for add in checksum["allFiles"]]
        else:
            actions = _replay(table, version, max_files)
        return _reconcile(table, actions, with_vectors, max_files)
    except _UNREADABLE_ERRORS:
        return None


def read_column_names(table: StorePath) -> list[str]:
    """Return the columns of a table's newest version; none if there is no table, or if only Spark can tell.

    Args:
        table: The folder of the table.
    """
    version = newest_version(table)
    if version < 0:
        return []
    checksum = read_checksum(table / "_delta_log", version)
    files = None if checksum else list_files(table, version, with_vectors=True)
    schema = checksum["metadata"]["schemaString"] if checksum else files.schema if files else None
    return [field["name"] for field in json.loads(schema)["fields"]] if schema else []


def list_change_files(table: StorePath, after: int, until: int, schema: str) -> list[ChangeFile] | None:
    """Return the files with the changes of some versions, in order, or None if only Spark can tell.

    Args:
        table: The folder of the table.
        after: The last version whose changes are left out.
        until: The last version whose changes are included.
        schema: The columns that the table has had in all these versions (`TableFiles.schema`).
    """
    files: list[ChangeFile] = []
    try:
        for version, actions in _read_commits(table, after + 1, until):
            files += _change_files(table, version, actions, schema)
    except _UNREADABLE_ERRORS:
        return None
    return files


def _change_files(table: StorePath, version: int, actions: list[Action], schema: str) -> Iterator[ChangeFile]:
    """Yield the files with the changes of one commit ("Change Data Files" of the protocol)."""
    if any(action["metaData"]["schemaString"] != schema for action in actions if "metaData" in action):
        raise _NeedsSparkError
    change_data = [action["cdc"] for action in actions if "cdc" in action]
    if change_data:
        for file in change_data:
            yield ChangeFile(_path(table, file), version, True, file["size"])
        return
    if any("remove" in action and action["remove"]["dataChange"] for action in actions):
        raise _NeedsSparkError  # all rows of a file were deleted
    for file in (action["add"] for action in actions if "add" in action and action["add"]["dataChange"]):
        yield ChangeFile(_path(table, file), version, False, file["size"])


def _replay(table: StorePath, version: int, max_files: int) -> list[Action]:
    """Return the actions that make up a version: those of its last checkpoint and of the commits after it."""
    names = file_io.list_names(table / "_delta_log")
    found = [int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name))]
    start = max((v for v in found if v <= version), default=-1)
    actions: list[Action] = []
    if start >= 0:
        import pyarrow.parquet as pq  # takes a tenth of a second; a run that finds nothing new does not need it

        with log_file(table / "_delta_log", start, "checkpoint.parquet").open("rb") as file:
            checkpoint = pq.ParquetFile(file)
            if checkpoint.metadata.num_rows > _MAX_CHECKPOINT_ROWS:
                raise _NeedsSparkError
            rows = checkpoint.read(columns=["protocol", "metaData", "add"])
        # Of a table that is written often, most rows are about files that were removed in the last week.
        columns = {name: rows.column(name).drop_null() for name in rows.column_names}
        if len(columns["add"]) > 4 * max_files:
            raise _NeedsSparkError
        actions += [{name: value} for name, column in columns.items() for value in column.to_pylist()]
    for _, commit in _read_commits(table, start + 1, version):
        actions += commit
    return actions


def _read_commits(table: StorePath, first: int, last: int) -> Iterator[tuple[int, list[Action]]]:
    versions = range(first, last + 1)
    contents = file_io.read_files(log_file(table / "_delta_log", version, "json") for version in versions)
    for version, content in zip(versions, contents, strict=True):
        if content is None:
            raise _NeedsSparkError
        yield version, [json.loads(line) for line in content.splitlines() if line.strip()]


def _reconcile(table: StorePath, actions: list[Action], with_vectors: bool, max_files: int) -> TableFiles:
    """Return the files that are left when each action replaces the earlier ones about the same thing."""
    protocol: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    # By path and vector: a commit may list a file with its new vector before the removal of the file with the old one.
    files: dict[tuple[str, str], Mapping[str, Any]] = {}
    for action in actions:
        protocol, metadata = action.get("protocol", protocol), action.get("metaData", metadata)
        if remove := action.get("remove"):
            files.pop(_file_key(remove), None)
        if add := action.get("add"):
            if add.get("deletionVector") and not with_vectors:
                raise _NeedsSparkError
            files[_file_key(add)] = add
    if protocol is None or metadata is None or len(files) > max_files:
        raise _NeedsSparkError
    properties = dict(metadata.get("configuration") or {})
    features = set(protocol.get("readerFeatures") or ())
    is_readable = protocol["minReaderVersion"] <= 3 and features <= _READABLE_FEATURES
    if not is_readable or metadata.get("partitionColumns") or properties.get(_COLUMN_MAPPING, "none") != "none":
        raise _NeedsSparkError
    data_files = tuple(_data_file(table, add) for add in files.values())
    return TableFiles(metadata["id"], metadata["schemaString"], properties, _writer_features(protocol), data_files)


def _file_key(file: Mapping[str, Any]) -> tuple[str, str]:
    vector = file.get("deletionVector") or {}
    return file["path"], "".join(str(vector.get(part)) for part in ("storageType", "pathOrInlineDv", "offset"))


def _writer_features(protocol: Mapping[str, Any]) -> frozenset[str]:
    version = protocol["minWriterVersion"]
    if version >= _FEATURES_LISTED:
        return frozenset(protocol.get("writerFeatures") or ())
    return frozenset().union(*(features for since, features in _FEATURES_BY_VERSION.items() if since <= version))


def _data_file(table: StorePath, add: Mapping[str, Any]) -> DataFile:
    row_count = json.loads(add.get("stats") or "{}").get("numRecords")
    has_vector = bool(add.get("deletionVector"))
    if has_vector:
        row_count = None  # of the file with its deleted rows
    path = _path(table, {**add, "deletionVector": None})
    version = add.get("defaultRowCommitVersion") or 0
    return DataFile(path, add["size"], row_count, version, has_vector, {"add": _known_parts(add)})


def _known_parts(add: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a file in a table without partitions and row tracking, as commits write them.

    A checkpoint has the same in columns, with null for a property that a file lacks, and maps as lists of pairs.
    """
    parts = {name: add[name] for name in _PARTS_OF_A_FILE if add.get(name) is not None}
    if vector := parts.get("deletionVector"):
        parts["deletionVector"] = {name: value for name, value in vector.items() if value is not None}
    if tags := parts.get("tags"):
        parts["tags"] = dict(tags)
    return {**parts, "partitionValues": {}, "dataChange": True}


def _path(table: StorePath, file: Mapping[str, Any]) -> StorePath:
    name = unquote(file["path"])
    if file.get("deletionVector") or file.get("partitionValues") or name.startswith("/") or ":" in name:
        raise _NeedsSparkError
    return table / name
