"""Runs a pipeline on the bundled samples, one snapshot at a time, and shows the results (`make demo`).

samples/demo.py loyalty    a loyalty programme: the changes, the cubes, the checks and the report
samples/demo.py tesouro    prices of treasury bonds: inconsistent files, quarantine and revised values
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lakehouse.cli import main
from lakehouse.runner.context import open_run

ROOT = Path(__file__).resolve().parent.parent
LAKE = ROOT / "lake" / "demo"
SOURCE = LAKE / "source"  # with a folder for each pipeline
CONSOLE = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 120)


def say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def begin_step(title: str, *explanation: str) -> None:
    CONSOLE.print(f"\n== {title}", style="bold")
    if explanation:
        say(*explanation)


def run_verb(*arguments: str) -> None:
    """Run a command as if it had been typed."""
    CONSOLE.print(f"$ lakehouse {' '.join(arguments)}", style="cyan", soft_wrap=True)
    sys.stdout.flush()
    if code := main(list(arguments)):
        sys.exit(code)


def add_snapshot(pipeline: str, snapshot: Path) -> None:
    shutil.copytree(snapshot, SOURCE / pipeline / snapshot.name)


def show_cube(pipeline: str, cube: str, query: str) -> None:
    """Print rows of a cube, which is a Delta table like any other."""
    run = open_run(f"conf/{pipeline}")
    rows = run.spark.read.format("delta").load(str(LAKE / pipeline / cube.replace(".", "/")))
    found = run.spark.sql(query, cube=rows)
    table = Table(title=cube, title_justify="left", box=None, pad_edge=False)
    for column, kind in found.dtypes:
        table.add_column(column, justify="left" if kind in ("string", "date") else "right", no_wrap=True)
    for row in found.collect():
        table.add_row(*("" if value is None else str(value) for value in row))
    CONSOLE.print(table)


def run_for_document(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command for its document, of which the demo shows less than the command itself would."""
    CONSOLE.print(f"$ lakehouse {' '.join(arguments)}", style="cyan", soft_wrap=True)
    sys.stdout.flush()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main([*arguments, "--json"])
    return code, json.loads(out.getvalue())


def verify(pipeline: str) -> None:
    """Run `verify`, and print one line for each kind of check."""
    code, document = run_for_document("verify", f"conf/{pipeline}")
    checks = document["checks"]
    passed = Counter((check["invariant"], check["what"]) for check in checks if check["result"] == "holds")
    for (invariant, claim), count in sorted(passed.items()):
        say(f"  {invariant}  {count:>2} passed  {claim}")
    for check in checks:
        if check["result"] != "holds":
            say(f"  {check['invariant']}  {check['result']}: {check['name']}: {check['what']}, {check['figures']}")
    results = Counter(check["result"] for check in checks)
    others = [f"{results[result]} {result}" for result in ("failed", "not checkable") if results[result]]
    say(", ".join([f"{results['holds']} checks passed", *others]))
    if code:
        sys.exit(code)


def show_quarantine(pipeline: str, table: str) -> None:
    """Run `quarantine`, and print why each row is there, without the row."""
    _, document = run_for_document("quarantine", f"conf/{pipeline}", table)
    shown = Table(box=None, pad_edge=False)
    for column in ("line", "column", "value", "reason"):
        shown.add_column(column, no_wrap=True)
    for row in document["rows"]:
        shown.add_row(*(str(row[column]) for column in ("line", "column", "value", "reason")))
    CONSOLE.print(shown)
    say(f"{document['unresolved']} rows wait in quarantine; {document['resolved']} were corrected by the source since.")


def run_loyalty() -> None:
    first, second = sorted((ROOT / "samples" / "loyalty").iterdir())
    say(
        "The source is a loyalty programme that publishes full copies of its four tables, and never says what changed.",
        "The pipeline turns the copies into a log of changes, tables that follow the source, and five cubes.",
    )
    begin_step("1 of 6  The first snapshot: every row is new")
    add_snapshot("loyalty", first)
    run_verb("run", "conf/loyalty")
    begin_step(
        "2 of 6  The second snapshot, a day later: what will it change?",
        "Nothing is written yet. Rows are matched by key and compared value by value.",
    )
    add_snapshot("loyalty", second)
    run_verb("diff", "conf/loyalty", "clientes", "--samples", "2")
    begin_step("3 of 6  Apply the changes, from the source to the cubes")
    run_verb("run", "conf/loyalty")
    say("", "Only what changed was written. Without changes, a run has nothing to do:")
    run_verb("run", "conf/loyalty")
    begin_step("4 of 6  Look at the cubes: SQL over the cleaned tables, kept up to date by the changes")
    show_cube(
        "loyalty",
        "gold.resumo_diario",
        "SELECT dt_transacao, transacoes, clientes, pontos FROM {cube} WHERE grouping_id = 1 "
        "ORDER BY dt_transacao DESC LIMIT 5",
    )
    show_cube(
        "loyalty",
        "gold.churn",
        "SELECT * FROM {cube} WHERE base > 0 ORDER BY dt_referencia DESC LIMIT 5",
    )
    begin_step(
        "5 of 6  Check everything again, from the files of the source to the cubes",
        "This recomputes the tables independently, and compares them row by row.",
    )
    verify("loyalty")
    begin_step("6 of 6  The lake on one page")
    run_verb("report", "conf/loyalty", "--out", "artifacts/loyalty-report.html")
    say(
        "",
        "Done. Open the report in a browser:",
        f"  {ROOT / 'artifacts/loyalty-report.html'}",
        "The second pipeline, bond prices with errors to find:",
        "  make demo-tesouro",
        "More to ask this lake:",
        "  export LAKE_ROOT=lake/demo",
        "  .venv/bin/lakehouse status conf/loyalty",
        "  .venv/bin/lakehouse history conf/loyalty clientes",
        "  .venv/bin/lakehouse explain conf/loyalty gold.resumo_28_dias",
    )


def run_tesouro() -> None:
    first, second = sorted((ROOT / "samples" / "tesouro").iterdir())
    say(
        "The source publishes all prices of Brazil's treasury bonds again and again, with past days revised:",
        "JSON in which labels, days and numbers are written in many ways, and the treasury's own CSV.",
        "The samples have rows that cannot be read and prices that cannot be right.",
    )
    begin_step(
        "1 of 5  The first snapshot",
        "Rows that cannot be read, or that break an expectation of the pipeline, go to quarantine; the others go on.",
    )
    add_snapshot("tesouro", first)
    run_verb("run", "conf/tesouro")
    begin_step("2 of 5  The full history again: a new day, and revised quotes")
    add_snapshot("tesouro", second)
    run_verb("run", "conf/tesouro")
    begin_step("3 of 5  Look at the rows that could not be read, each with its reason")
    show_quarantine("tesouro", "dadostesouroipca")
    begin_step("4 of 5  Look at the cubes")
    show_cube(
        "tesouro",
        "gold.dadostesouroipca_gold",
        "SELECT data_base, tipo, qtde_registros, compra_manha_media, pu_base_manha_media FROM {cube} "
        "WHERE qtde_registros > 0 ORDER BY data_base DESC LIMIT 5",
    )
    show_cube(
        "tesouro",
        "gold.cotacoes_revisadas",
        "SELECT tipo_titulo, data_vencimento, data_base, pu_base_manha, pu_base_revisado FROM {cube} "
        "WHERE situacao = 'REVISADA' ORDER BY ALL LIMIT 8",
    )
    begin_step("5 of 5  Check everything again, from the files of the source to the cubes")
    verify("tesouro")
    say(
        "",
        "Done. More to ask this lake:",
        "  export LAKE_ROOT=lake/demo",
        "  .venv/bin/lakehouse quarantine conf/tesouro silver.precos_silver",
        "  .venv/bin/lakehouse status conf/tesouro",
        "  .venv/bin/lakehouse report conf/tesouro",
    )


PIPELINES = {"loyalty": run_loyalty, "tesouro": run_tesouro}


def run_demo(pipeline: str) -> None:
    os.chdir(ROOT)
    os.environ |= {"LAKE_ROOT": str(LAKE)}
    os.environ |= {f"{name.upper()}_SOURCE": str(SOURCE / name) for name in PIPELINES}
    for folder in (LAKE / pipeline, SOURCE / pipeline):
        shutil.rmtree(folder, ignore_errors=True)
    PIPELINES[pipeline]()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PIPELINES:
        sys.exit(f"usage: samples/demo.py {'|'.join(PIPELINES)}")
    run_demo(sys.argv[1])
