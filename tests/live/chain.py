"""Runs PostgreSQL, Kafka, Connect and an S3 server with the shipped connector files; each part can be restarted."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import local_kafka
import psycopg
import pytest
from local_kafka import HERE
from servers import faults, postgres, s3

from lakehouse.config import Pipeline, load
from lakehouse.storage import file_io
from lakehouse.verify import s3_objects
from lakehouse.verify.s3_objects import check_s3_objects

IPCA, PRE = "dadostesouroipca_gold", "dadostesouropre_gold"
BUCKET, CDC_PASSWORD = "chain", "canary-of-the-cdc"
_TABLE = """
    CREATE TABLE {} (
        data_base date, tipo text, qtde_registros bigint, compra_manha_media numeric, venda_manha_media numeric,
        pu_compra_manha_media numeric, pu_venda_manha_media numeric, pu_base_manha_media numeric,
        percentual_diferenca_compra_venda numeric, PRIMARY KEY (data_base, tipo)
    )
"""
# Writes fail in each of these ways regularly; the sink has to retry them without a failure of its task.
FAULTS = {faults.SLOW_DOWN: 23, faults.RESET: 17, faults.LOST: 11}
Key = tuple[date, str]


AnyChain = TypeVar("AnyChain", bound="Chain")


@contextmanager
def running(chain: AnyChain) -> Iterator[AnyChain]:
    """Start the servers, set the login of S3 in the environment and write the pipeline; stop all at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_objects, "_POLL_SECONDS", 0.5)
        try:
            chain.start()
            for name, value in (s3.CREDENTIALS | {"AWS_ENDPOINT_URL": chain.s3}).items():
                patch.setenv(name, value)
            chain.write_pipeline()
            yield chain
        finally:
            chain.stop()


class Chain:
    """The servers, and a pipeline that uses them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stack = folder, ExitStack()
        self.part_stacks: dict[str, ExitStack] = {}
        self.faults = faults.Faults(FAULTS)

    def start(self, publish: Callable[[], object] | None = None) -> None:
        """Start all servers; `publish` creates the tables, else they are created empty."""
        self.database_home = self.stack.enter_context(postgres.cluster_folder())
        self.database = self.start_part("database", postgres.running_server(self.database_home))
        if publish:
            publish()
        else:
            self.database.execute(*(_TABLE.format(table) for table in (IPCA, PRE)))
        self.prepare_database()
        moto = self.stack.enter_context(s3.moto(self.folder))
        self.s3 = moto
        s3.client(moto).create_bucket(Bucket=BUCKET)
        self.proxy = self.stack.enter_context(faults.proxy(moto, self.faults))
        self.start_broker()
        self.connect = self.start_part("connect", self.worker())

    def start_part(self, name: str, part: Any) -> Any:
        """Start a part, which can be stopped alone or with all the others."""
        stack = self.part_stacks[name] = self.stack.enter_context(ExitStack())
        return stack.enter_context(part)

    def stop(self) -> None:
        """Stop everything, the worker first: without its broker it does not end by itself."""
        if "connect" in self.part_stacks:
            self.part_stacks["connect"].close()
        self.stack.close()

    def start_broker(self) -> None:
        """Start the broker that `start` uses."""
        self.broker = self.start_part("broker", local_kafka.broker(self.folder))

    def worker(self, port: int | None = None) -> Any:
        return local_kafka.worker(self.folder, self.broker.address, self.worker_environment(), port)

    def worker_environment(self) -> dict[str, str]:
        """Return the variables of the worker."""
        database = {"HOST": "127.0.0.1", "PORT": str(self.database.port), "DATABASE": "postgres"}
        own = {f"CDC_{name}": value for name, value in database.items()}
        own |= {"CDC_USER": "lakehouse_cdc", "CDC_PASSWORD": CDC_PASSWORD, "S3_BUCKET": BUCKET}
        return {**os.environ, **s3.CREDENTIALS, **own, "AWS_ENDPOINT_URL": self.proxy}

    def prepare_database(self) -> None:
        """Run deploy/connect/postgres.sql twice, because it may be run again."""
        for _ in range(2):
            command = [postgres.program_folder() / "psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", self.database.url]
            command += ["-f", HERE / "postgres.sql"]
            environment = {**os.environ, "CDC_PASSWORD": CDC_PASSWORD}
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment)

    # What a user writes

    def write_connector_files(self, **sink: str) -> None:
        """Write the shipped connector files, with these settings of the sink changed."""
        for name, changed in (("postgres-source.json", {}), ("s3-sink.json", {"rotate.interval.ms": "1000", **sink})):
            document = json.loads((HERE / name).read_text())
            document["config"] |= changed
            (self.folder / name).write_text(json.dumps(document))

    def write_pipeline(self, **sink: str) -> Pipeline:
        """Write and load a pipeline that names the connector files."""
        self.write_connector_files(**sink)
        (self.folder / "gold").mkdir(exist_ok=True)
        for model in ("ipca", "pre"):
            (self.folder / "gold" / f"{model}.sql").write_text("SELECT 1")
        table = {"file": "t", "format": "json", "schema": "a STRING", "keys": ["a"]}
        document = {
            "name": "chain",
            "lake": str(self.folder / "lake"),
            "source": {"type": "files", "path": str(self.folder)},
            "tables": {"t": table},
            "gold": {"ipca": {}, "pre": {}},
            "publish": {"postgres": {"url": self.database.url, "tables": {"gold.ipca": IPCA, "gold.pre": PRE}}},
            "connect": {
                "url": self.connect.address,
                "connectors": ["postgres-source.json", "s3-sink.json"],
                "objects": f"s3a://{BUCKET}/topics",
                "topics": {f"postgres-{table}": table for table in (IPCA, PRE)},
            },
        }
        (self.folder / "pipeline.json").write_text(json.dumps(document))
        return load(self.folder)

    # What is on S3

    def s3_differences(self, seconds: float = 60.0) -> list[str]:
        """Return the differences between S3 and PostgreSQL that remain after `seconds`, by the check of `verify`."""
        pipeline = load(self.folder)
        assert pipeline.connect
        checks = [check_s3_objects(pipeline, topic, seconds) for topic in pipeline.connect.topics]
        return [f"{check.name}: {check.figures}" for check in checks if check.result != "holds"]

    def object_keys(self, table: str = "") -> list[str]:
        """Return the keys of the objects of a topic, or of all topics, below the prefix."""
        return [str(path).partition("/topics/")[2] for path in file_io.list_files(self._topic_path(table))]

    def lines(self, table: str) -> list[str]:
        """Return the distinct lines of a topic's objects in the order of the topic."""
        contents = file_io.read_files(file_io.list_files(self._topic_path(table)))
        lines = {line for content in contents for line in (content or b"").decode().split("\n") if line}
        return sorted(lines, key=lambda line: json.loads(line)["__offset"])

    def change_counts(self, table: str) -> Counter[tuple[str, str, str]]:
        """Count the lines of a topic by key and operation: (day, kind, operation)."""
        rows = map(json.loads, self.lines(table))
        return Counter((row["data_base"], row["tipo"], row["__op"]) for row in rows)

    def _topic_path(self, table: str) -> file_io.StorePath:
        root = file_io.store_path(f"s3a://{BUCKET}/topics")
        return root / f"postgres-{table}" if table else root


def publish_rows(url: str, table: str, rows: Iterable[Mapping[str, Any]], deleted: Iterable[Key] = ()) -> None:
    """Write a micro-batch as `lakehouse publish` does: upserts and deletes in one transaction."""
    wanted = list(rows)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for row in wanted:
            names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            others = ", ".join(f"{n} = excluded.{n}" for n in row if n not in ("data_base", "tipo"))
            upsert = (
                f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT (data_base, tipo) DO UPDATE SET {others}"
            )
            cursor.execute(upsert, list(row.values()))
        cursor.executemany(f"DELETE FROM {table} WHERE data_base = %s AND tipo = %s", list(deleted))


def wait_for(function: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Call a function until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := function()):
        assert time.monotonic() < deadline, f"no result within {seconds} s"
        time.sleep(0.3)
    return value
