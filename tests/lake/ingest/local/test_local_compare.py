"""The driver compares a snapshot as Spark does: random snapshots of every format and type, through two lakes."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ITEMS, Project, Row

from lakehouse.config import Guard
from lakehouse.ingest import Comparison, decide, guards
from lakehouse.ingest.comparison import LocalComparison
from lakehouse.lake.ledger import LedgerEntry

pytestmark = pytest.mark.usefixtures("spark")

SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same snapshots
SNAPSHOTS = 8 if SEED else 3
SPARK_ONLY = {"driver_compare_bytes": 0}
GUARD = {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}
TYPES = {
    "id": "STRING",
    "part": "INT",
    "n": "BIGINT",
    "x": "DOUBLE",
    "f": "FLOAT",
    "amount": "DECIMAL(10,2)",
    "ok": "BOOLEAN",
    "day": "DATE",
    "at": "TIMESTAMP",
    "local": "TIMESTAMP_NTZ",
    "note": "STRING",
}
NULLS = {"*": ["x", "", "nan"], "part": ["3"], "note": ["007", "two\nlines"], "amount": ["1.10"], "ok": ["true"]}
MARKED = {"after": "2 snapshots", "then": "mark"}
SHARES = {"few": 0.05, "many": 0.5, "all": 1.0}


class Uses(list[bool]):
    """Whether the driver compared, for each acceptable snapshot."""


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> Uses:
    uses, original = Uses(), guards.apply_guards

    def apply_guards(base: LedgerEntry, comparison: Comparison, guard: Guard | None) -> LedgerEntry:
        uses.append(isinstance(comparison, LocalComparison))
        return original(base, comparison, guard)

    monkeypatch.setattr(decide, "apply_guards", apply_guards)
    return uses


def random_value(rng: random.Random, data_type: str) -> Any:
    if rng.random() < 0.15:
        return None
    moment = datetime(2024, 1, 1) + timedelta(
        seconds=rng.randrange(60_000_000), microseconds=rng.choice([0, 1, 500_000])
    )
    return {
        "STRING": lambda: rng.choice(["x", "", "a,b", 'say "hi"', "é", "007", "two\nlines", " s "]),
        "INT": lambda: rng.randrange(-5, 5),
        "BIGINT": lambda: rng.choice([0, 2**62, -3]),
        "DOUBLE": lambda: rng.choice([0.0, -0.0, 1.5, 1e300, float("nan"), float("inf")]),
        "FLOAT": lambda: rng.choice([0.5, -0.0, 3.0, float("nan")]),
        "DECIMAL(10,2)": lambda: rng.choice([Decimal("1.10"), Decimal("0.00"), Decimal("-99999999.99")]),
        "BOOLEAN": lambda: rng.choice([True, False]),
        "DATE": lambda: rng.choice([moment.date(), date(1, 1, 1), date(9999, 12, 31)]),
        "TIMESTAMP": lambda: moment,
        "TIMESTAMP_NTZ": lambda: moment,
    }[data_type]()


def random_rows(rng: random.Random, share: float) -> Iterator[list[Row]]:
    """Yield the rows of snapshots of which about a share changes from one to the next."""
    rows = {(f"k{n % 7}", n): {c: random_value(rng, t) for c, t in TYPES.items()} for n in range(40)}
    for _ in range(SNAPSHOTS):
        yield [row | {"id": key[0], "part": key[1]} for key, row in rows.items()]
        for key in rng.sample(sorted(rows), max(1, int(share * 30))):
            change = rng.random()
            if change < 0.2:
                del rows[key]
            elif change < 0.9:
                column = rng.choice(sorted(TYPES))
                rows[key] = rows[key] | {column: random_value(rng, TYPES[column])}
            else:
                rows[(key[0], key[1] + 100)] = rows[key]


def as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return str(value)


def write_csv(file: Path, rows: list[Row], rng: random.Random, faulty: bool, columns: list[str]) -> None:
    lines = [",".join(as_text(row[c]) for c in columns) for row in rows]
    if faulty and lines:
        key = lines[0].split(",")[:2]
        lines += rng.sample(
            [
                lines[0],  # twice the same
                ",".join([*key, "7", *[""] * (len(columns) - 3)]),  # another row for a key
                ",".join([*key, "seven", *[""] * (len(columns) - 3)]),  # a malformed row for a key
                ",".join(['"new"', "1", "x", "1,5", *[""] * (len(columns) - 4)]),  # too many fields
                "k1",
                "," * (len(columns) - 1),  # no key
                ",".join(['"bad"', "one", *[""] * (len(columns) - 2)]),  # the key cannot be read
            ],
            k=3,
        )
    rng.shuffle(lines)
    file.write_text("\n".join([",".join(columns), *lines]) + "\n", encoding="utf-8")


def write_json(file: Path, rows: list[Row], rng: random.Random, faulty: bool, columns: list[str]) -> None:
    def member(value: Any) -> Any:
        if isinstance(value, float):
            return str(value)  # JSON has no NaN
        return value if value is None or isinstance(value, bool | int | str) else str(value)

    lines = [json.dumps({c: member(row[c]) for c in columns}, ensure_ascii=rng.random() < 0.5) for row in rows]
    lines = [line.replace('"part": ', '"extra": {"a": [1, 2.50]}, "part": ') for line in lines]
    if faulty and lines:
        good = json.loads(lines[0])
        lines += rng.sample(
            [
                lines[0],
                json.dumps(good | {"n": 1.5}),
                json.dumps(good | {"note": "other"}),
                json.dumps(good | {columns[0]: None}),
                lines[0].replace('"n":', '"N": 1, "n":'),  # a name twice
                lines[0][:-1],
                '{"id": "nan", "part": 1, "x": NaN}',
                json.dumps(good | {"note": [1, {"deep": True}]}),
            ],
            k=4,
        )
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(file: Path, rows: list[Row], _: random.Random, faulty: bool, __: list[str]) -> None:
    types = {
        "STRING": pa.string(),
        "INT": pa.int32(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "FLOAT": pa.float32(),
    }
    types |= {"DECIMAL(10,2)": pa.decimal128(10, 2), "BOOLEAN": pa.bool_(), "DATE": pa.date32()}
    types |= {"TIMESTAMP": pa.timestamp("us", tz="UTC"), "TIMESTAMP_NTZ": pa.timestamp("us")}
    rows = rows + [rows[0], rows[0] | {"note": "other"}] * faulty
    columns = {}
    for name, data_type in TYPES.items():
        values = [row[name] for row in rows]
        if data_type == "TIMESTAMP":
            values = [v and v.replace(tzinfo=timezone.utc) for v in values]
        columns[name] = pa.array(values, types[data_type])
    pq.write_table(pa.table(columns), file)


WRITERS = {"csv": write_csv, "json": write_json, "parquet": write_parquet}


def write_files(folder: Path, file: str, rows: list[Row], rng: random.Random, faulty: bool) -> None:
    """Write the rows of a snapshot: into one file, or into one for each `id`, of which some have no row."""
    write = WRITERS[file.rpartition(".")[2]]
    if "{id}" not in file:
        write(folder / file, rows, rng, faulty, list(TYPES))
        return
    for name in sorted({row["id"] for row in rows} | {"k3"}):
        of_file = [row for row in rows if row["id"] == name and name != "k5"]
        write(folder / file.replace("{id}", name), of_file, rng, faulty, [c for c in TYPES if c != "id"])


def history(project: Project) -> list[Row]:
    """Return a table's ledger and change sets, without what differs from run to run."""
    varying = {"run_id", "recorded_at", "fingerprint", "path"}
    return [
        {k: v for k, v in entry.items() if k not in varying}
        | {"reason": (entry["reason"] or "").replace(str(project.folder), "")}
        | {"changes": repr(project.change_set(entry)) if entry["path"] else None}
        for entry in project.ledger()
    ]


@pytest.mark.parametrize(
    ("file_format", "share", "settings"),
    [
        ("csv", "few", {"duplicates": "quarantine", "skip_lines": 2, "skip_footer": 1, "missing": MARKED}),
        (
            "csv",
            "many",
            {
                "duplicates": "latest",
                "updated_at": "n",
                "scd": 2,
                "null_values": NULLS,
                "missing": {"after": "2 snapshots"},
            },
        ),
        (
            "csv",
            "all",
            {"duplicates": "quarantine", "ignore": ["note", "at"], "file": "items_{id}.csv", "slice_by": ["id"]},
        ),
        (
            "json",
            "few",
            {
                "duplicates": "latest",
                "updated_at": "n",
                "slice_by": ["note", "amount"],
                "null_values": NULLS,
                "missing": MARKED,
            },
        ),
        (
            "json",
            "many",
            {
                "duplicates": "quarantine",
                "records": "data.items",
                "file": "items_{id}.json",
                "guard": GUARD | {"max_updated": 0.2, "max_inserted": 0.2},
            },
        ),
        ("parquet", "many", {"duplicates": "quarantine"}),
        ("parquet", "all", {"duplicates": "fail", "scd": 2, "slice_by": ["id"], "missing": {"after": "2 snapshots"}}),
    ],
)
def test_the_driver_and_spark_give_the_same_results_for_random_snapshots(
    tmp_path: Path, uses: Uses, file_format: str, share: str, settings: dict[str, Any]
) -> None:
    rng = random.Random(f"{SEED} {file_format} {share}")
    file = settings.get("file", f"items.{file_format}")
    schema = ", ".join(f"{name} {data_type}" for name, data_type in TYPES.items())
    table = {"file": f"items.{file_format}", "format": file_format, "schema": schema, "keys": ["id", "part"]}
    tables = {"items": {**table, "guard": GUARD, **settings}}
    driver = Project(tmp_path / "driver", tables)
    spark = Project(tmp_path / "spark", tables, tuning=SPARK_ONLY)
    for number, every_row in enumerate(random_rows(rng, SHARES[share])):
        contained = rng.sample(sorted({row["id"] for row in every_row}), 4)
        is_part = "slice_by" in settings and number > 0
        rows = [row for row in every_row if not is_part or row["id"] in contained]
        folder = driver.snapshot(f"20250101_{number:06d}")
        write_files(folder, file, rows, rng, faulty=number % 2 == 1)
        for written in folder.iterdir():
            content = written.read_text(encoding="utf-8") if file_format != "parquet" else ""
            if "skip_lines" in settings:
                written.write_text(f'A "title\n\n{content}Total,"\n\n', encoding="utf-8")
            if "records" in settings:
                lines = [line for line in content.splitlines() if line.endswith("}") and "NaN" not in line]
                document = '{"n": 1,\n"data": {"items": [' + ",\n".join([*lines, "1"]) + "]}}\n"
                written.write_text(document, encoding="utf-8")
        shutil.copytree(folder, spark.snapshot(folder.name), dirs_exist_ok=True)
    for project in (driver, spark):
        uses.clear()
        assert project("extract").code == 0
        assert project("ingest").code in (0, 4, 5)  # a key without its row may hold, a conflict may reject
        assert project("bronze").code == 0
        if project is spark:
            assert not any(uses)
        elif file_format == "parquet" and settings["duplicates"] == "quarantine":
            assert uses == [True, False, True]  # Spark writes rows of Parquet as JSON
        else:
            assert uses
            assert all(uses)

    for one, other in zip(history(driver), history(spark), strict=True):
        assert one == other
    assert repr(driver.rows_with_cdc("bronze/items")) == repr(spark.rows_with_cdc("bronze/items"))
    assert driver.quarantine() == spark.quarantine()


@pytest.mark.parametrize(
    "settings",
    [
        {"schema": "id STRING, qty INT, note ARRAY<STRING>"},
        {"pii": {"note": "mask"}},
        {"options": {"escape": "\\"}},
        {"options": {"ignoreLeadingWhiteSpace": True}},
        {"schema": "id DOUBLE, qty INT, note STRING"},
    ],
)
def test_what_the_driver_does_not_know_is_left_to_spark(tmp_path: Path, uses: Uses, settings: dict[str, Any]) -> None:
    file_format = "json" if "ARRAY" in settings.get("schema", "") else "csv"
    table = {**ITEMS, "format": file_format, "file": f"items.{file_format}", **settings}
    project = Project(tmp_path, {"items": table})
    folder = project.snapshot("20250101_000000", items="id,qty,note\n1,1,x\n")
    (folder / "items.json").write_text('{"id": "1", "qty": 1, "note": ["x"]}\n', encoding="utf-8")
    assert project.run().code == 0
    assert uses == [False]


def test_deleted_rows_of_a_large_table_are_not_compared(tmp_path: Path, uses: Uses) -> None:
    """With deletion vectors, bronze's files still have the rows that were deleted or updated."""
    project = Project(tmp_path, tuning={"large_snapshot_bytes": 0, "small_table_bytes": 0, "local_rows": 0})
    project.snapshot("20250101_000000", items="id,qty,note\n" + "".join(f"k{n},{n},x\n" for n in range(50)))
    project.snapshot("20250102_000000", items="id,qty,note\n" + "".join(f"k{n},{n * 2},x\n" for n in range(1, 50)))
    project.snapshot("20250103_000000", items="id,qty,note\n" + "".join(f"k{n},{n},x\n" for n in range(50)))
    assert project.run().code == 0
    assert uses == [True, True, True]
    counts = [(e["inserted"], e["updated"], e["deleted"], e["unchanged"]) for e in project.ledger()]
    assert counts == [(50, 0, 0, 0), (0, 49, 1, 0), (1, 49, 0, 0)]
    assert project.rows("bronze/items") == [{"id": f"k{n}", "qty": n, "note": "x"} for n in sorted(range(50), key=str)]


def test_a_path_with_pattern_characters_means_only_its_file(tmp_path: Path, uses: Uses) -> None:
    project = Project(tmp_path / "part=1" / "a[bc]*?")
    other = tmp_path / "part=1" / "abxx"
    project.snapshot("20250101_000000", items="id,qty,note\na,1,x\nb,2,y\n")
    assert project.run().code == 0
    project.copy(other).snapshot("20250102_000000", items="id,qty,note\nother,1,x\n")
    project.snapshot("20250102_000000", items="id,qty,note\na,1,x\nb,3,y\n")
    result = project.run()
    assert result.code == 0
    assert uses == [True, True]
    assert [result.outcome(stage, "items")["counts"]["updated"] for stage in ("ingest", "bronze")] == [1, 1]
