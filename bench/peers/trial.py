"""Runs one peer in a process of its own: prepares it, and then makes the same comparison twice, first cold.

    python -m peers.trial PEER STATE NEW FOLDER        prints one JSON document

FOLDER is an empty folder for temporary files. STATE is what the peer compares with: a Parquet file, a Delta table or
our pipeline.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers import data

IN_MEMORY = {"duckdb": "with_duckdb", "polars": "with_polars", "pandas": "with_pandas"}
ON_SPARK = {"spark wide join": "wide_join", "datacompy": "with_datacompy"}
MERGE, OURS = "delta merge", "ours"
PEERS = [OURS, *IN_MEMORY, *ON_SPARK, MERGE]


def missing_reason(peer: str) -> str:
    """Return why a peer cannot be run here; empty if it can."""
    module = {"spark wide join": "pyspark", MERGE: "delta", OURS: "lakehouse"}.get(peer, peer)
    try:
        __import__(module)
    except ImportError as error:
        return f"{error}; see docs/bench.md"
    return ""


def time_call(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def run_in_memory(peer: str, state: Path, new: Path, folder: Path) -> dict[str, Any]:
    from peers import gauges, in_memory

    module = {"duckdb": ["duckdb"], "polars": ["polars"], "pandas": ["pandas", "pyarrow.csv", "pyarrow.parquet"]}
    for name in module[peer]:
        __import__(name)
    work = getattr(in_memory, IN_MEMORY[peer])
    outs = _output_folders(folder)
    spent = [time_call(lambda out=out: work(state, new, out)) for out in outs]  # type: ignore[misc]
    return _result_document(spent, gauges.process_peak_memory(None), None, gauges.dataset_bytes(outs[0]), outs)


def run_on_spark(spark: Any, peer: str, state: Path, new: Path, folder: Path) -> dict[str, Any]:
    from peers import gauges
    from peers import on_spark as ways

    outs, before = _output_folders(folder), gauges.shuffled_bytes(spark)
    if peer in ON_SPARK:
        if peer == "datacompy":
            __import__("datacompy")
        work = getattr(ways, ON_SPARK[peer])
        spent = [time_call(lambda out=out: work(spark, state, new, out)) for out in outs]  # type: ignore[misc]
        shuffled, peak = gauges.shuffled_bytes(spark) - before, gauges.process_peak_memory(spark)
        return _result_document(spent, peak, shuffled // 2, gauges.dataset_bytes(outs[0]), outs)
    tables = [out / "table" for out in outs]
    for table in tables:
        subprocess.run(["cp", "-al", state, table], check=True)
    spent = [time_call(lambda table=table: ways.delta_merge(spark, table, new)) for table in tables]  # type: ignore[misc]
    shuffled, peak = gauges.shuffled_bytes(spark) - before, gauges.process_peak_memory(spark)
    wrote = gauges.written_bytes(tables[0], 0)
    for table, out in zip(tables, outs, strict=True):
        ways.write_delta_changes(spark, table, out)
        shutil.rmtree(table)
    return _result_document(spent, peak, shuffled // 2, wrote["cdc"], outs) | {"bronze_written": wrote}


def run_ours(spark: Any, state: Path, folder: Path) -> dict[str, Any]:
    """Run the stage ingest, cold and warm; after both, run the stage bronze on the same two lakes."""
    from peers import gauges, ours

    before = gauges.shuffled_bytes(spark)
    lakes = [ours.copy_lake(state, folder / name) for name in ("cold", "warm")]
    spent = [time_call(lambda lake=lake: ours.run_stage(lake, "ingest")) for lake in lakes]  # type: ignore[misc]
    shuffled, peak = gauges.shuffled_bytes(spark) - before, gauges.process_peak_memory(spark)
    table, outs = ours.bronze_path(lakes[0]), [ours.change_set_path(lake) for lake in lakes]
    per_row, version = gauges.average_row_bytes(table), gauges.newest_version(table)
    applied = [time_call(lambda lake=lake: ours.run_stage(lake, "bronze")) for lake in lakes]  # type: ignore[misc]
    result = _result_document(spent, peak, shuffled // 2, gauges.dataset_bytes(outs[0]), outs)
    wrote, changes = gauges.written_bytes(table, version), result["changes"][0]
    changed = per_row * sum(changes[kind] for kind in ("inserted", "updated", "deleted"))
    return result | {"bronze": applied, "bronze_written": wrote, "changed_bytes": changed}


def run_trial(peer: str, state: Path, new: Path, folder: Path) -> dict[str, Any]:
    if peer in IN_MEMORY:
        return run_in_memory(peer, state, new, folder)
    spark = start_spark(folder)
    return run_ours(spark, state, folder) if peer == OURS else run_on_spark(spark, peer, state, new, folder)


def start_spark(folder: Path) -> Any:
    from lakehouse.spark.session import get_session
    from lakehouse.storage.paths import Lake

    return get_session(Lake(str(folder / "session")), "bench")


def prepare_state(what: str, source: Path, folder: Path) -> None:
    """Prepare the state that a peer compares with, in a process that measures nothing."""
    spark = start_spark(folder)
    if what == MERGE:
        from peers import on_spark as ways

        ways.create_delta_table(spark, source, folder / "table")
        return
    from peers import ours

    ours.prepare_lake(folder / "pipeline", source)


def land_snapshot(pipeline: Path, new: Path, folder: Path) -> None:
    """Copy our lake and land the new snapshot; the stage extract starts no JVM."""
    from peers import ours

    ours.land_snapshot(ours.copy_lake(pipeline, folder), new, ours.SECOND)


def _output_folders(folder: Path) -> list[Path]:
    outs = [folder / "cold", folder / "warm"]
    for out in outs:
        out.mkdir(parents=True)
    return outs


def _result_document(
    spent: list[float], peak: int, shuffled: int | None, size: int, outs: list[Path]
) -> dict[str, Any]:
    changes = [asdict(data.read_changes(out)) for out in outs]
    return {"cold": spent[0], "warm": spent[1], "peak": peak, "shuffled": shuffled, "written": size, "changes": changes}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        peer, *paths = sys.argv[1:]
        verb, _, peer = peer.rpartition(":")
        work = {"": run_trial, "prepare": prepare_state}[verb]
        document = work(peer, *map(Path, paths))
    print(json.dumps(document))
