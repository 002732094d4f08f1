"""The example pipelines of change feeds: their pages are followed, and every feed leads to the same rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from generate_feeds import WRITERS, final_rows
from pyspark.sql import SparkSession
from transcript import Transcript

REPOSITORY = Path(__file__).parents[2]
# docs/guide/feed-cdc-kaggle.md, feed-dms.md, feed-debezium.md and feed-change-sets.md
PAGES = {name: REPOSITORY / "docs" / "guide" / f"feed-{name}.md" for name in WRITERS}
GENERATE = "python samples/generate_feeds.py samples/feeds"


@pytest.mark.timeout(900)  # many runs: minutes, where the machine has other things to do
def test_each_feed_leads_to_the_rows_that_the_source_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    shutil.copytree(REPOSITORY / "conf" / "feeds", tmp_path / "conf" / "feeds")
    (tmp_path / "samples").mkdir()
    shutil.copy(REPOSITORY / "samples" / "generate_feeds.py", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    for variable in ("LAKE_ROOT", "FEEDS"):
        monkeypatch.delenv(variable, raising=False)
    reader = Transcript(tmp_path)

    for page in PAGES.values():
        reader.follow(page.read_text(encoding="utf-8"), kinds=frozenset({"sh"}))

    assert reader.commands.count(GENERATE) == len(PAGES)
    lakes = {name: tmp_path / "lake" / name for name in WRITERS}
    for name, lake in lakes.items():
        folder = "silver" if name == "debezium" else "bronze"
        found = pl.read_delta(str(lake / folder / "customers")).sort("id")
        assert found.select("id", "name", "points").to_dicts() == final_rows(), name
        ledger = pl.read_delta(str(lake / "raw" / "ledger")).sort("sequence").to_dicts()
        assert [(row["status"], row["kind"], row["quarantined"]) for row in ledger] == [("accepted", "feed", 0)] * 3
        assert ledger[2]["unchanged"] > 0, "the last batch has events that are older than those before it"
