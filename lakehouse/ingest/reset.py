"""Resets a table to its landed files, for `lakehouse ingest PIPELINE TABLE --full-refresh`.

All decisions about its snapshots and their results, up to bronze, are deleted; `ingest` then finds the landed snapshots
as if they had just arrived. This removes personal data from raw that was written before `pii` named its column, or
hashed with another key, because only landing keeps it as received. Silver and gold follow bronze as always.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from lakehouse.errors import ConfigError
from lakehouse.failpoints import failpoint
from lakehouse.lake import delta, ledger
from lakehouse.lake.change_sets import table_folders
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.storage import file_io, landing
from lakehouse.storage.paths import Lake, snapshot_name
from lakehouse.text import counted


def require_landed_events(lake: Lake, name: str, history: LedgerHistory) -> None:
    """Raise if events of a change feed are in raw only, so that a reset would lose them.

    Args:
        lake: The lake.
        name: The table.
        history: The ledger's rows of the table.

    Raises:
        ConfigError: With the batches whose files have expired or are missing.
    """
    landed = {snapshot.time for snapshot in landing.list_snapshots(lake, name) if not snapshot.expired}
    lost = [snapshot_name(e.snapshot_time) for e in history.accepted if e.snapshot_time not in landed]
    if lost:
        raise ConfigError(
            f"the events of {counted(len(lost), 'batch', 'batches')} of {name} are in raw only: {', '.join(lost[:3])}",
            expected="the landed files of every accepted batch, from which the table would be rebuilt",
            where=str(lake.landing_path(name)),
            next_step="restore these files, and remove `expired` from their manifests; or keep the feed's settings",
        )


def reset_tables(spark: SparkSession, lake: Lake, names: list[str]) -> None:
    """Delete all that was made of the snapshots of these tables.

    The ledger's rows go last: if this is interrupted before, the same command completes it.

    Args:
        spark: The session to work in.
        lake: The lake.
        names: The tables to reset.

    Raises:
        ConfigError: Nothing of a table has landed, so that nothing would come back.
    """
    if missing := [name for name in names if not landing.list_snapshots(lake, name)]:
        raise ConfigError(
            f"nothing of {', '.join(missing)} has landed",
            expected="at least one snapshot to rebuild the table from",
            where=str(lake.landing_path(missing[0])),
        )
    for name in names:
        for table in (lake.bronze_table(name), lake.quarantine_table(name)):
            delta.drop(spark, table)
        for folder in (*table_folders(lake, name), lake.local_path("bronze", name)):
            file_io.remove(folder)
    failpoint("before_ledger_reset")
    ledger.delete_tables(spark, lake, names)
    failpoint("after_ledger_reset")
