"""Checks I2, I7 and the half of I5 that needs the Delta log: the record of each commit, and its changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config.row_keys import ROW_COUNT
from lakehouse.lake import delta
from lakehouse.lake.cdc import DELETE, END_AT, MISSING_SINCE, SEQUENCES_KEY
from lakehouse.storage import delta_damage
from lakehouse.storage.delta_log import TableVersion
from lakehouse.text import counted
from lakehouse.verify.check import (
    WEIGHT,
    Check,
    Claim,
    Side,
    compare_rows,
    format_ranges,
    is_gone,
    quoted_column,
    to_json,
)
from lakehouse.verify.checked_table import COUNT_BY_OPERATION, CheckedTable, has_commit
from lakehouse.verify.log_summary import LogSummary, has_gap, summarize_log
from lakehouse.verify.missing_keys import expected_row_writes
from lakehouse.verify.net_changes import Counts, count_net_images, find_place, net_fault
from lakehouse.verify.scd2 import expected_writes

_CHANGE_TYPES = {"inserted": "insert", "updated": "update_postimage", "deleted": "delete"}
_MAX_FAULTS = 5
_MAX_EXAMPLES = 3
_NOTHING_WRITTEN = "nothing was written since version 0"

R = TypeVar("R")


@dataclass(frozen=True)
class DeltaHistory:
    """A Delta table's older versions and changes, as far back as they can still be read."""

    spark: SparkSession
    address: str
    version: TableVersion

    @property
    def last_write(self) -> int:
        """The newest version that may have changed rows."""
        return max((c.version for c in self.version.commits if c.changes_rows), default=self.version.version)

    @property
    def unreadable_reason(self) -> str:
        """The reason of a check for which no change could be read."""
        return _unreadable_reason(self.last_write)

    @cached_property
    def replaced_versions(self) -> frozenset[int]:
        """The versions that replaced the table by one with other columns, which no row of it can equal.

        This is so if the declared schema or a model's SQL changed. Replacing equal rows for no reason stays a fault.
        """
        commits = (c for c in self.version.commits if c.version and c.changes_rows and c.operation != "MERGE")
        return frozenset(commit.version for commit in commits if self._has_other_columns(commit.version))

    @cached_property
    def newest_loss(self) -> int:
        """The newest version that left lost files out: nothing from before it can be read; -1 if there is none."""
        return max((c.version for c in self.version.commits if c.operation == delta_damage.OPERATION), default=-1)

    def _has_other_columns(self, version: int) -> bool:
        try:
            before, after = (delta.schema(self.spark, self.address, each) for each in (version - 1, version))
        except Exception as error:
            if is_gone(error):
                return False
            raise
        return before != after

    def read_images(self, start: int) -> DataFrame:
        """Return the Change Data Feed after the version `start`; from the first change on if that is 0."""
        return delta.read_change_feed(self.spark, self.address, start or -1, self.version.version)

    def read_net(self, start: int, keys: list[str]) -> Counts | None:
        """Return how many keys were inserted, updated and deleted after a version in all; None if that is gone.

        Args:
            start: The version; -1: before the first one.
            keys: The columns of the key.
        """

        def count(start: int) -> Counts:
            images = delta.read_change_feed(self.spark, self.address, start, self.version.version)
            return count_net_images(images, keys)

        return self._attempt_or_none(count, start)

    def read_from_earliest(self, newest: int, attempt: Callable[[int], R]) -> R | None:
        """Return the result of `attempt` for the earliest version from which everything can still be read.

        Retention removes the oldest versions first, so a binary search finds that version.

        Args:
            newest: The version that the attempt has to start before.
            attempt: Reads from a version on; raises an error of `is_gone` if it cannot. It is not called for versions
                after which the log lacks a commit: the Change Data Feed skips such a commit without an error. Nor for
                those before the table was replaced by one with other columns, by which their files cannot be read, or
            before lost files were left out of it.

        Returns:
            The result, or None if no version before `newest` can be read.
        """
        oldest = self.version.commits[-1].version
        if oldest >= newest > 0:
            return None
        result = self._attempt_or_none(attempt, oldest)
        if result is not None:
            return result
        unreadable, readable = oldest, newest
        while readable - unreadable > 1:
            middle = (unreadable + readable) // 2
            at_middle = self._attempt_or_none(attempt, middle)
            if at_middle is None:
                unreadable = middle
            else:
                result, readable = at_middle, middle
        return result

    def _attempt_or_none(self, attempt: Callable[[int], R], start: int) -> R | None:
        earliest = max([self.newest_loss, *self.replaced_versions])
        if self.version.has_missing_commits_since(start) or start < earliest:
            return None
        try:
            return attempt(start)
        except Exception as error:
            if is_gone(error):
                return None
            raise


def _unreadable_reason(newest: int) -> str:
    return f"the changes up to version {newest} can no longer be read"


def bronze_checks(table: CheckedTable) -> Iterator[Check]:
    """Check a bronze table against its log: I2, the counts of I5, then I7."""
    if table.version is None:
        for invariant in ("I2", "I7"):
            yield Claim(invariant, "bronze", table.name).not_checkable(table.lag_reason)
        return
    history = DeltaHistory(table.spark, table.bronze, table.version)
    log = summarize_log(table.version, table.history.replay_starts)
    yield _check_replay(Claim("I2", "bronze = its Change Data Feed, replayed", table.name), history)
    yield _check_commit_counts(Claim("I5", "Change Data Feed = the ledger", table.name), table, history, log)
    yield _check_one_commit_each(Claim("I7", "one commit for each sequence", table.name), table, history, log)
    names = delta.read(table.spark, table.bronze).columns
    columns = [name for name in names if not name.startswith("_cdc_") or name in (MISSING_SINCE, ROW_COUNT)]
    # A row that is marked as deleted differs in its operation alone.
    marks = [(F.col("_cdc_operation") == DELETE).alias("_cdc_is_deleted")] if MISSING_SINCE in names else []
    yield check_no_rewrite(table.name, history, log.applied_versions, columns, marks)


# --- I2 ---------------------------------------------------------------------------------------------------------


def _check_replay(claim: Claim, history: DeltaHistory) -> Check:
    if history.last_write == 0 and not has_gap(history.version):
        return claim.holds(_NOTHING_WRITTEN)
    if not any(commit.changes_rows for commit in history.version.commits):
        return claim.not_checkable(history.unreadable_reason)  # the log has no change left, so nothing to replay
    spark, address, version = history.spark, history.address, history.version.version
    bronze = delta.read(spark, address, version)
    columns = [quoted_column(name) for name in bronze.columns]

    def replay(start: int) -> Check:
        content = delta.read(spark, address, start)
        images = delta.read_change_feed(spark, address, start, version)
        # The feed is read once: an image before a change takes a row away.
        weight = F.when(delta.is_before_image(), -1).otherwise(1).alias(WEIGHT)
        rows = images.select(*columns, weight).unionByName(
            content.withColumn(WEIGHT, F.lit(1)), allowMissingColumns=True
        )
        details = f"from version {start} to {version}"
        return compare_rows(claim, Side("the replay", rows), Side("bronze", bronze), details)

    return history.read_from_earliest(history.last_write, replay) or claim.not_checkable(history.unreadable_reason)


# --- I5 ---------------------------------------------------------------------------------------------------------


def _check_commit_counts(claim: Claim, table: CheckedTable, history: DeltaHistory, log: LogSummary) -> Check:
    """Check that each sequence's commit changed as many rows as the ledger states, as far back as can be read."""

    def count(start: int) -> tuple[int, dict[tuple[int, str], int]]:
        images = history.read_images(start)
        if table.config.feed and table.config.scd == 2:
            images = _key_changes(images, table.config.keys)
        counts = images.groupBy("_commit_version", "_change_type").count()
        return start, {(row[0], row[1]): row["count"] for row in counts.collect()}

    counted = history.read_from_earliest(history.last_write, count)
    if counted is None:
        return claim.not_checkable(history.unreadable_reason)
    erased = _erased_counts(table)
    equal, without_commit, faults = _compare_counts(table, log, *counted, erased)
    place = find_place(table, history.version, log)
    if place and (net := history.read_net(place.version, table.config.keys)) is not None:
        if found := net_fault(table, place.sequences, net, erased):
            since = format_ranges(place.sequences)
            faults.append(f"sequences {since}, which were numbered again, since version {place.version}: {found}")
        equal = sorted({*equal, *place.sequences})
        without_commit = [sequence for sequence in without_commit if sequence not in place.sequences]
    if faults:
        return claim.fails("; ".join(faults[:_MAX_FAULTS]))
    without_commit = [sequence for sequence in without_commit if sequence <= max(log.sequences, default=0)]
    if log.incomplete_reason and without_commit:
        return claim.not_checkable(
            f"sequences {format_ranges(without_commit)} have no commit of their own: {log.incomplete_reason}"
        )
    if not equal:
        return claim.not_checkable(history.unreadable_reason)
    forgotten = [e.sequence or 0 for e in table.accepted if e.path and table.erased_counts[e.path]]
    less = f"; rows were forgotten of sequences {format_ranges(forgotten)}" if forgotten else ""
    return claim.holds(f"sequences {format_ranges(equal)}{less}")


def _compare_counts(
    table: CheckedTable,
    log: LogSummary,
    start: int,
    changes: Mapping[tuple[int, str], int],
    erased: dict[int, Counts],
) -> tuple[list[int], list[int], list[str]]:
    """Return the sequences whose counts are equal, those without a commit of their own, and the faults.

    Args:
        table: The table.
        log: Its log.
        start: The version from which on its changes can be read.
        changes: The number of changes by version and kind.
        erased: By how many each count may be lower, by sequence.
    """
    most, equal, without_commit, faults = _expected_counts(table, log), list[int](), list[int](), list[str]()
    backlogs: dict[int, list[int]] = {}  # sequences by the version that applied their net change
    # Bronze was rebuilt without a batch that was taken again: the ledger has the counts of those after it beside it.
    left_out = {entry.sequence or 0 for entry in table.history.replaced} - log.applied.keys()
    recounted = min(left_out, default=math.inf)
    for sequence in (entry.sequence or 0 for entry in table.accepted if has_commit(entry)):
        commits = log.applied.get(sequence, [])
        if sequence in table.unverifiable_sequences or sequence >= recounted:
            continue
        if len(commits) != 1 or sequence not in most:
            without_commit.append(sequence)
        elif (version := commits[0].version) <= start and not version == start == 0:
            continue
        elif SEQUENCES_KEY in commits[0].metadata:
            backlogs.setdefault(version, []).append(sequence)
        else:
            actual = {name: changes.get((version, change_type), 0) for name, change_type in _CHANGE_TYPES.items()}
            stated, fewer = most[sequence], erased.get(sequence, {})
            differences = [
                f"{name} {count:,}, but {stated[name]:,} in the ledger"
                for name, count in actual.items()
                if not stated[name] - fewer.get(name, 0) <= count <= stated[name]
            ]
            if differences:
                faults.append(f"sequence {sequence}: {', '.join(differences)}")
            else:
                equal.append(sequence)
    for version, sequences in backlogs.items():
        actual = {name: changes.get((version, change_type), 0) for name, change_type in _CHANGE_TYPES.items()}
        if found := net_fault(table, sequences, actual, erased):
            faults.append(f"sequences {format_ranges(sequences)}: {found}")
        else:
            equal += sequences
    return equal, without_commit, faults


def _key_changes(images: DataFrame, keys: list[str]) -> DataFrame:
    """Return one change for each key and version of a history, as a reader of its open windows sees it."""
    is_before, is_open = delta.is_before_image(), F.col(END_AT).isNull()
    opened, closed = F.count_if(~is_before & is_open), F.count_if(is_before & is_open)
    kind = F.when(opened > closed, "insert").when(closed > opened, "delete").otherwise("update_postimage")
    return images.groupBy("_commit_version", *map(quoted_column, keys)).agg(kind.alias("_change_type"))


def _erased_counts(table: CheckedTable) -> dict[int, Counts]:
    """Return how many rows fewer each sequence may have written, because rows were erased from its change set.

    It was applied before that or, if bronze was rebuilt, after it. In a history such a row may have written several.
    A batch of a feed may also delete or change a key of which it has no event (a truncate, or a batch taken again).
    """
    counts = {}
    if table.config.feed:
        total = sum(erased.total() for erased in table.erased_counts.values())
        return {e.sequence or 0: dict.fromkeys(_CHANGE_TYPES, total) for e in table.accepted} if total else {}
    for entry in table.accepted:
        if entry.sequence and entry.path and (erased := table.erased_counts[entry.path]):
            by_name = {name: erased[operation] for operation, name in COUNT_BY_OPERATION.items()}
            is_one_row = table.config.scd == 1 and not entry.keeps_missing
            counts[entry.sequence] = by_name if is_one_row else dict.fromkeys(by_name, erased.total())
    return counts


def _expected_counts(table: CheckedTable, log: LogSummary) -> dict[int, Counts]:
    """Return how many rows each sequence wrote at most, by the rule that its commit states.

    Sequences that were applied by another rule than the newest (`history_for` was changed) are left out.
    """
    as_rows = {e.sequence or 0: {name: getattr(e, name) or 0 for name in _CHANGE_TYPES} for e in table.accepted}
    rules = {sequence: commits[-1].metadata.get("rule") for sequence, commits in log.applied.items()}
    if table.config.scd == 1 and any(entry.keeps_missing for entry in table.accepted):
        # Of these the change sets tell, and those that were dropped are left out.
        by_change_set = {entry.sequence or 0 for entry in table.accepted if entry.keeps_missing}
        return {s: n for s, n in as_rows.items() if s not in by_change_set} | expected_row_writes(table)
    if table.config.scd == 1 or table.config.feed or not any(rules.values()):
        return as_rows
    as_windows, erased = expected_writes(table), _erased_counts(table)
    for sequence, writes in as_windows.items():  # counted from the change sets as they are now
        as_windows[sequence] = {n: count + erased.get(sequence, {}).get(n, 0) for n, count in writes.items()}
    by_newest_rule = {s: as_windows[s] for s, rule in rules.items() if rule == log.scd2_rule and s in as_windows}
    return by_newest_rule | {s: as_rows[s] for s, rule in rules.items() if rule is None and s in as_rows}


# --- I7 ---------------------------------------------------------------------------------------------------------


def _check_one_commit_each(claim: Claim, table: CheckedTable, history: DeltaHistory, log: LogSummary) -> Check:
    if not log.sequences:
        return claim.not_checkable(log.incomplete_reason or history.unreadable_reason)
    first = min(log.sequences) if history.version.commits[-1].version else 0  # the log has no commits before it
    changing = {entry.sequence or 0: entry for entry in table.accepted if has_commit(entry)}
    replaced = {entry.sequence for entry in table.history.replaced}  # applied, and applied again by a later one
    due = [s for s in changing if first <= s <= log.sequences[0] and s not in table.unverifiable_sequences]
    faults = [
        f"sequence {sequence} in versions {format_ranges([commit.version for commit in commits])}"
        for sequence, commits in log.applied.items()
        if len(commits) > 1
    ]
    faults += [
        f"sequence {s}, which changed nothing by the ledger" for s in log.applied.keys() - changing.keys() - replaced
    ]
    if not faults and log.incomplete_reason:
        return claim.not_checkable(log.incomplete_reason)
    missing = [sequence for sequence in due if sequence not in log.applied]
    faults += [f"sequence {s} in no version" for s in missing if not table.is_fully_erased(changing[s])]
    if faults:
        return claim.fails("; ".join(faults[:_MAX_FAULTS]))
    return claim.holds(f"sequences {format_ranges(due)}")


def check_no_rewrite(
    name: str, history: DeltaHistory, versions: set[int], columns: list[str], values: Iterable[Column] = ()
) -> Check:
    """Check that no commit removed a row and added an equal one, as an update or as a delete and an insert.

    Args:
        name: The table or model.
        history: Its Delta table.
        versions: The versions of this project's commits; those of other writers are not checked.
        columns: The columns in which a rewritten row would be equal.
        values: Further values in which it would be.
    """
    claim = Claim("I7", "no equal row rewritten", name)
    if not versions:
        return claim.not_checkable(history.unreadable_reason)
    replaced = versions & history.replaced_versions
    versions = versions - replaced
    also = f"; version {format_ranges(sorted(replaced))} replaced all rows, by other columns" if replaced else ""
    if versions <= {0} and not has_gap(history.version):
        return claim.holds(f"nothing else was written since version 0{also}" if replaced else _NOTHING_WRITTEN)
    if not versions:
        return claim.not_checkable(history.unreadable_reason)
    newest = max(versions)

    def find_rewritten(start: int) -> Check:
        images = history.read_images(start).where(F.col("_commit_version").isin(versions))
        row = [F.col("_commit_version"), *map(quoted_column, columns), *values]
        is_before = delta.is_before_image()
        before, after = F.count_if(is_before).alias("_cdc_before"), F.count_if(~is_before).alias("_cdc_after")
        grouped = images.groupBy(*row).agg(before, after)
        is_rewritten = (F.col("_cdc_before") > 0) & (F.col("_cdc_after") > 0)
        written, rewritten = grouped.agg(F.sum("_cdc_after"), F.count_if(is_rewritten)).collect()[0]
        if not rewritten:
            return claim.holds(f"{counted(written or 0, 'row')} written since version {start}{also}")
        rows = grouped.where(is_rewritten).select("_commit_version", to_json(columns)).limit(_MAX_EXAMPLES).collect()
        examples = "; ".join(f"version {version}: {text}" for version, text in rows)
        return claim.fails(f"{counted(rewritten, 'row was', 'rows were')} rewritten without a change; {examples}")

    return history.read_from_earliest(newest, find_rewritten) or claim.not_checkable(_unreadable_reason(newest))
