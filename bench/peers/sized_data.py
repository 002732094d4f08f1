"""Generates snapshots of any number of rows and columns, in each format, of which a share of the rows changes."""

from __future__ import annotations

from pathlib import Path

from peers.data import connect

_TYPES = ("BIGINT", "DOUBLE", "DATE", "STRING", "STRING")


def column_types(columns: int) -> dict[str, str]:
    """Return the types of the columns, in the words of `pipeline.yml`."""
    return {"id": "BIGINT"} | {f"c{n}": _TYPES[n % len(_TYPES)] for n in range(columns - 1)}


def write_snapshot(file: Path, rows: int, columns: int, share: float = 0.0) -> None:
    """Write a snapshot of which a share of the rows differs from the one with the share 0.

    Nine of ten changed rows have another value in one column; the others are deleted, and as many are inserted.
    """
    step = round(1 / share) if share else 0
    is_hit = f"n % {step} = 0" if step else "false"
    is_replaced = f"({is_hit} AND (n // {step or 1}) % 10 = 9)"
    values = [f"CASE WHEN {is_replaced} THEN n + {rows} ELSE n END AS id"]
    for number, data_type in enumerate(column_types(columns).values()):
        if number == 0:
            continue
        seed = f"hash(n * 1000 + {number} + CASE WHEN {number} = 1 AND {is_hit} THEN 500 ELSE 0 END)"
        values.append(
            {
                "BIGINT": f"CAST({seed} % 1000000 AS BIGINT)",
                "DOUBLE": f"CAST({seed} % 10000000 AS DOUBLE) / 1000",
                "DATE": f"DATE '2000-01-01' + CAST({seed} % 9000 AS INTEGER)",
                "STRING": f"'name ' || CAST({seed} % 100000 AS VARCHAR)",
            }[data_type]
            + f" AS c{number - 1}"
        )
    options = {"csv": "HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet"}[file.suffix[1:]]
    file.parent.mkdir(parents=True, exist_ok=True)
    with connect() as duck:
        duck.execute(f"COPY (SELECT {', '.join(values)} FROM range({rows}) r(n)) TO '{file}' ({options})")


def state_file(snapshot: Path) -> Path:
    """Return a snapshot as Parquet, which DuckDB compares with."""
    target = snapshot.with_name("state.parquet")
    if not target.exists():
        with connect() as duck:
            duck.execute(f"COPY (SELECT * FROM '{snapshot}') TO '{target}' (FORMAT parquet)")
    return target


def diff_with_duckdb(state: Path, new: Path, out: Path, columns: int) -> None:
    """Write the rows that differ, as the peer `duckdb` of bench/changes.py does."""
    names = list(column_types(columns))[1:]
    differs = " OR ".join(f"o.{name} IS DISTINCT FROM n.{name}" for name in names)
    with connect() as duck:
        duck.execute(
            f"COPY (SELECT coalesce(n.id, o.id) AS id, n.* EXCLUDE (id), o.id IS NULL AS added, n.id IS NULL AS deleted"
            f" FROM '{state}' o FULL JOIN '{new}' n ON o.id = n.id WHERE o.id IS NULL OR n.id IS NULL OR {differs})"
            f" TO '{out}' (FORMAT parquet)"
        )
