"""Runs the start scripts of deploy/compose with the real servers behind them, without the images.

Not here: kafka.sh and connect.sh, whose jars Maven puts into deploy/connect/target.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pyspark
import pytest
from servers import airflow, s3
from servers.ports import free_port
from servers.postgres import PASSWORD, USER, Server, program_folder

REPOSITORY = Path(__file__).parents[3]
START = REPOSITORY / "deploy/compose/start"
GIVEN = {"PUBLISH_PASSWORD": "published", "AIRFLOW_DB_PASSWORD": "airflows", "CDC_PASSWORD": "follows"}
TABLES = ("dadostesouroipca_gold", "dadostesouropre_gold")
SQL = REPOSITORY / "deploy/connect/postgres.sql"


def psql_environment(server: Server) -> dict[str, str]:
    """Return the environment of PostgreSQL's image: psql on the PATH, and the connection in its variables."""
    path = f"{program_folder()}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": USER, "PGPASSWORD": PASSWORD}
    return own | GIVEN | {"POSTGRES_USER": USER}


@pytest.fixture(scope="module")
def database(postgres_server: Server) -> Server:
    subprocess.run([START / "databases.sh"], env=psql_environment(postgres_server), check=True, capture_output=True)
    return postgres_server


def can_connect(server: Server, user: str, password: str, name: str) -> bool:
    try:
        psycopg.connect(f"postgresql://{user}:{password}@127.0.0.1:{server.port}/{name}").close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def running_script(*words: str | Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, env=dict(os.environ) | environ)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def becomes_healthy(process: subprocess.Popen[bytes], port: int, *path: str, seconds: float = 60) -> bool:
    """Return whether the health check succeeds in time."""
    deadline = time.monotonic() + seconds
    while subprocess.run([START / "healthy.sh", str(port), *path], capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_the_publisher_and_airflow_have_separate_databases(database: Server) -> None:
    assert can_connect(database, "lakehouse", "published", "tesouro")
    assert can_connect(database, "airflow", "airflows", "airflow")
    assert not can_connect(database, "lakehouse", "airflows", "tesouro")


def test_debezium_gets_access_once_both_tables_are_published(database: Server) -> None:
    environ = psql_environment(database) | {"PGDATABASE": "tesouro", "PUBLICATION_LOOK": "0.1", "CONNECT_SQL": str(SQL)}
    place = f"127.0.0.1:{database.port}/tesouro"
    with psycopg.connect(f"postgresql://lakehouse:published@{place}", autocommit=True) as publisher:
        publisher.execute("CREATE SCHEMA old")
        for table in (f"old.{TABLES[0]}", f"old.{TABLES[1]}", TABLES[0]):
            publisher.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
        with running_script(START / "publication.sh", **environ) as script:
            time.sleep(1)
            assert script.poll() is None and not can_connect(database, "lakehouse_cdc", "follows", "tesouro")
            publisher.execute(f"CREATE TABLE {TABLES[1]} (id int PRIMARY KEY)")
            assert script.wait(20) == 0

    assert subprocess.run([START / "publication.sh"], env=environ, check=False).returncode == 0, "it may be run again"
    with psycopg.connect(f"postgresql://lakehouse_cdc:follows@{place}") as debezium:
        followed = debezium.execute("SELECT schemaname, tablename FROM pg_publication_tables ORDER BY 2").fetchall()
        assert followed == [("public", table) for table in TABLES]
        assert [debezium.execute(f"SELECT count(*) FROM {table}").fetchone() for table in TABLES] == [(0,), (0,)]


def test_psql_reads_the_password_of_debezium_from_the_environment(database: Server) -> None:
    """As README and the guide say: no password is among the arguments, where every user of the machine can read it."""
    own = database.new_database("by_hand")
    try:
        own.execute(*(f"CREATE TABLE {table} (id int PRIMARY KEY)" for table in TABLES))
        environ = psql_environment(own) | {"PGDATABASE": "by_hand", "CDC_PASSWORD": "it's $typed"}
        command = ["psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", str(SQL)]
        for _ in range(2):
            subprocess.run(command, env=environ, check=True, capture_output=True)

        login = {"user": "lakehouse_cdc", "password": "it's $typed", "dbname": "by_hand"}
        psycopg.connect(host="127.0.0.1", port=own.port, **login).close()
        assert not can_connect(own, "lakehouse_cdc", "wrong", "by_hand")
    finally:
        own.drop()


def test_the_s3_store_has_its_bucket_and_rejects_an_unsigned_request(tmp_path: Path) -> None:
    port = free_port()
    places = {"S3_DATA": str(tmp_path), "S3_JARS": str(s3.s3proxy_jars()), "S3_LOG": str(START / "logback.xml")}
    own = s3.CREDENTIALS | {
        "S3_BUCKET": "lake",
        "S3_LISTEN": "127.0.0.1",
        "S3_PORT": str(port),
        "TMPDIR": str(tmp_path),
    }
    with running_script(START / "s3.sh", **own, **places) as process:
        assert becomes_healthy(process, port)
        client = s3.client(f"http://127.0.0.1:{port}")
        client.put_object(Bucket="lake", Key="a", Body=b"1")
        assert [o["Key"] for o in client.list_objects_v2(Bucket="lake")["Contents"]] == ["a"]
        command = ["/usr/bin/env", "python3", "-c", _GET_PROGRAM, f"http://127.0.0.1:{port}/lake/a"]
        assert subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() == "403"


_GET_PROGRAM = """
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_a_spark_master_passes_the_health_check_of_the_compose_file(tmp_path: Path) -> None:
    own: dict[str, Any] = {"SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_HOST": "127.0.0.1"}
    port, web = free_port(), free_port()
    own |= {"SPARK_PORT": str(port), "SPARK_WEB_PORT": str(web), "SPARK_DAEMON_MEMORY": "256m"}
    own |= {"SPARK_LOCAL_IP": "127.0.0.1"}
    with running_script(START / "spark.sh", "master", **own) as process:
        assert becomes_healthy(process, web, "/json/")


def test_airflow_creates_its_tables_in_postgresql(database: Server, tmp_path: Path) -> None:
    own = airflow.settings(tmp_path) | {"AIRFLOW_BIN": str(airflow.airflow_bin())}
    own["AIRFLOW_DATABASE"] = f"airflow:airflows@127.0.0.1:{database.port}/airflow"
    done = subprocess.run([START / "airflow.sh", "db", "migrate"], env=own, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    with psycopg.connect(f"postgresql://{own['AIRFLOW_DATABASE']}") as connection:
        assert connection.execute("SELECT count(*) FROM dag").fetchone() == (0,)
