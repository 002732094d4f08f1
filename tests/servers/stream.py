"""Runs the servers behind conf/tesouro: PostgreSQL, Kafka, Connect and an S3 store, all real, on this machine.

    with running_servers(folder) as servers:
        run conf/tesouro with servers.environment()
        create_publication(servers.database)              # once its tables exist
        run `lakehouse connect apply conf/tesouro` with the same environment

Needs deploy/connect on the path.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import local_kafka
from servers import postgres, s3

REPOSITORY = Path(__file__).parents[2]
BUCKET, CDC_PASSWORD = "lake", "canary-of-the-cdc"
SECRETS = (postgres.PASSWORD, CDC_PASSWORD, s3.CREDENTIALS["AWS_SECRET_ACCESS_KEY"])


@dataclass(frozen=True)
class Servers:
    """Running servers. `kafka` is host:port, `s3` a URL."""

    database: postgres.Server
    kafka: str
    connect: local_kafka.Server
    s3: str

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the pipeline."""
        addresses = {"PG_URL": self.database.url, "CONNECT_URL": self.connect.address, "AWS_ENDPOINT_URL": self.s3}
        return addresses | {"S3_BUCKET": BUCKET} | s3.CREDENTIALS


@contextmanager
def running_servers(folder: Path) -> Iterator[Servers]:
    """Run all servers during the block; the worker ends before the servers that it uses."""
    with postgres.postgres() as server, s3.s3proxy(folder) as store, local_kafka.broker(folder / "kafka") as broker:
        database = server.new_database("tesouro")
        s3.client(store).create_bucket(Bucket=BUCKET)
        own = {"HOST": "127.0.0.1", "PORT": str(database.port), "DATABASE": database.database}
        own |= {"USER": "lakehouse_cdc", "PASSWORD": CDC_PASSWORD}
        given = {f"CDC_{name}": value for name, value in own.items()} | s3.CREDENTIALS
        given |= {"S3_BUCKET": BUCKET, "AWS_ENDPOINT_URL": store}
        with local_kafka.worker(folder / "kafka", broker.address, os.environ | given) as connect:
            yield Servers(database, broker.address, connect, store)


def create_publication(database: postgres.Server) -> None:
    """Give Debezium access to the tables of gold, as deploy/compose does."""
    environ = {"PGHOST": "127.0.0.1", "PGPORT": str(database.port), "PGDATABASE": database.database}
    environ |= {"PGUSER": postgres.USER, "PGPASSWORD": postgres.PASSWORD, "CDC_PASSWORD": CDC_PASSWORD}
    environ |= {"PATH": f"{postgres.program_folder()}{os.pathsep}{os.environ['PATH']}"}
    environ |= {"CONNECT_SQL": str(REPOSITORY / "deploy/connect/postgres.sql")}
    script = REPOSITORY / "deploy/compose/start/publication.sh"
    subprocess.run([script], env=environ, check=True, capture_output=True, timeout=60)
