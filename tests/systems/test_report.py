"""Compares the contents of `lakehouse report` and the notebooks with the files of real lakes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import polars as pl
import pytest
from helpers import ITEMS, LakeFiles, Project, Result, lakehouse
from nbclient import NotebookClient
from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("spark")

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "samples" / "loyalty"
NOTEBOOKS = [REPOSITORY / "notebooks" / f"{name}.ipynb" for name in ("cubes", "tour")]


@dataclass
class Page(LakeFiles):
    """The files of a lake, and a report of it as text."""

    text: str
    done: Result

    def sheet(self, name: str) -> list[dict[str, str]]:
        """Return the rows of a table of the page, found by its element's id, as dictionaries by heading."""
        (table,) = re.findall(rf'<div class="sheet" id="{name}">.*?<table[^>]*>(.*?)</table>', self.text, re.DOTALL)
        heads = [_plain(text) for text in re.findall(r"<th .*?>(.*?)</th>", table, re.DOTALL)]
        rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
        return [
            dict(zip(heads, map(_plain, re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)), strict=True)) for row in rows
        ]

    def points(self, cube: str) -> list[list[dict[str, Any]]]:
        """Return the rows of each chart of a cube."""
        (article,) = [a for a in self.text.split("<article") if f"<h3>{cube}</h3>" in a]
        specs = re.findall(
            r'<script type="application/json">(.*?)</script>', article.partition("</article>")[0], re.DOTALL
        )
        return [row for spec in specs for row in json.loads(spec)["datasets"].values()]

    def gold(self, cube: str) -> pl.DataFrame:
        return pl.read_delta(str(self.lake / "gold" / cube))


def _plain(text: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", text)).strip()


# --- the loyalty pipeline -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Create a lake of both samples by one run; return the variables by which reports and notebooks find it."""
    folder = tmp_path_factory.mktemp("loyalty")
    shutil.copytree(SAMPLES, folder / "source")
    variables = {"LAKE_ROOT": str(folder), "LOYALTY_SOURCE": str(folder / "source")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        done = lakehouse("run", str(REPOSITORY / "conf" / "loyalty"))
        assert done.code == 0, done.stderr
        yield variables


@pytest.fixture(scope="module")
def page(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("report") / "new" / "folder" / "loyalty.html"
    done = lakehouse("report", str(REPOSITORY / "conf" / "loyalty"), "--out", str(out))
    assert done.code == 0, done.stderr
    return Page(Path(environment["LAKE_ROOT"]) / "loyalty", out.read_text(encoding="utf-8"), done)


def test_the_command_reports_the_file_and_the_number_of_its_parts(page: Page) -> None:
    document = page.done.document

    assert (document["pipeline"], document["tables"], document["models"], document["cubes"]) == ("loyalty", 4, 9, 5)
    assert Path(document["file"]).stat().st_size == document["bytes"] == len(page.text.encode())
    assert document["bytes"] < 3 << 20


def test_every_decision_of_the_ledger_is_shown_with_its_counts(page: Page) -> None:
    shown = page.sheet("decisions")

    ledger = [
        row for table in ("clientes", "produtos", "transacoes", "transacao_produto") for row in page.ledger(table)
    ]
    assert len(shown) == len(ledger) == 8
    (second,) = [row for row in shown if (row["table"], row["sequence"]) == ("clientes", "2")]
    (entry,) = [row for row in ledger if (row["table"], row["sequence"]) == ("clientes", 2)]
    names = ("inserted", "updated", "deleted", "unchanged")
    assert [second[name] for name in names] == [str(entry[name]) for name in names] == ["4", "34", "2", "114"]
    assert second["snapshot"] == "2025-10-04 06:56 -03:00"  # in the pipeline's business time zone


def test_the_flow_shows_the_outcomes_of_the_last_run_and_the_number_of_rows(page: Page) -> None:
    cards = re.findall(r'<div class="card.*?</div>', page.text, re.DOTALL)

    assert len(cards) == 3 * 4 + 9
    stages = {part.partition("<")[0]: part for part in page.text.partition('id="flow"')[2].split("<h3>")[1:6]}
    assert list(stages) == ["landing", "raw", "bronze", "silver", "gold"]
    shown = {stage: " ".join(_plain(text).split()) for stage, text in stages.items()}
    # One run ingested both snapshots: their counts are summed, and silver got them in one refresh.
    assert "clientes +154 ~34 \u22122 accepted" in shown["raw"]
    assert "clientes +152 152 rows · full" in shown["silver"]
    # Also produtos, whose bytes did not change; times of the flow are without their offset.
    assert shown["landing"].count("2025-10-04 06:56") == 4
    assert page.text.count("<path d=") == 2 * 4 + 4 + 9


def test_charts_show_the_totals_of_a_cube_and_never_sum_its_details(page: Page) -> None:
    trends = page.points("gold.resumo_diario")[:5]

    cube = page.gold("resumo_diario").filter(pl.col("grouping_id") == 1).sort("dt_transacao")
    for n, measure in enumerate(("transacoes", "clientes", "pontos", "pontos_positivos", "pontos_negativos")):
        assert [row[f"m{n}"] for row in trends[n]] == cube[measure].to_list()
    assert [row["t"] for row in trends[0]] == [str(day) for day in cube["dt_transacao"]]


def test_charts_of_a_cube_with_a_row_per_client_count_clients_by_category(page: Page) -> None:
    total, by_class, newest = page.points("gold.ciclo_de_vida")

    cube = page.gold("ciclo_de_vida")
    days = cube.group_by("dt_referencia").len().sort("dt_referencia")
    assert [row["n"] for row in total] == days["len"].to_list()
    there = {(str(day), kind): count for day, kind, count in cube.group_by("dt_referencia", "ciclo").len().rows()}
    assert {(row["t"], row["d"]): row["n"] for row in by_class if row["n"]} == there
    assert sum(row["n"] for row in newest) == days["len"][-1]
    assert all(row["d"] not in set(cube["id_cliente"]) for row in by_class)


def test_tables_show_the_newest_rows_to_the_last_digit_and_the_total_number(page: Page) -> None:
    shown = page.sheet("rows-1")

    cube = page.gold("churn").sort("dt_referencia", descending=True)
    assert "<h3>gold.churn</h3>" in page.text
    assert [row["taxa_churn"] for row in shown[:5]] == [str(rate) for rate in cube["taxa_churn"][:5]]
    assert len(page.sheet("rows-2")) == 200
    assert f"200 of {page.gold('ciclo_de_vida').height:,}" in page.text


def test_a_report_in_portuguese_of_some_tables_writes_nothing_into_the_lake(
    page: Page, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page.versions()
    monkeypatch.chdir(tmp_path)
    conf = Path(os.path.relpath(REPOSITORY / "conf" / "loyalty", tmp_path))
    done = lakehouse("report", str(conf), "gold.churn", "clientes", "--lang", "pt")

    assert done.document["file"] == "artifacts/loyalty-report.html"
    text = (tmp_path / "artifacts" / "loyalty-report.html").read_text(encoding="utf-8")
    assert '<html lang="pt-BR">' in text and "Mudanças ao longo do tempo" in text
    assert (done.document["tables"], done.document["cubes"]) == (1, 1)
    assert page.versions() == before


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_assertions_hold(notebook: Path, environment: dict[str, str]) -> None:
    book = nbformat.read(notebook, as_version=4)
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")], (
        "notebooks are committed without output"
    )

    client = NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(notebook.parent)}}
    )
    client.execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert len(shown) >= 6


# --- a lake with personal columns and rejected rows ---------------------------------------------------------------


@pytest.fixture(scope="module")
def people(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Create people with a mail address, rejected rows, and cubes by address and with a count of addresses."""
    schema = "id STRING, mail STRING, qty INT, day DATE"
    items = ITEMS | {"schema": schema, "pii": {"mail": "hmac"}, "guard": {"max_quarantined": 1.0}}
    silver = "SELECT i.id AS id, lower(i.mail) AS mail, i.qty AS qty, i.day AS day FROM bronze.items AS i"
    by_mail = "SELECT s.day AS day, s.mail AS mail, SUM(s.qty) AS qty FROM silver.items AS s GROUP BY s.day, s.mail"
    counted = "SELECT s.day AS day, COUNT(DISTINCT s.mail) AS people FROM silver.items AS s GROUP BY s.day"
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "silver.items": (silver, {"keys": ["id"], "expect": {"few": {"check": "qty < 9", "on_fail": "quarantine"}}}),
        "gold.by_mail": (by_mail, {}),
        "gold.counted": (counted, {}),
    }
    project = Project(tmp_path_factory.mktemp("people"), {"items": items}, models)
    rows = ["a,ana@example.org,1,2025-01-01", "b,bia@example.org,2,2025-01-01", "c,c@example.org,no number,2025-01-02"]
    rows += ["d,d@example.org,10,2025-01-02"]
    project.snapshot("20250101_000000", items="\n".join(["id,mail,qty,day", *rows, ""]))
    return project


def test_personal_columns_and_rejected_rows_are_mentioned_but_not_shown(
    people: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "canary-key-" + "k" * 32)
    monkeypatch.setenv("OTHER_PASSWORD", "canary-password")
    out = people.folder / "report.html"

    assert people("report", "--out", str(out)).code == 0
    assert "This lake is empty." in out.read_text()
    done = people.run()
    assert done.code == 0, done.stderr
    reported = people("report", "--out", str(out))
    page = Page(people.lake, out.read_text(encoding="utf-8"), reported)
    hashes = pl.read_delta(str(people.lake / "silver" / "items"))["mail"].to_list()
    assert len(hashes) == 2
    for hidden in (
        *hashes,
        "ana@example.org",
        "c@example.org",
        "d@example.org",
        "no number",
        "canary-key",
        "canary-password",
    ):
        assert hidden not in page.text
    assert "Personal columns are not shown: mail." in page.text
    assert [list(row) for row in page.sheet("rows-1")] == [["day", "qty"]] * 2
    assert [row["people"] for row in page.sheet("rows-2")] == ["2"]
    # Of a cube whose key is shown, each row opens to the rows that made it, without their personal columns.
    explained = page.text.partition('<details class="explained">')[2].partition("</article>")[0]
    assert (
        "<b>bronze.items</b> <code>id=a</code> qty 1, day 2025-01-01" in explained and "items.csv, line 2" in explained
    )
    assert page.text.count('<details class="explained">') == 1
    # Rows with a hidden key are counted and summed; none is drawn as if it were the only one of its day.
    assert page.points("gold.by_mail") == [[{"t": "2025-01-01", "n": 2}], [{"t": "2025-01-01", "m0": 3}]]
    (result,) = page.sheet("quality-results")
    assert (result["rule"], result["status"]) == ("few", "failed")
    of_table, of_model = page.sheet("quarantine-table")
    assert (of_table["table"], of_table["column"], of_table["unresolved"]) == ("items", "qty", "1")
    assert [of_model[name] for name in ("table", "rule", "unresolved")] == ["silver.items", "few", "1"]
