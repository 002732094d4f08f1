"""What it costs to keep a cube true: after 1,000 changed rows, beside computing it whole in Spark and in DuckDB.

    .venv/bin/python bench/models.py --rows 1000000,10000000,50000000 --out docs/bench.md

A fact table of so many rows, 20,000 a day in no order of days, is written as Delta directly. Silver is a row-wise model
of it, gold a cube of day and product with totals for each day; the engine makes both, lays silver out, and refreshes
them after each change: first of rows of the last three days, then of rows of any day. Each size runs in a process of
its own. At the end the cube is compared with its SQL over everything: one row off fails the bench.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # the clone's package, whatever is installed

from peers import gauges, page  # noqa: E402

ROWS_PER_DAY, CHANGED_ROWS, ROW_BYTES = 20_000, 1_000, 50  # rows of a day; rows changed; bytes of a row, as CSV
LAST_DAYS = 3  # days
SCHEMA = "id BIGINT, dia DATE, produto INT, cliente INT, valor DECIMAL(12,2)"
SILVER = (
    "SELECT v.id AS id, v.dia AS dia, v.produto AS produto, v.cliente AS cliente, v.valor AS valor"
    " FROM bronze.vendas AS v"
)
CUBE = (
    "SELECT v.dia AS dia, v.produto AS produto, GROUPING_ID() AS grupo, COUNT(*) AS vendas,"
    " COUNT(DISTINCT v.cliente) AS clientes, SUM(v.valor) AS valor"
    " FROM {} AS v GROUP BY GROUPING SETS ((v.dia, v.produto), (v.dia))"
)
# Where the seconds of a refresh go: who asks, and what for.
TIMED_FUNCTIONS = {
    "heads": ("delta", "head"),
    "touched keys": ("incremental.Work", "touched"),
    "MERGE": ("merge", "_apply"),
}


# --- one size, in a process of its own --------------------------------------------------------------------------


class CubeBench:
    """The lake of one size, and what is done to it."""

    def __init__(self, folder: Path, rows: int) -> None:
        from lakehouse.lake import ledger
        from lakehouse.runner import context, stages
        from lakehouse.spark import session

        self.rows, self.days, self.turn = rows, rows // ROWS_PER_DAY, 0
        pipeline = _write_pipeline(folder)
        run = context.open_run(pipeline)
        self.lake, self.size = run.lake, rows * ROW_BYTES
        self.spark = session.get_session(self.lake, "bench", data_bytes=self.size)
        self._write_facts()
        ledger.create_if_missing(self.spark, self.lake)
        self.models = stages.build_models(run)

    def _write_facts(self) -> None:
        from lakehouse.lake import delta

        drawn = [f"CAST(pmod(xxhash64(id, {n}), {of}) AS INT) AS {name}" for n, of, name in _RANDOM_COLUMNS]
        day = f"date_add(DATE'2015-01-01', CAST({self._day_of_row()} AS INT)) AS dia"
        money = "CAST(pmod(xxhash64(id, 3), 1000000) / 100 AS DECIMAL(12,2)) AS valor"
        facts = self.spark.range(self.rows).selectExpr("id", day, *drawn, money)
        facts.write.format("delta").options(**delta.table_properties(True)).save(self.lake.table("bronze.vendas"))

    def _day_of_row(self) -> str:
        """Which day a row is of, from its number."""
        return f"pmod(xxhash64(id), {self.days})"

    def change_rows(self, within: int) -> None:
        """1,000 rows of the last `within` days get another product and amount."""
        from delta.tables import DeltaTable

        self.turn += 1
        rows = self.spark.range(self.rows).where(f"{self._day_of_row()} >= {self.days - within}")
        rows = rows.where(f"pmod(xxhash64(id, {100 + self.turn}), {within * ROWS_PER_DAY // CHANGED_ROWS}) = 0").limit(
            CHANGED_ROWS
        )
        product = f"CAST(pmod(xxhash64(id, {200 + self.turn}), 40) AS INT) AS produto"
        new = rows.selectExpr("id", product, f"CAST({self.turn} AS DECIMAL(12,2)) AS valor")
        new = self.spark.createDataFrame(new.toArrow(), new.schema)
        facts = DeltaTable.forPath(self.spark, self.lake.table("bronze.vendas")).alias("t")
        merge = facts.merge(new.alias("s"), "t.id = s.id")
        merge.whenMatchedUpdate(set={"produto": "s.produto", "valor": "s.valor"}).execute()

    def refresh(self, model: str) -> dict[str, Any]:
        """One refresh by the engine: how, seconds and their parts, what Spark read for it."""
        from lakehouse.models import refresh as refresh_module
        from lakehouse.spark import session

        spark, before = session.isolated_session(self.spark, self.size), gauges.rows_read(self.spark)
        with _time_parts() as parts:
            began = time.monotonic()
            done = refresh_module.refresh(spark, self.lake, self.models[model], is_small_lake=False)
            spent = time.monotonic() - began
        rows = gauges.rows_read(self.spark) - before
        return {"how": done.status, "seconds": spent, "parts": dict(parts), "records": rows}

    def compute_in_duckdb(self, out: Path) -> float:
        """Seconds of the whole cube in DuckDB, from silver's Parquet files to one of its own."""
        import duckdb

        files = self.spark.read.format("delta").load(self.lake.table("silver.vendas")).inputFiles()
        paths = [file.removeprefix("file://") for file in files]
        began = time.monotonic()
        with duckdb.connect() as duck:
            rows = duck.read_parquet(paths)  # noqa: F841 -- the query names it
            duck.execute(
                f"COPY ({CUBE.format('rows')}) TO '{out}' (FORMAT parquet)".replace(
                    "GROUPING_ID()", _DUCKDB_GROUPING_ID
                )
            )
        return time.monotonic() - began

    def is_correct(self) -> bool:
        """Whether the cube is what its SQL gives over everything."""
        from lakehouse.lake import delta
        from lakehouse.models import refresh as refresh_module

        silver = delta.read(self.spark, self.lake.table("silver.vendas"))
        whole = refresh_module.run_model_query(self.spark, self.models["gold.por_dia"], {"silver.vendas": silver})
        kept = delta.read(self.spark, self.lake.table("gold.por_dia"))
        return whole.exceptAll(kept).isEmpty() and kept.count() == whole.count()

    def silver_files(self) -> list[tuple[int, int]]:
        """Of silver: the files that may hold one of the last days, and all; how many, and their bytes."""
        from pyspark.sql import functions as F

        silver = self.spark.read.format("delta").load(self.lake.table("silver.vendas"))
        last = silver.agg(F.max("dia")).collect()[0][0]
        near = silver.where(F.col("dia") > F.date_sub(F.lit(last), LAST_DAYS))
        paths = [[Path(file.removeprefix("file://")) for file in rows.inputFiles()] for rows in (near, silver)]
        return [(len(files), sum(file.stat().st_size for file in files)) for files in paths]


_RANDOM_COLUMNS = ((1, 40, "produto"), (2, 200_000, "cliente"))
_DUCKDB_GROUPING_ID = "GROUPING(v.dia, v.produto)"


def _write_pipeline(folder: Path) -> Path:
    table = {"file": "vendas.csv", "format": "csv", "schema": SCHEMA, "keys": ["id"]}
    document = {"name": "bench", "lake": str(folder / "lake"), "source": {"type": "files", "path": str(folder)}}
    document |= {"tables": {"vendas": table}, "silver": {"vendas": {"keys": ["id"]}}, "gold": {"por_dia": {}}}
    for model, sql in (("silver/vendas", SILVER), ("gold/por_dia", CUBE.format("silver.vendas"))):
        (folder / model).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{model}.sql").write_text(sql, encoding="utf-8")
    (folder / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


@contextmanager
def _time_parts() -> Iterator[Counter[str]]:
    """Seconds by part, while the block lasts."""
    import importlib

    spent: Counter[str] = Counter()
    kept = []
    for part, (place, name) in TIMED_FUNCTIONS.items():
        module, _, attribute = place.partition(".")
        owner = importlib.import_module(f"lakehouse.{module}")
        owner = getattr(owner, attribute) if attribute else owner
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, _timed_function(getattr(owner, name), spent, part))
    try:
        yield spent
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def _timed_function(function: Callable[..., Any], spent: Counter[str], part: str) -> Callable[..., Any]:
    def timed(*args: Any, **options: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*args, **options)
        finally:
            spent[part] += time.monotonic() - began  # type: ignore[assignment]

    return timed


def measure_size(rows: int, rounds: int, folder: Path) -> dict[str, Any]:
    cube = CubeBench(folder, rows)
    found: dict[str, Any] = {"silver_whole": cube.refresh("silver.vendas"), "whole": cube.refresh("gold.por_dia")}
    found["duckdb"] = [cube.compute_in_duckdb(folder / f"cube-{n}.parquet") for n in range(rounds)]
    found["files"] = cube.silver_files()
    for name, within in (("last days", LAST_DAYS), ("any day", cube.days)):
        found[name] = []
        for _ in range(rounds):
            cube.change_rows(within)
            found[name].append({model: cube.refresh(model) for model in ("silver.vendas", "gold.por_dia")})
    if not cube.is_correct():
        raise SystemExit(f"{rows:,} rows: the cube differs from its SQL over everything")
    return found


# --- all sizes --------------------------------------------------------------------------------------------------


def section(results: dict[int, dict[str, Any]], rounds: int) -> str:
    """Markdown: what a refresh costs by size, beside the whole."""
    lines = [
        "## A cube after 1,000 changed rows",
        "",
        f"Seconds of the refresh of gold; medians of {rounds} changes (least to most), the first of a process left out"
        " where there are more. *Whole* is the cube's first build: the same query in Spark, written to Delta.",
        "",
        "| rows | changed in | refresh, s | of silver, s | rows read | whole in Spark, s | in DuckDB, s"
        " | whole : refresh |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for rows, found in results.items():
        for name in ("last days", "any day"):
            lines.append(_result_line(rows, name, found))
    lines += ["", "Where the seconds of a refresh after changes in the last days go:", ""]
    lines += [
        "| rows | " + " | ".join(TIMED_FUNCTIONS) + " | the rest |",
        "|--:|" + "--:|" * (len(TIMED_FUNCTIONS) + 1),
    ]
    for rows, found in results.items():
        told = [
            _median(found["last days"], lambda t, p=part: t["gold.por_dia"]["parts"].get(p, 0.0))
            for part in TIMED_FUNCTIONS
        ]  # type: ignore[misc]
        rest = _median(found["last days"], lambda t: t["gold.por_dia"]["seconds"]) - sum(told)
        lines.append(f"| {rows:,} | " + " | ".join(f"{part:.2f}" for part in (*told, rest)) + " |")
    lines += ["", *[f"- {rows:,} rows: {_files_line(found)}" for rows, found in results.items()]]
    lines += ["- after the last change the cube was equal to its SQL over everything, at every size", ""]
    return "\n".join([*lines, *page.environment_lines()]) + "\n"


def _result_line(rows: int, name: str, found: dict[str, Any]) -> str:
    gold = sorted(t["gold.por_dia"]["seconds"] for t in _warm(found[name]))
    spent, whole = statistics.median(gold), found["whole"]["seconds"]
    silver = _median(found[name], lambda t: t["silver.vendas"]["seconds"])
    read = _median(found[name], lambda t: t["gold.por_dia"]["records"])
    duck = statistics.median(found["duckdb"])
    how = found[name][-1]["gold.por_dia"]["how"]
    return (
        f"| {rows:,} | {name} ({how}) | {spent:.2f} ({gold[0]:.2f} to {gold[-1]:.2f}) | {silver:.2f} | {read:,.0f} |"
        f" {whole:.1f} | {duck:.2f} | {whole / spent:.1f} |"
    )


def _files_line(found: dict[str, Any]) -> str:
    (near, read), (every, size) = found["files"]
    told = f"{near} of silver's {every} files may hold one of the last {LAST_DAYS} days"
    return f"{told}, {read / 1e6:.1f} of {size / 1e6:,.0f} MB: of the others nothing is read for them"


def _warm(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return trials[1:] or trials


def _median(trials: list[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(of(trial) for trial in _warm(trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000000,10000000")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, help="a page to put the tables into, such as docs/bench.md")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # a folder: one size, and its results as JSON
    options = parser.parse_args()
    sizes = [int(rows) for rows in options.rows.split(",")]
    if options.one:
        print(json.dumps(measure_size(sizes[0], options.rounds, options.one)))
        return
    results = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--rows", str(rows), "--rounds", str(options.rounds), "--one", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[rows] = json.loads(done.stdout.splitlines()[-1])
        print(f"{rows:,} rows done", file=sys.stderr)
    text = section(results, options.rounds)
    print(text)
    if options.out:
        page.write_section(options.out, text)


if __name__ == "__main__":
    main()
