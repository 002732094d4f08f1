"""The commands of how-tos about the shipped pipeline: each of them works when it is typed, in the order of the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from transcript import Transcript

REPOSITORY = Path(__file__).parents[2]
HOW_TOS = [REPOSITORY / "docs" / "guide" / f"{name}.md" for name in ("look", "model-tests", "models", "report")]


def test_the_commands_of_how_tos_work_on_the_shipped_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    for folder in ("conf", "samples/loyalty"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAKE_ROOT", raising=False)
    reader = Transcript(tmp_path)
    reader.follow("```sh\nlakehouse run conf/loyalty\n```\n")

    for page in HOW_TOS:
        before = len(reader.commands)
        reader.follow(page.read_text(encoding="utf-8"), kinds=frozenset({"sh"}))
        assert len(reader.commands) > before, page.name

    assert len(reader.commands) >= 16
    assert len((tmp_path / "clientes.csv").read_text(encoding="utf-8").splitlines()) > 100
    assert (tmp_path / "artifacts" / "loyalty-report.html").is_file()
    assert (tmp_path / "r.html").is_file()
