"""Reads offsets and messages of topics with Confluent's client, and maps its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lakehouse.config import Kafka
from lakehouse.errors import ConfigError, InfrastructureError, LakehouseError

_TIMEOUT = 30.0  # seconds without an answer
_AT_ONCE = 1000  # messages that are asked for at a time
_DENIED = ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "SASL_AUTHENTICATION_FAILED")
_DENIED_LOCALLY = ("_AUTHENTICATION", "_SSL", "_INVALID_ARG")
_UNKNOWN = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION")


class Message(NamedTuple):
    """A message of a topic; `value` is None in a tombstone."""

    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None


class Offsets(NamedTuple):
    """The first offset that a partition has, and the one after its last."""

    first: int
    end: int


class Topics:
    """A client of the brokers.

    Args:
        client: A consumer of `confluent_kafka`.
        errors: Its module, for the classes of errors.
        servers: The brokers, for messages.
    """

    def __init__(self, client: Any, errors: Any, servers: str) -> None:
        self._client, self._errors, self._servers = client, errors, servers

    def offsets(self, topic: str) -> dict[int, Offsets]:
        """Return the offsets of each partition of a topic.

        Args:
            topic: The topic's name.

        Raises:
            ConfigError: There is no such topic, or access is denied.
            InfrastructureError: The brokers do not answer.
        """
        with self._mapped(topic):
            found = self._client.list_topics(topic, _TIMEOUT).topics[topic]
            if found.error is not None:
                raise self._errors.KafkaException(found.error)
            parts = (self._errors.TopicPartition(topic, number) for number in sorted(found.partitions))
            return {each.partition: Offsets(*self._client.get_watermark_offsets(each, _TIMEOUT)) for each in parts}

    def messages(self, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Message]:
        """Yield the messages of a topic between two offsets of each partition; some offsets have none.

        Args:
            topic: The topic's name.
            starts: The first offset to read of each partition.
            ends: The offset after the last one.

        Raises:
            ConfigError: Access is denied.
            InfrastructureError: The brokers do not answer.
        """
        waiting = {number for number, end in ends.items() if starts[number] < end}
        with self._mapped(topic):
            self._client.assign([self._errors.TopicPartition(topic, n, starts[n]) for n in sorted(waiting)])
            deadline = time.monotonic() + _TIMEOUT
            while waiting:
                received = self._client.consume(_AT_ONCE, 1.0)
                if received:
                    deadline = time.monotonic() + _TIMEOUT
                elif time.monotonic() > deadline:
                    raise self._no_answer(topic, f"no message within {_TIMEOUT:g} seconds")
                yield from self._taken(received, waiting, ends)
            self._client.unassign()

    def _taken(self, received: list[Any], waiting: set[int], ends: Mapping[int, int]) -> Iterator[Message]:
        """Yield those of some messages that are to be taken; a partition that has no further ones waits no more."""
        for each in received:
            number, offset = each.partition(), each.offset()
            if error := each.error():
                if error.code() != self._errors.KafkaError._PARTITION_EOF:
                    raise self._errors.KafkaException(error)
                waiting.discard(number)  # at the end, or before the messages of an open transaction
                continue
            if number in waiting and offset < ends[number]:
                kind, timestamp = each.timestamp()
                is_known = kind != self._errors.TIMESTAMP_NOT_AVAILABLE
                yield Message(number, offset, timestamp if is_known else None, each.key(), each.value())
            if offset >= ends[number] - 1:
                waiting.discard(number)

    @contextmanager
    def _mapped(self, topic: str) -> Iterator[None]:
        try:
            yield
        except self._errors.KafkaException as error:
            raise self._to_error(topic, error.args[0]) from error

    def _to_error(self, topic: str, error: Any) -> LakehouseError:
        name = error.name()
        if name in _UNKNOWN:
            return ConfigError(
                f"{self._servers} has no topic {topic}",
                expected="the name of a topic as `file`",
                where=self._servers,
                next_step="correct `file`, or create the topic",
            )
        if name in _DENIED or name in _DENIED_LOCALLY:
            return ConfigError(
                f"{self._servers} denies access to {topic}: {error.str()}",
                expected="a user who may describe and read the topic",
                where=self._servers,
                next_step="correct source.options, or grant READ and DESCRIBE on the topic",
            )
        return self._no_answer(topic, error.str())

    def _no_answer(self, topic: str, problem: str) -> InfrastructureError:
        return InfrastructureError(
            f"{topic} cannot be read: {problem}",
            expected="brokers that answer",
            where=self._servers,
            next_step="run the same command again later; nothing has landed",
        )


@contextmanager
def open_topics(kafka: Kafka) -> Iterator[Topics]:
    """Provide a client for the length of a `with` block.

    Args:
        kafka: The source.

    Raises:
        ConfigError: The client is not installed, or rejects a setting.
    """
    try:
        import confluent_kafka
    except ImportError:
        raise ConfigError(
            "a source of type kafka needs confluent-kafka, which is not installed",
            expected="the extra `kafka`",
            next_step="pip install 'lakehouse[kafka]'",
        ) from None
    settings: dict[str, Any] = {
        "group.id": "lakehouse",  # required by the client, and not used: no offset is committed
        **{name: str(value) for name, value in kafka.options.items()},
        "bootstrap.servers": kafka.servers,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "logger": _SILENT,
    }
    try:
        client = confluent_kafka.Consumer(settings)
    except (confluent_kafka.KafkaException, ValueError, TypeError) as error:
        raise ConfigError(
            f"source.options are not accepted: {error}",
            expected="settings of librdkafka, by its names",
            next_step="correct source.options",
        ) from error
    try:
        yield Topics(client, confluent_kafka, kafka.servers)
    finally:
        client.close()


class _Silent:
    """A logger that drops the client's own lines: each error is raised, and a secret may be in a line."""

    def log(self, level: int, text: str, *values: object) -> None:
        """Do nothing with a line."""


_SILENT = _Silent()
