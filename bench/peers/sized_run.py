"""Brings a table to bronze, and then changes of several shares, in one process; beside DuckDB.

    python -m peers.sized_run FORMAT ROWS COLUMNS SHARES FOLDER      prints one JSON document

A small table of the same columns warms the process up. The load is then measured once, and so is each share, on a copy
of the same lake.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import gauges, ours, sized_data, trial

_WARM_UP_ROWS = 200


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def write_pipeline(folder: Path, file_format: str, columns: int) -> Path:
    """Write a pipeline of one table; a change of any share is accepted."""
    types = ", ".join(f"{name} {data_type}" for name, data_type in sized_data.column_types(columns).items())
    table = {"file": f"rows.{file_format}", "format": file_format, "schema": types, "keys": ["id"]}
    source = {"type": "files", "path": str(folder / "source")}
    pipeline = {"name": "sizes", "lake": str(folder / "lake"), "source": source}
    tables = {ours.TABLE: table | {"guard": {"max_deleted": 1.0}}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.json").write_text(json.dumps(pipeline | {"tables": tables}), encoding="utf-8")
    return folder


def warm_up(file_format: str, columns: int, folder: Path) -> None:
    """Load a small table and change it, so that the JVM has its classes."""
    lake = write_pipeline(folder / "lake", file_format, columns)
    for number, (stamp, share) in enumerate({ours.FIRST: 0.0, ours.SECOND: 0.1, ours.THIRD: 1.0}.items()):
        file = folder / f"v{number}/rows.{file_format}"
        sized_data.write_snapshot(file, _WARM_UP_ROWS, columns, share)
        ours.land_file(lake, file, stamp)
        ours.run_stage(lake, "ingest")
        ours.run_stage(lake, "bronze")


def measure(file_format: str, rows: int, columns: int, shares: list[float], folder: Path) -> dict[str, Any]:
    """Return the seconds of the first load, and of ingest and bronze for each share; beside those of DuckDB."""
    first = folder / f"v1/rows.{file_format}"
    sized_data.write_snapshot(first, rows, columns)
    lake = write_pipeline(folder / "lake", file_format, columns)
    spark = trial.start_spark(folder)
    warm_up(file_format, columns, folder / "warm-up")
    ours.land_file(lake, first, ours.FIRST)
    load = {"ingest": timed(lambda: ours.run_stage(lake, "ingest"))}
    load["bronze"] = timed(lambda: ours.run_stage(lake, "bronze"))
    load["duckdb"] = timed(lambda: sized_data.state_file(first))
    results = []
    for number, share in enumerate(shares):
        new = folder / f"v2-{share:g}/rows.{file_format}"
        if not new.exists():
            sized_data.write_snapshot(new, rows, columns, share)
        copy = write_pipeline(ours.copy_files(lake, folder / f"run-{number}"), file_format, columns)
        ours.land_file(copy, new, ours.SECOND)
        result = {"share": share, "ingest": timed(lambda copy=copy: ours.run_stage(copy, "ingest"))}  # type: ignore[misc]
        version = gauges.newest_version(ours.bronze_path(copy))
        result["bronze"] = timed(lambda copy=copy: ours.run_stage(copy, "bronze"))  # type: ignore[misc]
        result["written"] = sum(gauges.written_bytes(ours.bronze_path(copy), version).values())
        files = (sized_data.state_file(first), new, folder / f"duckdb-{number}.parquet")
        result["duckdb"] = timed(lambda files=files: sized_data.diff_with_duckdb(*files, columns))  # type: ignore[misc]
        results.append(result)
    return {"load": load, "changes": results, "peak": gauges.process_peak_memory(spark)}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        kind, row_count, column_count, share_list, place = sys.argv[1:]
        wanted = [float(share) for share in share_list.split(",")]
        document = measure(kind, int(row_count), int(column_count), wanted, Path(place))
    print(json.dumps(document))
