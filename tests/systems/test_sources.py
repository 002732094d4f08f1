"""Complete pipelines with other sources than a folder, run like by a user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_commits import commit, git
from helpers import Project, Result, lakehouse, nonzero_counts
from loyalty_project import SAMPLES, SECOND, TABLES, Loyalty, assert_gold, assert_silver
from pyspark.sql import SparkSession
from servers.kaggle import KEY, SIGNATURE, Kaggle, kaggle
from servers.postgres import PASSWORD, USER, Server

REPOSITORY = Path(__file__).parents[2]
FIRST = "20251003_170552"


def without_spark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in its own process, which fails if it imports Spark."""
    program = "import sys; from lakehouse.cli import main; code = main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", f"{program}; assert 'pyspark' not in sys.modules; sys.exit(code)", *arguments],
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


class Published(Loyalty):
    """conf/loyalty/kaggle.yml with its own lake, and a Kaggle that publishes the samples."""

    def __init__(self, lake: Path, server: Kaggle) -> None:
        super().__init__(lake, SAMPLES)
        self.server = server

    @property
    def environment(self) -> dict[str, str]:
        return {"LAKE_ROOT": str(self.lake.parent), **self.server.environment}

    def publish(self, stamp: str, time: str) -> None:
        self.server.publish({path.name: path.read_bytes() for path in (SAMPLES / stamp).glob("*.csv")}, time)

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return lakehouse(verb, str(REPOSITORY / "conf" / "loyalty" / "kaggle.yml"), *arguments)

    def alone(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return without_spark(*arguments, str(REPOSITORY / "conf" / "loyalty" / "kaggle.yml"), **self.environment)


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with kaggle() as server:
        one = Published(tmp_path_factory.mktemp("kaggle") / "loyalty-kaggle", server)
        one.publish(FIRST, "2025-10-03T17:05:52.513Z")
        one.last_run = one("run")
        assert one.last_run.code == 0, one.last_run.stderr
        yield one


def test_a_version_on_kaggle_becomes_gold_in_one_run(published: Published) -> None:
    assert published.server.routes.count("archive") == 1
    for table in TABLES:
        (entry,) = published.ledger(table)
        assert (entry["status"], f"{entry['snapshot_time']:%Y%m%d_%H%M%S}") == ("accepted", FIRST)
    assert_silver(published, SAMPLES / FIRST)
    assert_gold(published, SAMPLES / FIRST)


def test_the_same_version_starts_no_jvm_and_downloads_nothing(published: Published) -> None:
    before = published.versions()
    published.server.requests.clear()

    done = published.alone("run")

    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stdout
    assert published.server.routes == ["GetDataset"]
    assert published.versions() == before


def test_a_diff_shows_what_a_new_version_would_change_and_lands_nothing(published: Published) -> None:
    published.publish(SECOND, "2025-10-04T09:56:45.120Z")
    try:
        done = published("diff", "clientes")
    finally:
        published.server.versions.pop()

    (table,) = done.document["tables"]
    assert (table["from"], table["to"], table["verdict"]) == (FIRST, SECOND, "accepted")
    assert table["counts"]["updated"] > 0
    assert [path.name for path in (published.lake / "landing" / "clientes").iterdir()] == [FIRST]


def test_no_secret_is_in_the_lake_or_in_the_output(published: Published) -> None:
    assert published.last_run is not None
    secrets = [secret.encode() for secret in (KEY, SIGNATURE)]
    files = [path for path in published.lake.rglob("*") if path.is_file()]
    output = (published.last_run.stderr + str(published.last_run.document)).encode()
    assert not [path for path in files for secret in secrets if secret in path.read_bytes()]
    assert not [secret for secret in secrets if secret in output]


# A git repository


def test_commits_become_bronze_one_after_the_other_and_news_of_other_files_start_no_jvm(
    spark: SparkSession, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    source = {"type": "git", "path": str(repository), "since": "2025-01-02"}
    table = {"file": "data/*.csv", "format": "csv", "schema": "id STRING, qty INT", "keys": ["id"]}
    table |= {"guard": {"max_deleted": 1.0}}
    project = Project(tmp_path, {"items": table}, source_settings=source)
    a, b = "data/a.csv", "data/b.csv"
    commit(repository, "2025-01-01T00:00:00Z", {a: b"id,qty\na,0\n"})
    commit(repository, "2025-01-02T00:00:00Z", {a: b"id,qty\na,1\n", b: b"id,qty\nb,1\n"})
    commit(repository, "2025-01-02T00:00:00Z", {b: b"id,qty\nb,2\nc,2\n"})
    commit(repository, "2025-01-03T00:00:00Z", {a: None, b: None})
    commit(repository, "2025-01-04T00:00:00Z", {b: b"id,qty\nb,2\n"})

    waiting = project("diff").document["tables"][0]
    result = project.run()

    assert waiting["to"] == "20250104_000000"
    assert "older snapshots wait (3)" in waiting["note"]
    assert result.code == 5
    assert [(f"{e['snapshot_time']:%d %S}", e["status"]) for e in project.ledger()] == [
        ("02 00", "accepted"),
        ("02 01", "accepted"),
        ("03 00", "rejected"),
        ("04 00", "accepted"),
    ]
    assert project.rows("bronze/items") == [{"id": "b", "qty": 2}]
    assert project.run().code == 0
    pipeline = str(project.pipeline)
    for news in ({}, {"README": b"of no table"}):
        commit(repository, "2025-01-05T00:00:00Z", news)
        alone = without_spark("run", pipeline)
        assert alone.returncode == 0, alone.stderr
    assert without_spark("run", pipeline).returncode == 0  # and HEAD has not moved

    head = commit(repository, "2025-01-06T00:00:00Z", {b: b"id,qty\nb,3\n"})
    assert project("extract").code == 0
    git(repository, "commit", "-q", "--amend", "-m", "y", date="2025-01-07T00:00:00Z")
    refused = project.run()
    assert refused.code == 5
    assert head[:12] in refused.outcome("extract", "items")["note"]
    assert project.rows("bronze/items") == [{"id": "b", "qty": 3}]  # what had landed is still taken
    assert project.run("--rewritten").code == 0
    assert project.statuses()[-1] == "unchanged"
    assert project("verify").code == 0
    forgotten = project("forget", "items", "b", "--yes")
    assert forgotten.code == 0
    assert "the git repository keeps every commit" in forgotten.document["note"]
    assert project.run().code == 0
    assert project.rows("bronze/items") == []


# A database

ACCOUNTS = """
    CREATE TABLE accounts (
        id uuid PRIMARY KEY, email text, balance numeric(12, 2), seen timestamptz, since date, tags text[], token bytea
    )
"""
SCHEMA = "id STRING, email STRING, balance DECIMAL(12,2), seen TIMESTAMP, since DATE, tags ARRAY<STRING>, token BINARY"
FILL = """
    INSERT INTO accounts SELECT md5(i::text)::uuid, nullif(i % 5, 0) || '"@x', i / 3.0,
    timestamptz '2025-10-03 14:05:52.123456-03' + i * interval '1 h', date '2025-01-01' + i,
    array['a', NULL, i::text], decode('00ff', 'hex') FROM generate_series(1, 30) AS i
"""


@pytest.fixture(scope="module")
def bank(
    spark: SparkSession, postgres_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, Server]]:
    database = postgres_server.new_database("bank")
    database.execute(ACCOUNTS, FILL)
    table = {"file": "public.accounts", "format": "parquet", "schema": SCHEMA, "keys": ["id"]}
    source = {"type": "jdbc", "url": database.jdbc_url, "user": USER, "password": PASSWORD}
    yield Project(tmp_path_factory.mktemp("bank"), {"accounts": table}, source_settings=source), database
    database.drop()


def test_a_table_of_a_database_becomes_bronze_value_by_value(bank: tuple[Project, Server]) -> None:
    project, database = bank
    assert project.run("--as-of", "2025-10-03T17:05:52Z").code == 0

    (entry,) = project.ledger("accounts")
    assert nonzero_counts(entry) == {"rows_read": 30, "inserted": 30}
    rows = database.execute("SELECT id::text, email, balance, seen, since, tags, token FROM accounts ORDER BY id")
    assert [tuple(row.values()) for row in project.rows("bronze/accounts")] == rows


def test_a_database_without_changes_is_read_and_starts_no_jvm(bank: tuple[Project, Server]) -> None:
    project, database = bank
    database.execute("UPDATE accounts SET email = email")  # new row versions with the same values
    before = project.versions()

    done = without_spark("run", str(project.pipeline))

    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stdout
    assert project.versions() == before


def test_changes_in_a_database_are_shown_by_diff_and_applied_by_the_next_run(bank: tuple[Project, Server]) -> None:
    project, database = bank
    database.execute(
        "UPDATE accounts SET balance = balance + 0.01, seen = 'infinity' WHERE email LIKE '1%'",
        "DELETE FROM accounts WHERE email LIKE '2%'",
    )
    diff = project("diff")
    (table,) = diff.document["tables"]
    assert (table["verdict"], table["counts"]["deleted"], table["counts"]["quarantined"]) == ("accepted", 6, 6)
    assert len(project.ledger("accounts")) == 1

    assert project.run().code == 0

    assert nonzero_counts(project.ledger("accounts")[-1]) == {
        "rows_read": 24,
        "deleted": 6,
        "unchanged": 18,
        "quarantined": 6,
    }
    assert {row["value"] for row in project("quarantine", "accounts").document["rows"]} == {"infinity"}
    assert len(project.rows("bronze/accounts")) == 24


def test_no_password_is_in_the_lake_or_in_the_output(bank: tuple[Project, Server]) -> None:
    project, _ = bank
    done = project.run("--verbose")
    files = [path for path in project.lake.rglob("*") if path.is_file()]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in done.stderr + str(done.document)
