"""Checks the second half of I6 without Spark: the JSON lines on S3, folded by key, equal the table in PostgreSQL.

A published change takes up to a minute until the connector's sink writes it to S3. So a difference is checked again
until it is gone or the time is up.
"""

from __future__ import annotations

import time

from lakehouse.config import Pipeline
from lakehouse.publish.kafka_connect import json_lines
from lakehouse.storage import file_io
from lakehouse.text import counted
from lakehouse.verify.check import Check, Claim

MAX_WAIT_SECONDS = 150.0  # one rotation of the sink, its write, and the same again
_POLL_SECONDS = 5.0


def check_s3_objects(pipeline: Pipeline, topic: str, max_wait: float = MAX_WAIT_SECONDS) -> Check:
    """Check that a topic's objects, folded by key, equal the table that the topic follows.

    Args:
        pipeline: A pipeline with `connect` and `publish`.
        topic: One of its topics.
        max_wait: Seconds to wait for a difference to go away.
    """
    assert pipeline.connect and pipeline.connect.objects and pipeline.publish and pipeline.publish.postgres
    table = pipeline.connect.topics[topic]
    claim = Claim("I6", "S3, folded by key, = PostgreSQL", table)
    folder = file_io.store_path(pipeline.connect.objects) / topic
    deadline = time.monotonic() + max_wait
    while True:
        row_count, differences = json_lines.compare_with_table(pipeline.publish.postgres.url, table, folder)
        if not differences:
            return claim.holds(counted(row_count, "row"))
        if time.monotonic() > deadline:
            return claim.fails(f"{'. '.join(differences)}. Still so after {max_wait:g} s: `lakehouse connect status`")
        time.sleep(min(_POLL_SECONDS, max_wait / 10))
