"""Provides a source of type `kafka`: the messages of a topic since the last run are a batch, with the time of the run.

The manifest of a landed batch has the offset after its last message of each partition, so the landing zone alone says
what was taken: a run that is killed before the batch has landed reads the same messages again, and none twice. Nothing
is committed to the brokers. A batch ends where the topic ended when the run began.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from lakehouse.config import Kafka, Pipeline
from lakehouse.errors import DataRefused
from lakehouse.extract.kafka.topics import Message, Offsets, Topics, open_topics
from lakehouse.extract.source import SourceSnapshot, TableFiles
from lakehouse.storage import file_io, landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake

_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")  # in JSON, they are outside of texts


@contextmanager
def open_batches(pipeline: Pipeline, lake: Lake) -> Iterator[Callable[[str], Iterable[SourceSnapshot]]]:
    """Provide the function that returns the new messages of a table as a batch; none if there are none.

    Args:
        pipeline: A pipeline with a source of type `kafka`.
        lake: The lake, whose landed batches have the offsets that were taken.

    Raises:
        ConfigError: The client is not installed.
    """
    kafka = _source(pipeline)
    with (
        open_topics(kafka) as topics,
        file_io.shared_temp_dir(lake.state_path("extract"), lake.local_path("extract")) as temp_dir,
    ):
        yield lambda table: _find_new(pipeline, lake, topics, table, temp_dir.local)


def signature(pipeline: Pipeline) -> dict[str, str]:
    """Return the end of each partition of the topics; equal means nothing new to land.

    Args:
        pipeline: A pipeline with a source of type `kafka`.
    """
    names = {table.file for table in pipeline.tables.values()}
    with open_topics(_source(pipeline)) as topics:
        return {f"{name}-{n}": str(each.end) for name in sorted(names) for n, each in topics.offsets(name).items()}


def _find_new(pipeline: Pipeline, lake: Lake, topics: Topics, table: str, folder: Path) -> Iterator[SourceSnapshot]:
    topic, newest = pipeline.tables[table].file, landing.newest_snapshot(lake, table)
    there = topics.offsets(topic)
    starts = _starts(_source(pipeline), topic, there, newest)
    if all(starts[number] >= each.end for number, each in there.items()):
        return
    path = folder / table / f"{topic}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    ends = {number: each.end for number, each in there.items()}
    if not _write_lines(path, topics.messages(topic, starts, ends), _source(pipeline).message, topic, ends):
        return  # nothing but the marks of transactions
    time = datetime.now(timezone.utc).replace(microsecond=0)
    time = max(time, newest.time + timedelta(seconds=1)) if newest else time
    files = TableFiles(path.parent, [path])
    yield SourceSnapshot(
        time, lambda _: files, immutable=True, offsets={f"{topic}-{n}": end for n, end in ends.items()}
    )


def _starts(kafka: Kafka, topic: str, there: Mapping[int, Offsets], newest: LandedSnapshot | None) -> dict[int, int]:
    """Return the first offset to read of each partition: the one after the last batch, else the first that is there.

    Raises:
        DataRefused: The topic no longer has the messages after the last batch.
    """
    taken = newest.offsets if newest else {}
    starts, lost = {}, []
    for number, each in there.items():
        start = taken.get(f"{topic}-{number}", each.first)
        if not each.first <= start <= each.end:
            lost.append(f"partition {number}: {start:,} is not between {each.first:,} and {each.end:,}")
            start = each.first
        starts[number] = start
    if lost and kafka.lost == "fail":
        raise DataRefused(
            f"{topic} does not have the messages after the last batch: {'; '.join(lost)}",
            expected="the offset after the last batch: messages were deleted before they were read, or the topic was"
            " created again",
            where=kafka.servers,
            next_step="write `lost: skip` in source to go on with the messages that are there",
        )
    return starts


def _write_lines(path: Path, messages: Iterable[Message], form: str, topic: str, ends: dict[int, int]) -> int:
    """Write a line for each message and return how many there are.

    `ends` gets the offset after the last one of a partition that ends earlier: behind it, a transaction is open.
    """
    count, last = 0, dict[int, int]()
    with path.open("wb") as file:
        for message in messages:
            file.write(_to_line(message, form, topic) + b"\n")
            count, last[message.partition] = count + 1, message.offset
    ends |= {number: offset + 1 for number, offset in last.items() if offset + 1 < ends[number]}
    return count


def _to_line(message: Message, form: str, topic: str) -> bytes:
    """Return a message as a line of JSON; the bytes of its value are kept, but for the ends of lines.

    Raises:
        DataRefused: It is not UTF-8.
    """
    key, value = (_json_text(each, message, topic) for each in (message.key, message.value))
    if form == "value":
        return value
    head = {"partition": message.partition, "offset": message.offset, "timestamp": message.timestamp}
    return json.dumps(head)[:-1].encode() + b', "key": ' + _or_text(key) + b', "value": ' + value + b"}"


def _json_text(text: bytes | None, message: Message, topic: str) -> bytes:
    if text is None:
        return b"null"
    try:
        text.decode()
    except UnicodeDecodeError:
        raise DataRefused(
            f"a message of {topic} is not UTF-8: partition {message.partition}, offset {message.offset:,}",
            expected="JSON in UTF-8; Avro and Protobuf are not read",
            where=topic,
            next_step="write the topic as JSON (JsonConverter)",
        ) from None
    return text.translate(_LINE_ENDS)


def _or_text(key: bytes) -> bytes:
    """Return a key as JSON: as it is, if it is JSON, else as a text."""
    try:
        json.loads(key)
    except ValueError:
        return json.dumps(key.decode()).encode()
    return key


def _source(pipeline: Pipeline) -> Kafka:
    assert isinstance(pipeline.source, Kafka)
    return pipeline.source
