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
from lakehouse.verify.check import Check, Claim, as_json, compare, gone, numbers, quoted
from lakehouse.verify.scd2 import expected_writes
from lakehouse.verify.second_reader import Subject

_CHANGE_TYPES = {"inserted": "insert", "updated": "update_postimage", "deleted": "delete"}
_OPERATIONS = {"inserted": "I", "updated": "U", "deleted": "D"}
_SHOWN = 5

R = TypeVar("R")


@dataclass(frozen=True)
class Story:
    """What the log of a bronze table tells.

    Attributes:
        named: the sequences that commits of ours name, newest first.
        applied: commits that applied a change set, by the sequence they name.
        healed: commits of ours that set the whole table right instead of applying a change set.
        foreign: commits of somebody else that may have changed rows.
        rule: by which the newest commit keeps the history (scd 2).
    """

    named: list[int]
    applied: dict[int, list[Commit]]
    healed: tuple[Commit, ...]
    foreign: tuple[Commit, ...]
    rule: str | None

    @property
    def versions(self) -> list[int]:
        return [commit.version for commits in self.applied.values() for commit in commits]

    @property
    def by_others(self) -> str:
        """Why the log does not tell all, or nothing."""
        foreign = [f"version {c.version} ({c.operation}) is somebody else's" for c in self.foreign]
        healed = [f"version {c.version} set the whole table right" for c in self.healed]
        return " and ".join([*foreign, *healed])


def story(head: TableVersion) -> Story:
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
    return Story(named, applied, tuple(healed), tuple(foreign), rule)


def bronze_checks(subject: Subject, head: TableVersion) -> Iterator[Check]:
    """I2, then what the commits say of the ledger and of one another."""
    told, path = story(head), subject.lake.bronze_table(subject.name)
    yield _replayed(Claim("I2", "bronze = its Change Data Feed, replayed", subject.name), subject, head)
    yield _like_the_ledger(Claim("I5", "Change Data Feed = the ledger", subject.name), subject, head, told)
    yield _once_each(Claim("I7", "one commit for each sequence", subject.name), subject, head, told)
    columns = [c for c in delta.read(subject.spark, path).columns if not c.startswith("_cdc_")]
    yield nothing_rewritten(subject.spark, path, subject.name, head, set(told.versions), columns)


def _replayed(claim: Claim, subject: Subject, head: TableVersion) -> Check:
    spark, path, until = subject.spark, subject.lake.bronze_table(subject.name), head.version
    if _last_write(head) == 0:
        return claim.holds("nothing was written since version 0")
    bronze = delta.read(spark, path, until)
    columns = [quoted(c) for c in bronze.columns]

    def attempt(start: int) -> Check:
        content = delta.read(spark, path, start)
        images = delta.read_change_feed(spark, path, start, until)
        is_old = delta.is_before_image()
        old, new = (images.where(which).select(*columns) for which in (is_old, ~is_old))
        wanted = new.unionByName(content, allowMissingColumns=True)
        about = f"from version {start} to {until}"
        return compare(claim, wanted, bronze, ("the replay", "bronze"), about, less=old)

    return earliest(head, _last_write(head), attempt) or claim.not_checkable(_taken(_last_write(head)))


def _like_the_ledger(claim: Claim, subject: Subject, head: TableVersion, told: Story) -> Check:
    spark, path = subject.spark, subject.lake.bronze_table(subject.name)

    def attempt(start: int) -> tuple[int, dict[tuple[int, str], int]]:
        counted = _images(spark, path, start, head).groupBy("_commit_version", "_change_type").count()
        return start, {(row[0], row[1]): row["count"] for row in counted.collect()}

    if (evidence := earliest(head, _last_write(head), attempt)) is None:
        return claim.not_checkable(_taken(_last_write(head)))
    start, found = evidence
    wanted, forgotten = _wanted(subject, told), _forgotten(subject)
    agreed, hidden, wrong = list[int](), list[int](), list[str]()
    for entry in filter(makes_a_commit, subject.accepted):
        sequence = entry.sequence or 0
        commits = told.applied.get(sequence, [])
        if sequence in subject.untold:
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
        return claim.failed("; ".join(wrong[:_SHOWN]))
    if told.by_others and (hidden := [s for s in hidden if s <= max(told.named, default=0)]):
        return claim.not_checkable(f"sequences {numbers(hidden)} have no commit of their own: {told.by_others}")
    if not agreed:
        return claim.not_checkable(_taken(_last_write(head)))
    less = f"; rows were forgotten of sequences {numbers(list(forgotten))}" if forgotten else ""
    return claim.holds(f"sequences {numbers(agreed)}{less}")


def _is_emptied(subject: Subject, entry: LedgerEntry) -> bool:
    """Whether every row of a change set was forgotten, so that applying it writes nothing."""
    return entry.path is not None and subject.taken[entry.path].total() == entry.changed_rows


def _forgotten(subject: Subject) -> dict[int, dict[str, int]]:
    """How many rows less than at most a sequence may have written, since some were taken out of its change set: it was
    applied before that or, where bronze was built again, after it. In a history such a row may have written several."""
    found = {}
    for entry in subject.accepted:
        if entry.sequence and entry.path and (taken := subject.taken[entry.path]):
            by_name = {name: taken[operation] for name, operation in _OPERATIONS.items()}
            found[entry.sequence] = by_name if subject.table.scd == 1 else dict.fromkeys(by_name, taken.total())
    return found


def _wanted(subject: Subject, told: Story) -> dict[int, dict[str, int]]:
    """What each sequence has to have written at most, by the rule of its commit; what was written by another rule than
    the newest (`history_for` was changed) is left out."""
    as_rows = {e.sequence or 0: {name: getattr(e, name) or 0 for name in _CHANGE_TYPES} for e in subject.accepted}
    rules = {sequence: commits[-1].metadata.get("rule") for sequence, commits in told.applied.items()}
    if subject.table.scd == 1 or not any(rules.values()):
        return as_rows
    as_windows, forgotten = expected_writes(subject), _forgotten(subject)
    for sequence, writes in as_windows.items():  # counted from what the change sets hold now
        as_windows[sequence] = {n: count + forgotten.get(sequence, {}).get(n, 0) for n, count in writes.items()}
    newest = told.rule
    kept = {s: as_windows[s] for s, rule in rules.items() if rule == newest and s in as_windows}
    return kept | {s: as_rows[s] for s, rule in rules.items() if rule is None and s in as_rows}


# --- I7 ---------------------------------------------------------------------------------------------------------


def _once_each(claim: Claim, subject: Subject, head: TableVersion, told: Story) -> Check:
    if not told.named:
        return claim.not_checkable(told.by_others or _taken(_last_write(head)))
    first = min(told.named) if head.commits[-1].version else 0  # before it, the log no longer tells
    changing = [e.sequence or 0 for e in subject.accepted if makes_a_commit(e)]
    due = [s for s in changing if first <= s <= told.named[0] and s not in subject.untold]
    twice = {s: commits for s, commits in told.applied.items() if len(commits) > 1}
    wrong = [f"sequence {s} in versions {numbers([c.version for c in cs])}" for s, cs in twice.items()]
    wrong += [f"sequence {s}, which the ledger says changed nothing" for s in told.applied.keys() - set(changing)]
    if not wrong and told.by_others:
        return claim.not_checkable(told.by_others)
    missing = [s for s in due if s not in told.applied]
    emptied = {e.sequence for e in subject.accepted if e.sequence in missing and _is_emptied(subject, e)}
    wrong += [f"sequence {s} in no version" for s in missing if s not in emptied]
    if wrong:
        return claim.failed("; ".join(wrong[:_SHOWN]))
    return claim.holds(f"sequences {numbers(due)}")


def nothing_rewritten(
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
        return claim.holds(made) if versions else claim.not_checkable(_taken(_last_write(head)))

    def attempt(start: int) -> Check:
        images = _images(spark, path, start, head).where(F.col("_commit_version").isin(versions))
        row = [F.col("_commit_version"), *map(quoted, columns)]
        is_old = delta.is_before_image()
        grouped = images.groupBy(*row).agg(F.count_if(is_old).alias("_cdc_old"), F.count_if(~is_old).alias("_cdc_new"))
        equal = (F.col("_cdc_old") > 0) & (F.col("_cdc_new") > 0)
        changed, rewritten = grouped.agg(F.sum("_cdc_new"), F.count_if(equal)).collect()[0]
        if not rewritten:
            return claim.holds(f"{changed or 0:,} rows written since version {start}")
        examples = grouped.where(equal).select("_commit_version", as_json(columns)).limit(3).collect()
        told = "; ".join(f"version {version}: {text}" for version, text in examples)
        return claim.failed(f"{rewritten:,} rows were written again as they were; {told}")

    return earliest(head, max(versions), attempt) or claim.not_checkable(_taken(max(versions)))


# --- how far back ------------------------------------------------------------------------------------------------


def earliest(head: TableVersion, newest: int, attempt: Callable[[int], R]) -> R | None:
    """What `attempt` gives from the earliest version that can still be read, if that is before the version `newest`.

    Retention takes from the oldest end, so that version is found by halving.
    """
    oldest = head.commits[-1].version
    if oldest >= newest > 0:
        return None
    found = _unless_gone(attempt, oldest)
    lost, readable = oldest, newest
    if found is not None:
        return found
    while readable - lost > 1:
        middle = (lost + readable) // 2
        tried = _unless_gone(attempt, middle)
        if tried is None:
            lost = middle
        else:
            found, readable = tried, middle
    return found


def _unless_gone(attempt: Callable[[int], R], start: int) -> R | None:
    try:
        return attempt(start)
    except Exception as error:
        if gone(error):
            return None
        raise


def _images(spark: SparkSession, path: str, start: int, head: TableVersion) -> DataFrame:
    """The Change Data Feed from the content of version `start` on; the first version came from nothing."""
    return delta.read_change_feed(spark, path, start or -1, head.version)


def _last_write(head: TableVersion) -> int:
    return max((c.version for c in head.commits if c.changes_rows), default=head.version)


def makes_a_commit(entry: LedgerEntry) -> bool:
    return bool(entry.changed_rows) or entry.sequence == 1


def _taken(newest: int) -> str:
    return f"the changes up to version {newest} can no longer be read"
