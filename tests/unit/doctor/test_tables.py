"""The checks of Delta tables on their files, written by delta-rs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from lakehouse.doctor import tables
from lakehouse.doctor.finding import Finding
from lakehouse.storage import delta_damage, delta_log
from lakehouse.storage.paths import Lake

ROWS = pa.table({"id": ["a", "b"]})


def write(lake: Lake, name: str, commits: int, **metadata: object) -> Path:
    folder = Path(lake.root, *name.split("."))
    text = {"userMetadata": json.dumps({"lakehouse": metadata})} if metadata else {}
    for _ in range(commits):
        write_deltalake(str(folder), ROWS, mode="append", commit_properties=CommitProperties(custom_metadata=text))
    return folder


def log(folder: Path, version: int, kind: str = "json") -> Path:
    found = delta_log.log_file(folder / "_delta_log", version, kind)
    assert isinstance(found, Path)
    return found


def check(lake: Lake) -> list[Finding]:
    return list(tables.check_tables(lake))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


Damage = Callable[[Path], object]
# What is damaged in a table of twelve commits with a checkpoint at version 10: the result, the text, is there a repair.
LOG_DAMAGE: dict[str, tuple[Damage, str, str, bool]] = {
    "nothing": (lambda folder: None, "ok", "version 11, 12 files", False),
    "a needed commit": (lambda f: log(f, 11).write_text("{"), "wrong", "commit 11 of its log cannot be read", True),
    "an empty commit": (lambda f: log(f, 11).write_text(""), "wrong", "commit 11 of its log cannot be read", True),
    "an old commit": (lambda f: log(f, 5).unlink(), "warning", "commit 5 of its log is missing", False),
    "the checkpoint": (
        lambda f: cut(log(f, 10, "checkpoint.parquet")),
        "warning",
        "the checkpoint of version 10 cannot be read",
        True,
    ),
    "the pointer": (
        lambda f: (f / "_delta_log/_last_checkpoint").write_text("{"),
        "warning",
        "its _last_checkpoint names no checkpoint",
        True,
    ),
    "checkpoint and an old commit": (
        lambda f: (cut(log(f, 10, "checkpoint.parquet")), log(f, 5).unlink()),
        "wrong",
        "commit 5 of its log is missing; the checkpoint of version 10 cannot be read: the table",
        True,
    ),
}


@pytest.fixture(scope="module")
def table_of_twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    folder = write(lake, "bronze.items", 11)
    DeltaTable(str(folder)).create_checkpoint()
    write(lake, "bronze.items", 1)
    assert log(folder, 10, "checkpoint.parquet").exists()
    return folder


@pytest.mark.parametrize("case", LOG_DAMAGE)
def test_a_damaged_log_is_found_and_repaired_if_nothing_is_lost(lake: Lake, table_of_twelve: Path, case: str) -> None:
    damage, result, found, has_repair = LOG_DAMAGE[case]
    folder = Path(lake.root, "bronze/items")
    shutil.copytree(table_of_twelve, folder)
    damage(folder)
    finding = check(lake)[0]
    assert (finding.of, finding.result, int(finding.code)) == ("bronze.items", result, 5 if result == "wrong" else 0)
    assert found in finding.found
    for each in check(lake):
        if each.repair:
            assert has_repair
            each.repair()
    if result == "wrong":  # moved away, so that the next run computes it again
        assert check(lake) == []
        assert len(list(Path(lake.root, "_state/damaged").glob("bronze.items_*/_delta_log"))) == 1
    elif has_repair:
        assert [each.result for each in check(lake)] == ["ok"]
        assert DeltaTable(str(folder)).version() == 11
    else:
        assert (finding.repair is not None) == has_repair


@pytest.mark.parametrize("name", ["raw.ledger", "quarantine.items", "forgotten"])
def test_a_table_that_no_layer_has_again_is_left_as_it_is(lake: Lake, name: str) -> None:
    folder = write(lake, name, 2)
    log(folder, 1).write_text("")
    (finding,) = check(lake)
    assert (finding.result, int(finding.code), finding.repair) == ("wrong", 5, None)
    expected = {"raw.ledger": "ingest PIPELINE --full", "quarantine.items": "ingest PIPELINE items --full"}
    assert expected.get(name, "restore") in finding.next_step


def test_lost_files_are_left_out_of_a_table_that_the_next_run_writes_again(lake: Lake) -> None:
    folder = write(lake, "silver.items", 3)
    first, second, third = DeltaTable(str(folder)).file_uris()
    Path(first.removeprefix("file://")).unlink()
    cut(Path(second.removeprefix("file://")))
    (finding,) = check(lake)
    assert (finding.result, int(finding.code)) == ("wrong", 5)
    assert "2 data files of version 2 missing or cut" in finding.found
    assert finding.repair is not None
    finding.repair()
    assert [each.result for each in check(lake)] == ["ok"]
    assert DeltaTable(str(folder)).file_uris() == [third]
    assert DeltaTable(str(folder)).to_pyarrow_table().num_rows == 2
    current = tables.delta_log.newest_version(folder)
    commits = delta_log.CommitLog(folder / "_delta_log", current)
    assert commits[0].operation == delta_damage.OPERATION
    assert commits[0].changes_rows  # so that its stage compares it with the layer before


def test_a_model_whose_input_was_replaced_or_lost_its_changes_is_refreshed_in_full(lake: Lake) -> None:
    source = write(lake, "bronze.items", 2)
    add_checksum(source)
    table_id = str(DeltaTable(str(source)).metadata().id)
    model = write(lake, "silver.items", 1, inputs={"bronze.items": {"id": table_id, "version": 0}})
    add_checksum(model)
    assert {finding.result for finding in check(lake)} == {"ok"}

    added = Path(DeltaTable(str(source)).file_uris()[0].removeprefix("file://"))
    kept = added.rename(added.with_suffix(".kept"))
    assert reason(lake) == "has lost the changes since version 0"
    kept.rename(added)
    gap = log(source, 1).rename(source / "kept.json")
    write_log(source, 2)
    assert reason(lake) == "has a gap in its log after version 0"
    gap.rename(log(source, 1))
    shutil.rmtree(source)
    assert reason(lake) == "is missing"
    add_checksum(write(lake, "bronze.items", 2))
    assert reason(lake) == "was replaced"


def reason(lake: Lake) -> str:
    """Return what `silver.items` is told about its input; other tables may be damaged too."""
    found = [each.found for each in check(lake) if each.of == "silver.items" and each.result == "warning"]
    (text,) = found
    return text.removeprefix("bronze.items, which it reads, ").removesuffix(": the next run refreshes it in full")


def write_log(folder: Path, version: int) -> None:
    """Write one more commit, without rows, with its checksum."""
    log(folder, version).write_text(json.dumps({"commitInfo": {"operation": "WRITE"}}))
    log(folder, version, "crc").write_text(log(folder, version - 1, "crc").read_text())


def add_checksum(folder: Path) -> None:
    table = DeltaTable(str(folder))
    content = {"metadata": {"id": table.metadata().id}, "tableSizeBytes": 1}
    log(folder, table.version(), "crc").write_text(json.dumps(content))
