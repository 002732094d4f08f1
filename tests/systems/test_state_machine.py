"""Any sequence of snapshots, late batches, interruptions and damage ends, after a run, where plain Python ends.

After each run: every table has the rows of tests/shop_reference.py, `lakehouse verify` finds nothing wrong (I1 to I5,
I7), and one more run writes nothing. `make test-random SEQUENCES=200` draws sequences; a failure prints its steps, and
becomes a named test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from break_off import STEPS, break_off
from helpers import Project, Result
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from pyspark.sql import SparkSession
from shop_reference import Event, Folder, Reference

from lakehouse.storage import lock, small_files
from lakehouse.storage.paths import Lake

SEQUENCES, SEED = int(os.environ.get("LAKEHOUSE_SEQUENCES", "0")), os.environ.get("LAKEHOUSE_SEED")
STEP_COUNT = int(os.environ.get("LAKEHOUSE_STEPS", "12"))
COMPUTED = ("bronze/items", "bronze/events", "silver/items", "silver/many", "silver/events", "gold/notes")
FOREIGN = {  # by table: what somebody else may do to it
    "bronze/items": ("UPDATE {} SET qty = qty + 100", "DELETE FROM {} WHERE id < 'c'"),
    "bronze/events": ("DELETE FROM {}", "UPDATE {} SET value = 7"),
    "silver/items": ("DELETE FROM {} WHERE note = 'x'", "INSERT INTO {} VALUES ('zz', 1, 'x')"),
    "gold/notes": ("UPDATE {} SET qty = 0", "DELETE FROM {}"),
}
FEED = {"sequence_by": ["seq"], "delete_when": "op = 'D'", "drop": ["op", "seq"], "tombstones": "forever"}
TABLES: dict[str, dict[str, Any]] = {
    "items": {
        "file": "items.csv",
        "format": "csv",
        "schema": "id STRING, qty INT, note STRING",
        "keys": ["id"],
        "guard": {"min_rows": 0, "max_deleted": 1},
    },
    "events": {
        "file": "events.csv",
        "format": "csv",
        "schema": "id STRING, op STRING, seq INT, value INT",
        "keys": ["id"],
        "feed": FEED,
    },
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]}),
    "silver.many": ("SELECT i.id AS id, i.qty AS qty FROM silver.items AS i WHERE i.qty > 4", {"keys": ["id"]}),
    "silver.events": ("SELECT e.id AS id, e.value AS value FROM bronze.events AS e", {"keys": ["id"]}),
    "gold.notes": ("SELECT i.note AS note, SUM(i.qty) AS qty FROM silver.items AS i GROUP BY i.note", {}),
}
TUNINGS: tuple[dict[str, int] | None, ...] = (None, {"stream_from_bytes": 0, "full_refresh_below_bytes": 0})

KEYS, NOTES = st.sampled_from("abcdef"), st.sampled_from("xy")
EDITS = st.lists(st.tuples(KEYS, st.none() | st.tuples(st.integers(0, 9), NOTES, st.integers(0, 9))), max_size=4)
EVENTS = st.lists(st.tuples(KEYS, st.integers(1, 999), st.none() | st.integers(0, 9)), max_size=3)


@contextmanager
def clock_set_back(days: int) -> Iterator[None]:
    """Let the product see an earlier time than there is."""

    class Meta(type):
        def __instancecheck__(cls, other: object) -> bool:
            return isinstance(other, datetime)

    class Earlier(datetime, metaclass=Meta):
        def __new__(cls, *args: Any, **named: Any) -> Any:
            return datetime(*args, **named)

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) - timedelta(days=days)

    import sys

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("lakehouse.") and getattr(module, "datetime", None) is datetime:
                patch.setattr(module, "datetime", Earlier)
        yield


def write_folder(project: Project, folder: Folder) -> None:
    """Deliver a folder of the reference."""
    header = "id,qty,note,extra\n" if folder.has_extra else "id,qty,note\n"
    lines = [
        f"{key},{qty},{note}" + (f",{'' if extra is None else extra}" if folder.has_extra else "") + "\n"
        for key, (qty, note, extra) in folder.items
    ]
    operations = [f"{e.key},{'D' if e.value is None else 'U'},{e.sequence},{e.value or 0}\n" for e in folder.events]
    events = "id,op,seq,value\n" + "".join(operations)
    project.snapshot(folder.time, items=header + "".join(lines), events=events)


def new_project(folder: Path) -> tuple[Project, Reference]:
    """Return a project with one snapshot in every layer, and its reference."""
    project = Project(folder, {name: dict(table) for name, table in TABLES.items()}, dict(MODELS))
    items = tuple((key, (number, "xy"[number % 2], None)) for number, key in enumerate("abcde", 3))
    reference = Reference([Folder("20250101_000000", items, (Event("a", 500, 1), Event("b", 501, 2)), False)])
    write_folder(project, reference.pending[0])
    assert project.run().code == 0
    reference.run()
    return project, reference


class Lives(RuleBasedStateMachine):
    """A shop that lives through anything; class attributes are set by the test."""

    spark: SparkSession
    template: Path
    root: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(dir=self.root))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        self.project, self.reference = self._open(), Reference()
        self.reference.items = {key: (number, "xy"[number % 2], None) for number, key in enumerate("abcde", 3)}
        self.reference.events = [Event("a", 500, 1), Event("b", 501, 2)]
        self.reference.newest = "20250101_000000"
        self.rows = dict(self.reference.items)  # of the source
        self.sequences, self.days, self.late = {500, 501}, 1, 0
        self.readable = dict.fromkeys(COMPUTED, 0)  # the oldest version that VACUUM has left

    def _open(self, tuning: dict[str, int] | None = None) -> Project:
        return Project(self.folder, {n: dict(t) for n, t in TABLES.items()}, dict(MODELS), tuning=tuning)

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- the source ---

    @initialize(tuning=st.sampled_from(TUNINGS))
    def choose_tuning(self, tuning: dict[str, int] | None) -> None:
        self.project = self._open(tuning)

    @rule(edits=EDITS, events=EVENTS)
    def new_snapshot(self, edits: list[Any], events: list[Any]) -> None:
        for key, row in edits:
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        self.days += 1
        self._deliver((datetime(2025, 1, 1) + timedelta(days=self.days)).strftime("%Y%m%d_000000"), events)

    @rule(events=EVENTS)
    def late_batch(self, events: list[Any]) -> None:
        """Deliver a batch with an older time; the items beside it are late."""
        self.late += 1
        self._deliver((datetime(2025, 1, 1) - timedelta(days=self.late)).strftime("%Y%m%d_000000"), events)

    def _deliver(self, time: str, drawn: list[Any]) -> None:
        events = []
        for key, sequence, value in drawn:
            if sequence not in self.sequences:
                self.sequences.add(sequence)
                events.append(Event(key, sequence, value))
        folder = Folder(time, tuple(sorted(self.rows.items())), tuple(events), self.reference.has_extra)
        write_folder(self.project, folder)
        self.reference.pending.append(folder)

    @precondition(lambda self: not self.reference.has_extra)
    @rule()
    def add_column(self) -> None:
        self.reference.has_extra = True
        self.project.configure(schema="id STRING, qty INT, note STRING, extra INT")

    # --- commands ---

    @rule()
    def run(self) -> None:
        """Run, and compare everything."""
        done = self.project.run()
        assert done.code == 0, done.document
        self.reference.run()
        actual = {table: self._rows(table) for table in COMPUTED}
        assert actual == self.reference.tables()
        failed = [check for check in self.project("verify").document["checks"] if check["result"] == "failed"]
        assert failed == []
        before = self.project.versions()
        again = self.project.run()
        assert (again.code, again.document["nothing_new"]) == (0, True), again.document
        assert self.project.versions() == before

    def _rows(self, table: str) -> list[dict[str, Any]]:
        rows = self.project.rows(table)
        return sorted(
            ({name: value for name, value in row.items() if name != "_feed_sequence"} for row in rows),
            key=lambda row: str(next(iter(row.values()))),
        )

    @rule(step=st.sampled_from(sorted(STEPS)), is_before=st.booleans(), at=st.integers(1, 3))
    def break_off(self, step: str, is_before: bool, at: int) -> None:
        done: list[Result] = []
        if not break_off(lambda: done.append(self.project.run()), step, is_before, at):
            assert done[0].code == 0, done[0].document
            self.reference.run()

    @rule()
    def two_runs_at_once(self) -> None:
        before = self.project.versions()
        with lock.lock_lake(Lake.from_root(self.project.root), "the first", "run"):
            assert self.project.run().code == 6
        assert self.project.versions() == before

    @rule(days=st.integers(1, 40))
    def run_with_the_clock_set_back(self, days: int) -> None:
        with clock_set_back(days):
            done = self.project.run()
        assert done.code == 0, done.document
        self.reference.run()

    # --- what others do ---

    @rule(number=st.integers(0, 999))
    def delete_state(self, number: int) -> None:
        """Delete a file below `_state`, or a checkpoint of a stream."""
        state = self.project.lake / "_state"
        paths = [*(path for path in sorted(state.rglob("*")) if path.is_file()), *state.glob("bronze/*/checkpoint")]
        if not paths:
            return
        path = paths[number % len(paths)]
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    @rule(table=st.sampled_from(COMPUTED), number=st.integers(0, 999))
    def restore(self, table: str, number: int) -> None:
        newest, oldest = self._version(table), self.readable[table]
        if newest <= oldest:
            return
        self._sql(f"RESTORE TABLE {{}} TO VERSION AS OF {oldest + number % (newest - oldest)}", table)

    @rule(table=st.sampled_from(COMPUTED))
    def vacuum(self, table: str) -> None:
        if self._version(table) < 0:
            return
        self._sql("VACUUM {} RETAIN 0 HOURS", table)
        self.readable[table] = self._version(table)

    @rule(table=st.sampled_from(COMPUTED))
    def optimize(self, table: str) -> None:
        if self._version(table) < 0:
            return
        self._sql("OPTIMIZE {}", table)

    @rule(table=st.sampled_from(COMPUTED))
    def drop(self, table: str) -> None:
        shutil.rmtree(self.project.lake / table, ignore_errors=True)
        self.readable[table] = 0

    @rule(table=st.sampled_from(sorted(FOREIGN)), number=st.integers(0, 1))
    def foreign_commit(self, table: str, number: int) -> None:
        if self._version(table) < 0:
            return
        self._sql(FOREIGN[table][number], table)

    @rule(table=st.sampled_from(COMPUTED), number=st.integers(0, 99))
    def lose_file(self, table: str, number: int) -> None:
        """Delete a data file, which may be one of the newest version: no run reads gold, so `doctor` has to find it."""
        files = sorted((self.project.lake / table).glob("*.parquet"))
        if not files:
            return
        files[number % len(files)].unlink()
        fixed = self.project("doctor", "--fix")
        assert fixed.code == 0, fixed.document
        self.readable[table] = self._version(table)  # what RESTORE needs may be gone

    def _version(self, table: str) -> int:
        return self.project.versions().get(table, -1)

    def _sql(self, statement: str, table: str) -> None:
        own = self.spark.newSession()
        own.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
        own.sql(statement.format(f"delta.`{self.project.lake / table}`"))


@pytest.mark.skipif(not SEQUENCES, reason="make test-random draws sequences")
@pytest.mark.timeout(0)
def test_any_sequence_ends_where_plain_python_ends(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sequences").mkdir()
    monkeypatch.setattr(small_files, "MANY", 5)
    new_project(tmp_path / "template")
    monkeypatch.setattr(Lives, "spark", spark, raising=False)
    monkeypatch.setattr(Lives, "template", tmp_path / "template", raising=False)
    monkeypatch.setattr(Lives, "root", tmp_path / "sequences", raising=False)
    drawn = settings(
        max_examples=SEQUENCES,
        stateful_step_count=STEP_COUNT,
        deadline=None,
        database=None,
        derandomize=SEED is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    machine = seed(int(SEED))(Lives) if SEED else Lives
    run_state_machine_as_test(machine, settings=drawn)
