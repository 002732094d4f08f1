"""A pipeline that reads a topic of a real broker: two runs, a tombstone, a run without news, and a topic made again.

And an extract that is broken off at each failpoint, after which no message is missing and none came twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_kafka
import pytest
from helpers import Project
from pyspark.sql import SparkSession

from lakehouse.failpoints import Interruption, handled_by, parse

TOPIC = "shop.public.items"
ROW = "STRUCT<id: INT, qty: INT>"
TABLE = {
    "file": TOPIC,
    "format": "json",
    "schema": f"before {ROW}, after {ROW}, op STRING, source STRUCT<lsn: BIGINT>",
    "keys": ["after.id"],
    "feed": {"sequence_by": ["source.lsn"], "delete_when": "op = 'd'", "drop": ["before", "op", "source"]},
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_kafka.broker(tmp_path_factory.mktemp("kafka")) as server:
        yield server.address


def _envelope(op: str, key: int, qty: int, lsn: int) -> bytes:
    row = {"id": key, "qty": qty}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return json.dumps({**sides, "op": op, "source": {"lsn": lsn}}).encode()


def _send(broker: str, messages: list[tuple[int, bytes | None]], topic: str = TOPIC) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": broker})
    for key, value in messages:
        producer.produce(topic, value, key=str(key).encode())
    assert producer.flush(30) == 0


def _create(broker: str, again: bool = False, topic: str = TOPIC) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin: Any = AdminClient({"bootstrap.servers": broker})
    if again:
        admin.delete_topics([topic], operation_timeout=30)[topic].result()
    admin.create_topics([NewTopic(topic, 3, 1)], operation_timeout=30)[topic].result()


def test_the_messages_of_a_topic_are_batches_of_a_feed(broker: str, tmp_path: Path, spark: SparkSession) -> None:
    _create(broker)
    shop = Project(tmp_path, {"items": TABLE}, source_settings={"type": "kafka", "servers": broker})
    _send(broker, [(n, _envelope("r", n, n, 1)) for n in range(1, 11)])
    assert shop.run().code == 0
    _send(
        broker,
        [(1, _envelope("u", 1, 100, 5)), (2, _envelope("d", 2, 2, 6)), (2, None), (11, _envelope("c", 11, 11, 7))],
    )

    second, nothing = shop.run(), shop.run()

    assert (second.code, nothing.code, shop.statuses()) == (0, 0, ["accepted", "accepted"])
    rows = {row["id"]: row["after"]["qty"] for row in shop.rows("bronze/items")}
    assert rows == {1: 100, **{n: n for n in range(3, 12)}}
    manifests = sorted(shop.lake.glob("landing/items/*/_manifest.json"))
    offsets = json.loads(manifests[-1].read_text())["offsets"]
    assert (len(manifests), sum(offsets.values()), {name.rpartition("-")[0] for name in offsets}) == (2, 14, {TOPIC})
    _create(broker, again=True)

    refused = shop("extract")

    assert refused.code == 5
    assert "does not have the messages after the last batch" in refused.outcome("extract", "items")["note"]
    shop.source_settings = {"type": "kafka", "servers": broker, "lost": "skip"}
    shop.configure()
    _send(broker, [(12, _envelope("c", 12, 12, 8))])
    assert (shop.run().code, len(shop.rows("bronze/items"))) == (0, 11)


def _landed_lsns(shop: Project) -> list[int]:
    """Return the sequences of all messages in all batches."""
    files = [file for file in shop.lake.glob("landing/items/*/*") if not file.name.startswith("_")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(json.loads(line)["source"]["lsn"] for line in lines)


def test_an_extract_that_is_broken_off_anywhere_takes_each_message_once(broker: str, tmp_path: Path) -> None:
    topic = "shop.public.broken_off"
    _create(broker, topic=topic)
    tables, source = {"items": TABLE | {"file": topic}}, {"type": "kafka", "servers": broker}
    _send(broker, [(n, _envelope("c", n, n, n)) for n in range(1, 11)], topic)
    names: list[str] = []
    with handled_by(lambda name, _: names.append(name)):
        assert Project(tmp_path / "unbroken", tables, source_settings=source)("extract").code == 0
    assert "before_manifest" in names

    points = [f"{name}:raise:{names[: at + 1].count(name)}" for at, name in enumerate(names)]
    for number, point in enumerate(points, start=11):
        shop = Project(tmp_path / str(number), tables, source_settings=source)
        with handled_by(parse(point)), pytest.raises(Interruption):
            shop("extract")
        _send(broker, [(number, _envelope("c", number, number, number))], topic)
        assert shop("extract").code == 0, point
        assert _landed_lsns(shop) == [*range(1, number + 1)], point
