"""Tests the connector files of deploy/connect: well formed, consistent, without secrets, with documented settings.

The tests in tests/live run Debezium and the sink of this repository, whose settings Connect itself validates. The sinks
of Confluent and Aiven are in no registry that the tests download from: their files are compared with the settings in
their documentation, some of which are copied here by hand from

    https://docs.confluent.io/kafka-connectors/s3-sink/current/configuration_options.html
    https://github.com/Aiven-Open/cloud-storage-connectors-for-apache-kafka/blob/main/s3-sink-connector/README.md

and have not been run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lakehouse.publish.kafka_connect import connectors

FOLDER = Path(__file__).parents[3] / "deploy/connect"
FILES = sorted(FOLDER.glob("*.json"))
SINKS = [file for file in FILES if file.name.startswith("s3-sink")]
TOPICS = ["postgres-dadostesouroipca_gold", "postgres-dadostesouropre_gold"]

# Settings of every sink, by Kafka's documentation ("Kafka Connect", "Sink Connector Configs").
COMMON = {"connector.class", "tasks.max", "topics", "key.converter", "value.converter"}
OF_OTHERS = ("value.converter.", "transforms", "consumer.override.")
DOCUMENTED = {
    "s3-sink.confluent.json": {
        *("storage.class", "topics.dir", "directory.delim", "file.delim", "store.url", "format.class", "flush.size"),
        *("rotate.interval.ms", "rotate.schedule.interval.ms", "schema.compatibility", "retry.backoff.ms"),
        *("partitioner.class", "partition.field.name", "partition.duration.ms", "path.format", "locale", "timezone"),
        *("timestamp.extractor", "timestamp.field", "s3.bucket.name", "s3.region", "s3.part.size", "s3.part.retries"),
        *("s3.credentials.provider.class", "s3.ssea.name", "s3.sse.kms.key.id", "s3.acl.canned", "s3.compression.type"),
        *("s3.retry.backoff.ms", "s3.wan.mode", "s3.path.style.access.enabled", "s3.proxy.url", "aws.access.key.id"),
        *("aws.secret.access.key", "format.bytearray.extension", "behavior.on.null.values", "json.decimal.format"),
    },
    "s3-sink.aiven.json": {
        *("aws.access.key.id", "aws.secret.access.key", "aws.s3.bucket.name", "aws.s3.endpoint", "aws.s3.region"),
        *("aws.sts.role.arn", "aws.sts.role.session.name", "aws.sts.role.external.id", "aws.sts.config.endpoint"),
        *("file.name.template", "file.compression.type", "format.output.type", "format.output.fields"),
        *("format.output.fields.value.encoding", "format.output.envelope", "timestamp.timezone", "timestamp.source"),
        *("aws.s3.part.size.bytes", "aws.s3.sse.algorithm", "aws.s3.backoff.delay.ms", "aws.s3.backoff.max.delay.ms"),
        *("aws.s3.backoff.max.retries", "kafka.retry.backoff.ms"),
    },
}


def config(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / name).read_text())["config"]
    return read


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_connector_file_has_the_form_of_apply_and_takes_secrets_from_the_environment(file: Path) -> None:
    read = connectors._read_connector(file)
    named = re.findall(r"\$\{(\w+):(\w+)\}", " ".join(read.config.values()))
    pattern = re.search(r"allowlist\.pattern=(.*)", (FOLDER / "worker.properties").read_text())
    assert pattern and named
    assert all(provider == "env" and re.fullmatch(pattern[1], variable) for provider, variable in named)


def test_the_sinks_read_the_topics_of_the_source() -> None:
    source = config("postgres-source.json")
    router = (source["transforms.name.regex"], source["transforms.name.replacement"].replace("$1", r"\1"))
    tables = source["table.include.list"].split(",")
    topics = [re.sub(*router, f"{source['topic.prefix']}.{table}") for table in tables]
    assert topics == TOPICS
    assert all(re.fullmatch(source["predicates.gold.pattern"], f"{source['topic.prefix']}.{table}") for table in tables)
    for sink in SINKS:
        assert config(sink.name)["topics"].split(",") == TOPICS
        assert config(sink.name)["consumer.override.isolation.level"] == "read_committed"


def test_the_sql_prepares_the_tables_that_the_source_reads() -> None:
    source, prepared = config("postgres-source.json"), (FOLDER / "postgres.sql").read_text()
    followed = ", ".join(f"'{table}'" for table in source["table.include.list"].split(","))
    assert f"ARRAY[{followed}]::regclass[]" in prepared
    assert "REPLICA IDENTITY DEFAULT" in prepared
    assert source["table.include.list"].replace(",", ", ") in prepared
    assert f"CREATE PUBLICATION {source['publication.name']} FOR TABLE" in prepared


def test_the_worker_allows_the_overrides_of_the_sinks_and_no_others() -> None:
    worker = (FOLDER / "worker.properties").read_text()
    allowed = re.search(r"^connector\.client\.config\.override\.allowlist=(.*)$", worker, re.MULTILINE)
    assert allowed and "override.policy=Allowlist\n" in worker
    prefix = "consumer.override."
    for file in FILES:
        overrides = {name for name in config(file.name) if ".override." in name}
        assert overrides == ({prefix + name for name in allowed[1].split(",")} if file in SINKS else set())


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_setting_of_a_foreign_sink_is_documented(name: str) -> None:
    keys = {key for key in config(name) if not key.startswith(OF_OTHERS)}
    assert keys - COMMON <= DOCUMENTED[name], keys - COMMON - DOCUMENTED[name]


def test_foreign_sinks_write_the_same_lines_to_the_same_objects() -> None:
    own, confluent, aiven = (config(f"s3-sink{which}.json") for which in ("", ".confluent", ".aiven"))
    for other in (confluent, aiven):
        assert other["transforms.offset.type"] == "org.apache.kafka.connect.transforms.InsertField$Value"
        assert other["transforms.offset.offset.field"] == "__offset"
        assert (other["tasks.max"], other["topics"]) == (own["tasks.max"], own["topics"])
    same = {"topics.dir": "s3.prefix", "timestamp.field": "date.field", "flush.size": "flush.size"}
    assert {confluent[theirs] for theirs in same} == {own[ours] for ours in same.values()}
    assert confluent["rotate.schedule.interval.ms"] == own["rotate.interval.ms"]
    assert confluent["path.format"] == "'year'=YYYY/'month'=MM"
    assert aiven["file.name.template"].startswith(f"{own['s3.prefix']}/{{{{topic}}}}/year={{{{timestamp:unit=yyyy}}}}/")


def test_every_setting_of_the_sink_is_in_the_guide() -> None:
    java = (FOLDER / "s3-json-sink/src/main/java/lakehouse/connect/Settings.java").read_text()
    settings = re.findall(r'static final String \w+ = "([a-z0-9.]+\.[a-z0-9.]+)";', java)
    guide = (FOLDER.parents[1] / "docs/guide/kafka.md").read_text()
    assert len(settings) == 12
    assert [name for name in settings if f"`{name}`" not in guide] == []
