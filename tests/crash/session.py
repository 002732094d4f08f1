"""Starts the session in which the commands of this process run: the product's own, for a lake on a disk."""

from __future__ import annotations

from pyspark.sql import SparkSession

from lakehouse.spark.session import SMALL_DATA_BYTES, get_session
from lakehouse.storage.paths import Lake


def start_session(folder: str) -> SparkSession:
    """Start the session, with the settings for large data: its JVM runs for many minutes.

    Args:
        folder: A folder for its temporary files.
    """
    return get_session(Lake(folder), "crash", data_bytes=SMALL_DATA_BYTES)
