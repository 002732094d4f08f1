"""Builds the pages about the systems behind PostgreSQL: topics and connectors, objects and lines."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterable
from typing import Any

import local_kafka
from pages import markdown_table

# The lines of the worker's log about the work of the two connectors.
_CONNECTOR_LOG = re.compile(r"\((lakehouse\.connect\.\S+|io\.debezium\.\S*(Snapshot|StreamingChange)\S*)\)$")


def kafka_page(bootstrap: str, connect: local_kafka.Server, applied: str) -> str:
    """Return the page with the topics, the connectors, and their log lines.

    Args:
        bootstrap: The address of the broker.
        connect: The Connect worker.
        applied: The output of `lakehouse connect apply`.
    """
    described = _kafka_tool("TopicCommand", "--bootstrap-server", bootstrap, "--describe", "--topic", "postgres-.*")
    ends = _kafka_tool("GetOffsetShell", "--bootstrap-server", bootstrap, "--topic", "postgres-.*")
    lines = [line.split(":") for line in ends.split()]
    parts = [
        "# Topics and connectors",
        "## Topics\n\nCreated by Debezium with the settings of `postgres-source.json`. Output of"
        " `kafka-topics --describe`:",
        f"```\n{described}\n```",
        markdown_table(("topic", "partition", "next offset"), lines),
        "Offsets have gaps, because the end of each of Debezium's transactions takes one.",
        "## Connectors\n\nRegistered after the first run of the DAG.",
        applied,
        "From Connect's REST API: `GET /connectors/NAME`, `GET /connectors/NAME/status`. Secrets are in the"
        " environment of the worker; here are only their names.",
    ]
    for name in sorted(_get_json(connect, "connectors")):
        parts.append(f"### {name}")
        parts += [_json_block(_get_json(connect, f"connectors/{name}{more}")) for more in ("", "/status")]
    log = connect.log.read_text(encoding="utf-8", errors="replace").splitlines()
    lines_of_connectors = "\n".join(line for line in log if _CONNECTOR_LOG.search(line))
    parts.append(f"## Log of the connectors\n\nFrom the log of the worker.\n\n```\n{lines_of_connectors}\n```")
    return "\n\n".join(parts)


def connect_versions(connect: local_kafka.Server) -> list[str]:
    """Return the versions of Kafka and Debezium from the worker."""
    plugins = {plugin["class"]: plugin["version"] for plugin in _get_json(connect, "connector-plugins")}
    debezium = plugins["io.debezium.connector.postgresql.PostgresConnector"]
    return [f"Kafka {_get_json(connect, '')['version']}", f"Debezium {debezium}"]


def objects_page(client: Any, bucket: str, topics: Iterable[str]) -> str:
    """Return the page with the tree of objects, and for each topic a line of each operation."""
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="topics/")
    keys = sorted(item["Key"] for page in listed for item in page.get("Contents", ()))
    lines = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read().decode().splitlines() for key in keys}
    parts = [
        "# Objects on S3",
        f"The bucket `{bucket}`: one object per topic, month and rotation of the sink.",
        _object_tree(lines),
    ]
    parts.append("## Lines\n\n`__op`: `r` read at the start, `c` inserted, `u` updated, `d` deleted.")
    for topic in topics:
        of_topic = [line for key in keys if f"/{topic}/" in key for line in lines[key]]
        kinds = {op: sum(json.loads(line)["__op"] == op for line in of_topic) for op in "rcud"}
        parts.append(f"### {topic}: {', '.join(f'{count} {op}' for op, count in kinds.items() if count)}")
        firsts = [next((line for line in of_topic if json.loads(line)["__op"] == op), "") for op in "rcud"]
        parts.append("```json\n" + "\n".join(filter(None, firsts)) + "\n```")
    return "\n\n".join(parts)


def _object_tree(lines: dict[str, list[str]]) -> str:
    """Return a tree with each folder once, and each object with its number of lines."""
    shown, before = [], []
    for key, content in lines.items():
        *folders, name = key.split("/")
        same = next((n for n, pair in enumerate(zip(folders, before, strict=False)) if pair[0] != pair[1]), None)
        same = min(len(folders), len(before)) if same is None else same
        shown += [f"{'  ' * depth}{folders[depth]}/" for depth in range(same, len(folders))]
        shown.append(f"{'  ' * len(folders)}{name}  {len(content)} lines")
        before = folders
    return "```\n" + "\n".join(shown) + "\n```"


def _kafka_tool(name: str, *words: str) -> str:
    command = local_kafka.java_command(f"org.apache.kafka.tools.{name}", *words)
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in done.stdout.splitlines() if "postgres-" in line)


def _get_json(connect: local_kafka.Server, path: str) -> Any:
    with urllib.request.urlopen(f"{connect.address}/{path}", timeout=30) as answer:
        return json.load(answer)


def _json_block(document: Any) -> str:
    return f"```json\n{json.dumps(document, indent=2)}\n```"
