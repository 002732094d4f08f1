"""Tests the report in a real browser: charts, tables and themes; no request, and no script from the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Project
from playwright.sync_api import Browser, Page
from pyspark.sql import SparkSession
from report_document import DAYS, HOSTILE, IMAGE, empty_document, report_document
from servers.chromium import chromium

from lakehouse.report import Page as Report
from lakehouse.report.page import render

WIDE, NARROW = 1360, 390
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Return a function that opens a page. At the end the page must have had no error and made no request.

    Its argument `blocked` is the number of things that the page's own policy is expected to block.
    """
    problems: list[str] = []
    expected = 0
    contexts = []

    def open_text(text: str, width: int = WIDE, scheme: str = "light", charts: bool = True, blocked: int = 0) -> Page:
        nonlocal expected
        expected = blocked
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            timezone_id="America/Sao_Paulo",  # west of Greenwich, where midnight in UTC is the day before
        )
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: None if blocked or _is_local(request.url, file) else problems.append(request.url)
        )
        page.goto(file.as_uri())
        if charts:
            page.wait_for_selector("html[data-drawn]", timeout=30_000, state="attached")
        return page

    yield open_text
    for context in contexts:
        context.close()
    violations = [text for text in problems if "Content Security Policy" in text]
    assert [text for text in problems if text not in violations] == []
    assert len(violations) == expected


def _is_local(url: str, file: Path) -> bool:
    return url == file.as_uri() or url.startswith("data:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_page(open_page: OpenPage, width: int, scheme: str) -> None:
    page = open_page(render(report_document(), "en"), width, scheme)

    charts = page.locator(".chart")
    assert charts.count() == page.locator(".chart svg").count() == 7
    assert all(chart.locator("svg path, svg line").count() > 3 for chart in charts.all())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(",")))
    assert light > 700 if scheme == "light" else light < 100


def test_hostile_data_is_shown_and_not_run(open_page: OpenPage) -> None:
    page = open_page(render(report_document(), "en"))

    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, object, embed, link:not([href^='data:'])").count() == 0
    cells = page.locator("#rows-1 tbody td:nth-child(2)").all_inner_texts()
    assert set(HOSTILE) <= set(cells)
    page.locator(".relation button", has_text=IMAGE).click()
    page.locator(".chart").nth(3).hover()
    assert page.evaluate("window.pwned") is None


def test_the_content_security_policy_blocks_an_injected_script_and_request(open_page: OpenPage) -> None:
    inside = '<script>window.pwned = 1</script><img src="https://example.org/x">'
    page = open_page(render(report_document(), "en").replace("<main>", f"<main>{inside}"), blocked=2)

    assert page.evaluate("window.pwned") is None


def test_a_table_is_sorted_by_its_headings_numerically_with_empty_values_last(open_page: OpenPage) -> None:
    page = open_page(render(report_document(), "pt"))
    rows = page.locator("#rows-1")

    def column(number: int) -> list[str]:
        return rows.locator(f"tbody td:nth-child({number})").all_inner_texts()

    rows.get_by_role("button", name="taxa").click()
    rising = [float(text.replace(".", "").replace(",", ".")) for text in column(4)]
    assert rising == sorted(rising) != sorted(rising, key=str)
    rows.get_by_role("button", name="taxa").click()
    assert [float(text.replace(".", "").replace(",", ".")) for text in column(4)] == rising[::-1]
    assert rows.locator("th[aria-sort=descending]").inner_text() == "taxa"
    rows.get_by_role("button", name="produto").click()
    assert column(2)[-len(DAYS) :] == ["—"] * len(DAYS)
    assert column(2).count('""') == len(DAYS)  # an empty text is sorted with the texts, unlike null
    rows.get_by_role("button", name="dia").click()
    assert column(1)[0] == "01/09/2025"


def test_a_table_is_filtered_by_a_text_without_regard_to_accents(open_page: OpenPage) -> None:
    page = open_page(render(report_document(), "pt"))
    rows = page.locator("#rows-1")

    rows.get_by_role("searchbox").fill("PONEI")
    assert rows.locator("tbody tr:visible").count() == len(DAYS)
    assert set(rows.locator("tbody tr:visible td:nth-child(2)").all_inner_texts()) == {"pônei"}
    assert rows.locator("output").inner_text() == f"{len(DAYS)} de 210"
    rows.get_by_role("searchbox").fill("")
    assert rows.locator("tbody tr:visible").count() == 210


def test_a_chart_axis_shows_the_same_day_west_of_greenwich(open_page: OpenPage) -> None:
    cube = report_document()["cubes"][0]
    series = [{"t": day, "m0": 1, "m1": 1} for day in DAYS[:3]]
    cube["charts"] = [cube["charts"][0] | {"series": series}]
    page = open_page(render(report_document(cubes=[cube], changes={}), "en"))

    labels = page.locator("#cube-1-1 .role-axis-label text").all_text_contents()
    assert labels[:3] == ["Sep 1", "Sep 2", "Sep 3"]


def test_the_measure_of_a_chart_can_be_chosen(open_page: OpenPage) -> None:
    page = open_page(render(report_document(), "en"))
    chart = page.locator("#cube-1-4")
    before = chart.locator(".mark-rect path").first.get_attribute("d")

    page.locator("figure", has=chart).get_by_label("Measure").select_option(index=1)
    page.wait_for_function(
        "before => document.querySelector('#cube-1-4 .mark-rect path').getAttribute('d') !== before", arg=before
    )


def test_lineage_shows_the_source_columns_and_the_dependent_columns(open_page: OpenPage) -> None:
    page = open_page(render(report_document(), "en"))
    lineage = page.locator(".lineage")

    lineage.get_by_role("button", name="valor", exact=True).click()
    assert lineage.locator(".up").all_inner_texts() == [IMAGE]
    assert lineage.locator(".down").all_inner_texts() == ["total"]
    assert lineage.locator(".chosen-column").inner_text().startswith(f"silver.clientes.valor ← bronze.clientes.{IMAGE}")
    lineage.get_by_role("button", name="Clear").click()
    assert lineage.locator(".up, .down, .chosen").count() == 0
    lineage.get_by_role("searchbox").fill("cubo.tot")
    assert lineage.locator(".relation button:visible").all_inner_texts() == ["total"]


def test_the_theme_can_be_chosen_independently_of_the_system(open_page: OpenPage) -> None:
    page = open_page(render(report_document(), "en"), scheme="light")
    line = page.locator("#cube-1-1 .mark-line path").first
    light = line.evaluate("path => getComputedStyle(path).stroke")

    page.locator("#theme").select_option("dark")
    assert line.evaluate("path => getComputedStyle(path).stroke") != light
    page.emulate_media(media="print")
    assert line.evaluate("path => getComputedStyle(path).stroke") == light


def test_in_print_tables_are_shortened_and_folded_parts_are_open(open_page: OpenPage) -> None:
    page = open_page(render(report_document(), "en"))

    page.emulate_media(media="print")
    assert page.locator("#rows-1 tbody tr:visible").count() == 25
    assert page.locator("#rows-1 .on-paper").is_visible()
    assert not page.locator(".contents").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#columns").is_visible()


def test_the_page_of_an_empty_lake_reports_it(open_page: OpenPage) -> None:
    page = open_page(render(empty_document(), "pt"), NARROW, charts=False)

    assert "está vazio" in page.inner_text("main")
    assert "lakehouse run conf/shop" in page.inner_text("main")
    assert len(page.content()) < 60_000


def test_why_a_snapshot_was_decided_so_is_in_view_without_scrolling(open_page: OpenPage) -> None:
    entry = report_document()["entries"]["shown"][0]
    reason = "2 of 3 rows deleted, more than max_deleted allows: 0.1; " * 8
    page = open_page(render(report_document(entries={"of": 1, "shown": [entry | {"reason": reason}]}), "pt"), 1400)

    for table, heading in (("#decisions", "motivo"), ("#freshness-table", "última verificação da fonte")):
        box = page.locator(f"{table} th", has_text=heading).bounding_box()
        assert box and box["x"] + box["width"] <= 1400, heading


def test_in_the_frame_of_a_notebook_the_page_draws_its_charts_and_follows_its_contents(
    browser: Browser, tmp_path: Path
) -> None:
    shown = Report("shop", render(report_document(), "en"), {})._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{shown}", encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frames[1]
    frame.wait_for_selector("html[data-drawn]", timeout=30_000, state="attached")

    frame.locator("nav a", has_text="Glossary").click()
    frame.wait_for_function("document.getElementById('glossary').getBoundingClientRect().top < 300")
    assert frame.locator(".chart svg").count() == 7
    page.close()


def test_every_hostile_row_of_a_lake_is_shown_and_none_is_run(
    spark: SparkSession, open_page: OpenPage, tmp_path: Path
) -> None:
    rows = [f"{n},{n},{_quoted(text)}" for n, text in enumerate(HOSTILE)]
    by_note = "SELECT s.note AS `<b>note</b>`, SUM(s.qty) AS `<i>qty</i>` FROM silver.items AS s GROUP BY s.note"
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]}),
        "gold.by_note": (f"-- {HOSTILE[0]}\n{by_note}", {}),
    }
    shop = Project(tmp_path / "shop", models=models)
    shop.snapshot("20250101_000000", items="\n".join(["id,qty,note", *rows, ""]))
    assert shop.run().code == 0
    assert shop("report", "--out", str(tmp_path / "shop.html")).code == 0
    page = open_page((tmp_path / "shop.html").read_text(encoding="utf-8"))

    assert set(page.locator("#rows-1 tbody td:first-child").all_inner_texts()) == set(HOSTILE)
    assert page.locator("#rows-1 th").all_inner_texts() == ["<b>note</b>", "<i>qty</i>"]
    assert page.locator(".cube .about").inner_text() == HOSTILE[0]
    assert page.locator("#cube-1-1 .mark-rect path").count() == len(HOSTILE)
    assert page.evaluate("window.pwned") is None


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
