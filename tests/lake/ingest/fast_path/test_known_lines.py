"""The line-by-line comparison gives the same results as the full one: random snapshots, through two lakes."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ITEMS, Project, Row, nonzero_counts

from lakehouse.config import Guard
from lakehouse.ingest import Comparison, decide, guards
from lakehouse.lake.ledger import LedgerEntry

pytestmark = pytest.mark.usefixtures("spark")

SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same snapshots
SNAPSHOTS = 12 if SEED else 4
HEADER = "id,qty,note"
FROM_ANY_SIZE, NEVER = {"fast_path_from_bytes": 0}, {"fast_path_from_bytes": 1 << 60}


def snapshots(seed: int) -> Iterator[str]:
    """Yield snapshots that change a little from one to the next, some of them with faulty rows."""
    rng = random.Random(f"{SEED} {seed}" if SEED else seed)
    rows = {f"k{n}": f"{rng.randrange(5)},n{rng.randrange(3)}" for n in range(40)}
    for number in range(SNAPSHOTS):
        for key in rng.sample(sorted(rows), 3):
            del rows[key]
        rows |= {key: f"{rng.randrange(5)},n{rng.randrange(3)}" for key in rng.sample(sorted(rows), 4)}
        rows |= {f"k{rng.randrange(50)}": f"{rng.randrange(5)},n{rng.randrange(3)}" for _ in range(3)}
        text = [f"{key},{value}" for key, value in rows.items()]
        if number % 4 != 3:  # some snapshots have no fault
            text += rng.choices([rng.choice(text), ",1,x", "", "   ", "k1,one,x", "k2,1", "k3,1,x,y", "new,?,x"], k=2)
        if rng.random() < 0.3:
            text.append(f"k{rng.randrange(50)},9,other")  # a second row for a key
        if rng.random() < 0.5:  # else in the order of the last one
            rng.shuffle(text)
        yield "\n".join([HEADER, *text]) + "\n"


class FastPathUse(list[bool]):
    """Whether the fast path was used, for each acceptable snapshot."""


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> FastPathUse:
    used, original = FastPathUse(), guards.apply_guards

    def apply_guards(base: LedgerEntry, comparison: Comparison, guard: Guard | None) -> LedgerEntry:
        used.append(comparison.changes is not None)
        return original(base, comparison, guard)

    monkeypatch.setattr(decide, "apply_guards", apply_guards)
    return used


def history(project: Project) -> list[Row]:
    """Return a table's ledger and change sets, without what differs from run to run."""
    varying = {"run_id", "recorded_at", "fingerprint", "path", "reason"}
    entries = project.ledger()
    return [
        {k: v for k, v in entry.items() if k not in varying}
        | {"changes": project.change_set(entry) if entry["path"] else None}
        for entry in entries
    ]


@pytest.mark.parametrize(("duplicates", "seed"), [("quarantine", 1), ("latest", 2)])
def test_both_comparisons_give_the_same_results_for_random_snapshots(
    tmp_path: Path, used: FastPathUse, duplicates: str, seed: int
) -> None:
    guard = {"guard": {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}}
    policy = {"duplicates": duplicates, "updated_at": "qty"} if duplicates == "latest" else {"duplicates": duplicates}
    tables = {"items": {**ITEMS, **guard, **policy}}
    fast = Project(tmp_path / "fast", tables, tuning=FROM_ANY_SIZE)
    full = Project(tmp_path / "full", tables, tuning=NEVER)
    for number, text in enumerate(snapshots(seed)):
        for project in (fast, full):
            project.snapshot(f"20250101_{number:06d}", items=text)
    for project in (fast, full):
        used.clear()
        assert project("extract").code == 0
        assert project("ingest").code in (0, 4, 5)  # a key without its row may hold, a tie may reject
        assert project("bronze").code == 0
        assert sum(used) >= SNAPSHOTS / 3 if project is fast else not any(used), used

    for one, other in zip(history(fast), history(full), strict=True):
        assert one == other
    assert fast.rows("bronze/items") == full.rows("bronze/items")
    assert fast.quarantine() == full.quarantine()


def test_a_file_with_the_same_lines_in_another_order_has_no_changed_lines(tmp_path: Path, used: FastPathUse) -> None:
    project = Project(tmp_path, tuning=FROM_ANY_SIZE)
    project.snapshot("20250101_000000", items="id,qty,note\na,1,x\nb,2,y\n")
    project.snapshot("20250102_000000", items="id,qty,note\nb,2,y\na,1,x\n")
    assert project.run().code == 0
    assert used == [False, True]
    assert nonzero_counts(project.ledger()[-1]) == {"rows_read": 2, "unchanged": 2}

    # With another configuration, another header or quotes, equal lines may be other rows: all rows are compared.
    project.snapshot("20250103_000000", items="id,note,qty\nb,y,2\na,x,1\n")
    project.snapshot("20250104_000000", items='id,note,qty\nb,y,2\na,"x",1\n')
    project.snapshot("20250105_000000", items="id,note,qty\nb,y,2\na,x,1\n")
    assert project.run().code == 0
    assert used[2:] == [False, False, False]
    project.configure(ignore=["note"])
    project.snapshot("20250106_000000", items="id,note,qty\nb,z,2\na,x,1\n")
    assert project.run().code == 0
    assert used[5:] == [False]
    assert [nonzero_counts(e) for e in project.ledger()[2:]] == [{"rows_read": 2, "unchanged": 2}] * 4


def test_a_second_line_for_the_key_of_an_unchanged_line_is_found(tmp_path: Path, used: FastPathUse) -> None:
    project = Project(tmp_path, tuning=FROM_ANY_SIZE)
    project.snapshot("20250101_000000", items="id,qty,note\na,1,x\nb,2,y\n")
    project.snapshot("20250102_000000", items="id,qty,note\na,1,x\nb,2,y\na,2,x\n")  # not an update of a
    project.snapshot("20250103_000000", items="id,qty,note\na,1,x\nb,2,y\nb,2,y\n")  # an unchanged line, twice
    project.snapshot("20250104_000000", items="id,qty,note\na,1,x\nid,qty,note\nb,2,y\n")  # the header, as a row
    assert project("extract").code == 0
    assert project("ingest").code == 5
    assert not any(used)
    assert project.statuses() == ["accepted", "rejected", "accepted", "accepted"]
    assert nonzero_counts(project.ledger()[2]) == {"rows_read": 3, "unchanged": 2, "duplicates": 1}
    assert nonzero_counts(project.ledger()[3]) == {"rows_read": 3, "unchanged": 2, "quarantined": 1}


def test_lines_of_another_snapshot_are_not_trusted(tmp_path: Path, used: FastPathUse) -> None:
    """The last accepted file was cut short, or its saved faulty lines are missing or of another run."""
    project = Project(tmp_path, tuning=FROM_ANY_SIZE)

    def ingest(number: int) -> bool:
        project.snapshot(f"2025010{number}_000000", items=f"id,qty,note\na,{number},x\nb,2,y\nc,?,z\n")
        assert project("extract").code == project("ingest").code == project("bronze").code == 0
        assert project.rows("bronze/items")[0]["qty"] == number
        return used[-1]

    note = project.lake / "_state" / "lines" / "items" / "of.json"
    assert [ingest(1), ingest(2)] == [False, True]
    note.write_text(note.read_text().replace("[", "[7,", 1))
    assert not ingest(3)
    note.write_text("not JSON")
    assert not ingest(4)
    shutil.rmtree(note.parent)  # somebody deleted it
    assert not ingest(5)
    before = project.lake / "landing" / "items" / "20250105_000000"
    (before / "items.csv").write_text("id,qty,note\na,5,x\n")
    assert [ingest(6), ingest(7)] == [False, True]
    assert {row["first_sequence"] for row in project.quarantine()} == {1}


def test_with_ignored_columns_the_rows_before_are_those_of_bronze(tmp_path: Path, used: FastPathUse) -> None:
    project = Project(
        tmp_path, {"items": {**ITEMS, "ignore": ["note"], "guard": {"max_deleted": 1}}}, tuning=FROM_ANY_SIZE
    )
    same = "".join(f"s{n},0,s\n" for n in range(4))
    for day, rows in enumerate(("a,1,x\nb,2,y\n", "a,1,other\nb,2,other\n", "a,3,third\n"), start=1):
        project.snapshot(f"2025010{day}_000000", items=f"id,qty,note\n{same}{rows}")
    assert project.run().code == 0
    assert used == [False, True, True]
    assert nonzero_counts(project.ledger()[1]) == {"rows_read": 6, "unchanged": 6}
    changes = {row["id"]: row for row in project.change_set(project.ledger()[2])}
    assert (changes["a"]["_cdc_operation"], changes["a"]["qty"], changes["a"]["note"]) == ("U", 3, "third")
    assert sorted(changes["a"]["_cdc_changed"]) == ["note", "qty"]
    assert (changes["b"]["_cdc_operation"], changes["b"]["note"]) == ("D", "y")  # as bronze had it


def test_packed_files_are_compared_unpacked(tmp_path: Path, used: FastPathUse) -> None:
    project = Project(tmp_path, {"items": {**ITEMS, "file": "items.csv.gz"}}, tuning=FROM_ANY_SIZE)
    for day, rows in enumerate(("a,1,x\nb,2,y\n", "a,1,x\nb,3,y\nc,1,z\n"), start=1):
        folder = project.snapshot(f"2025010{day}_000000")
        (folder / "items.csv.gz").write_bytes(gzip.compress(f"id,qty,note\n{rows}".encode()))
    assert project.run().code == 0
    assert used == [False, True]
    assert nonzero_counts(project.ledger()[1]) == {"rows_read": 3, "unchanged": 1, "updated": 1, "inserted": 1}
    assert not any((project.lake / "_state" / "plain").iterdir())
