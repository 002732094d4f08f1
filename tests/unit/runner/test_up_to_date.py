"""The clean mark is valid as long as nothing that a run depends on has changed, and no longer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import lakehouse
from lakehouse.config import Pipeline, load
from lakehouse.errors import ConfigError
from lakehouse.runner import up_to_date
from lakehouse.storage.paths import Lake


class Shop:
    """A pipeline, its source, and a lake in which only the file names of the Delta logs matter."""

    def __init__(self, folder: Path, stamp: str = "") -> None:
        self.folder, self.source, self.lake = folder, folder / "source", Lake(str(folder / "lake"))
        self.env = {"SEP": ";"}
        table = {"file": "clientes.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}
        document = {
            "name": "shop",
            "lake": self.lake.root,
            "source": {"type": "files", "path": str(self.source)},
            "tables": {"clientes": table | {"options": {"sep": "${SEP}"}}},
            "silver": {"clientes": {"keys": ["id"]}},
        }
        self.put("pipeline.json", json.dumps(document))
        self.put("silver/clientes.sql", "SELECT c.id FROM bronze.clientes AS c")
        self.put("source/notes.txt")
        self.data = self.put(Path("source", stamp, "clientes.csv"), "id\n1\n")
        for table_folder in ("raw/ledger", "bronze/clientes", "silver/clientes", "quarantine/clientes"):
            self.commit(table_folder, 0)

    def put(self, path: str | Path, text: str = "") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def commit(self, table: str, version: int) -> None:
        self.put(f"lake/{table}/_delta_log/{version:020}.json")

    @property
    def pipeline(self) -> Pipeline:
        return load(self.folder / "pipeline.json", self.env)

    @property
    def is_up_to_date(self) -> bool:
        return up_to_date.is_up_to_date(self.pipeline, self.lake)

    def mark(self, meanwhile: Callable[[Shop], object] = lambda shop: None) -> None:
        before = up_to_date.read_inputs(self.pipeline, self.lake)
        meanwhile(self)
        up_to_date.write_mark(self.lake, before, self.pipeline)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def append(path: str, text: str = "\n") -> Callable[[Shop], object]:
    def change(shop: Shop) -> None:
        file = shop.folder / path
        file.write_text(file.read_text() + text)

    return change


CHANGES: dict[str, Callable[[Shop], object]] = {
    "the source's file has other bytes": append("source/clientes.csv", "2\n"),
    "the source's file has another time": lambda shop: os.utime(shop.data, (1, 1)),
    "the source's file was removed": lambda shop: shop.data.unlink(),
    "the source got its first dated folder": lambda shop: shop.put("source/20250101_000000/clientes.csv"),
    "pipeline.yml changed": append("pipeline.json"),
    "a variable in pipeline.yml changed": lambda shop: shop.env.update(SEP=","),
    "a model's SQL changed": append("silver/clientes.sql", " -- sure?"),
    "a version of a table": lambda shop: shop.commit("bronze/clientes", 1),
    "a version of the ledger": lambda shop: shop.commit("raw/ledger", 1),
    "a version of the quarantine": lambda shop: shop.commit("quarantine/clientes", 1),
    "a new table": lambda shop: shop.commit("gold/resumo", 0),
    "a table was removed": lambda shop: shutil.rmtree(shop.folder / "lake/silver/clientes"),
    "the lake was removed": lambda shop: shutil.rmtree(shop.folder / "lake"),
    "the mark was removed": lambda shop: up_to_date.remove_mark(shop.lake),
    "the mark is truncated": lambda shop: shop.put("lake/_state/clean.json", '{"source": {'),
    "the mark is too deep": lambda shop: shop.put("lake/_state/clean.json", "[" * 100_000),
    "the mark is something else": lambda shop: shop.put("lake/_state/clean.json", "[]"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_mark_is_invalid_after_a_change(shop: Shop, change: Callable[[Shop], object]) -> None:
    shop.mark()
    assert shop.is_up_to_date

    change(shop)

    assert not shop.is_up_to_date


def test_without_a_mark_a_run_is_needed(shop: Shop) -> None:
    assert not shop.is_up_to_date
    up_to_date.remove_mark(shop.lake)  # a missing mark is no error


@pytest.mark.parametrize(
    "change",
    [
        append("source/notes.txt"),
        lambda shop: shop.put("lake/_state/spark.log"),
        lambda shop: shop.commit("_state/checkpoint", 0),
        lambda shop: shop.put("lake/bronze/clientes/_delta_log/00000000000000000000.checkpoint.parquet"),
    ],
    ids=["another file in the source", "a log", "a table among the state", "a checkpoint of the same version"],
)
def test_changes_that_no_run_depends_on_keep_the_mark_valid(shop: Shop, change: Callable[[Shop], object]) -> None:
    shop.mark()
    change(shop)

    assert shop.is_up_to_date


@pytest.mark.parametrize("file", ["clientes.csv", ""], ids=["with the file", "without any file"])
def test_a_new_snapshot_folder_invalidates_the_mark(tmp_path: Path, file: str) -> None:
    shop = Shop(tmp_path, "20250101_000000")
    shop.mark()
    assert shop.is_up_to_date

    folder = shop.source / "20250102_000000"
    folder.mkdir()
    if file:
        (folder / file).write_text("id\n1\n")

    assert not shop.is_up_to_date


def test_another_version_of_the_code_invalidates_the_mark(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    package = shop.folder / "lakehouse"
    shutil.copytree(Path(lakehouse.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shop.mark()
    monkeypatch.setattr(lakehouse, "__file__", str(package / "__init__.py"))
    assert shop.is_up_to_date

    append("lakehouse/extract/folder.py", "# changed\n")(shop)

    assert not shop.is_up_to_date


@pytest.mark.parametrize(
    "meanwhile", [append("source/clientes.csv", "2\n"), append("silver/clientes.sql"), append("pipeline.json")]
)
def test_changes_during_the_run_leave_no_mark(shop: Shop, meanwhile: Callable[[Shop], object]) -> None:
    shop.mark(meanwhile)

    assert not shop.is_up_to_date


def test_the_runs_own_writes_are_part_of_the_mark(shop: Shop) -> None:
    shop.mark(lambda shop: shop.commit("bronze/clientes", 1))

    assert shop.is_up_to_date


def test_a_missing_source_is_an_error(shop: Shop) -> None:
    shop.mark()
    shutil.rmtree(shop.source)

    with pytest.raises(ConfigError):
        up_to_date.is_up_to_date(shop.pipeline, shop.lake)


def test_a_lake_is_up_to_date_until_the_grace_of_a_missing_key_ends(shop: Shop) -> None:
    due = datetime(2025, 1, 9, tzinfo=timezone.utc)
    before = up_to_date.read_inputs(shop.pipeline, shop.lake)

    up_to_date.write_mark(shop.lake, before, shop.pipeline, due=due)

    just_before = due - timedelta(seconds=1)
    assert up_to_date.is_up_to_date(shop.pipeline, shop.lake, just_before)
    assert not up_to_date.is_up_to_date(shop.pipeline, shop.lake, due)
    assert not shop.is_up_to_date  # by the clock, it is later
