"""Runs both pipelines on the bundled samples, one snapshot at a time, and shows the results (`make demo`)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import polars as pl

from lakehouse.cli import main

ROOT = Path(__file__).resolve().parent.parent
LAKE = ROOT / "lake" / "demo"
SOURCE = LAKE / "source"  # with a folder for each pipeline
REPORT = ROOT / "artifacts" / "loyalty-report.html"


def run_verb(title: str, *arguments: str) -> None:
    print(f"\n# {title}\n$ lakehouse {' '.join(arguments)}", flush=True)
    if code := main(list(arguments)):
        sys.exit(code)


def show_table(table: str, title: str, rows: pl.Expr, columns: pl.Expr | None = None) -> None:
    """Print rows of a cube, read with Polars like any Delta table."""
    print(f"\n# {title}: {(LAKE / table).relative_to(ROOT)}", flush=True)
    with pl.Config(tbl_rows=12, tbl_cols=12, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        cube = pl.read_delta(str(LAKE / table)).filter(rows)
        print(cube.select(pl.all() if columns is None else columns).sort(pl.all()).tail(8))


def add_snapshot(pipeline: str, snapshot: Path) -> None:
    shutil.copytree(snapshot, SOURCE / pipeline / snapshot.name)


def run_loyalty() -> None:
    first, second = sorted((ROOT / "samples" / "loyalty").iterdir())
    add_snapshot("loyalty", first)
    run_verb("the first snapshot of the source: every row is new", "run", "conf/loyalty")
    add_snapshot("loyalty", second)
    run_verb("the second snapshot: the changes are found by comparison", "run", "conf/loyalty")
    run_verb("another run: nothing is new, so a separate process would start no JVM", "run", "conf/loyalty")
    run_verb("every decision about the snapshots of a table", "history", "conf/loyalty", "clientes")
    run_verb("how a cube is refreshed incrementally", "explain", "conf/loyalty", "gold.resumo_28_dias")
    show_table("loyalty/gold/resumo_diario", "the newest days, all products", pl.col("grouping_id") == 1)
    show_table("loyalty/gold/churn", "lost clients by day", pl.col("base") > 0)
    show_table("loyalty/gold/ciclo_de_vida", "the lifecycle states of clients", pl.col("ciclo") == "RECONQUISTADO")


def run_tesouro() -> None:
    first, second = sorted((ROOT / "samples" / "tesouro").iterdir())
    add_snapshot("tesouro", first)
    run_verb("bond prices in two forms: inconsistent JSON and the treasury's CSV", "run", "conf/tesouro")
    add_snapshot("tesouro", second)
    run_verb("the full history again: a new day, and revised past quotes", "run", "conf/tesouro")
    run_verb("the rows that could not be read", "quarantine", "conf/tesouro", "dadostesouroipca")
    show_table(
        "tesouro/gold/dadostesouroipca_gold",
        "the means of each day",
        pl.col("qtde_registros") > 0,
        pl.col("data_base", "tipo", "qtde_registros", "compra_manha_media", "pu_base_manha_media"),
    )
    show_table(
        "tesouro/gold/cotacoes_revisadas",
        "quotes that were revised",
        pl.col("situacao") == "REVISADA",
        pl.col("tipo_titulo", "data_vencimento", "data_base", "pu_base_manha", "pu_base_revisado"),
    )


def run_demo() -> None:
    os.chdir(ROOT)
    os.environ |= {"LAKE_ROOT": str(LAKE)}
    os.environ |= {"LOYALTY_SOURCE": str(SOURCE / "loyalty"), "TESOURO_SOURCE": str(SOURCE / "tesouro")}
    shutil.rmtree(LAKE, ignore_errors=True)
    run_loyalty()
    run_tesouro()
    print(
        "\nTo check the invariants of this lake:\n"
        "$ LAKE_ROOT=lake/demo .venv/bin/lakehouse verify conf/loyalty\n"
        "$ LAKE_ROOT=lake/demo .venv/bin/lakehouse verify conf/tesouro"
    )
    run_verb("the lake on one page", "report", "conf/loyalty", "--out", str(REPORT.relative_to(ROOT)))
    print(f"\nOpen it in a browser: {REPORT}")


if __name__ == "__main__":
    run_demo()
