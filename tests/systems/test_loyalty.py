"""Compares the loyalty pipeline from end to end with an oracle that shares only the CSV files with it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loyalty_oracle
import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder
from helpers import copy_pipeline, nonzero_counts
from loyalty_project import (
    PIPELINE,
    SAMPLES,
    SECOND,
    TABLES,
    THIRD,
    Loyalty,
    assert_changes,
    assert_gold,
    assert_silver,
)
from peers import gauges
from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("spark")


@contextmanager
def counted_work(spark: SparkSession) -> Iterator[dict[str, int]]:
    """Count what Spark executes in a block, as bench/loyalty.py does: executions, jobs, stages and tasks."""
    work, before = dict[str, int](), gauges.spark_work(spark)
    yield work
    work |= gauges.spark_work(spark).counts_since(before)


# --- the bundled samples ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Loyalty:
    folder = tmp_path_factory.mktemp("first")
    (folder / "source").mkdir()
    with counted_work(spark) as work:
        loyalty = Loyalty(folder / "loyalty", folder / "source").take_snapshot(SAMPLES / "20251003_170552")
    loyalty.work = work
    return loyalty


@pytest.fixture(scope="module")
def second(spark: SparkSession, first: Loyalty, tmp_path_factory: pytest.TempPathFactory) -> Loyalty:
    with counted_work(spark) as work:
        second = first.copy(tmp_path_factory.mktemp("second")).take_snapshot(SAMPLES / SECOND)
    second.work = work
    return second


@pytest.fixture(scope="module")
def third(second: Loyalty, tmp_path_factory: pytest.TempPathFactory) -> Loyalty:
    folder = tmp_path_factory.mktemp("third")
    third = second.copy(folder)
    # Refresh incrementally, although models as small as these are cheaper to refresh in full.
    third.pipeline = copy_pipeline(PIPELINE, folder / "pipeline", full_refresh_below_bytes=0)
    return third.take_snapshot(derived(SAMPLES / SECOND, folder / "derived" / THIRD))


def test_the_first_snapshot_is_a_full_load_of_every_table(first: Loyalty) -> None:
    for table in TABLES:
        (entry,) = first.ledger(table)
        rows = len((SAMPLES / "20251003_170552" / f"{table}.csv").read_text(encoding="utf-8").splitlines()) - 1
        assert (entry["status"], entry["sequence"], entry["kind"]) == ("accepted", 1, "full-load")
        assert entry["path"] == f"raw/full-load/{table}.parquet"
        assert nonzero_counts(entry) == {"rows_read": rows, "inserted": rows}
    assert_silver(first, SAMPLES / "20251003_170552")
    assert_gold(first, SAMPLES / "20251003_170552")


def test_the_second_snapshot_changes_exactly_the_keys_that_differ(second: Loyalty) -> None:
    assert_changes(second, SAMPLES / "20251003_170552", SAMPLES / SECOND)
    entry = second.ledger("clientes")[-1]
    assert entry["path"] == f"raw/cdc/clientes_{SECOND}.parquet"
    assert {(row["_cdc_sequence"], row["_cdc_timestamp"]) for row in second.change_set(entry)} == {
        (2, entry["snapshot_time"])
    }


def test_the_second_snapshot_updates_silver_and_gold_to_the_last_digit(second: Loyalty) -> None:
    assert second.last_run is not None
    assert second.last_run.statuses("silver") == {
        "silver.clientes": "row-wise",
        "silver.produtos": "current",
        "silver.transacoes": "row-wise",
        "silver.transacao_produto": "row-wise",
    }
    assert_silver(second, SAMPLES / SECOND)
    assert_gold(second, SAMPLES / SECOND)


def test_a_run_needs_few_executions_of_spark(first: Loyalty, second: Loyalty) -> None:
    assert first.work["executions"] <= 26, first.work
    assert second.work["executions"] <= 26, second.work


def test_deletes_reach_silver(second: Loyalty) -> None:
    for table, changes in loyalty_oracle.changes(SAMPLES / "20251003_170552", SAMPLES / SECOND).items():
        assert not changes.deleted & {row[0] for row in second.silver(table)}, table


def test_another_run_starts_no_jvm_and_writes_nothing(second: Loyalty, tmp_path: Path) -> None:
    before = second.versions()
    program = (
        "import sys; from lakehouse.cli import main; code = main(sys.argv[1:]); assert 'pyspark' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(code)", "run", str(PIPELINE)],
        env=os.environ | second.environment | {"JAVA_HOME": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stdout
    assert second.versions() == before


def test_another_run_without_the_up_to_date_mark_writes_nothing(second: Loyalty) -> None:
    before = second.versions()
    (second.lake / "_state" / "clean.json").unlink()
    done = second("run")
    assert (done.code, done.document["nothing_new"]) == (0, False)
    assert second.versions() == before
    assert second("run").document["nothing_new"]


def test_the_lake_can_be_read_with_polars_and_delta_rs(second: Loyalty) -> None:
    for table in second.versions():
        if table.startswith(("bronze/", "silver/", "gold/")):
            query = QueryBuilder().register("t", DeltaTable(str(second.lake / table)))
            counted = query.execute("SELECT count(*) AS rows FROM t").read_all()["rows"].to_pylist()
            assert counted == [pl.read_delta(str(second.lake / table)).height] != [0], table


# --- a third snapshot, with cases that the samples lack ---------------------------------------------------------------


def derived(previous: Path, folder: Path) -> Path:
    """Write the next snapshot: inconsistent lines, lines and clients with new keys, orphans, renames, deletes."""
    shutil.copytree(previous, folder)

    def clientes(rows: list[dict[str, str]]) -> None:
        rows[3]["qtdePontos"], rows[4]["flEmail"] = "-7", "1"
        rows[5]["idCliente"] = "another-key"
        rows[6]["DtAtualizacao"] = ""
        del rows[10:13]

    def produtos(rows: list[dict[str, str]]) -> None:
        rows[0]["DescNomeProduto"] = "Renamed, everywhere in gold"
        rows.append(rows.pop() | {"IdProduto": "a-slug", "DescNomeProduto": "Under another key"})

    def transacoes(rows: list[dict[str, str]]) -> None:
        rows[0]["QtdePontos"] = "1000"  # its lines still have other points
        rows[1]["DtCriacao"] = "2025-09-01 02:59:59.999"  # the evening of 31 August in Brazil
        rows[2]["IdCliente"] = rows[3]["IdCliente"]
        rows[4]["IdCliente"] = ""
        rows[5]["IdTransacao"] = "another-key"  # its lines become orphans
        del rows[20:30]

    def linhas(rows: list[dict[str, str]]) -> None:
        rows[0]["vlProduto"], rows[1]["QtdeProduto"] = "-3", "5"
        rows[2]["IdProduto"], rows[3]["IdProduto"] = "sold-without-a-row", ""
        rows[4]["idTransacaoProduto"] = "another-key"
        rows[5]["IdTransacao"] = rows[6]["IdTransacao"]
        del rows[40:50]

    edit(folder / "clientes.csv", clientes)
    edit(folder / "produtos.csv", produtos)
    edit(folder / "transacoes.csv", transacoes)
    edit(folder / "transacao_produto.csv", linhas)
    return folder


def edit(file: Path, change: Callable[[list[dict[str, str]]], None]) -> None:
    with file.open(encoding="utf-8", newline="") as source:
        rows: list[dict[str, Any]] = list(csv.DictReader(source, delimiter=";"))
    columns = list(rows[0])
    change(rows)
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, columns, delimiter=";", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_the_third_snapshot_gives_the_same_as_a_full_computation(third: Loyalty) -> None:
    snapshot = third.source / THIRD
    assert third.last_run is not None
    assert set(third.last_run.statuses("silver").values()) == {"row-wise"}
    assert third.last_run.statuses("gold") == {
        "gold.resumo_diario": "grouped",
        **dict.fromkeys(
            ["gold.resumo_28_dias", "gold.churn", "gold.ciclo_de_vida", "gold.grupos_de_valor"], "windowed"
        ),
    }
    assert_changes(third, SAMPLES / SECOND, snapshot)
    assert_silver(third, snapshot)
    assert_gold(third, snapshot)


def test_a_full_refresh_of_every_model_changes_nothing(third: Loyalty) -> None:
    before = third.write_counts()
    for layer in ("silver", "gold"):
        done = third(layer, "--full-refresh")
        assert done.code == 0, done.stderr
        for outcome in done.document["outcomes"]:
            assert (outcome["status"], sum(outcome["counts"].values())) == ("full", 0), outcome["name"]
    assert third.write_counts() == before


# --- the real ones ----------------------------------------------------------------------------------------------

REAL = os.environ.get("LAKEHOUSE_REAL_SNAPSHOTS", "")


@pytest.mark.skipif(
    not REAL,
    reason="the real snapshots must not be distributed:"
    " set LAKEHOUSE_REAL_SNAPSHOTS to a folder with 20251003_170552 and 20251004_095645",
)
def test_the_real_snapshots_pass_the_same_checks_as_the_samples(spark: SparkSession, tmp_path: Path) -> None:
    before, after = Path(REAL, "20251003_170552"), Path(REAL, SECOND)
    (tmp_path / "source").mkdir()
    loyalty = Loyalty(tmp_path / "loyalty", tmp_path / "source").take_snapshot(before)
    assert_silver(loyalty, before)
    assert_gold(loyalty, before)
    loyalty.take_snapshot(after)
    assert_changes(loyalty, before, after)
    clientes = loyalty.ledger("clientes")[-1]
    assert (clientes["inserted"], clientes["updated"], clientes["deleted"]) == (5, 6, 0)
    assert loyalty.statuses("produtos") == ["accepted", "unchanged"]
    assert_silver(loyalty, after)
    assert_gold(loyalty, after)
