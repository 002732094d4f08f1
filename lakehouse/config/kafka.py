"""Defines the settings of a source of type `kafka`, and checks the tables that are read from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from lakehouse.config.fields import Option, Text
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, StrictModel

# Settings of the client that decide which messages a batch has.
_OWN_OPTIONS = (
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
)


class Kafka(StrictModel):
    """Topics of Kafka; a table's `file` is its topic, and the messages since the last run are a batch of its `feed`."""

    type: Literal["kafka"]
    servers: Text = Field(description="host:port, or several with commas between them: the brokers to ask first.")
    options: dict[str, Option] = Field(
        {},
        repr=False,
        description="Settings of librdkafka, by its names (security.protocol, sasl.username, ...); use ${VARIABLE} for"
        " passwords.",
    )
    message: Literal["value", "envelope"] = Field(
        "value",
        description="A line of a batch. value: the message's value. envelope: an object with partition, offset,"
        " timestamp, key and value.",
    )
    lost: Literal["fail", "skip"] = Field(
        "fail", description="Messages that the topic no longer has before they were read: fail, or go on after them."
    )

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: object) -> Iterator[Discrepancy]:
        options = data.get("options")
        for name in options if isinstance(options, Mapping) else ():
            if str(name).lower() in _OWN_OPTIONS:
                yield Discrepancy(("options", str(name)), STRUCTURE, "is set by the source itself; remove it")


def check_kafka_tables(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield the discrepancies between a source of type `kafka` and its tables.

    Args:
        data: The pipeline, as it is written.
    """
    source, tables = data.get("source"), data.get("tables")
    if not (isinstance(source, Mapping) and source.get("type") == "kafka" and isinstance(tables, Mapping)):
        return
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            continue
        if table.get("format") not in (None, "json"):
            yield Discrepancy(("tables", name, "format"), VALUE, "expected json, the format of landed messages")
        feed = table.get("feed")
        if not isinstance(feed, Mapping):
            message = "missing; the messages of a topic are events, and no snapshots"
            yield Discrepancy(("tables", name, "feed"), STRUCTURE, message)
        elif feed.get("corrected_by") is not None:
            message = "a topic has no file beside its messages"
            yield Discrepancy(("tables", name, "feed", "corrected_by"), STRUCTURE, message)
        if isinstance(file := table.get("file"), str) and any(each in file for each in "*?[{/"):
            yield Discrepancy(("tables", name, "file"), VALUE, "expected the name of one topic")
