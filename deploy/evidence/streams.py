"""The pages of what runs behind PostgreSQL: topics and connectors, objects and lines."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

import local_kafka
from pages import markdown_table

# Of the worker's log: what the two connectors have done, and not how.
_CONNECTOR_LOG = re.compile(r"\((lakehouse\.connect\.\S+|io\.debezium\.\S*(Snapshot|StreamingChange)\S*)\)$")


def kafka_page(bootstrap: str, connect: local_kafka.Server, applied: str) -> str:
    """Topics, connectors, and what those said.

    Args:
        applied: what `lakehouse connect apply` has said.
    """
    described = _kafka_tool("TopicCommand", "--bootstrap-server", bootstrap, "--describe", "--topic", "postgres-.*")
    ends = _kafka_tool("GetOffsetShell", "--bootstrap-server", bootstrap, "--topic", "postgres-.*")
    lines = [line.split(":") for line in ends.split()]
    parts = [
        "# Topics and connectors",
        "## Topics\n\nDebezium made them, as `postgres-source.json` says. By Kafka's own `kafka-topics --describe`:",
        f"```\n{described}\n```",
        markdown_table(("topic", "partition", "next offset"), lines),
        "Offsets have gaps: the end of each of Debezium's transactions takes one.",
        "## Connectors\n\nRegistered after the first run of the DAG.",
        applied,
        "As Connect's REST API has them: `GET /connectors/NAME`, `GET /connectors/NAME/status`. Secrets are the"
        " worker's, and only named here.",
    ]
    for name in sorted(_get_json(connect, "connectors")):
        parts.append(f"### {name}")
        parts += [_json_block(_get_json(connect, f"connectors/{name}{more}")) for more in ("", "/status")]
    told = "\n".join(_told(connect.log.read_text(encoding="utf-8", errors="replace").splitlines()))
    parts.append(f"## What they said\n\nOf the worker's log.\n\n```\n{told}\n```")
    return "\n\n".join(parts)


def connect_versions(connect: local_kafka.Server) -> list[str]:
    """Of Kafka and Debezium, as the worker says."""
    plugins = {plugin["class"]: plugin["version"] for plugin in _get_json(connect, "connector-plugins")}
    debezium = plugins["io.debezium.connector.postgresql.PostgresConnector"]
    return [f"Kafka {_get_json(connect, '')['version']}", f"Debezium {debezium}"]


def objects_page(client: Any, bucket: str, topics: Iterable[str]) -> str:
    """The tree of objects, and of each topic a line of each kind."""
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="topics/")
    keys = sorted(found["Key"] for page in listed for found in page.get("Contents", ()))
    lines = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read().decode().splitlines() for key in keys}
    parts = [
        "# Objects on S3",
        f"The bucket `{bucket}`: an object a topic, month and rotation of the sink.",
        _object_tree(lines),
    ]
    parts.append("## Lines\n\n`__op`: `r` read at the start, `c` inserted, `u` updated, `d` deleted.")
    for topic in topics:
        own = [line for key in keys if f"/{topic}/" in key for line in lines[key]]
        kinds = {op: sum(json.loads(line)["__op"] == op for line in own) for op in "rcud"}
        parts.append(f"### {topic}: {', '.join(f'{count} {op}' for op, count in kinds.items() if count)}")
        firsts = [next((line for line in own if json.loads(line)["__op"] == op), "") for op in "rcud"]
        parts.append("```json\n" + "\n".join(filter(None, firsts)) + "\n```")
    return "\n\n".join(parts)


def _object_tree(lines: dict[str, list[str]]) -> str:
    """Folders once each, objects with how many lines they have."""
    shown, before = [], []
    for key, own in lines.items():
        *folders, name = key.split("/")
        same = next((n for n, pair in enumerate(zip(folders, before, strict=False)) if pair[0] != pair[1]), None)
        same = min(len(folders), len(before)) if same is None else same
        shown += [f"{'  ' * depth}{folders[depth]}/" for depth in range(same, len(folders))]
        shown.append(f"{'  ' * len(folders)}{name}  {len(own)} lines")
        before = folders
    return "```\n" + "\n".join(shown) + "\n```"


def _kafka_tool(name: str, *words: str) -> str:
    command = local_kafka.java_command(f"org.apache.kafka.tools.{name}", *words)
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in done.stdout.splitlines() if "postgres-" in line)


def _told(lines: Iterable[str]) -> Iterator[str]:
    yield from (line for line in lines if _CONNECTOR_LOG.search(line))


def _get_json(connect: local_kafka.Server, path: str) -> Any:
    with urllib.request.urlopen(f"{connect.address}/{path}", timeout=30) as answer:
        return json.load(answer)


def _json_block(document: Any) -> str:
    return f"```json\n{json.dumps(document, indent=2)}\n```"
