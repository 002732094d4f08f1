"""Defines the summary of a bronze table's log: the commits that applied change sets, and the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.lake.cdc import REPAIR_REASON_KEY, REPLAYS_KEY, SEQUENCES_KEY
from lakehouse.storage.delta_log import Commit, TableVersion


@dataclass(frozen=True)
class LogSummary:
    """The commits of a bronze table's log, by their effect.

    Attributes:
        sequences: The sequences in the metadata of this project's commits, newest first.
        applied: The commits that applied a change set, by sequence.
        repairs: This project's commits that made the table equal to the ledger instead of applying a change set.
        foreign: Commits of other writers that may have changed rows.
        scd2_rule: The rule by which the newest commit keeps the history (scd 2).
        has_gap: Whether a commit is missing between others.
        numbered_again: Commits that applied change sets whose sequences stand for others by now.
    """

    sequences: list[int]
    applied: dict[int, list[Commit]]
    repairs: list[Commit]
    foreign: list[Commit]
    scd2_rule: str | None
    has_gap: bool
    numbered_again: list[Commit]

    @property
    def applied_versions(self) -> set[int]:
        """The versions that applied one change set each."""
        commits = (commit for commits in self.applied.values() for commit in commits)
        return {commit.version for commit in commits if SEQUENCES_KEY not in commit.metadata}

    @property
    def incomplete_reason(self) -> str:
        """The reason why the log does not account for every change, or an empty text."""
        foreign = [f"version {c.version} ({c.operation}) is of another writer" for c in self.foreign]
        repairs = [f"version {c.version} repaired the whole table" for c in self.repairs]
        numbered = [f"version {c.version} has another numbering" for c in self.numbered_again[:1]]
        gap = ["a commit is missing between others"] if self.has_gap else []
        return " and ".join([*foreign, *repairs, *numbered, *gap])


def summarize_log(version: TableVersion, replay_starts: Sequence[int] = ()) -> LogSummary:
    """Return the summary of a bronze table's log.

    A commit of this project with a sequence applied a change set, unless it states a repair or, since it is not a
    MERGE, replaced the table. If its sequence was numbered again since, bronze has been compared with all change sets.

    Args:
        version: The table's current version, with its log.
        replay_starts: The sequences from which on all were numbered again (`LedgerHistory.replay_starts`).
    """
    applied: dict[int, list[Commit]] = {}
    repairs, foreign, numbered_again = list[Commit](), list[Commit](), list[Commit]()
    for commit in reversed(version.commits):
        if "forgot" in commit.metadata and "sequence" in commit.metadata:
            continue  # rows were erased on request: no change set states that
        if not commit.changes_rows and SEQUENCES_KEY not in commit.metadata:
            continue
        if "sequence" not in commit.metadata:
            foreign.append(commit)
        elif _is_numbered_again(commit, replay_starts):
            numbered_again.append(commit)
        elif REPAIR_REASON_KEY in commit.metadata or (commit.version and commit.operation != "MERGE"):
            repairs.append(commit)
        else:
            for sequence in commit.metadata.get(SEQUENCES_KEY, [commit.metadata["sequence"]]):
                applied.setdefault(sequence, []).append(commit)
    own = [commit for commit in version.commits if "sequence" in commit.metadata]
    stated = [commit.metadata for commit in own if not _is_numbered_again(commit, replay_starts)]
    rule = stated[0].get("rule") if stated else None
    sequences = [metadata["sequence"] for metadata in stated]
    return LogSummary(sequences, applied, repairs, foreign, rule, has_gap(version), numbered_again)


def _is_numbered_again(commit: Commit, replay_starts: Sequence[int]) -> bool:
    """Return whether the sequence of a commit stands for another change set by now."""
    since = replay_starts[commit.metadata.get(REPLAYS_KEY, 0) :]
    return "sequence" in commit.metadata and any(commit.metadata["sequence"] >= start for start in since)


def has_gap(version: TableVersion) -> bool:
    """Return whether a commit is missing between others in a log: its changes are unknown."""
    return version.has_missing_commits_since(version.commits[-1].version - 1)
