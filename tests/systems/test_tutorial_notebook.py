"""The cells of notebooks/tutorial.ipynb run, in a new folder, and print what the text below each of them shows."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import polars as pl
import pytest
from nbclient import NotebookClient
from transcript import assert_lines_in_order

from lakehouse.cli import main
from lakehouse.spark.class_archive import SWITCH

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tutorial.ipynb"


def test_the_tutorial_runs_as_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_LAKE", str(tmp_path / "first-lake"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # an engine of its own, which is stopped below
    monkeypatch.setenv(SWITCH, "off")  # no archive of classes for this cache alone
    monkeypatch.setenv("LAKEHOUSE_ENGINE", "on")
    monkeypatch.delenv("LAKE_ROOT", raising=False)
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")]

    try:
        NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
    finally:
        assert main(["engine", "stop", "--force"]) == 0

    compared, printed = 0, ""
    for cell in book.cells:
        if cell.cell_type == "code":
            printed += "".join(output.text for output in cell.outputs if output.output_type == "stream")
            continue
        if expected := re.match(r"```text\n(.*?)```", cell.source, re.DOTALL):
            assert_lines_in_order(expected[1], printed)
            compared += 1
        printed = ""
    assert compared == 10
    cube = pl.read_delta(str(tmp_path / "first-lake" / "lake" / "shop" / "gold" / "vendas_por_regiao"))
    assert sorted(cube["regiao"]) == ["Goiânia", "São Paulo"]
