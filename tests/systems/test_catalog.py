"""A lake in a catalog: tables by name, files in a volume.

The catalog is Spark's own with Delta's in front of it, and the volume is a folder. This was not run on Unity Catalog.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import loyalty_oracle
import polars as pl
import pytest
import yaml
from helpers import Result, lakehouse
from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "samples" / "loyalty"
SECOND = SAMPLES / "20251004_095645"
LAYERS = ("bronze", "silver", "gold")


@dataclass
class Loyalty:
    """The pipeline of this repository with another `lake`; the catalog's schemas are in the folder `tables`."""

    folder: Path
    spark: SparkSession

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOYALTY_SOURCE", str(SAMPLES))
            return lakehouse(verb, str(self.folder / "loyalty"), *arguments)

    def names(self, layer: str) -> list[str]:
        return [row.tableName for row in self.spark.sql(f"SHOW TABLES IN spark_catalog.loyalty_{layer}").collect()]

    def rows(self, layer: str, name: str, columns: tuple[str, ...]) -> list[loyalty_oracle.Row]:
        table = pl.read_delta(str(self.folder / "tables" / layer / name))
        return loyalty_oracle.sort_rows(table.select(columns).rows())

    def versions(self) -> dict[str, int]:
        logs = (self.folder / "tables").glob("*/*/_delta_log")
        return {str(log.parent): len(list(log.glob("*.json"))) for log in logs}


@pytest.fixture(scope="module")
def loyalty(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loyalty]:
    """Run both snapshots through every layer."""
    folder = tmp_path_factory.mktemp("catalog")
    shutil.copytree(REPOSITORY / "conf/loyalty", folder / "loyalty")
    file = folder / "loyalty/pipeline.yml"
    pipeline = yaml.safe_load(file.read_text(encoding="utf-8"))
    pipeline["lake"] = {"catalog": "spark_catalog", "volume": str(folder / "volume")}
    pipeline["gold"] = {name: pipeline["gold"][name] for name in ("resumo_diario", "churn")}  # the others take too long
    file.write_text(yaml.safe_dump(pipeline, allow_unicode=True), encoding="utf-8")
    for layer in LAYERS:
        spark.sql(f"CREATE SCHEMA spark_catalog.loyalty_{layer} LOCATION '{folder}/tables/{layer}'")
    project = Loyalty(folder, spark)
    done = project("run")
    assert done.code == 0, done.document
    yield project
    for layer in LAYERS:
        spark.sql(f"DROP SCHEMA spark_catalog.loyalty_{layer} CASCADE")


def test_tables_have_names_in_three_schemas_and_files_are_in_the_volume(loyalty: Loyalty) -> None:
    assert set(loyalty.names("bronze")) == {*loyalty_oracle.KEYS, "_ledger", "_quality"}
    assert set(loyalty.names("silver")) == set(loyalty_oracle.KEYS)
    assert set(loyalty.names("gold")) == {"resumo_diario", "churn"}
    assert {path.name for path in (loyalty.folder / "volume").iterdir()} == {"landing", "raw", "_state"}
    assert {path.name for path in (loyalty.folder / "volume/raw").iterdir()} == {"full-load", "cdc"}


def test_tables_match_the_files_and_verify_passes(loyalty: Loyalty) -> None:
    assert loyalty.rows("gold", "resumo_diario", loyalty_oracle.RESUMO_DIARIO) == loyalty_oracle.resumo_diario(SECOND)
    assert loyalty.rows("gold", "churn", loyalty_oracle.CHURN) == loyalty_oracle.churn(SECOND)

    verified = loyalty("verify")

    assert verified.code == 0, verified.document
    assert {check["result"] for check in verified.document["checks"]} == {"holds"}
    status = loyalty("status").document
    assert (status["lake"], status["catalog"]) == (str(loyalty.folder / "volume"), "spark_catalog.loyalty")
    assert {row["place"] for row in status["storage"]} == {"landing", "full-load", "change sets", "bronze"}


def test_a_run_without_new_snapshots_writes_nothing_and_a_data_subject_can_be_forgotten(loyalty: Loyalty) -> None:
    before = loyalty.versions()
    assert loyalty("run").code == 0
    assert loyalty.versions() == before

    (key, *_), *_ = loyalty.rows("bronze", "clientes", ("idCliente",))
    forgot = loyalty("forget", "clientes", key)

    assert forgot.code == 0, forgot.document
    assert forgot.document["erased"]["bronze"] == forgot.document["models"]["silver.clientes"] == 1
    assert all(key != row[0] for row in loyalty.rows("silver", "clientes", ("id_cliente",)))
    assert [table["old_files"] is not None for table in forgot.document["left"]]
