"""Slices on real Delta: random snapshots of some slices give what the model of the contract gives, at every time."""

from __future__ import annotations

import gzip
import os
import random
import zipfile
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import Project, Row, nonzero_counts
from reference_model import Columns, Content, Key, Record, SnapshotResult, State, Timeline

SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same snapshots
SNAPSHOTS = 24 if SEED else 7
UFS = ("SP", "RJ", "MG")
START = datetime(2025, 1, 1, tzinfo=timezone.utc)
TABLE: dict[str, Any] = {
    "format": "csv",
    "schema": "id STRING, qty INT, uf STRING",
    "keys": ["id"],
    "slice_by": ["uf"],
    "duplicates": "quarantine",
    "guard": {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1},
}
TABLES = {
    "named": TABLE | {"file": "named_{uf}.csv"},
    "rows": TABLE | {"file": "rows.csv"},
    "past": TABLE | {"file": "past_{uf}.csv", "scd": 2},
}


def _random_lines(rng: random.Random) -> list[tuple[str | None, str | None, str]]:
    """Return rows of some slices (id, uf, qty) as texts; few of them have a fault."""
    ufs = rng.sample(UFS, rng.randint(1, 2))
    lines: list[tuple[str | None, str | None, str]] = []
    for key in rng.sample(range(12), rng.randint(0, 9)):
        uf = None if rng.random() < 0.06 else rng.choice(ufs)
        lines.append((str(key), uf, "x" if rng.random() < 0.06 else str(rng.randint(0, 2))))
    if lines and rng.random() < 0.3:
        lines.append((*lines[0][:2], rng.choice(["0", lines[0][2]])))  # the key again
    if rng.random() < 0.1:
        lines.append((None, rng.choice(ufs), "1"))
    return lines


def _record(line: tuple[str | None, str | None, str]) -> Record:
    key: Key | None = (int(line[0]),) if line[0] else None
    content: Content | None = (line[1], int(line[2])) if line[2] != "x" else None
    return Record(key, content)


def _write(
    project: Project, stamp: str, name: str, lines: list[tuple[str | None, str | None, str]], ufs: set[str]
) -> None:
    if name == "rows":
        text = "".join(f"{key or ''},{uf or ''},{qty}\n" for key, uf, qty in lines)
        project.snapshot(stamp, rows=f"id,uf,qty\n{text}")
        return
    for uf in ufs:
        text = "".join(f"{key or ''},{qty}\n" for key, of, qty in lines if of == uf)
        project.snapshot(stamp, **{f"{name}_{uf}": f"id,qty\n{text}"})


@pytest.mark.timeout(900)  # many snapshots: minutes, where the machine has other things to do
@pytest.mark.usefixtures("spark")
def test_snapshots_of_slices_give_what_the_model_gives_at_every_time(tmp_path: Path) -> None:
    rng = random.Random(f"slices {SEED}")
    columns = Columns(("uf", "qty"), slice_by=("uf",))
    timelines = {name: Timeline(columns, {"uf", "qty"}) for name in TABLES}
    results: dict[str, list[SnapshotResult]] = {name: [] for name in TABLES}
    states: dict[str, list[State]] = {name: [] for name in TABLES}
    projects = [
        Project(tmp_path / "driver", {name: dict(table) for name, table in TABLES.items()}),
        Project(
            tmp_path / "spark",
            {name: dict(table) for name, table in TABLES.items()},
            tuning={"driver_compare_bytes": 0},
        ),
    ]
    times = [START + timedelta(days=day) for day in range(SNAPSHOTS)]
    for time in times:
        stamp, lines = time.strftime("%Y%m%d_%H%M%S"), _random_lines(rng)
        for name, timeline in timelines.items():
            is_named = name != "rows"
            written = [line for line in lines if line[1]] if is_named else lines
            ufs = {line[1] for line in written if line[1]} | ({rng.choice(UFS)} if is_named else set())
            for project in projects:
                _write(project, stamp, name, written, ufs)
            in_names: list[Content] = [(uf,) for uf in ufs] if is_named else []
            results[name].append(timeline.take_snapshot(time, [_record(line) for line in written], in_names))
            states[name].append(timeline.state)

    for project in projects:
        assert project.run().code == 0
        for name, timeline in timelines.items():
            for entry, result in zip(project.ledger(name), results[name], strict=True):
                if entry["status"] == "unchanged":  # by chance, the same bytes
                    assert result.diff.changes == []
                    continue
                assert (entry["status"], nonzero_counts(entry)) == ("accepted", dict(result.diff.counts)), (name, entry)
            assert _current(project, name) == timeline.state
            for at in rng.sample(range(SNAPSHOTS - 1), 3 if SEED else 1):
                query = f"SELECT id, uf, qty FROM bronze.{name}"
                found = project("sql", query, "--at", times[at].isoformat()).document["rows"]
                assert _state(found) == states[name][at], (name, at)
        checks = project("verify").document["checks"]
        assert [check for check in checks if check["result"] == "failed"] == []
        assert sum(check["what"].startswith("each slice") and check["result"] == "holds" for check in checks) == len(
            TABLES
        )
    assert [[row["slices"] for row in project.ledger(name)] for name in TABLES for project in projects[:1]] == [
        [row["slices"] for row in projects[1].ledger(name)] for name in TABLES
    ]


def _current(project: Project, name: str) -> State:
    rows = project.rows_with_cdc(f"bronze/{name}")
    return _state([row for row in rows if row.get("__END_AT") is None])


def _state(rows: list[Row]) -> State:
    return {(int(row["id"]),): (row["uf"], row["qty"]) for row in rows}


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("spark")
def test_each_kind_of_file_has_the_columns_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "k" * 32)
    project = Project(
        tmp_path,
        {
            "zipped": TABLE | {"file": "zipped_{uf}.zip"},
            "gzipped": TABLE | {"file": "{uf}/gzipped.csv.gz"},
            "hashed": TABLE | {"file": "hashed_{uf}.csv", "pii": {"uf": "hmac"}},
            "lines": TABLE | {"file": "lines_{uf}.json", "format": "json"},
            "parts": TABLE
            | {"file": "parts_{day}_*.parquet", "format": "parquet", "slice_by": ["day"]}
            | {"schema": "id STRING, qty INT, day DATE", "keys": ["id", "day"]},
        },
    )
    for stamp, ufs in (("20250101_000000", ("SP", "RJ")), ("20250102_000000", ("SP",))):
        folder = project.snapshot(stamp)
        for n, uf in enumerate(ufs):
            rows = f"id,qty\n{uf}{stamp[7]},1\n"
            with zipfile.ZipFile(folder / f"zipped_{uf}.zip", "w") as archive:
                archive.writestr("inner.csv", rows)
            (folder / uf).mkdir()
            (folder / uf / "gzipped.csv.gz").write_bytes(gzip.compress(rows.encode()))
            (folder / f"hashed_{uf}.csv").write_text(rows)
            (folder / f"lines_{uf}.json").write_text(
                f'{{"id": "{uf}{stamp[7]}", "qty": 1}}\n{{"id": "x", "qty": 1.5 }}\n'
            )
            part = pl.DataFrame({"id": [f"{uf}{stamp[7]}"], "qty": [1]})
            part.write_parquet(folder / f"parts_2025-01-0{n + 1}_0.parquet")
    assert project.run().code == 0

    expected = [{"id": "RJ1", "qty": 1, "uf": "RJ"}, {"id": "SP2", "qty": 1, "uf": "SP"}]
    for name in ("zipped", "gzipped", "lines"):
        assert project.rows(f"bronze/{name}") == expected, name
    assert [row["id"] for row in project.rows("bronze/hashed")] == ["RJ1", "SP2"]
    hashed = {row["uf"] for row in project.rows("bronze/hashed")}
    assert {len(each) for each in hashed} == {64}
    assert all(
        slices.count('"uf"') == n and "SP" not in slices
        for n, slices in zip((2, 1), _slices(project, "hashed"), strict=True)
    )
    assert project.rows("bronze/parts") == [
        {"id": "RJ1", "qty": 1, "day": date(2025, 1, 2)},
        {"id": "SP2", "qty": 1, "day": date(2025, 1, 1)},
    ]
    assert _slices(project, "parts") == ['[{"day":"2025-01-01"},{"day":"2025-01-02"}]', '[{"day":"2025-01-01"}]']
    waiting = project("quarantine", "lines").document["rows"]
    assert sorted((row["row"], row["line"]) for row in waiting) == [
        ('{"id": "x", "qty": 1.5,"uf":"RJ"}', 2),
        ('{"id": "x", "qty": 1.5,"uf":"SP"}', 2),
    ]
    checks = project("verify", "zipped", "gzipped", "hashed").document["checks"]
    assert {c["result"] for c in checks if c["what"].startswith("each slice")} == {"holds"}


def _slices(project: Project, table: str) -> list[str]:
    return [row["slices"] for row in project.ledger(table)]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("spark")
def test_a_key_that_is_partly_in_a_name_is_forgotten_in_landing_and_in_the_slices(tmp_path: Path) -> None:
    people = TABLE | {"file": "people_{uf}.csv", "keys": ["uf", "id"], "slice_by": ["uf", "id"]}
    project = Project(tmp_path, {"people": people})
    for stamp in ("20250101_000000", "20250102_000000"):
        project.snapshot(stamp, people_SP="id,qty\nana,1\nbob,2\nana,1,2\n", people_RJ=f"id,qty\nana,{stamp[7]}\n")
    assert project.run().code == 0

    assert project("forget", "people", "uf=SP,id=ana").code == 0
    landed = sorted((file.name, file.read_text()) for file in project.lake.glob("landing/people/*/*.csv"))
    of_rj = [("people_RJ.csv", f"id,qty\nana,{day}\n") for day in (1, 2)]
    assert landed == [*of_rj, *[("people_SP.csv", "id,qty\nbob,2\n")] * 2]
    remaining = '[{"uf":"RJ","id":"ana"},{"uf":"SP","id":"bob"}]'
    assert _slices(project, "people") == [remaining, remaining]
    assert [row["id"] for row in project.rows("bronze/people")] == ["ana", "bob"]
    project.snapshot("20250103_000000", people_SP="id,qty\nana,1\nbob,3\n")
    assert project.run().code == 0
    assert project.rows("bronze/people") == [{"id": "ana", "qty": 2, "uf": "RJ"}, {"id": "bob", "qty": 3, "uf": "SP"}]
    checks = project("verify").document["checks"]
    assert [check for check in checks if check["result"] == "failed"] == []
