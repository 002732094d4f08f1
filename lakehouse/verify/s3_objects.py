"""I6, its second half: the JSON on S3, folded by key, is what PostgreSQL holds. Without Spark.

What was just published takes its time to S3: until a sink writes, which is up to a minute. So a difference is looked at
again, until it is gone or patience is out.
"""

from __future__ import annotations

import time

from lakehouse.config import Pipeline
from lakehouse.publish.kafka_connect import json_lines
from lakehouse.storage import file_io
from lakehouse.verify.check import Check, Claim

PATIENCE = 150.0  # seconds: a rotation of the sink's, its writing, and as much again
_BETWEEN_LOOKS = 5.0


def objects_check(pipeline: Pipeline, topic: str, patience: float = PATIENCE) -> Check:
    """Whether a topic's objects fold to the table that it follows."""
    assert pipeline.connect and pipeline.connect.objects and pipeline.publish and pipeline.publish.postgres
    table = pipeline.connect.topics[topic]
    claim = Claim("I6", "S3, folded by key, = PostgreSQL", table)
    folder = file_io.store_path(pipeline.connect.objects) / topic
    deadline = time.monotonic() + patience
    while True:
        rows, found = json_lines.compare_with_table(pipeline.publish.postgres.url, table, folder)
        if not found:
            return claim.holds(f"{rows:,} rows")
        if time.monotonic() > deadline:
            return claim.failed(f"{'. '.join(found)}. Still so after {patience:g} s: `lakehouse connect status`")
        time.sleep(min(_BETWEEN_LOOKS, patience / 10))
