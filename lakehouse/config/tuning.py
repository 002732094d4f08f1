"""Defines the thresholds of a run, which `tuning:` in pipeline.yml sets.

They decide how the work is done, and never the result. The defaults were measured on a laptop (docs/bench.md).
"""

from __future__ import annotations

from pydantic import Field

from lakehouse.config.fields import Count, Share
from lakehouse.config.strict_model import StrictModel


class Tuning(StrictModel):
    """Thresholds that choose between ways of doing the same work."""

    local_rows: Count = Field(
        5_000,
        description="Up to this many changed rows are collected by the driver, so that queries name their values and"
        " skip files.",
    )
    small_table_bytes: Count = Field(
        1 << 20,
        description="A table of at most this size is read by the driver, and compared there with the rows that it is to"
        " have; a larger one, by Spark.",
    )
    driver_write_bytes: Count = Field(
        16 << 20,
        description="A table of at most this size is written by the driver when few rows change; a larger one, by"
        " Spark.",
    )
    stream_from_bytes: Count = Field(
        1 << 30,
        description="From this snapshot size on, a stream over the ledger starts bronze; below, starting one would take"
        " longer than the work.",
    )
    full_refresh_below_bytes: Count = Field(
        4 << 20,
        description="A model that joins or groups is computed in full while its inputs are smaller; from this size on,"
        " its files are ordered by day.",
    )
    full_refresh_share: Share = Field(
        0.2, description="A model is computed in full when a greater share of an input's rows changed."
    )
    large_table_bytes: Count = Field(
        64 << 20, description="From this size on, changes of a model use deletion vectors instead of rewriting files."
    )
    large_snapshot_bytes: Count = Field(
        32 << 20, description="From this snapshot size on, bronze uses deletion vectors instead of rewriting files."
    )
    driver_compare_bytes: Count = Field(
        8 << 30,
        description="A snapshot of at most this size is read and compared by the driver, without Spark; on a"
        " cluster, one of at most 64 MB.",
    )

    backlog_snapshots: Count = Field(
        4,
        description="From this many pending snapshots of a table on, small ones are taken in one pass, and bronze gets"
        " their net change in few commits; 0: never.",
    )

    @property
    def driver_rows(self) -> int:
        """Up to this many rows are compared with a small table, or written to it, by the driver."""
        return 20 * self.local_rows
