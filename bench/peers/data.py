"""Generates two snapshots of one table, and computes the changes between them.

    v1.csv, v1.parquet   the state; the same for every share
    v2.csv               the new snapshot: a share of the rows changed
    expected_changes     the changes, computed from the generator without a comparison

Every value follows from the number of its row, so that any size is generated as a stream and the same arguments give
the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

SCHEMA = "id STRING, customer STRING, created_at TIMESTAMP, points INT, origin STRING, amount DECIMAL(12,2)"
COLUMNS = [part.split()[0] for part in SCHEMA.split(", ")]
CSV_TYPES = {
    "id": "VARCHAR",
    "customer": "VARCHAR",
    "created_at": "TIMESTAMP",
    "points": "INTEGER",
    "origin": "VARCHAR",
    "amount": "DECIMAL(12,2)",
}
_SEED = 7
_IS_INSERTED = "hit AND nth % 20 = 10"  # an insert: the row itself stays, and a new one is added
_IS_DELETED = "hit AND nth % 20 = 0"
_IS_UPDATED = "hit AND nth % 10 <> 0"


@dataclass(frozen=True)
class Changes:
    """Rows inserted, updated and deleted, and a checksum over all their columns."""

    inserted: int
    updated: int
    deleted: int
    checksum: int

    def __str__(self) -> str:
        return f"{self.inserted:,} I, {self.updated:,} U, {self.deleted:,} D, checksum {self.checksum:x}"


def connect() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the resources of the smallest machine: 2 threads, 2 GB."""
    return duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})


def state_files(folder: Path, rows: int) -> tuple[Path, Path]:
    """Return v1 as CSV and as Parquet; generate a file that does not exist."""
    csv, parquet = folder / f"v1-{rows}.csv", folder / f"v1-{rows}.parquet"
    if not csv.exists():
        _copy(_text_columns(f"SELECT *, 0 AS more FROM {_numbered_rows(rows, 0)}"), csv, "HEADER, DELIMITER ';'")
    if not parquet.exists():
        _copy(f"SELECT * FROM {read_csv_sql(csv)}", parquet, "FORMAT parquet")
    return csv, parquet


def snapshot_file(folder: Path, rows: int, share: float) -> Path:
    """Return v2 as CSV: 90 % of the changed rows are updated, 5 % deleted, 5 % inserted, all evenly distributed."""
    csv = folder / f"v2-{rows}-{share:g}.csv"
    if not csv.exists():
        numbered = _numbered_rows(rows, share)
        remaining = f"SELECT *, CAST({_IS_UPDATED} AS INTEGER) AS more FROM {numbered} WHERE NOT ({_IS_DELETED})"
        _copy(_text_columns(f"{remaining} UNION ALL {_inserted_rows(rows, numbered)}"), csv, "HEADER, DELIMITER ';'")
    return csv


def expected_changes(rows: int, share: float) -> Changes:
    """Return the changes from v1 to v2, computed from the generator."""
    numbered = _numbered_rows(rows, share)
    queries = {
        "I": _inserted_rows(rows, numbered),
        "U": f"SELECT *, 1 AS more FROM {numbered} WHERE {_IS_UPDATED}",
        "D": f"SELECT *, 0 AS more FROM {numbered} WHERE {_IS_DELETED}",
    }
    parts = [
        f"SELECT '{kind}' AS _cdc_operation, {_typed_columns()} FROM ({_text_columns(rows)})"
        for kind, rows in queries.items()
    ]
    return _summarize_changes(" UNION ALL ".join(parts))


def read_changes(changes: Path) -> Changes:
    """Return the changes that a peer wrote as Parquet files with the table's columns and `_cdc_operation`."""
    return _summarize_changes(f"SELECT _cdc_operation, {_typed_columns()} FROM read_parquet('{changes}/**/*.parquet')")


def read_csv_sql(csv: Path) -> str:
    return f"read_csv('{csv}', delim=';', header=true, quote='', escape='', columns={CSV_TYPES})"


def _summarize_changes(rows: str) -> Changes:
    kinds = ", ".join(f"count(*) FILTER (_cdc_operation = '{kind}')" for kind in "IUD")
    texts = ", ".join(f"CAST({c} AS VARCHAR)" for c in ["_cdc_operation", *COLUMNS])
    line = f"concat_ws('|', {texts})"
    with connect() as duck:
        (row,) = duck.sql(f"SELECT {kinds}, bit_xor(md5_number_lower({line})) FROM ({rows})").fetchall()
    return Changes(row[0], row[1], row[2], int(row[3] or 0))


def _typed_columns() -> str:
    return ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in CSV_TYPES.items())


def _numbered_rows(rows: int, share: float) -> str:
    """Return SQL for the row numbers, with a counter of the selected ones. Integers avoid rounding errors."""
    millionths = round(share * 1_000_000)
    hits = f"i * {millionths} // 1000000 AS nth, (i + 1) * {millionths} // 1000000 > nth AS hit"
    return f"(SELECT i, {hits} FROM range({rows}) AS numbers(i))"


def _inserted_rows(rows: int, numbered: str) -> str:
    return f"SELECT i + {rows} AS i, nth, hit, 0 AS more FROM {numbered} WHERE {_IS_INSERTED}"


def _text_columns(numbers: str) -> str:
    """Return SQL for the six CSV columns of the row numbers `i`; `more` is added to the points."""
    digits = f"SELECT i, more, md5('{_SEED}.' || i) AS d, md5_number_lower('{_SEED}.' || i) AS n FROM ({numbers})"

    def uuid(hexadecimal: str) -> str:
        return "concat_ws('-', " + ", ".join(f"{hexadecimal}[{a}:{b}]" for a, b in _UUID_PARTS) + ")"

    return f"""
        SELECT {uuid("d")} AS id,
               {uuid("md5('c' || n % 100000)")} AS customer,
               strftime(make_timestamp(1700000000000000 + (n % 31536000000)::BIGINT * 1000),
                        '%Y-%m-%d %H:%M:%S.%g') AS created_at,
               (n // 7 % 1000)::INTEGER + more AS points,
               ['shop', 'app', 'partner'][(n // 11 % 3)::INTEGER + 1] AS origin,
               printf('%d.%02d', (n // 13 % 10000)::INTEGER, (n // 17 % 100)::INTEGER) AS amount
        FROM ({digits})"""


_UUID_PARTS = [(1, 8), (9, 12), (13, 16), (17, 20), (21, 32)]


def _copy(query: str, to: Path, how: str) -> None:
    """Write the rows of a query atomically, so that an interrupted call leaves no incomplete file."""
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f".{to.name}.partial")
    with connect() as duck:
        duck.execute(f"COPY ({query}) TO '{partial}' ({how})")
    partial.replace(to)
