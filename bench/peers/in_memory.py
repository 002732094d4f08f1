"""Finds changes with pandas, Polars and DuckDB, each in the best way known to us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peers.data import COLUMNS, connect, read_csv_sql

CONTENT = COLUMNS[1:]


def with_pandas(state: Path, new: Path, out: Path) -> None:
    """Find changes by an outer merge with an indicator. Arrow columns take half the memory of objects."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import csv

    types = dict(zip(COLUMNS, _arrow_types(pa), strict=True))
    table = csv.read_csv(
        new,
        parse_options=csv.ParseOptions(delimiter=";"),
        convert_options=csv.ConvertOptions(column_types=types),
    )
    after = table.to_pandas(types_mapper=pd.ArrowDtype)
    before = pd.read_parquet(state, dtype_backend="pyarrow")
    both = before.merge(after, on="id", how="outer", suffixes=("_before", ""), indicator=True)
    operation = both["_merge"].map({"left_only": "D", "right_only": "I", "both": "U"}).astype("string[pyarrow]")
    differs = pd.Series(False, index=both.index)
    for column in CONTENT:
        old, now = both[f"{column}_before"], both[column]
        differs |= (old != now).fillna(True).astype(bool) & ~(old.isna() & now.isna())
    changed = both[(both["_merge"] != "both") | differs].copy()
    deleted = changed["_merge"] == "left_only"
    for column in CONTENT:
        changed[column] = changed[column].where(~deleted, changed[f"{column}_before"])
    changed["_cdc_operation"] = operation
    changed[[*COLUMNS, "_cdc_operation"]].to_parquet(out / "changes.parquet", index=False)


def _arrow_types(pa: Any) -> list[Any]:
    return [pa.string(), pa.string(), pa.timestamp("us"), pa.int32(), pa.string(), pa.decimal128(12, 2)]


def with_polars(state: Path, new: Path, out: Path) -> None:
    """Find changes by a lazy full join, streamed from the input files into the output file."""
    import polars as pl

    types = [pl.String, pl.String, pl.String, pl.Int32, pl.String, pl.Decimal(12, 2)]
    stamp = pl.col("created_at").str.to_datetime("%Y-%m-%d %H:%M:%S%.3f", time_unit="us")
    after = pl.scan_csv(new, separator=";", quote_char=None, schema=dict(zip(COLUMNS, types, strict=True)))
    after = after.with_columns(stamp, pl.lit(True).alias("_new"))
    before = pl.scan_parquet(state).with_columns(pl.lit(True).alias("_old"))
    both = before.join(after, on="id", how="full", coalesce=True, suffix="_after")
    differs = pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}_after")) for c in CONTENT)
    deleted, added = pl.col("_new").is_null(), pl.col("_old").is_null()
    operation = pl.when(deleted).then(pl.lit("D")).when(added).then(pl.lit("I")).otherwise(pl.lit("U"))
    values = [pl.when(deleted).then(pl.col(c)).otherwise(pl.col(f"{c}_after")).alias(c) for c in CONTENT]
    changed = both.filter(deleted | added | differs).select("id", *values, operation.alias("_cdc_operation"))
    changed.sink_parquet(out / "changes.parquet", engine="streaming")


def with_duckdb(state: Path, new: Path, out: Path) -> None:
    """Find changes by a full join and IS DISTINCT FROM, with two threads."""
    differs = " OR ".join(f"n.{c} IS DISTINCT FROM s.{c}" for c in CONTENT)
    values = ", ".join(f"CASE WHEN n.id IS NULL THEN s.{c} ELSE n.{c} END AS {c}" for c in COLUMNS)
    query = f"""
        SELECT {values},
               CASE WHEN n.id IS NULL THEN 'D' WHEN s.id IS NULL THEN 'I' ELSE 'U' END AS _cdc_operation
        FROM read_parquet('{state}') AS s FULL JOIN {read_csv_sql(new)} AS n ON s.id = n.id
        WHERE n.id IS NULL OR s.id IS NULL OR {differs}"""
    with connect() as duck:
        duck.execute("SET memory_limit = '80%'; SET preserve_insertion_order = false")
        duck.execute(f"COPY ({query}) TO '{out}/changes.parquet' (FORMAT parquet)")
