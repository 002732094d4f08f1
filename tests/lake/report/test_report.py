"""`lakehouse report` on real lakes, and the notebooks: what they say is what the lake's files say."""

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

REPOSITORY = Path(__file__).parents[3]
SAMPLES = REPOSITORY / "samples" / "loyalty"
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@dataclass
class Page(LakeFiles):
    """A lake, and a report of it as text."""

    text: str
    done: Result

    def sheet(self, name: str) -> list[dict[str, str]]:
        """A table of the page, by its element's name: a row a dictionary of headings and texts."""
        (table,) = re.findall(rf'<div class="sheet" id="{name}">.*?<table[^>]*>(.*?)</table>', self.text, re.DOTALL)
        heads = [_plain(text) for text in re.findall(r"<th .*?>(.*?)</th>", table, re.DOTALL)]
        rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
        return [
            dict(zip(heads, map(_plain, re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)), strict=True)) for row in rows
        ]

    def points(self, cube: str) -> list[list[dict[str, Any]]]:
        """The rows of each chart of a cube."""
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
    """A lake of both samples, made by one run; reports and notebooks find it by these variables."""
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


def test_it_says_where_it_is_and_what_is_in_it(page: Page) -> None:
    told = page.done.document

    assert (told["pipeline"], told["tables"], told["models"], told["cubes"]) == ("loyalty", 4, 9, 5)
    assert Path(told["file"]).stat().st_size == told["bytes"] == len(page.text.encode())
    assert told["bytes"] < 3 << 20


def test_every_decision_of_the_ledger_is_there_with_its_counts(page: Page) -> None:
    shown = page.sheet("decisions")

    kept = [row for table in ("clientes", "produtos", "transacoes", "transacao_produto") for row in page.ledger(table)]
    assert len(shown) == len(kept) == 8
    (second,) = [row for row in shown if (row["table"], row["sequence"]) == ("clientes", "2")]
    (entry,) = [row for row in kept if (row["table"], row["sequence"]) == ("clientes", 2)]
    names = ("inserted", "updated", "deleted", "unchanged")
    assert [second[name] for name in names] == [str(entry[name]) for name in names] == ["4", "34", "2", "114"]
    assert second["snapshot"] == "2025-10-04 09:56 UTC"


def test_the_flow_shows_what_the_last_run_did_and_how_many_rows_there_are(page: Page) -> None:
    cards = re.findall(r'<div class="card.*?</div>', page.text, re.DOTALL)

    assert len(cards) == 3 * 4 + 9
    stages = {part.partition("<")[0]: part for part in page.text.partition('id="flow"')[2].split("<h3>")[1:6]}
    assert list(stages) == ["landing", "raw", "bronze", "silver", "gold"]
    shown = {stage: " ".join(_plain(text).split()) for stage, text in stages.items()}
    # One run took both snapshots: what each was read as is added up, and applied to silver at once.
    assert "clientes +154 ~34 \u22122 accepted" in shown["raw"]
    assert "clientes +152 152 rows · full" in shown["silver"]
    assert shown["landing"].count("2025-10-04 09:56 UTC") == 4  # also of produtos, whose bytes were the same again
    assert page.text.count("<path d=") == 2 * 4 + 4 + 9


def test_charts_show_the_totals_that_a_cube_holds_and_never_add_up_its_details(page: Page) -> None:
    trends = page.points("gold.resumo_diario")[:5]

    kept = page.gold("resumo_diario").filter(pl.col("grouping_id") == 1).sort("dt_transacao")
    for n, measure in enumerate(("transacoes", "clientes", "pontos", "pontos_positivos", "pontos_negativos")):
        assert [row[f"m{n}"] for row in trends[n]] == kept[measure].to_list()
    assert [row["t"] for row in trends[0]] == [str(day) for day in kept["dt_transacao"]]


def test_charts_of_what_is_kept_for_each_client_count_clients_by_class(page: Page) -> None:
    total, by_class, newest = page.points("gold.ciclo_de_vida")

    kept = page.gold("ciclo_de_vida")
    days = kept.group_by("dt_referencia").len().sort("dt_referencia")
    assert [row["n"] for row in total] == days["len"].to_list()
    there = {(str(day), kind): count for day, kind, count in kept.group_by("dt_referencia", "ciclo").len().rows()}
    assert {(row["t"], row["d"]): row["n"] for row in by_class if row["n"]} == there
    assert sum(row["n"] for row in newest) == days["len"][-1]
    assert all(row["d"] not in set(kept["id_cliente"]) for row in by_class)


def test_tables_have_the_newest_rows_to_the_last_digit_and_say_how_many_there_are(page: Page) -> None:
    shown = page.sheet("rows-1")

    kept = page.gold("churn").sort("dt_referencia", descending=True)
    assert "<h3>gold.churn</h3>" in page.text
    assert [row["taxa_churn"] for row in shown[:5]] == [str(rate) for rate in kept["taxa_churn"][:5]]
    assert len(page.sheet("rows-2")) == 200
    assert f"200 of {page.gold('ciclo_de_vida').height:,}" in page.text


def test_another_report_in_portuguese_reads_the_same_lake_and_writes_nothing_there(
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
def test_a_notebook_runs_and_what_it_claims_holds(notebook: Path, environment: dict[str, str]) -> None:
    book = nbformat.read(notebook, as_version=4)
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")], (
        "kept without output"
    )

    client = NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(notebook.parent)}}
    )
    client.execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert len(shown) >= 6


# --- a lake with personal columns and refused rows ----------------------------------------------------------------


@pytest.fixture(scope="module")
def people(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """People with a mail address, some rows refused, and a cube by address and one that counts addresses."""
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


def test_personal_columns_and_refused_rows_are_told_of_and_not_shown(
    people: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "canary-key-" + "k" * 32)
    monkeypatch.setenv("OTHER_PASSWORD", "canary-password")
    out = people.folder / "report.html"

    assert people("report", "--out", str(out)).code == 0
    assert "This lake holds nothing yet." in out.read_text()
    done = people.run()
    assert done.code == 0, done.stderr
    told = people("report", "--out", str(out))
    page = Page(people.lake, out.read_text(encoding="utf-8"), told)
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
    assert "Personal columns are left out: mail." in page.text
    assert [list(row) for row in page.sheet("rows-1")] == [["day", "qty"]] * 2
    assert [row["people"] for row in page.sheet("rows-2")] == ["2"]
    # Rows of a hidden key are counted and added up; none is drawn as if it were its day's only one.
    assert page.points("gold.by_mail") == [[{"t": "2025-01-01", "n": 2}], [{"t": "2025-01-01", "m0": 3}]]
    (result,) = page.sheet("quality-results")
    assert (result["rule"], result["status"]) == ("few", "failed")
    refused, taken_out = page.sheet("quarantine-table")
    assert (refused["table"], refused["column"], refused["waiting"]) == ("items", "qty", "1")
    told_of = [taken_out[name] for name in ("table", "rule", "waiting")]
    assert told_of == ["silver.items", "few", "1"]
