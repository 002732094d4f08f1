"""I2, I7 and the half of I5 that stands in Delta's logs: what each commit names, and what it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.storage.delta_log import Commit, TableVersion
from lakehouse.verify.check import Check, Claim, compare_rows, format_ranges, is_gone, quoted_column, to_json
from lakehouse.verify.scd2 import expected_writes
from lakehouse.verify.second_reader import CheckedTable

_CHANGE_TYPES = {"inserted": "insert", "updated": "update_postimage", "deleted": "delete"}
_OPERATIONS = {"inserted": "I", "updated": "U", "deleted": "D"}
_MAX_FAULTS = 5

R = TypeVar("R")


@dataclass(frozen=True)
class LogSummary:
    """What the log of a bronze table tells.

    Attributes:
        named: the sequences that commits of ours name, newest first.
        applied: commits that applied a change set, by the sequence they name.
        healed: commits of ours that set the whole table right instead of applying a change set.
        foreign: commits of somebody else that may have changed rows.
        rule: by which the newest commit keeps the history (scd 2).
    """

    sequences: list[int]
    commits_by_sequence: dict[int, list[Commit]]
    repairs: tuple[Commit, ...]
    foreign_commits: tuple[Commit, ...]
    scd2_rule: str | None

    @property
    def applied_versions(self) -> list[int]:
        return [commit.version for commits in self.commits_by_sequence.values() for commit in commits]

    @property
    def incomplete_reason(self) -> str:
        """Why the log does not tell all, or nothing."""
        foreign = [f"version {c.version} ({c.operation}) is somebody else's" for c in self.foreign_commits]
        healed = [f"version {c.version} set the whole table right" for c in self.repairs]
        return " and ".join([*foreign, *healed])


def summarize_log(head: TableVersion) -> LogSummary:
    """Read the log from its oldest commit on.

    A commit of ours that says so has healed the table; one that is no MERGE has replaced it.
    """
    applied: dict[int, list[Commit]] = {}
    healed, foreign = list[Commit](), list[Commit]()
    for commit in reversed(head.commits):
        if "sequence" not in commit.metadata:
            foreign += [commit] if commit.changes_rows else []
        elif "forgot" in commit.metadata:
            continue  # rows were erased on request: no change set says so
        elif commit.changes_rows and ("healed" in commit.metadata or (commit.version and commit.operation != "MERGE")):
            healed.append(commit)
        elif commit.changes_rows:
            applied.setdefault(commit.metadata["sequence"], []).append(commit)
    named = [c.metadata["sequence"] for c in head.commits if "sequence" in c.metadata]
    rule = next((c.metadata.get("rule") for c in head.commits if "sequence" in c.metadata), None)
    return LogSummary(named, applied, tuple(healed), tuple(foreign), rule)


def bronze_checks(subject: CheckedTable, head: TableVersion) -> Iterator[Check]:
    """I2, then what the commits say of the ledger and of one another."""
    told, path = summarize_log(head), subject.lake.bronze_table(subject.name)
    yield _check_replay(Claim("I2", "bronze = its Change Data Feed, replayed", subject.name), subject, head)
    yield _check_commit_counts(Claim("I5", "Change Data Feed = the ledger", subject.name), subject, head, told)
    yield _check_one_commit_each(Claim("I7", "one commit for each sequence", subject.name), subject, head, told)
    columns = [c for c in delta.read(subject.spark, path).columns if not c.startswith("_cdc_")]
    yield check_no_rewrite(subject.spark, path, subject.name, head, set(told.applied_versions), columns)


def _check_replay(claim: Claim, subject: CheckedTable, head: TableVersion) -> Check:
    spark, path, until = subject.spark, subject.lake.bronze_table(subject.name), head.version
    if _last_write_version(head) == 0:
        return claim.holds("nothing was written since version 0")
    bronze = delta.read(spark, path, until)
    columns = [quoted_column(c) for c in bronze.columns]

    def attempt(start: int) -> Check:
        content = delta.read(spark, path, start)
        images = delta.read_change_feed(spark, path, start, until)
        is_old = delta.is_before_image()
        old, new = (images.where(which).select(*columns) for which in (is_old, ~is_old))
        wanted = new.unionByName(content, allowMissingColumns=True)
        about = f"from version {start} to {until}"
        return compare_rows(claim, wanted, bronze, ("the replay", "bronze"), about, less=old)

    return read_from_earliest(head, _last_write_version(head), attempt) or claim.not_checkable(
        _unreadable_reason(_last_write_version(head))
    )


def _check_commit_counts(claim: Claim, subject: CheckedTable, head: TableVersion, told: LogSummary) -> Check:
    spark, path = subject.spark, subject.lake.bronze_table(subject.name)

    def attempt(start: int) -> tuple[int, dict[tuple[int, str], int]]:
        counted = _row_images(spark, path, start, head).groupBy("_commit_version", "_change_type").count()
        return start, {(row[0], row[1]): row["count"] for row in counted.collect()}

    if (evidence := read_from_earliest(head, _last_write_version(head), attempt)) is None:
        return claim.not_checkable(_unreadable_reason(_last_write_version(head)))
    start, found = evidence
    wanted, forgotten = _expected_counts(subject, told), _forgotten_counts(subject)
    agreed, hidden, wrong = list[int](), list[int](), list[str]()
    for entry in filter(has_commit, subject.accepted):
        sequence = entry.sequence or 0
        commits = told.commits_by_sequence.get(sequence, [])
        if sequence in subject.unverifiable_sequences:
            continue
        if len(commits) != 1 or sequence not in wanted:
            hidden.append(sequence)
        elif (version := commits[0].version) > start or version == start == 0:
            counts = {n: found.get((version, t), 0) for n, t in _CHANGE_TYPES.items()}
            most, spare = wanted[sequence], forgotten.get(sequence, {})
            differ = [
                f"{n} {c:,}, {most[n]:,} told"
                for n, c in counts.items()
                if not most[n] - spare.get(n, 0) <= c <= most[n]
            ]
            wrong += [f"sequence {sequence}: {', '.join(differ)}"] if differ else []
            agreed += [sequence] if not differ else []
    if wrong:
        return claim.fails("; ".join(wrong[:_MAX_FAULTS]))
    if told.incomplete_reason and (hidden := [s for s in hidden if s <= max(told.sequences, default=0)]):
        return claim.not_checkable(
            f"sequences {format_ranges(hidden)} have no commit of their own: {told.incomplete_reason}"
        )
    if not agreed:
        return claim.not_checkable(_unreadable_reason(_last_write_version(head)))
    less = f"; rows were forgotten of sequences {format_ranges(list(forgotten))}" if forgotten else ""
    return claim.holds(f"sequences {format_ranges(agreed)}{less}")


def _is_fully_forgotten(subject: CheckedTable, entry: LedgerEntry) -> bool:
    """Whether every row of a change set was forgotten, so that applying it writes nothing."""
    return entry.path is not None and subject.forgotten_counts[entry.path].total() == entry.changed_rows


def _forgotten_counts(subject: CheckedTable) -> dict[int, dict[str, int]]:
    """How many rows less than at most a sequence may have written, since some were taken out of its change set: it was
    applied before that or, where bronze was built again, after it. In a history such a row may have written several."""
    found = {}
    for entry in subject.accepted:
        if entry.sequence and entry.path and (taken := subject.forgotten_counts[entry.path]):
            by_name = {name: taken[operation] for name, operation in _OPERATIONS.items()}
            found[entry.sequence] = by_name if subject.config.scd == 1 else dict.fromkeys(by_name, taken.total())
    return found


def _expected_counts(subject: CheckedTable, told: LogSummary) -> dict[int, dict[str, int]]:
    """What each sequence has to have written at most, by the rule of its commit; what was written by another rule than
    the newest (`history_for` was changed) is left out."""
    as_rows = {e.sequence or 0: {name: getattr(e, name) or 0 for name in _CHANGE_TYPES} for e in subject.accepted}
    rules = {sequence: commits[-1].metadata.get("rule") for sequence, commits in told.commits_by_sequence.items()}
    if subject.config.scd == 1 or not any(rules.values()):
        return as_rows
    as_windows, forgotten = expected_writes(subject), _forgotten_counts(subject)
    for sequence, writes in as_windows.items():  # counted from what the change sets hold now
        as_windows[sequence] = {n: count + forgotten.get(sequence, {}).get(n, 0) for n, count in writes.items()}
    newest = told.scd2_rule
    kept = {s: as_windows[s] for s, rule in rules.items() if rule == newest and s in as_windows}
    return kept | {s: as_rows[s] for s, rule in rules.items() if rule is None and s in as_rows}


# --- I7 ---------------------------------------------------------------------------------------------------------


def _check_one_commit_each(claim: Claim, subject: CheckedTable, head: TableVersion, told: LogSummary) -> Check:
    if not told.sequences:
        return claim.not_checkable(told.incomplete_reason or _unreadable_reason(_last_write_version(head)))
    first = min(told.sequences) if head.commits[-1].version else 0  # before it, the log no longer tells
    changing = [e.sequence or 0 for e in subject.accepted if has_commit(e)]
    due = [s for s in changing if first <= s <= told.sequences[0] and s not in subject.unverifiable_sequences]
    twice = {s: commits for s, commits in told.commits_by_sequence.items() if len(commits) > 1}
    wrong = [f"sequence {s} in versions {format_ranges([c.version for c in cs])}" for s, cs in twice.items()]
    wrong += [
        f"sequence {s}, which the ledger says changed nothing" for s in told.commits_by_sequence.keys() - set(changing)
    ]
    if not wrong and told.incomplete_reason:
        return claim.not_checkable(told.incomplete_reason)
    missing = [s for s in due if s not in told.commits_by_sequence]
    emptied = {e.sequence for e in subject.accepted if e.sequence in missing and _is_fully_forgotten(subject, e)}
    wrong += [f"sequence {s} in no version" for s in missing if s not in emptied]
    if wrong:
        return claim.fails("; ".join(wrong[:_MAX_FAULTS]))
    return claim.holds(f"sequences {format_ranges(due)}")


def check_no_rewrite(
    spark: SparkSession, path: str, name: str, head: TableVersion, versions: set[int], columns: list[str]
) -> Check:
    """No commit took a row out and put an equal one in, as an update or as a delete and an insert.

    Args:
        versions: of our own commits; what others write is not ours to answer for.
        columns: those in which a rewritten row would be equal.
    """
    claim = Claim("I7", "no equal row rewritten", name)
    if versions <= {0}:
        made = "nothing was written since version 0"
        return claim.holds(made) if versions else claim.not_checkable(_unreadable_reason(_last_write_version(head)))

    def attempt(start: int) -> Check:
        images = _row_images(spark, path, start, head).where(F.col("_commit_version").isin(versions))
        row = [F.col("_commit_version"), *map(quoted_column, columns)]
        is_old = delta.is_before_image()
        grouped = images.groupBy(*row).agg(F.count_if(is_old).alias("_cdc_old"), F.count_if(~is_old).alias("_cdc_new"))
        equal = (F.col("_cdc_old") > 0) & (F.col("_cdc_new") > 0)
        changed, rewritten = grouped.agg(F.sum("_cdc_new"), F.count_if(equal)).collect()[0]
        if not rewritten:
            return claim.holds(f"{changed or 0:,} rows written since version {start}")
        examples = grouped.where(equal).select("_commit_version", to_json(columns)).limit(3).collect()
        told = "; ".join(f"version {version}: {text}" for version, text in examples)
        return claim.fails(f"{rewritten:,} rows were written again as they were; {told}")

    return read_from_earliest(head, max(versions), attempt) or claim.not_checkable(_unreadable_reason(max(versions)))


# --- how far back ------------------------------------------------------------------------------------------------


def read_from_earliest(head: TableVersion, newest: int, attempt: Callable[[int], R]) -> R | None:
    """What `attempt` gives from the earliest version that can still be read, if that is before the version `newest`.

    Retention takes from the oldest end, so that version is found by halving.
    """
    oldest = head.commits[-1].version
    if oldest >= newest > 0:
        return None
    found = _attempt_or_none(attempt, oldest)
    lost, readable = oldest, newest
    if found is not None:
        return found
    while readable - lost > 1:
        middle = (lost + readable) // 2
        tried = _attempt_or_none(attempt, middle)
        if tried is None:
            lost = middle
        else:
            found, readable = tried, middle
    return found


def _attempt_or_none(attempt: Callable[[int], R], start: int) -> R | None:
    try:
        return attempt(start)
    except Exception as error:
        if is_gone(error):
            return None
        raise


def _row_images(spark: SparkSession, path: str, start: int, head: TableVersion) -> DataFrame:
    """The Change Data Feed from the content of version `start` on; the first version came from nothing."""
    return delta.read_change_feed(spark, path, start or -1, head.version)


def _last_write_version(head: TableVersion) -> int:
    return max((c.version for c in head.commits if c.changes_rows), default=head.version)


def has_commit(entry: LedgerEntry) -> bool:
    return bool(entry.changed_rows) or entry.sequence == 1


def _unreadable_reason(newest: int) -> str:
    return f"the changes up to version {newest} can no longer be read"
