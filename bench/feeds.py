"""Measures a change feed of 1 M events over 200,000 keys into an empty table, and then late and newer ones.

    .venv/bin/python bench/feeds.py --events 1000000 --rounds 3 --out docs/bench.md

Of the later batches some are late by half, and the others are in order. All batches go through `ingest` and `bronze`,
as current state and as history. Beside them, in the same session, is what most write by hand: the latest event of each
key by a window, then a MERGE with the sequence as a condition. It has no history, keeps no deletes and no events. The
late events are of keys that are not deleted, for which both ways have to have the same rows. Each round is a lake of
its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import ours, page  # noqa: E402

from lakehouse.text import counted  # noqa: E402


class Batch(NamedTuple):
    """A batch: its folder, by what the number of events is divided for it, and whether half of its events are late."""

    stamp: str
    divisor: int
    is_late: bool = False


BATCHES = (
    Batch("20250101_000000", 1),
    Batch("20250102_000000", 10, is_late=True),
    Batch("20250103_000000", 1000, is_late=True),
    Batch("20250104_000000", 10),
    Batch("20250105_000000", 1000),
)
EVENTS_PER_KEY = 5
SCHEMA = "id BIGINT, op STRING, seq BIGINT, qty BIGINT, name STRING"
FEED = {"sequence_by": ["seq"], "delete_when": "op = 'D'", "drop": ["op", "seq"], "tombstones": "forever"}
TABLES = {"scd 1": {}, "scd 2": {"scd": 2}}
BY_HAND = "by hand"
MB = 1e6
HEADING = "## A change feed, beside a MERGE by hand"
ABOUT = """Seconds from the landed files to bronze, and the megabytes written: events, bronze and the ledger. *By hand*
is the latest event of each key by a window and a MERGE; it keeps no events, no history and no deletes. A batch with
late events reads bronze and the batches that overlap it, or all events if these are most of the feed; one that is in
order reads bronze."""


def write_events(folder: Path, events: int) -> None:
    """Write the batches: the events in a random order, and then fewer, of which half are late or none is.

    Every tenth key is deleted by its last event in the first batch. Late events are of other keys: the MERGE by hand
    would restore a deleted one.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random, keys = np.random.default_rng(0), events // EVENTS_PER_KEY

    def batch(ids: Any, sequences: Any, is_delete: Any) -> pa.Table:
        names = pa.array(np.char.add("name ", (sequences % 1000).astype(str)))
        kinds = pa.array(np.where(is_delete, "D", "U"))
        columns = [pa.array(ids), kinds, pa.array(sequences), pa.array(sequences * 7), names]
        return pa.table(columns, ["id", "op", "seq", "qty", "name"]).take(random.permutation(len(ids)))

    sequences = np.arange(events, dtype=np.int64) * 2  # even: late events get odd ones in between
    ids = sequences // 2 % keys
    tables = [batch(ids, sequences, (sequences // 2 >= events - keys) & (ids % 10 == 0))]
    late_sequences, end = random.permutation(events // 2).astype(np.int64) * 2 + 1, 2 * events
    alive = np.arange(keys)[np.arange(keys) % 10 != 0]
    for each in BATCHES[1:]:
        count = events // each.divisor
        own, late_sequences = np.split(late_sequences, [count // 2 if each.is_late else 0])
        new_sequences, end = np.arange(count - len(own), dtype=np.int64) * 2 + end, end + 2 * count
        new_ids = random.integers(0, keys + keys // 20, len(new_sequences))
        both = (np.concatenate([random.choice(alive, len(own)), new_ids]), np.concatenate([own, new_sequences]))
        tables.append(batch(*both, np.zeros(count, dtype=bool)))
    for each, table in zip(BATCHES, tables, strict=True):
        (folder / each.stamp).mkdir(parents=True)
        pq.write_table(table, folder / each.stamp / "events.parquet")


def run_ours(folder: Path, source: Path, settings: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the seconds and the MB written of each batch, from its landed files to bronze."""
    table = {"file": "events.parquet", "format": "parquet", "schema": SCHEMA, "keys": ["id"], "feed": FEED} | settings
    found, taken = [], folder / "source"
    document = {"name": "bench", "lake": str(folder / "lake"), "source": {"type": "files", "path": str(taken)}}
    folder.mkdir()
    (folder / "pipeline.json").write_text(json.dumps(document | {"tables": {"events": table}}), encoding="utf-8")
    for stamp, *_ in BATCHES:
        (taken / stamp).mkdir(parents=True)
        (taken / stamp / "events.parquet").hardlink_to(source / stamp / "events.parquet")
        ours.run_stage(folder, "extract")
        before, began = folder_bytes(folder / "lake"), time.monotonic()
        for stage in ("ingest", "bronze"):
            ours.run_stage(folder, stage)
        found.append((time.monotonic() - began, (folder_bytes(folder / "lake") - before) / MB))
    return found


def run_by_hand(spark: Any, folder: Path, source: Path) -> list[tuple[float, float]]:
    """Return the same of a MERGE of the latest event of each key."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    found, table = [], folder / "table"
    folder.mkdir()
    for stamp, *_ in BATCHES:
        before, began = folder_bytes(folder), time.monotonic()
        newest = Window.partitionBy("id").orderBy(F.desc("seq"))
        events = spark.read.parquet(str(source / stamp / "events.parquet"))
        latest = events.withColumn("rank", F.row_number().over(newest)).where("rank = 1").drop("rank")
        if not table.exists():
            latest.where("op <> 'D'").drop("op").write.format("delta").save(str(table))
        else:
            latest.createOrReplaceTempView("bench_latest")
            spark.sql(
                f"MERGE INTO delta.`{table}` t USING bench_latest s ON t.id = s.id"
                " WHEN MATCHED AND s.seq > t.seq AND s.op = 'D' THEN DELETE"
                " WHEN MATCHED AND s.seq > t.seq THEN UPDATE SET *"
                " WHEN NOT MATCHED AND s.op <> 'D' THEN INSERT *"
            )
        found.append((time.monotonic() - began, (folder_bytes(folder) - before) / MB))
    return found


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def require_equal(spark: Any, lake: Path, by_hand: Path) -> None:
    """Raise if the current rows of both ways differ."""
    columns = ["id", "qty", "name", "_feed_sequence"]
    rows = spark.read.format("delta").load(str(lake / "bronze/events")).select(*columns)
    others = spark.read.format("delta").load(str(by_hand / "table")).withColumnRenamed("seq", "_feed_sequence")
    if rows.exceptAll(others.select(*columns)).count() or others.select(*columns).exceptAll(rows).count():
        raise SystemExit("the MERGE by hand has other rows")


def measure(options: argparse.Namespace, work: Path) -> dict[str, list[list[tuple[float, float]]]]:
    """Return, for each way, the seconds and MB of each batch in each round; a round before them warms up."""
    from lakehouse.spark import session
    from lakehouse.storage.paths import Lake

    write_events(work / "events", options.events)
    spark = session.get_session(Lake(str(work / "lake")), "bench", data_bytes=session.SMALL_DATA_BYTES)
    rounds: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in (*TABLES, BY_HAND)}
    for number in range(options.rounds + 1):
        folder = work / str(number)
        folder.mkdir()
        for name, settings in TABLES.items():
            rounds[name].append(run_ours(folder / name.replace(" ", ""), work / "events", settings))
        rounds[BY_HAND].append(run_by_hand(spark, folder / "hand", work / "events"))
        require_equal(spark, folder / "scd1/lake", folder / "hand")
    return {name: each[1:] or each for name, each in rounds.items()}


def table_rows(rounds: dict[str, list[list[tuple[float, float]]]], events: int) -> list[list[str]]:
    """Return the cells of each batch: the medians of seconds and MB of each way."""
    rows = []
    for at, batch in enumerate(BATCHES):
        name = f"{events // batch.divisor:,} events"
        name += "" if at == 0 else ", half of them late" if batch.is_late else ", in order"
        medians = [statistics.median(one[at][part] for one in each) for each in rounds.values() for part in (0, 1)]
        rows.append([name, *(f"{median:.1f}" for median in medians)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = table_rows(measure(options, Path(folder)), options.events)
    ways = [f"{name}, s | MB" for name in (*TABLES, BY_HAND)]
    lines = [f"| | {' | '.join(ways)} |", f"|---|{'--:|' * 2 * len(ways)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    rounds = counted(options.rounds, "round")
    about = f"{ABOUT} Medians of {rounds}, after one that warms up; the load was {load:.1f} before them."
    section = "\n".join([HEADING, "", about, "", *lines, "", *page.environment_lines()]) + "\n"
    print(section)
    if options.out:
        page.write_section(options.out, section)


if __name__ == "__main__":
    main()
