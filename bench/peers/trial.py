"""One peer in a process of its own: set up, then the same comparison twice, the first one cold.

    python -m peers.trial PEER STATE NEW FOLDER        prints one JSON document

FOLDER is an empty one to work in. STATE is what the peer compares with: a Parquet file, a Delta table, our pipeline.
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


def missing(peer: str) -> str:
    """Why a peer cannot be asked here; empty if it can."""
    module = {"spark wide join": "pyspark", MERGE: "delta", OURS: "lakehouse"}.get(peer, peer)
    try:
        __import__(module)
    except ImportError as error:
        return f"{error}; see docs/bench.md"
    return ""


def seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def in_memory(peer: str, state: Path, new: Path, folder: Path) -> dict[str, Any]:
    from peers import gauges, in_memory

    module = {"duckdb": ["duckdb"], "polars": ["polars"], "pandas": ["pandas", "pyarrow.csv", "pyarrow.parquet"]}
    for name in module[peer]:
        __import__(name)
    work = getattr(in_memory, IN_MEMORY[peer])
    outs = _folders(folder)
    spent = [seconds(lambda out=out: work(state, new, out)) for out in outs]  # type: ignore[misc]
    return _result(spent, gauges.of_this_process(None), None, gauges.size(outs[0]), outs)


def on_spark(spark: Any, peer: str, state: Path, new: Path, folder: Path) -> dict[str, Any]:
    from peers import gauges
    from peers import on_spark as ways

    outs, before = _folders(folder), gauges.shuffled(spark)
    if peer in ON_SPARK:
        if peer == "datacompy":
            __import__("datacompy")
        work = getattr(ways, ON_SPARK[peer])
        spent = [seconds(lambda out=out: work(spark, state, new, out)) for out in outs]  # type: ignore[misc]
        moved, peak = gauges.shuffled(spark) - before, gauges.of_this_process(spark)
        return _result(spent, peak, moved // 2, gauges.size(outs[0]), outs)
    tables = [out / "table" for out in outs]
    for table in tables:
        subprocess.run(["cp", "-al", state, table], check=True)
    spent = [seconds(lambda table=table: ways.delta_merge(spark, table, new)) for table in tables]  # type: ignore[misc]
    moved, peak = gauges.shuffled(spark) - before, gauges.of_this_process(spark)
    wrote = gauges.written(tables[0], 0)
    for table, out in zip(tables, outs, strict=True):
        ways.delta_changes(spark, table, out)
        shutil.rmtree(table)
    return _result(spent, peak, moved // 2, wrote["cdc"], outs) | {"bronze_written": wrote}


def of_ours(spark: Any, state: Path, folder: Path) -> dict[str, Any]:
    """The stage ingest, cold and warm; after both were measured, the stage bronze on the same two lakes."""
    from peers import gauges, ours

    before = gauges.shuffled(spark)
    lakes = [ours.copy(state, folder / name) for name in ("cold", "warm")]
    spent = [seconds(lambda lake=lake: ours.perform(lake, "ingest")) for lake in lakes]  # type: ignore[misc]
    moved, peak = gauges.shuffled(spark) - before, gauges.of_this_process(spark)
    table, outs = ours.bronze(lakes[0]), [ours.change_set(lake) for lake in lakes]
    per_row, version = gauges.row_bytes(table), gauges.newest(table)
    applied = [seconds(lambda lake=lake: ours.perform(lake, "bronze")) for lake in lakes]  # type: ignore[misc]
    result = _result(spent, peak, moved // 2, gauges.size(outs[0]), outs)
    wrote, changes = gauges.written(table, version), result["changes"][0]
    changed = per_row * sum(changes[kind] for kind in ("inserted", "updated", "deleted"))
    return result | {"bronze": applied, "bronze_written": wrote, "changed_bytes": changed}


def trial(peer: str, state: Path, new: Path, folder: Path) -> dict[str, Any]:
    if peer in IN_MEMORY:
        return in_memory(peer, state, new, folder)
    spark = started(folder)
    return of_ours(spark, state, folder) if peer == OURS else on_spark(spark, peer, state, new, folder)


def started(folder: Path) -> Any:
    from lakehouse.spark.session import get_session
    from lakehouse.storage.paths import Lake

    return get_session(Lake(str(folder / "session")), "bench")


def prepare(what: str, source: Path, folder: Path) -> None:
    """What a peer compares with, made by a process that measures nothing."""
    spark = started(folder)
    if what == MERGE:
        from peers import on_spark as ways

        ways.delta_table(spark, source, folder / "table")
        return
    from peers import ours

    ours.prepare(folder / "pipeline", source)


def land(pipeline: Path, new: Path, folder: Path) -> None:
    """A copy of our lake with the new snapshot landed; the stage extract starts no JVM."""
    from peers import ours

    ours.land(ours.copy(pipeline, folder), new, ours.SECOND)


def _folders(folder: Path) -> list[Path]:
    outs = [folder / "cold", folder / "warm"]
    for out in outs:
        out.mkdir(parents=True)
    return outs


def _result(spent: list[float], peak: int, moved: int | None, size: int, outs: list[Path]) -> dict[str, Any]:
    changes = [asdict(data.found(out)) for out in outs]
    return {"cold": spent[0], "warm": spent[1], "peak": peak, "shuffled": moved, "written": size, "changes": changes}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        peer, *paths = sys.argv[1:]
        verb, _, peer = peer.rpartition(":")
        work = {"": trial, "prepare": prepare}[verb]
        document = work(peer, *map(Path, paths))
    print(json.dumps(document))
