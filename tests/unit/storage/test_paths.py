"""The paths and names in a lake."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import ConfigError
from lakehouse.storage.paths import Lake, snapshot_name, snapshot_time, write_json

TIME = datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc)
LAKE = Lake("lakes/shop")


# Names of snapshots


@given(
    time=st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9999, 12, 30)),
    hours=st.integers(-23, 23),
)
def test_the_name_of_a_snapshot_restores_its_time_in_utc(time: datetime, hours: int) -> None:
    aware = time.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))

    restored = snapshot_time(snapshot_name(aware))

    assert restored == aware
    assert restored.utcoffset() == timedelta(0)


@given(st.lists(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(timezone.utc)), min_size=2, max_size=5))
def test_names_sort_like_times(times: list[datetime]) -> None:
    names = [snapshot_name(time) for time in sorted(times)]

    assert names == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        "20251399_000000",
        "20250229_000000",
        "20251003_246060",
        "20251003",
        "20251003_1705",
        "20251003_1705520",
        "20251003T170552",
        "20251003-170552",
        " 20251003_170552",
        "20251003_170552\n",
        ".20251003_170552.partial",
        "latest",
        "",
    ],
)
def test_other_names_are_no_snapshots(name: str) -> None:
    assert snapshot_time(name) is None


# Layout


def test_every_part_of_a_lake_has_its_documented_path() -> None:
    assert LAKE.landing_path("clientes") == Path("lakes/shop/landing/clientes")
    assert LAKE.ledger_table == "lakes/shop/raw/ledger"
    assert LAKE.bronze_table("clientes") == "lakes/shop/bronze/clientes"
    assert [LAKE.table(f"{layer}.x") for layer in ("bronze", "silver", "gold")] == [
        "lakes/shop/bronze/x",
        "lakes/shop/silver/x",
        "lakes/shop/gold/x",
    ]
    assert LAKE.quarantine_table("clientes") == "lakes/shop/quarantine/clientes"
    assert LAKE.state_path("clean.json") == Path("lakes/shop/_state/clean.json")
    assert LAKE.spark_path("raw/full-load/clientes.parquet") == "lakes/shop/raw/full-load/clientes.parquet"


@pytest.mark.parametrize(
    ("sequence", "used_paths", "path"),
    [
        (1, set(), "raw/full-load/clientes.parquet"),
        (2, set(), "raw/cdc/clientes_20251003_170552.parquet"),
        (3, {"raw/cdc/clientes_20251003_170551.parquet"}, "raw/cdc/clientes_20251003_170552.parquet"),
        (3, {"raw/cdc/clientes_20251003_170552.parquet"}, "raw/cdc/clientes_20251003_170552_3.parquet"),
        (
            4,
            {"raw/cdc/clientes_20251003_170552.parquet", "raw/cdc/clientes_20251003_170552_3.parquet"},
            "raw/cdc/clientes_20251003_170552_4.parquet",
        ),
    ],
)
def test_a_second_change_set_of_one_second_gets_its_sequence_appended(
    sequence: int, used_paths: set[str], path: str
) -> None:
    assert LAKE.change_set_path("clientes", sequence, TIME, frozenset(used_paths)) == path


# Documents


def test_a_document_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "clean.json"
    write_json(file, {"run": 1, "name": "São"})
    write_json(file, {"run": 2})
    with pytest.raises(TypeError):
        write_json(file, {"run": 3, "more": object()})

    assert json.loads(file.read_text(encoding="utf-8")) == {"run": 2}


def test_a_lake_on_s3_has_s3_paths_and_expendable_files_on_this_machine() -> None:
    lake = Lake.from_root("s3a://bucket/some/prefix/")

    assert lake == Lake("s3a://bucket/some/prefix")
    assert lake.is_on_s3
    assert lake.bronze_table("items") == "s3a://bucket/some/prefix/bronze/items"
    assert (
        str(lake.landing_path("items") / "20251003_170552") == "s3a://bucket/some/prefix/landing/items/20251003_170552"
    )
    assert str(Lake.from_root("s3a://bucket").state_path("lock")) == "s3a://bucket/_state/lock"
    assert lake.local_path("logs").is_absolute()
    assert lake.local_path("logs") != Lake("s3a://bucket/other").local_path("logs")
    assert lake.checkpoint_path("items").startswith("file:///")


def test_a_lake_on_a_disk_has_absolute_local_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake.from_root("lake")

    assert lake == Lake(str(tmp_path / "lake"))
    assert not lake.is_on_s3
    assert lake.local_path("logs") == lake.state_path("logs") == tmp_path / "lake" / "_state" / "logs"
    assert lake.checkpoint_path("items") == str(tmp_path / "lake" / "_state" / "bronze" / "items" / "checkpoint")


@pytest.mark.parametrize(
    ("catalog", "pipeline", "table", "expected"),
    [("a.b", "shop", "items", "letters"), ("main", "my shop", "items", "letters"), ("main", "shop", "_ledger", "_")],
)
def test_impossible_and_reserved_names_in_a_catalog_are_refused(
    catalog: str, pipeline: str, table: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        Lake.in_catalog(catalog, "/Volumes/main/x/y", pipeline, [table])
    assert expected in str(refused.value.expected)
