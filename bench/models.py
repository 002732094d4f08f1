"""Measures the refresh of a cube after 1,000 changed rows, against computing it fully in Spark and in DuckDB.

    .venv/bin/python bench/models.py --rows 1000000,10000000,50000000 --out docs/bench.md

A fact table with `--rows` rows, 20,000 per day in random order, is written as Delta directly. Silver is a row-wise
model of it, gold a cube of day and product with totals for each day. The engine builds both and refreshes them after
each change: first of rows of the last three days, then of rows of any day. Each size runs in a process of its own. At
the end the cube is compared with the result of its SQL over all rows: any difference fails the bench.
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
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import gauges, page  # noqa: E402

ROWS_PER_DAY, CHANGED_ROWS, ROW_BYTES = 20_000, 1_000, 50  # the last: bytes of a row as CSV
LAST_DAYS = 3
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
# The functions that the seconds of a refresh are attributed to: module, class and function.
TIMED_FUNCTIONS = {
    "current versions": ("lake.delta", "", "current_version"),
    "affected keys": ("models.incremental", "IncrementalQuery", "affected_rows"),
    "MERGE": ("lake.merge", "", "_merge"),
}


# --- one size, in a process of its own --------------------------------------------------------------------------


class CubeBench:
    """The lake of one size, and the operations that are measured on it."""

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
        """Return the SQL expression of the day of a row, which follows from its number."""
        return f"pmod(xxhash64(id), {self.days})"

    def change_rows(self, within: int) -> None:
        """Change product and amount of 1,000 rows of the last `within` days."""
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
        """Refresh a model; return its status, the seconds with their parts, and the rows that Spark read."""
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
        """Compute the full cube in DuckDB from the Parquet files of silver into a file; return the seconds."""
        import duckdb

        files = self.spark.read.format("delta").load(self.lake.table("silver.vendas")).inputFiles()
        paths = [file.removeprefix("file://") for file in files]
        began = time.monotonic()
        with duckdb.connect() as duck:
            rows = duck.read_parquet(paths)  # noqa: F841 -- the query uses it
            duck.execute(
                f"COPY ({CUBE.format('rows')}) TO '{out}' (FORMAT parquet)".replace(
                    "GROUPING_ID()", _DUCKDB_GROUPING_ID
                )
            )
        return time.monotonic() - began

    def is_correct(self) -> bool:
        """Return whether the cube is equal to the result of its SQL over all rows."""
        from lakehouse.lake import delta
        from lakehouse.models.model import run_model_query

        silver = delta.read(self.spark, self.lake.table("silver.vendas"))
        expected = run_model_query(self.spark, self.models["gold.por_dia"], {"silver.vendas": silver})
        cube = delta.read(self.spark, self.lake.table("gold.por_dia"))
        return expected.exceptAll(cube).isEmpty() and cube.count() == expected.count()

    def silver_files(self) -> list[tuple[int, int]]:
        """Return number and bytes of the silver files that may contain one of the last days, and of all files."""
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
    """Measure the seconds by part during the block."""
    import importlib

    spent: Counter[str] = Counter()
    originals = []
    for part, (module, class_name, name) in TIMED_FUNCTIONS.items():
        owner = importlib.import_module(f"lakehouse.{module}")
        owner = getattr(owner, class_name) if class_name else owner
        originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, _timed_function(getattr(owner, name), spent, part))
    try:
        yield spent
    finally:
        for owner, name, function in originals:
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
    """Measure one size; return all figures as JSON values."""
    cube = CubeBench(folder, rows)
    results: dict[str, Any] = {"silver_full": cube.refresh("silver.vendas"), "full": cube.refresh("gold.por_dia")}
    results["duckdb"] = [cube.compute_in_duckdb(folder / f"cube-{n}.parquet") for n in range(rounds)]
    results["files"] = cube.silver_files()
    for name, within in (("last days", LAST_DAYS), ("any day", cube.days)):
        results[name] = []
        for _ in range(rounds):
            cube.change_rows(within)
            results[name].append({model: cube.refresh(model) for model in ("silver.vendas", "gold.por_dia")})
    if not cube.is_correct():
        raise SystemExit(f"{rows:,} rows: the cube differs from the result of its SQL over all rows")
    return results


# --- all sizes --------------------------------------------------------------------------------------------------


def section(results: dict[int, dict[str, Any]], rounds: int) -> str:
    """Return the Markdown section: the cost of a refresh by size, compared with a full computation."""
    lines = [
        "## A cube after 1,000 changed rows",
        "",
        f"Seconds of the refresh of gold; medians of {rounds} changes (minimum to maximum), without the first of a"
        " process if there are more. *Full* is the first build of the cube: the same query in Spark, written to Delta.",
        "",
        "| rows | changed in | refresh, s | of silver, s | rows read | full in Spark, s | in DuckDB, s"
        " | full : refresh |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for rows, figures in results.items():
        for name in ("last days", "any day"):
            lines.append(_result_line(rows, name, figures))
    lines += ["", "The seconds of a refresh after changes in the last days, by part:", ""]
    lines += [
        "| rows | " + " | ".join(TIMED_FUNCTIONS) + " | other |",
        "|--:|" + "--:|" * (len(TIMED_FUNCTIONS) + 1),
    ]
    for rows, figures in results.items():
        parts = [
            _median(figures["last days"], lambda t, p=part: t["gold.por_dia"]["parts"].get(p, 0.0))
            for part in TIMED_FUNCTIONS
        ]  # type: ignore[misc]
        other = _median(figures["last days"], lambda t: t["gold.por_dia"]["seconds"]) - sum(parts)
        lines.append(f"| {rows:,} | " + " | ".join(f"{part:.2f}" for part in (*parts, other)) + " |")
    lines += ["", *[f"- {rows:,} rows: {_files_line(figures)}" for rows, figures in results.items()]]
    lines += ["- after the last change the cube was equal to the result of its SQL over all rows, at every size", ""]
    return "\n".join([*lines, *page.environment_lines()]) + "\n"


def _result_line(rows: int, name: str, figures: dict[str, Any]) -> str:
    gold = sorted(t["gold.por_dia"]["seconds"] for t in _warm(figures[name]))
    spent, full = statistics.median(gold), figures["full"]["seconds"]
    silver = _median(figures[name], lambda t: t["silver.vendas"]["seconds"])
    read = _median(figures[name], lambda t: t["gold.por_dia"]["records"])
    duck = statistics.median(figures["duckdb"])
    how = figures[name][-1]["gold.por_dia"]["how"]
    return (
        f"| {rows:,} | {name} ({how}) | {spent:.2f} ({gold[0]:.2f} to {gold[-1]:.2f}) | {silver:.2f} | {read:,.0f} |"
        f" {full:.1f} | {duck:.2f} | {full / spent:.1f} |"
    )


def _files_line(figures: dict[str, Any]) -> str:
    (near, read), (every, size) = figures["files"]
    text = f"{near} of silver's {every} files may hold one of the last {LAST_DAYS} days"
    return f"{text}, {read / 1e6:.1f} of {size / 1e6:,.0f} MB; the other files are not read for them"


def _warm(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return trials[1:] or trials


def _median(trials: list[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(of(trial) for trial in _warm(trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000000,10000000")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
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
