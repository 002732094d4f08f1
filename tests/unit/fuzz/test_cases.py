"""The cases of `make fuzz`: drawn again by their seed, shortened to what a fault needs, and checked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from fuzz.case import Case
from fuzz.check import Fault, Hang, _Check, time_limit
from fuzz.draw import draw_case
from fuzz.shrink import shrink


def files(case: Case, folder: Path) -> dict[str, bytes]:
    case.write(folder)
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_seed_draws_the_same_case_again(tmp_path: Path) -> None:
    first, second = (draw_case("1", 5, 2) for _ in range(2))

    assert files(first, tmp_path) == files(second, tmp_path)
    assert draw_case("2", 5, 2) != first


def test_every_format_kind_of_column_and_shape_of_model_is_drawn() -> None:
    cases = [draw_case(str(seed), 12, 1) for seed in range(20)]
    tables = [table for case in cases for table in case.tables]
    sql = " ".join(model.sql for case in cases for model in case.models)

    assert {table.format for table in tables} == {"csv", "json", "parquet"}
    assert {"zip", "gz"} <= {table.file_name.rpartition(".")[2] for table in tables}
    assert len({column.kind for table in tables for column in table.columns}) > 15
    shapes = ("GROUP BY", "ROLLUP", " OVER ", "UNION", "LATERAL VIEW", "LEFT JOIN", "EXISTS", "QUALIFY", "DISTINCT")
    assert [shape for shape in shapes if shape not in sql] == []


def test_a_case_is_shortened_to_what_its_fault_needs() -> None:
    case = draw_case("1", 6, 3)
    name = next(model.name for model in case.models if model.name.startswith("gold"))
    needed = {n for n in case.needed_by(name).names() if n.startswith("bronze")}

    def fails(smaller: Case) -> bool:
        return name in smaller.names() and any(len(rows or ()) > 1 for t in smaller.tables for rows in t.snapshots)

    small = shrink(case, name, fails, seconds=60)

    assert fails(small)
    assert {n for n in small.names() if n.startswith("bronze")} == needed
    assert len(small.stamps) == 1
    assert sum(len(rows or ()) for table in small.tables for rows in table.snapshots) == 2


def test_the_rows_of_a_kept_case_are_those_of_the_case(tmp_path: Path) -> None:
    case = draw_case("3", 14, 2)
    counts = case.row_counts()

    case.write(tmp_path)

    parquet = [t for t in case.tables if t.format == "parquet" and not any(t.mutations)]
    assert parquet
    for table in parquet:
        for at, stamp in enumerate(case.stamps):
            if table.snapshots[at] is not None:
                files = (tmp_path / "snapshots" / stamp).glob(table.file_name)
                found = sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in files)
                assert found == counts[table.name, stamp]


@pytest.mark.parametrize(("read", "found"), [(3, 0), (4, 1)])
def test_a_record_that_the_ledger_does_not_account_for_is_a_fault(tmp_path: Path, read: int, found: int) -> None:
    counts = {"inserted": 1, "updated": 0, "unchanged": 0, "quarantined": 1, "duplicates": 1}
    row = {"table": "t", "status": "accepted", "rows_read": read, "snapshot_time": datetime(2025, 1, 1)} | counts
    write_deltalake(str(tmp_path / "lake/raw/ledger"), pl.DataFrame([row]).to_arrow())

    check = _Check(tmp_path, {("t", "20250101_000000"): read})
    check.check_rows()

    assert len(check.result.faults) == found


def test_a_table_that_a_reader_cannot_read_is_a_fault(tmp_path: Path) -> None:
    table = tmp_path / "lake/bronze/t"
    write_deltalake(str(table), pl.DataFrame({"id": [1, 2]}).to_arrow())
    check = _Check(tmp_path, {})
    check.check_readers()
    assert check.result.faults == []

    for file in table.glob("*.parquet"):
        file.write_bytes(b"PAR1")
    check.check_readers()

    assert {fault.kind for fault in check.result.faults} == {"reader"}


def test_a_command_without_an_end_is_stopped() -> None:
    with pytest.raises(Hang), time_limit(1):
        while True:
            pass


def test_faults_of_one_cause_have_one_signature() -> None:
    one = Fault("exit 1", "silver.s1", "silver: ValueError: invalid literal for int(): 'a' in silver.s1", "plan.py:271")
    other = replace(one, name="gold.g2", text="silver: ValueError: invalid literal for int(): 'b' in silver.s7")

    assert one.signature == other.signature
    assert one.signature != replace(one, place="plan.py:272").signature
