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

MAX_WAIT_SECONDS = 150.0  # seconds: a rotation of the sink's, its writing, and as much again
_POLL_SECONDS = 5.0


def check_s3_objects(pipeline: Pipeline, topic: str, max_wait: float = MAX_WAIT_SECONDS) -> Check:
    """Whether a topic's objects fold to the table that it follows."""
    assert pipeline.connect and pipeline.connect.objects and pipeline.publish and pipeline.publish.postgres
    table = pipeline.connect.topics[topic]
    claim = Claim("I6", "S3, folded by key, = PostgreSQL", table)
    folder = file_io.store_path(pipeline.connect.objects) / topic
    deadline = time.monotonic() + max_wait
    while True:
        rows, found = json_lines.compare_with_table(pipeline.publish.postgres.url, table, folder)
        if not found:
            return claim.holds(f"{rows:,} rows")
        if time.monotonic() > deadline:
            return claim.fails(f"{'. '.join(found)}. Still so after {max_wait:g} s: `lakehouse connect status`")
        time.sleep(min(_POLL_SECONDS, max_wait / 10))
