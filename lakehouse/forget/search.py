"""Finds a data subject's rows in the layers that are not computed by models, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from lakehouse.errors import DataRefused
from lakehouse.forget.data_subject import DataSubject
from lakehouse.forget.landing import SnapshotRecords, find_in_snapshot, is_subject_absent
from lakehouse.forget.tables import SubjectOperations, find_in_bronze, find_in_change_set, find_in_quarantine
from lakehouse.lake import change_sets, ledger
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.table_ref import TableRef
from lakehouse.runner import records
from lakehouse.runner.context import Run
from lakehouse.storage import landing
from lakehouse.storage.file_io import StorePath

ROW_LAYERS = ("landing", "raw", "quarantine", "bronze")
_MIN_WORD_CHARS = 6  # a shorter key, such as 7, is a word of many texts that do not mean it


@dataclass
class FoundRows:
    """The rows and texts of a data subject in the lake.

    Attributes:
        rows: How many rows there are, by layer; of landing, how many records; of `ledger` and `runs`, how many texts
            name the key.
        snapshots: The records of the landed snapshots that have some.
        change_sets: The rows of the change sets that have some.
        quarantined: The keys of the rows in quarantine; None if there is no quarantine.
        unreadable_files: Landed snapshots that may have the data subject, and why they cannot be read.
        is_still_in_source: Whether the newest snapshot has the data subject, so that the source has not erased it yet.
        is_word: Whether the key is long enough to mean the data subject where a text names it.
    """

    rows: dict[str, int] = field(default_factory=dict)
    snapshots: list[SnapshotRecords] = field(default_factory=list)
    change_sets: dict[StorePath, SubjectOperations] = field(default_factory=dict)
    quarantined: CachedRows | None = None
    unreadable_files: list[str] = field(default_factory=list)
    is_still_in_source: bool = False
    is_word: bool = False

    @property
    def is_known(self) -> bool:
        """Whether there is something to erase, or a file that cannot be read may have it."""
        has_rows = any(count for layer, count in self.rows.items() if layer in ROW_LAYERS or self.is_word)
        return has_rows or bool(self.unreadable_files)


def find_rows(run: Run, table: TableRef, subject: DataSubject) -> FoundRows:
    """Return the rows and texts of a data subject in the lake.

    Args:
        run: The command.
        table: The table.
        subject: The data subject.

    Raises:
        ConfigError: `pii` was changed since the last change set was written: the stored key cannot be compared.
    """
    lake, name = run.lake, table.name
    history = ledger.read_histories(table.spark, lake, [name])[name]
    if history.last_accepted:
        change_sets.delivered_columns(table, history.last_accepted)
    found = FoundRows(is_word=all(len(text) >= _MIN_WORD_CHARS for text in subject.key_texts.values()))
    _search_landing(run, table, subject, found)
    by_folder = {f: find_in_change_set(table, f, subject) for f in change_sets.table_folders(lake, name)}
    found.change_sets = {folder: operations for folder, operations in by_folder.items() if operations}
    found.rows["raw"] = sum(len(rows) for operations in by_folder.values() for rows in operations.values())
    found.quarantined = find_in_quarantine(table, run.pipeline.timezone, subject)
    found.rows["quarantine"] = _count(found.quarantined)
    found.rows["bronze"] = _count(find_in_bronze(table, subject))
    found.rows["ledger"] = len(ledger.find_reasons(table.spark, lake, name, subject.mask_in))
    found.rows["runs"] = len(records.find_texts(lake, subject.mask_in))
    return found


def _search_landing(run: Run, table: TableRef, subject: DataSubject, found: FoundRows) -> None:
    found.rows["landing"] = 0
    for snapshot in landing.list_snapshots(run.lake, table.name):
        found.is_still_in_source = False
        if snapshot.expired:
            continue
        try:
            records = find_in_snapshot(table, snapshot, run.pipeline.timezone, subject)
        except DataRefused as refused:
            if not is_subject_absent(table.config, snapshot, subject):
                found.unreadable_files.append(f"{snapshot.folder}: {refused.found}")
            continue
        found.rows["landing"] += records.count
        found.is_still_in_source = bool(records.count)
        found.snapshots += [records] if records.count else []


def _count(keys: CachedRows | None) -> int:
    return keys.local_rows.num_rows if keys and keys.local_rows is not None else 0
