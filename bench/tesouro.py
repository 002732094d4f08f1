"""Measures the way of bond prices from JSON files to PostgreSQL and S3: the full history, then micro-batches.

    .venv/bin/python bench/tesouro.py --out docs/bench.md

Each run is a process of the command line, including the start of the JVM, limited to the two groups that come as JSON:
their tables, silver and gold, published under their names. The servers are PostgreSQL, a Kafka broker, a Connect worker
with Debezium and the sink, and s3proxy, all on this machine (tests/servers/stream.py). A micro-batch is a delivery of
the source: every file with its full contents in another order, with another `dt_update` in every row, and some new
quotes.

A stage takes as long as its slowest table or model; the first stage that needs Spark also starts it. Arrivals are
polled every 0.1 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "samples"), str(ROOT / "deploy/connect")]

from generate_tesouro import GROUPS, Snapshot, quote_days, quote_history, write_json  # noqa: E402
from loyalty import COMMAND  # noqa: E402
from on_s3 import seconds_by_stage, seconds_table  # noqa: E402
from peers import page  # noqa: E402
from servers import s3, stream  # noqa: E402

from lakehouse.publish.kafka_connect import json_lines  # noqa: E402
from lakehouse.storage import file_io  # noqa: E402

LAST_DAY = date(2026, 10, 30)  # so that the first of 45,000 quotes are not older than the treasury's file
GOLD_BY_TOPIC = {f"postgres-{group}_gold": f"{group}_gold" for group in GROUPS}  # by topic
TABLES_AND_MODELS = [*GROUPS, *(f"{layer}.{group}_{layer}" for group in GROUPS for layer in ("silver", "gold"))]
_TIMEOUT = 600.0
_POLL_INTERVAL = 0.1
ArrivalState = dict[tuple[str, str], object]


def write_snapshots(folder: Path, days: int, batch: int, count: int) -> Iterator[Path]:
    """Yield the groups' history without its last `count * batch` quotes, and then each time `batch` more of them."""
    families = {family for family, _ in GROUPS.values()}
    market = [(key, quote) for key, quote in quote_history(1, quote_days(LAST_DAY, days)) if key.family in families]
    market.sort(key=lambda pair: (pair[0].day, pair[0]))
    for n in range(count + 1):
        at = datetime.combine(LAST_DAY, time_of_day(13), timezone.utc) + n * timedelta(minutes=10)
        quotes = dict(market[: len(market) - (count - n) * batch])
        snapshot = Snapshot(folder / f"{at:%Y%m%d_%H%M%S}", at, quotes)
        snapshot.folder.mkdir(parents=True)
        for group in GROUPS:
            write_json(snapshot, group, 1, bad=None, is_first=False)
        print(f"{snapshot.folder.name}: {len(quotes):,} quotes", file=sys.stderr)
        yield snapshot.folder


def time_run(
    environ: dict[str, str], servers: stream.Servers, expected: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Run the pipeline, and watch until its changes have arrived at `expected` places.

    Returns:
        The seconds of the run, in total and by stage; and by place, the seconds from the commit of gold until both
        tables have arrived there.
    """
    seen_at: dict[tuple[str, str], float] = {}
    before = read_arrivals(servers)
    command = [*COMMAND, "run", "conf/tesouro", *TABLES_AND_MODELS, "--json"]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
        try:
            seconds = _watch_run(process, servers, before, seen_at, expected)
        finally:
            process.kill()  # it has ended, unless an error occurred here
        out.seek(0)
        by_stage = seconds_by_stage(out.read())
    committed = {name: commit_time(Path(environ["LAKE_ROOT"], "tesouro/gold", name)) for name in GOLD_BY_TOPIC.values()}
    late: dict[str, float] = {}
    for (place, name), at in seen_at.items():
        late[place] = max(late.get(place, 0.0), at - committed[name])
    return {"full run": seconds, **by_stage}, late


def _watch_run(
    process: subprocess.Popen[bytes], servers: stream.Servers, before: ArrivalState, seen_at: dict, expected: int
) -> float:
    """Record the time of each arrival until the run has ended and all have arrived; return the seconds of the run."""
    began, seconds = time.monotonic(), None
    while seconds is None or len(seen_at) < expected:
        if seconds is None and process.poll() is not None:
            seconds = time.monotonic() - began
            if process.returncode:
                raise SystemExit(f"the run ended with {process.returncode}")
        if time.monotonic() - began > _TIMEOUT:
            raise SystemExit(f"the changes have arrived only in {sorted(seen_at)}")
        for place, state in read_arrivals(servers).items():
            if state != before.get(place):
                seen_at.setdefault(place, time.time())
        time.sleep(_POLL_INTERVAL)
    return seconds


def read_arrivals(servers: stream.Servers) -> ArrivalState:
    """Return what changes with an arrival: the published versions in PostgreSQL, and the objects of each topic."""
    state: ArrivalState = {}
    (there,) = servers.database.execute("SELECT to_regclass('lakehouse_publish')")
    versions = servers.database.execute("SELECT table_name, version FROM lakehouse_publish") if there[0] else []
    for name, version in versions:
        if (short := name.rpartition(".")[2]) in GOLD_BY_TOPIC.values():
            state["PostgreSQL", short] = version
    client = s3.client(servers.s3)
    for topic, name in GOLD_BY_TOPIC.items():
        listed = client.list_objects_v2(Bucket=stream.BUCKET, Prefix=f"topics/{topic}/")
        if listed["KeyCount"]:
            state["S3", name] = listed["KeyCount"]  # a list has at most 1,000 objects, and there are some 300
    return state


def commit_time(path: Path) -> float:
    """Return the time of the newest commit of a Delta table, in seconds since 1970."""
    newest = max((path / "_delta_log").glob("*.json"))
    first = json.loads(newest.read_text(encoding="utf-8").partition("\n")[0])
    return float(first["commitInfo"]["timestamp"]) / 1000


def start_connectors(environ: dict[str, str], servers: stream.Servers) -> None:
    """Start the connectors after the first run, and wait until S3 has its tables."""
    stream.create_publication(servers.database)
    command = [*COMMAND, "connect", "apply", "conf/tesouro"]
    subprocess.run(command, env=environ, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    topics = file_io.store_path(f"s3a://{stream.BUCKET}/topics")
    while any(
        json_lines.compare_with_table(servers.database.url, name, topics / topic)[1]
        for topic, name in GOLD_BY_TOPIC.items()
    ):
        time.sleep(1)


def rotation_interval(servers: stream.Servers, seconds: float | None = None) -> float:
    """Return the rotation interval of the sink in seconds, after setting it to `seconds`."""
    place = f"{servers.connect.address}/connectors/s3-gold/config"
    config = json.load(urllib.request.urlopen(place, timeout=30))
    if seconds is not None:
        config["rotate.interval.ms"] = f"{1000 * seconds:.0f}"
        put = urllib.request.Request(
            place, json.dumps(config).encode(), {"Content-Type": "application/json"}, method="PUT"
        )
        urllib.request.urlopen(put, timeout=30).close()
        time.sleep(10)  # until its task has restarted
    return float(config["rotate.interval.ms"]) / 1000


def section(quotes: int, batch: int, size: int, runs: dict[str, list], late: dict[str, list[dict[str, float]]]) -> str:
    """Return the Markdown section: seconds by stage, and the delay between gold and the other systems."""
    rounds = [{f"all {quotes:,}, cold": runs["cold"][0], f"{batch} more": each} for each in runs["batches"]]
    text = [
        f"## Bond prices from JSON to PostgreSQL and S3: {quotes:,} quotes",
        "",
        f"Full history of both groups as JSON ({size / page.MB:.0f} MB), and micro-batches: the full files again, with"
        f" {batch} new quotes. Seconds: medians of {len(rounds)} batches (minimum to"
        " maximum); `bench/tesouro.py` explains them.",
        "",
        *[line.replace("| run |", "| quotes |", 1) for line in seconds_table(rounds)],
        "",
        "Delay from the commit of gold until it arrives, in a run that publishes directly after gold:",
        "",
        "| rotation interval of the sink | PostgreSQL, s | S3, s |",
        "|---|--:|--:|",
    ]
    for name, each in late.items():
        cells = [[delay[place] for delay in each] for place in ("PostgreSQL", "S3")]
        shown = [f"{statistics.median(c):.1f} ({min(c):.1f} to {max(c):.1f})" for c in cells]
        text.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join([*text, "", *page.environment_lines()]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=5670, help="number of quote days: 5670 are some 45,000 quotes")
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--batches", type=int, default=3, help="for each of two settings of the sink")
    parser.add_argument("--out", type=Path, help="page to write the section into")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, stream.running_servers(Path(name)) as servers:
        folder = Path(name)
        next_snapshots = list(write_snapshots(folder / "made", options.days, options.batch, 2 * options.batches))
        (folder / "source").mkdir()
        os.environ |= servers.environment()
        environ = dict(os.environ) | {"LAKE_ROOT": str(folder / "lake"), "TESOURO_SOURCE": str(folder / "source")}

        def add_next_snapshot() -> Path:
            snapshot = next_snapshots.pop(0)
            return snapshot.rename(folder / "source" / snapshot.name)

        size = sum(file.stat().st_size for file in add_next_snapshot().iterdir())
        runs = {"cold": [time_run(environ, servers, len(GOLD_BY_TOPIC))[0]], "batches": []}
        counted = [
            servers.database.execute(f"SELECT sum(qtde_registros)::int FROM {name}") for name in GOLD_BY_TOPIC.values()
        ]
        start_connectors(environ, servers)
        late: dict[str, list[dict[str, float]]] = {}
        for seconds in (None, 1.0):
            interval = f"{rotation_interval(servers, seconds):g} s{'' if seconds else ', as shipped'}"
            for _ in range(options.batches):
                add_next_snapshot()
                timings, delays = time_run(environ, servers, 2 * len(GOLD_BY_TOPIC))
                runs["batches"].append(timings)
                late.setdefault(interval, []).append(delays)
                print(timings, delays, file=sys.stderr)
    text = section(sum(rows for ((rows,),) in counted), options.batch, size, runs, late)
    print(text)
    if options.out:
        page.write_section(options.out, text)


if __name__ == "__main__":
    main()
