"""Compares the net change of a bronze table with that of the change sets between two of its versions.

A backlog is applied by one commit. After a replay, the sequences from a place on stand for other change sets than those
that the commits name: the net change since the version before that place tells whether bronze has followed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.lake.cdc import DELETE, INSERT
from lakehouse.storage.delta_log import TableVersion
from lakehouse.verify.check import quoted_column, to_json
from lakehouse.verify.checked_table import CheckedTable
from lakehouse.verify.log_summary import LogSummary

NAMES = ("inserted", "updated", "deleted")

Counts = dict[str, int]  # rows by what was done: inserted, updated, deleted


@dataclass(frozen=True)
class Place:
    """The version of a bronze table before the first change set that was numbered again.

    Attributes:
        version: The version; -1 if the first one was.
        sequences: The sequences of the change sets that have changed rows since, as they are numbered now.
    """

    version: int
    sequences: list[int]


def find_place(table: CheckedTable, version: TableVersion, log: LogSummary) -> Place | None:
    """Return the version before the place of a replay; None if there was none, or nets do not tell.

    They do not in a history, whose changes open and close windows, nor in a table with `missing`. Nor while change sets
    wait to be applied, nor if rows were changed by something else than change sets: another writer, `forget`, or a
    rebuild, whose first change set inserts rows that were there.

    Args:
        table: The table.
        version: Bronze's current version.
        log: The summary of its log.
    """
    is_plain = table.config.scd == 1 and not table.config.feed
    if not log.numbered_again or not is_plain or any(entry.keeps_missing for entry in table.accepted):
        return None
    before = min(commit.version for commit in log.numbered_again) - 1
    is_forgotten = any("forgot" in commit.metadata for commit in version.commits if commit.version > before)
    if log.foreign or is_forgotten or table.lag_reason:
        return None
    own = [c.metadata["sequence"] for c in version.commits if c.version <= before and "sequence" in c.metadata]
    if before >= 0 and not own:  # retention removed them: the log does not have the place
        return None
    last = max(own, default=0)
    since = [entry for entry in table.accepted if (entry.sequence or 0) > last and entry.changed_rows]
    sequences = [entry.sequence or 0 for entry in since]
    is_lost = any(entry.is_rebuild_start or table.history.is_dropped(entry) for entry in since)
    return None if is_lost or table.unverifiable_sequences & {*sequences} else Place(before, sequences)


def count_net_images(images: DataFrame, keys: list[str]) -> Counts:
    """Return how many keys a Change Data Feed inserts, updates and deletes between its beginning and its end.

    Args:
        images: The feed; a row that is the same at both has no change.
        keys: The columns of the key.
    """
    is_before = delta.is_before_image()
    content = [name for name in images.columns if name not in ("_change_type", "_commit_version", "_commit_timestamp")]
    image = F.struct(is_before.alias("before"), to_json(content).alias("row"))
    # In one version, a row's image before the change comes first.
    order = F.struct("_commit_version", (~is_before).alias("after"))
    ends = images.groupBy(*map(quoted_column, keys)).agg(
        F.min_by(image, order).alias("first"), F.max_by(image, order).alias("last")
    )
    was_there, is_there = F.col("first.before"), ~F.col("last.before")
    differs = ~F.col("first.row").eqNullSafe(F.col("last.row"))
    (row,) = ends.agg(
        F.count_if(~was_there & is_there),
        F.count_if(was_there & is_there & differs),
        F.count_if(was_there & ~is_there),
    ).collect()
    return dict(zip(NAMES, row, strict=True))


def count_net_changes(table: CheckedTable, sequences: list[int]) -> Counts:
    """Return how many keys several change sets insert, update and delete between the state before and after them.

    Args:
        table: The table.
        sequences: Their sequences.
    """
    changes = table.read_change_sets().where(F.col("_cdc_sequence").isin(sequences))
    first, last = (by("_cdc_operation", "_cdc_sequence") for by in (F.min_by, F.max_by))
    by_key = changes.groupBy(*map(quoted_column, table.config.keys)).agg(first.alias("first"), last.alias("last"))
    is_new, is_gone_after = F.col("first") == INSERT, F.col("last") == DELETE
    (row,) = by_key.agg(
        F.count_if(is_new & ~is_gone_after), F.count_if(~is_new & ~is_gone_after), F.count_if(~is_new & is_gone_after)
    ).collect()
    return dict(zip(NAMES, row, strict=True))


def net_fault(table: CheckedTable, sequences: list[int], actual: Counts, erased: dict[int, Counts]) -> str:
    """Return how the net change of bronze differs from that of change sets; empty if it does not.

    Args:
        table: The table.
        sequences: The sequences of the change sets.
        actual: The net change of bronze.
        erased: How many rows fewer each sequence may have written, because they were forgotten.
    """
    net, fewer = count_net_changes(table, sequences), sum(sum(erased.get(s, {}).values()) for s in sequences)
    differing = [name for name in net if not net[name] <= actual[name] <= net[name] + fewer]
    return ", ".join(f"{name} {actual[name]:,}, but {net[name]:,} by the change sets" for name in differing)
