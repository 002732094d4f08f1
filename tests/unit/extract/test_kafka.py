"""A source of type kafka: which messages are new, the lines that they become, and what the configuration refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from lakehouse import extract
from lakehouse.config import Pipeline, load
from lakehouse.errors import ConfigError, DataRefused, InfrastructureError
from lakehouse.extract.kafka import source, topics
from lakehouse.extract.kafka.topics import Message, Offsets
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake

TABLE = {
    "file": "shop.items",
    "format": "json",
    "schema": "after STRUCT<id: INT>, before STRUCT<id: INT>, op STRING, lsn BIGINT",
    "keys": ["after.id"],
    "feed": {"sequence_by": ["lsn"], "delete_when": "op = 'd'", "drop": ["before", "op", "lsn"]},
}
NOW = datetime(2025, 1, 1, tzinfo=timezone.utc)


class Broker:
    """Topics in memory, in place of `Topics`: the values of each partition, and the first offset that it still has."""

    def __init__(self) -> None:
        self.partitions: dict[int, list[bytes | None]] = {0: [], 1: []}
        self.first = 0
        self.unfinished = 0  # messages of an open transaction at the end of partition 0

    def offsets(self, topic: str) -> dict[int, Offsets]:
        assert topic == "shop.items"
        return {number: Offsets(self.first, len(values)) for number, values in self.partitions.items()}

    def messages(self, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Message]:
        for number, end in ends.items():
            for at in range(starts[number], end - (self.unfinished if number == 0 else 0)):
                yield Message(number, at, 1000 + at, b"k", self.partitions[number][at])


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    found = Broker()

    @contextmanager
    def open_topics(_: Any) -> Iterator[Broker]:
        yield found

    monkeypatch.setattr(source, "open_topics", open_topics)
    return found


def pipeline(tmp_path: Path, table: dict[str, Any] | None = None, **settings: Any) -> Pipeline:
    document = {"name": "shop", "lake": str(tmp_path / "lake"), "tables": {"items": table or TABLE}}
    document["source"] = {"type": "kafka", "servers": "localhost:1"} | settings
    (tmp_path / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")
    return load(tmp_path, {})


def take(tmp_path: Path, **settings: Any) -> list[str]:
    """Extract, and return the lines of the batch that landed; none if none did."""
    found, lake = pipeline(tmp_path, **settings), Lake(str(tmp_path / "lake"))
    with extract.open_source(found, lake, ["items"]) as opened:
        result = extract.extract_table(opened, "items", NOW, None)
    assert len(result.landed_times) <= 1
    return newest(tmp_path).paths[0].read_text().splitlines() if result.landed_times else []


def newest(tmp_path: Path) -> LandedSnapshot:
    snapshot = landing.newest_snapshot(Lake(str(tmp_path / "lake")), "items")
    assert snapshot
    return snapshot


def test_each_batch_has_the_messages_since_the_last_one_and_its_manifest_the_offsets(
    broker: Broker, tmp_path: Path
) -> None:
    broker.partitions = {0: [b'{"a": 1}', None], 1: [b'{\n "a": 2}']}

    first, nothing = take(tmp_path), take(tmp_path)
    broker.partitions[1] += [b'{"a": 3}']
    second = take(tmp_path)

    assert (first, nothing, second) == (['{"a": 1}', "null", '{  "a": 2}'], [], ['{"a": 3}'])
    assert newest(tmp_path).offsets == {"shop.items-0": 2, "shop.items-1": 2}
    assert [snapshot.files[0].name for snapshot in landing.list_snapshots(Lake(str(tmp_path / "lake")), "items")] == [
        "shop.items.jsonl",
        "shop.items.jsonl",
    ]


def test_a_batch_that_did_not_land_is_read_again(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.partitions[0] = [b'{"a": 1}']
    with monkeypatch.context() as patch:
        patch.setattr(landing, "write_json", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            take(tmp_path)

    assert take(tmp_path) == ['{"a": 1}']


def test_messages_behind_an_open_transaction_wait(broker: Broker, tmp_path: Path) -> None:
    broker.partitions[0], broker.unfinished = [b'{"a": 1}', b'{"a": 2}'], 1

    first = take(tmp_path)
    broker.unfinished = 0

    assert (first, take(tmp_path)) == (['{"a": 1}'], ['{"a": 2}'])


def test_messages_that_are_gone_are_refused_or_skipped(broker: Broker, tmp_path: Path) -> None:
    broker.partitions[0] = [b'{"a": 1}']
    take(tmp_path)
    broker.partitions[0], broker.first = [b'{"a": %d}' % n for n in range(5)], 3

    with pytest.raises(DataRefused, match=r"shop\.items does not have the messages after the last batch") as refused:
        take(tmp_path)

    assert "partition 0: 1 is not between 3 and 5" in refused.value.found
    assert "lost: skip" in refused.value.next_step
    broker.partitions[1] = [b'{"b": %d}' % n for n in range(3)]
    assert take(tmp_path, lost="skip") == ['{"a": 3}', '{"a": 4}']


def test_an_envelope_has_the_place_and_the_key_of_a_message(broker: Broker, tmp_path: Path) -> None:
    broker.partitions[0] = [b'{"a": 1.10}', None]

    lines = take(tmp_path, message="envelope")

    assert lines == [
        '{"partition": 0, "offset": 0, "timestamp": 1000, "key": "k", "value": {"a": 1.10}}',
        '{"partition": 0, "offset": 1, "timestamp": 1001, "key": "k", "value": null}',
    ]


def test_a_message_that_is_no_text_is_refused_with_its_offset(broker: Broker, tmp_path: Path) -> None:
    broker.partitions[0] = [b'{"a": 1}', b"\x00\xff"]

    with pytest.raises(DataRefused, match="not UTF-8: partition 0, offset 1"):
        take(tmp_path)


def test_the_signature_changes_with_new_messages_only(broker: Broker, tmp_path: Path) -> None:
    lake, found = Lake(str(tmp_path / "lake")), pipeline(tmp_path)
    before = extract.source_signature(found, lake)

    broker.partitions[1].append(b"{}")

    assert before == {"shop.items-0": "0", "shop.items-1": "0"}
    assert extract.source_signature(found, lake) == before | {"shop.items-1": "1"}


@pytest.mark.parametrize(
    ("table", "source_settings", "message"),
    [
        ({"feed": None}, {}, "tables.items.feed: missing; the messages of a topic are events"),
        ({"format": "csv"}, {}, 'tables.items.format: found "csv", expected json'),
        ({"file": "shop.*"}, {}, "expected the name of one topic"),
        ({}, {"options": {"enable.auto.commit": "true"}}, "is set by the source itself; remove it"),
        ({}, {"lost": "maybe"}, "expected fail or skip"),
    ],
)
def test_what_does_not_fit_a_topic_is_refused(
    table: dict[str, Any], source_settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    changed = {name: value for name, value in (TABLE | {"keys": ["lsn"]} | table).items() if value is not None}

    with pytest.raises(ConfigError) as refused:
        pipeline(tmp_path, changed if table else None, **source_settings)

    assert message in refused.value.found


# --- the client -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brokers() -> Iterator[tuple[str, Any]]:
    """Brokers inside of the client's library, which speak Kafka's protocol: their address, and a producer."""
    import confluent_kafka

    producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    ((broker),) = producer.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}", producer
    producer.flush(10)


def test_the_client_reads_each_partition_to_the_end_that_it_had(brokers: tuple[str, Any], tmp_path: Path) -> None:
    servers, producer = brokers
    for number in range(2500):
        producer.produce("shop.items", b'{"n": %d}' % number, key=b"%d" % number, partition=number % 3)
    producer.produce("shop.items", None, key=b"1", partition=1)
    producer.flush(10)

    lines = take(tmp_path, servers=servers)
    offsets = dict(newest(tmp_path).offsets)
    producer.produce("shop.items", b'{"n": -1}', partition=2)
    producer.flush(10)

    assert sorted(lines) == sorted([*(json.dumps({"n": number}) for number in range(2500)), "null"])
    assert {name: end for name, end in offsets.items() if end} == {
        "shop.items-0": 834,
        "shop.items-1": 834,
        "shop.items-2": 833,
    }
    assert take(tmp_path, servers=servers) == ['{"n": -1}']


def test_brokers_that_do_not_answer_and_settings_that_are_wrong_are_reported(
    brokers: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "_TIMEOUT", 1.0)
    lake, found = Lake(str(tmp_path / "lake")), pipeline(tmp_path, servers="127.0.0.1:9")
    with pytest.raises(InfrastructureError, match="cannot be read"):
        extract.source_signature(found, lake)
    wrong = pipeline(tmp_path, options={"no.such.option": "1"})
    with pytest.raises(ConfigError, match=r"source\.options are not accepted"):
        extract.source_signature(wrong, lake)


def test_without_the_client_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)

    with pytest.raises(ConfigError, match="needs confluent-kafka") as refused:
        extract.source_signature(pipeline(tmp_path), Lake(str(tmp_path / "lake")))

    assert "lakehouse[kafka]" in refused.value.next_step
