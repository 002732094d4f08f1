"""`make demo`: the loyalty pipeline on the bundled samples, one snapshot at a time, then a look at what it made."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import polars as pl

from lakehouse.cli import main

ROOT = Path(__file__).resolve().parent.parent
LAKE = ROOT / "lake" / "demo"
SOURCE = LAKE / "source"
REPORT = ROOT / "artifacts" / "loyalty-report.html"


def step(said: str, *arguments: str) -> None:
    print(f"\n# {said}\n$ lakehouse {' '.join(arguments)}", flush=True)
    if code := main(list(arguments)):
        sys.exit(code)


def look(cube: str, said: str, rows: pl.Expr) -> None:
    """Read a cube as anybody would: a Delta table like any other."""
    print(f"\n# {said}: {LAKE.relative_to(ROOT)}/loyalty/gold/{cube}", flush=True)
    with pl.Config(tbl_rows=12, tbl_cols=12, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(pl.read_delta(str(LAKE / "loyalty" / "gold" / cube)).filter(rows).sort(pl.all()).tail(8))


def demo() -> None:
    os.chdir(ROOT)
    os.environ |= {"LAKE_ROOT": str(LAKE), "LOYALTY_SOURCE": str(SOURCE)}
    shutil.rmtree(LAKE, ignore_errors=True)
    first, second = sorted((ROOT / "samples" / "loyalty").iterdir())
    shutil.copytree(first, SOURCE / first.name)
    step("the source's first snapshot: all of it is new", "run", "conf/loyalty")
    shutil.copytree(second, SOURCE / second.name)
    step("its second snapshot: nobody says what changed", "run", "conf/loyalty")
    step("the same again: nothing is new, and no JVM would be started", "run", "conf/loyalty")
    step("every decision about one table's snapshots", "history", "conf/loyalty", "clientes")
    step("how a cube is kept up to date by what changed", "explain", "conf/loyalty", "gold.resumo_28_dias")
    look("resumo_diario", "the newest days, all products", pl.col("grouping_id") == 1)
    look("churn", "clients lost, day by day", pl.col("base") > 0)
    look("ciclo_de_vida", "where clients are in their life", pl.col("ciclo") == "RECONQUISTADO")
    print(
        "\nWhat has to hold always, checked on that lake:\n"
        "$ LAKE_ROOT=lake/demo .venv/bin/lakehouse verify conf/loyalty"
    )
    step("all of it on one page", "report", "conf/loyalty", "--out", str(REPORT.relative_to(ROOT)))
    print(f"\nOpen it in a browser: {REPORT}")


if __name__ == "__main__":
    demo()
