"""After a forget the notes name every place that it does not reach, and what to do there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import InfrastructureError
from lakehouse.forget import forget
from lakehouse.forget.search import FoundRows
from lakehouse.runner import publishing
from lakehouse.runner.context import Run, open_run

FOUND = FoundRows({"landing": 1}, unreadable_files=["landing/20250101_000000: cut"], is_still_in_source=True)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A command of a pipeline that publishes to PostgreSQL, and on to Kafka and S3."""
    table = {"file": "t.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}
    document = {
        "name": "shop",
        "lake": "s3a://bucket/shop",
        "source": {"type": "git", "path": str(tmp_path)},
        "tables": {"people": table, "orders": table},
        "silver": {"people": {"keys": ["id"]}},
        "publish": {
            "postgres": {"url": "postgresql://u:pw@127.0.0.1:1/db", "tables": {"silver.people": "people"}},
        },
        "connect": {
            "url": "http://127.0.0.1:1",
            "connectors": ["source.json"],
            "objects": "s3a://bucket/topics",
            "topics": {"postgres-people": "people"},
        },
    }
    (tmp_path / "source.json").write_text("{}")
    (tmp_path / "silver").mkdir()
    (tmp_path / "silver" / "people.sql").write_text("SELECT p.id FROM bronze.people AS p")
    (tmp_path / "pipeline.json").write_text(json.dumps(document))
    return open_run(tmp_path)


def test_every_place_that_forget_does_not_reach_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "read_former_tables", lambda _: ["public.people_2024"])

    notes = "\n".join(forget._notes(run, "people", FOUND, {"id": "a"}))

    for place in (
        "landing/20250101_000000: cut",
        "the source's newest snapshot",
        "the git repository keeps every commit",
        "a bucket with versioning",
        "PostgreSQL removes deleted rows from its files with its next VACUUM",
        "public.people_2024 in PostgreSQL: published by this pipeline before",
        "Kafka (postgres-people) and the objects below s3a://bucket/topics still have the rows",
        "connect compact",
        "docs/guide/kafka.md says how to erase them from Kafka",
        "if orders have the data subject",
    ):
        assert place in notes


@pytest.mark.parametrize(
    ("source", "feed", "named"),
    [
        (
            {"type": "kafka", "servers": "localhost:1"},
            {},
            [
                "events of the key that come later are landed but not ingested",
                "the topics of the source keep their messages about the data subject",
            ],
        ),
        (
            {"type": "files", "path": "source"},
            {"corrected_by": {"file": "full.csv", "sequence": "MAX(seq)"}},
            ["events of the key that come later, and its rows in a later snapshot beside the feed, are landed"],
        ),
    ],
)
def test_what_a_change_feed_delivers_later_is_named(
    tmp_path: Path, source: dict[str, Any], feed: dict[str, Any], named: list[str]
) -> None:
    feed |= {"sequence_by": ["seq"], "drop": ["seq"]}
    table = {"file": "t", "format": "json", "schema": "id STRING, seq BIGINT", "keys": ["id"], "feed": feed}
    document = {"name": "shop", "lake": str(tmp_path / "lake"), "source": source, "tables": {"people": table}}
    (tmp_path / "pipeline.json").write_text(json.dumps(document))

    notes = "\n".join(forget._notes(open_run(tmp_path), "people", FOUND, {"id": "a"}))

    assert [place for place in named if place not in notes] == []
    assert "the source's newest snapshot" not in notes


def test_a_database_that_does_not_answer_is_named_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Run) -> list[str]:
        raise InfrastructureError("PostgreSQL cannot be reached")

    monkeypatch.setattr(publishing, "read_former_tables", fail)

    notes = "\n".join(forget._notes(run, "people", FoundRows(), {"id": "a"}))

    assert "was not searched for tables that are not published any more: PostgreSQL cannot be reached" in notes
