"""After its views are there, a database of `lakehouse sql` opens no other file, no network and no extension."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.lake.duckdb_sql import parquet
from lakehouse.lake.duckdb_views import Database, open_database

HIDDEN = "not for readers"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database with a view, beside files that no query names, and a variable that is a secret."""
    monkeypatch.setenv("DBPASS", HIDDEN)
    for name in ("shown", "hidden"):
        pq.write_table(pa.table({"a": [HIDDEN if name == "hidden" else "x"]}), tmp_path / f"{name}.parquet")
    for name in ("hidden.csv", "hidden.json", "hidden.txt"):
        (tmp_path / name).write_text(f'{{"a": "{HIDDEN}"}}\n')
    with open_database() as opened:
        opened._files.append(str(tmp_path / "shown.parquet"))
        opened._create_view("bronze.shown", f"SELECT * FROM {parquet([tmp_path / 'shown.parquet'])}")
        opened.close_to_files()
        yield opened


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_parquet('{folder}/hidden.parquet')",
        "SELECT * FROM read_parquet('{folder}/*.parquet')",
        "SELECT * FROM '{folder}/hidden.parquet'",
        "SELECT * FROM '{folder}/hidden.csv'",
        "SELECT * FROM read_csv('{folder}/hidden.csv')",
        "SELECT * FROM sniff_csv('{folder}/hidden.csv')",
        "SELECT * FROM read_json('{folder}/hidden.json')",
        "SELECT * FROM read_ndjson_objects('{folder}/hidden.json')",
        "SELECT * FROM read_text('{folder}/hidden.txt')",
        "SELECT * FROM read_blob('{folder}/hidden.txt')",
        "SELECT * FROM parquet_metadata('{folder}/hidden.parquet')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM query('SELECT * FROM read_text(''{folder}/hidden.txt'')')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{folder}/written''')",
        "DESCRIBE SELECT * FROM read_csv('{folder}/hidden.csv')",
        "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
        "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
        "SELECT * FROM sqlite_scan('{folder}/hidden.txt', 't')",
        "SELECT * FROM delta_scan('{folder}')",
        "SELECT getenv('DBPASS')",
        "SELECT * FROM duckdb_secrets()",
        "COPY (SELECT 1) TO '{folder}/written'",
        "ATTACH '{folder}/written'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '{folder}/written'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
        "PRAGMA enable_profiling; PRAGMA profiling_output = '{folder}/written'",
        "CALL enable_logging(storage = 'file', storage_path = '{folder}/written')",
    ],
)
def test_no_query_reads_another_file_or_writes_one(database: Database, tmp_path: Path, query: str) -> None:
    before = sorted(tmp_path.iterdir())

    with pytest.raises(duckdb.Error) as error:
        database.connection.execute(query.format(folder=tmp_path)).fetchall()

    assert HIDDEN not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_view_is_read_afterwards(database: Database) -> None:
    assert database.fetch("SELECT * FROM bronze.shown") == [{"a": "x"}]
    variables_of_this_program = {"hidden": pa.table({"a": [1]})}
    assert variables_of_this_program
    with pytest.raises(duckdb.CatalogException):
        database.fetch("SELECT * FROM variables_of_this_program")
