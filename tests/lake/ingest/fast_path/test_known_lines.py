"""The fast path finds what the ordinary one finds: the same snapshots, at random, through two lakes."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ITEMS, Project, Row, nonzero_counts

from lakehouse.config import Guard
from lakehouse.ingest import context, decide, guards
from lakehouse.ingest.fast_path import known_lines
from lakehouse.lake.ledger import LedgerEntry

pytestmark = pytest.mark.usefixtures("spark")

SNAPSHOTS = 6
HEADER = "id,qty,note"
NEVER = 1 << 60


def snapshots(seed: int) -> Iterator[str]:
    """A table that changes a little from one to the next, and is wrong here and there."""
    rng = random.Random(seed)
    rows = {f"k{n}": f"{rng.randrange(5)},n{rng.randrange(3)}" for n in range(40)}
    for number in range(SNAPSHOTS):
        for key in rng.sample(sorted(rows), 3):
            del rows[key]
        rows |= {key: f"{rng.randrange(5)},n{rng.randrange(3)}" for key in rng.sample(sorted(rows), 4)}
        rows |= {f"k{rng.randrange(50)}": f"{rng.randrange(5)},n{rng.randrange(3)}" for _ in range(3)}
        text = [f"{key},{value}" for key, value in rows.items()]
        if number % 4 != 3:  # now and then a snapshot without any fault
            text += rng.choices([rng.choice(text), ",1,x", "", "   ", "k1,one,x", "k2,1", "k3,1,x,y", "new,?,x"], k=2)
        if rng.random() < 0.3:
            text.append(f"k{rng.randrange(50)},9,other")  # a second row for a key
        if rng.random() < 0.5:  # else as the last one had them
            rng.shuffle(text)
        yield "\n".join([HEADER, *text]) + "\n"


class Taken(list[bool]):
    """Whether the fast path was taken, for each snapshot that could be taken."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    asked, original = Taken(), guards.apply_guards

    def judged(base: LedgerEntry, found: context.Comparison, guard: Guard | None) -> LedgerEntry:
        asked.append(found.changes is not None)
        return original(base, found, guard)

    monkeypatch.setattr(decide, "apply_guards", judged)
    return asked


def told(project: Project) -> list[Row]:
    """All that a table's history says, without what differs from run to run."""
    apart = {"run_id", "recorded_at", "fingerprint", "path", "reason"}
    entries = project.ledger()
    return [
        {k: v for k, v in entry.items() if k not in apart}
        | {"changes": project.change_set(entry) if entry["path"] else None}
        for entry in entries
    ]


@pytest.mark.parametrize(("duplicates", "seed"), [("quarantine", 1), ("latest", 2)])
def test_both_paths_find_the_same_in_random_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Taken, duplicates: str, seed: int
) -> None:
    guard = {"guard": {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}}
    policy = {"duplicates": duplicates, "updated_at": "qty"} if duplicates == "latest" else {"duplicates": duplicates}
    made = [Project(tmp_path / name, {"items": {**ITEMS, **guard, **policy}}) for name in ("fast", "ordinary")]
    for number, text in enumerate(snapshots(seed)):
        for project in made:
            project.snapshot(f"20250101_{number:06d}", items=text)
    for project, least in zip(made, (0, NEVER), strict=True):
        monkeypatch.setattr(known_lines, "MIN_BYTES", least)
        taken.clear()
        assert project("extract").code == 0
        assert project("ingest").code in (0, 4, 5)  # a key without its row may hold, a tie may reject
        assert project("bronze").code == 0
        assert sum(taken) >= SNAPSHOTS / 3 if least == 0 else not any(taken), taken

    fast, ordinary = made
    for one, other in zip(told(fast), told(ordinary), strict=True):
        assert one == other
    assert fast.rows("bronze/items") == ordinary.rows("bronze/items")
    assert fast.quarantine() == ordinary.quarantine()


def test_a_file_of_the_same_lines_in_another_order_is_known_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Taken
) -> None:
    monkeypatch.setattr(known_lines, "MIN_BYTES", 0)
    project = Project(tmp_path)
    project.snapshot("20250101_000000", items="id,qty,note\na,1,x\nb,2,y\n")
    project.snapshot("20250102_000000", items="id,qty,note\nb,2,y\na,1,x\n")
    assert project.run().code == 0
    assert taken == [False, True]
    assert nonzero_counts(project.ledger()[-1]) == {"rows_read": 2, "unchanged": 2}

    # By another configuration, another header or with quotes a line is another row: the ordinary path.
    project.snapshot("20250103_000000", items="id,note,qty\nb,y,2\na,x,1\n")
    project.snapshot("20250104_000000", items='id,note,qty\nb,y,2\na,"x",1\n')
    project.snapshot("20250105_000000", items="id,note,qty\nb,y,2\na,x,1\n")
    assert project.run().code == 0
    assert taken[2:] == [False, False, False]
    project.configure(ignore=["note"])
    project.snapshot("20250106_000000", items="id,note,qty\nb,z,2\na,x,1\n")
    assert project.run().code == 0
    assert taken[5:] == [False]
    assert [nonzero_counts(e) for e in project.ledger()[2:]] == [{"rows_read": 2, "unchanged": 2}] * 4


def test_a_second_line_for_the_key_of_a_known_one_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Taken
) -> None:
    monkeypatch.setattr(known_lines, "MIN_BYTES", 0)
    project = Project(tmp_path)
    project.snapshot("20250101_000000", items="id,qty,note\na,1,x\nb,2,y\n")
    project.snapshot("20250102_000000", items="id,qty,note\na,1,x\nb,2,y\na,2,x\n")  # not an update of a
    project.snapshot("20250103_000000", items="id,qty,note\na,1,x\nb,2,y\nb,2,y\n")  # a known line, twice
    project.snapshot("20250104_000000", items="id,qty,note\na,1,x\nid,qty,note\nb,2,y\n")  # the header, as a row
    assert project("extract").code == 0
    assert project("ingest").code == 5
    assert not any(taken)
    assert project.statuses() == ["accepted", "rejected", "accepted", "accepted"]
    assert nonzero_counts(project.ledger()[2]) == {"rows_read": 3, "unchanged": 2, "duplicates": 1}
    assert nonzero_counts(project.ledger()[3]) == {"rows_read": 3, "unchanged": 2, "quarantined": 1}


def test_what_is_known_of_another_snapshot_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Taken
) -> None:
    """The last accepted file and, since it had a fault, the note of it: cut short, gone, or of another run."""
    monkeypatch.setattr(known_lines, "MIN_BYTES", 0)
    project = Project(tmp_path)

    def ingested(number: int) -> bool:
        project.snapshot(f"2025010{number}_000000", items=f"id,qty,note\na,{number},x\nb,2,y\nc,?,z\n")
        assert project("extract").code == project("ingest").code == project("bronze").code == 0
        assert project.rows("bronze/items")[0]["qty"] == number
        return taken[-1]

    note = project.lake / "_state" / "lines" / "items" / "of.json"
    assert [ingested(1), ingested(2)] == [False, True]
    note.write_text(note.read_text().replace("[", "[7,", 1))
    assert not ingested(3)
    note.write_text("not JSON")
    assert not ingested(4)
    shutil.rmtree(note.parent)  # somebody tidied up
    assert not ingested(5)
    before = project.lake / "landing" / "items" / "20250105_000000"
    (before / "items.csv").write_text("id,qty,note\na,5,x\n")
    assert [ingested(6), ingested(7)] == [False, True]
    assert {row["first_sequence"] for row in project.quarantine()} == {1}


def test_rows_that_ignored_columns_have_left_behind_are_those_of_bronze(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Taken
) -> None:
    monkeypatch.setattr(known_lines, "MIN_BYTES", 0)
    project = Project(tmp_path, {"items": {**ITEMS, "ignore": ["note"], "guard": {"max_deleted": 1}}})
    same = "".join(f"s{n},0,s\n" for n in range(4))
    for day, rows in enumerate(("a,1,x\nb,2,y\n", "a,1,other\nb,2,other\n", "a,3,third\n"), start=1):
        project.snapshot(f"2025010{day}_000000", items=f"id,qty,note\n{same}{rows}")
    assert project.run().code == 0
    assert taken == [False, True, True]
    assert nonzero_counts(project.ledger()[1]) == {"rows_read": 6, "unchanged": 6}
    changes = {row["id"]: row for row in project.change_set(project.ledger()[2])}
    assert (changes["a"]["_cdc_operation"], changes["a"]["qty"], changes["a"]["note"]) == ("U", 3, "third")
    assert sorted(changes["a"]["_cdc_changed"]) == ["note", "qty"]
    assert (changes["b"]["_cdc_operation"], changes["b"]["note"]) == ("D", "y")  # as bronze had it


def test_packed_files_are_held_against_each_other_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Taken
) -> None:
    monkeypatch.setattr(known_lines, "MIN_BYTES", 0)
    project = Project(tmp_path, {"items": {**ITEMS, "file": "items.csv.gz"}})
    for day, rows in enumerate(("a,1,x\nb,2,y\n", "a,1,x\nb,3,y\nc,1,z\n"), start=1):
        folder = project.snapshot(f"2025010{day}_000000")
        (folder / "items.csv.gz").write_bytes(gzip.compress(f"id,qty,note\n{rows}".encode()))
    assert project.run().code == 0
    assert taken == [False, True]
    assert nonzero_counts(project.ledger()[1]) == {"rows_read": 3, "unchanged": 1, "updated": 1, "inserted": 1}
    assert not any((project.lake / "_state" / "plain").iterdir())
