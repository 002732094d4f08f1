"""Removes from the objects of a sink what the latest line of each key has replaced, as Kafka compacts a topic.

Until then, the objects keep each earlier row, also those of keys that were deleted, such as by `lakehouse forget`.

1. PostgreSQL and the objects, folded by key, must be equal
2. superseded lines are removed, object by object
3. then the deletions themselves: before, they are what keeps the earlier lines from counting

A line that the sink writes meanwhile is kept: its offset is higher. Killed at any time, the objects fold to the same
rows, and the next call completes the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lakehouse.config import Pipeline
from lakehouse.errors import ConfigError, DataRefused, ExitCode
from lakehouse.publish.kafka_connect import json_lines
from lakehouse.publish.kafka_connect.json_lines import Key, Row
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath

_Keeps = Callable[[Key, int, Row | None], bool]


def compact(pipeline: Pipeline) -> dict[str, Any]:
    """Compact the objects of all topics of a pipeline.

    Args:
        pipeline: The pipeline; `connect` names the objects and the topics.

    Returns:
        {"topics": [{"topic", "table", "lines", "removed_lines", "rewritten_objects", "removed_objects"}], "exit_code"}

    Raises:
        ConfigError: The pipeline names no objects.
        DataRefused: PostgreSQL and the objects differ, or a line cannot be read; see `json_lines`.
        InfrastructureError: PostgreSQL or the store cannot be reached.
    """
    connect, publish = pipeline.connect, pipeline.publish
    if not connect or not connect.objects or not publish or not publish.postgres:
        raise ConfigError(
            "the pipeline names no objects of a sink",
            expected="`connect.objects` and `connect.topics`, and the tables of `publish.postgres`",
            where=str(pipeline.path),
            next_step="set them: docs/guide/kafka.md",
        )
    topics = []
    for topic, table in connect.topics.items():
        folder = file_io.store_path(connect.objects) / topic
        rows, keys = json_lines.read_table(publish.postgres.url, table)
        if found := json_lines.differences(json_lines.read_latest_rows(folder, keys), rows, keys):
            raise DataRefused(
                f"{table} and the objects of {topic} differ: {'. '.join(found)}",
                kept=f"{table} and the objects of {topic} differ",
                expected="the same rows, so that every deletion has arrived; these objects were not changed",
                where=str(folder),
                next_step=f"lakehouse verify {pipeline.argument}, which waits for the sink; then this command again",
            )
        topics.append({"topic": topic, "table": table} | compact_objects(folder, keys))
    return {"topics": topics, "exit_code": int(ExitCode.OK)}


def compact_objects(folder: StorePath, keys: Mapping[str, type]) -> dict[str, int]:
    """Remove all lines below a folder but the latest of each key that was not deleted.

    Args:
        folder: The folder that the sink writes a topic to.
        keys: The columns that identify a row, with their Python types in the table.

    Returns:
        The numbers of lines before, of removed lines, and of objects that were rewritten and removed.

    Raises:
        DataRefused: A line cannot be read.
    """
    counts = dict.fromkeys(("lines", "removed_lines", "rewritten_objects", "removed_objects"), 0)
    latest: dict[Key, int] = {}
    for file, _, lines in json_lines.read_objects(folder):
        for line in filter(None, lines):
            key, offset, _ = json_lines.parse_line(line, keys, str(file))
            latest[key] = max(offset, latest.get(key, -1))
            counts["lines"] += 1
    _remove_lines(folder, keys, counts, lambda key, offset, _: offset >= latest.get(key, offset))
    _remove_lines(folder, keys, counts, lambda key, offset, row: row is not None or offset > latest.get(key, -1))
    return counts


def _remove_lines(folder: StorePath, keys: Mapping[str, type], counts: dict[str, int], keeps: _Keeps) -> None:
    def is_kept(line: str, file: StorePath) -> bool:
        return keeps(*json_lines.parse_line(line, keys, str(file)))

    for file, _, read_lines in json_lines.read_objects(folder):
        if all(is_kept(line, file) for line in filter(None, read_lines)):
            continue
        # Read again, since a worker that starts again may just have written more; as bytes, which stay as they are.
        lines = [line for line in file.read_bytes().split(b"\n") if line]
        kept = [line for line in lines if is_kept(line.decode(errors="replace"), file)]
        counts["removed_lines"] += len(lines) - len(kept)
        if kept:
            file_io.write_atomically(file, b"".join(line + b"\n" for line in kept))
            counts["rewritten_objects"] += 1
        else:
            file_io.remove(file)
            counts["removed_objects"] += 1
