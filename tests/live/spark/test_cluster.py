"""The loyalty pipeline on a cluster, with its lake on S3: a standalone master with two workers from the pip package,
jobs/run.py submitted with the package as a zip. Master and workers use free ports, and end with the test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import loyalty_oracle
import polars as pl
import pytest
from s3_project import download_prefix
from servers import s3, spark_cluster
from servers.spark_cluster import LOCAL, SPARK, Cluster

REPOSITORY = Path(__file__).parents[3]
SAMPLES = REPOSITORY / "samples" / "loyalty"
VERSION = "0.0.0+zip"
LIGHT = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m -Xss4m"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with spark_cluster.start(tmp_path / "cluster") as found:
        yield found


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package as a zip, with a version that differs from the installed one's."""
    copy = tmp_path / "project" / "lakehouse"
    shutil.copytree(REPOSITORY / "lakehouse", copy, ignore=shutil.ignore_patterns("__pycache__"))
    root = copy / "__init__.py"
    root.write_text(re.sub('__version__ = "[^"]+"', f'__version__ = "{VERSION}"', root.read_text()))
    return Path(shutil.make_archive(str(tmp_path / "lakehouse"), "zip", copy.parent, "lakehouse"))


def test_the_package_finds_its_settings_and_its_code_in_a_zip(package: Path) -> None:
    program = (
        "from lakehouse.runner import up_to_date; from lakehouse.spark import session;"
        "print(session.default_settings()['spark.sql.extensions'], up_to_date._code_files())"
    )
    environment = os.environ | {"PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=package.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"io.delta.sql.DeltaSparkSessionExtension [{package!r}]"


def test_the_loyalty_pipeline_runs_on_two_workers_with_its_lake_on_s3(
    cluster: Cluster, package: Path, s3proxy: str, new_bucket: Callable[[str], str], tmp_path: Path
) -> None:
    """The server checks signatures: workers have keys in their own environment, and its address from the driver."""
    settings = {
        "spark.driver.host": LOCAL,
        "spark.driver.bindAddress": LOCAL,
        "spark.driver.memory": "1g",
        "spark.executor.memory": "1g",
        "spark.executor.cores": "1",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        "spark.driver.extraJavaOptions": LIGHT,
        "spark.executor.extraJavaOptions": LIGHT,
        "spark.ui.enabled": "false",
    }
    confs = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    job = [str(REPOSITORY / "jobs/run.py"), str(REPOSITORY / "conf/loyalty"), "--json"]
    with_ours = ["--load-spark-defaults", "--properties-file", str(REPOSITORY / "conf/spark-s3.conf")]
    with_ours += ["--py-files", str(package)]
    bucket = new_bucket(s3proxy)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"SPARK_HOME": str(SPARK), "PYSPARK_PYTHON": sys.executable}
    environment |= {"SPARK_CONF_DIR": str(REPOSITORY / "conf"), "AWS_ENDPOINT_URL": s3proxy, **s3.CREDENTIALS}
    environment |= {"LAKE_ROOT": f"s3a://{bucket}", "LOYALTY_SOURCE": str(SAMPLES)}
    command = [str(SPARK / "bin/spark-submit"), "--master", cluster.url, *with_ours, *confs, *job]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]

    document = json.loads(done.stdout)  # though spark-submit sends a job's stderr there
    assert "extract  clientes" in done.stderr
    assert {(o["stage"], o["code"]) for o in document["outcomes"]} == {
        (stage, 0) for stage in ("extract", "ingest", "bronze", "silver", "gold")
    }
    lake = tmp_path / "lake"
    download_prefix(s3proxy, bucket, "loyalty/", lake)
    newest = SAMPLES / "20251004_095645"
    for model in ("resumo_diario", "churn"):
        columns = getattr(loyalty_oracle, model.upper())
        found = loyalty_oracle.sort_rows(pl.read_delta(str(lake / "gold" / model)).select(columns).rows())
        assert found == getattr(loyalty_oracle, model)(newest), model
    (record,) = (lake / "_state/runs").glob("*.json")
    assert json.loads(record.read_text())["version"] == VERSION  # the zip's code, not the one installed here
    assert cluster.worked() == ["worker-1", "worker-2"]
