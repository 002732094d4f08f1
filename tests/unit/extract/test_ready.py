"""A snapshot's folder is taken once it is ready: with its marker, or once nothing in it has changed for some time."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lakehouse.config import Pipeline, load
from lakehouse.errors import ConfigError
from lakehouse.extract import extract_table, find_not_ready, folder, open_source, peek, ready, source_signature
from lakehouse.runner import up_to_date
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake, snapshot_name

NOW = datetime(2025, 10, 3, 17, 5, 52, 900_000, tzinfo=timezone.utc)
FIRST, SECOND, THIRD, FOURTH = (f"2025010{day}_000000" for day in (1, 2, 3, 4))
MARKER = {"file": "_SUCCESS"}
SETTLE = {"settle": "5m"}


class Source:
    """A source's folder, a pipeline over it, and the lake it lands in."""

    def __init__(self, path: Path, lake: Lake, **settings: str) -> None:
        self.path, self.root, self.lake, self.settings = path, path / "source", lake, settings
        self.files = {"items": "items*.csv", "others": "others.csv"}

    @property
    def pipeline(self) -> Pipeline:
        table = {"format": "csv", "schema": "id STRING", "keys": ["id"]}
        source: dict[str, Any] = {"type": "files", "path": str(self.root)}
        source |= {"ready": self.settings} if self.settings else {}
        tables = {name: table | {"file": file} for name, file in self.files.items()}
        document = {"name": "shop", "lake": self.lake.root, "source": source, "tables": tables}
        (self.path / "pipeline.json").write_text(json.dumps(document))
        return load(self.path / "pipeline.json", {})

    def put(self, *paths: str, content: str = "id\n1\n") -> None:
        for path in paths:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(content)

    def extract(self, table: str = "items") -> tuple[list[str], tuple[str, ...]]:
        """Return the snapshots that were taken, and the warnings."""
        with open_source(self.pipeline, self.lake, [table]) as opened:
            result = extract_table(opened, table, NOW, None)
        return [snapshot_name(time) for time in result.landed_times], result.warnings

    def look(self, now: datetime) -> str:
        """Look at the source; return the message about what is not ready, or nothing."""
        ready.record_look(self.pipeline, self.lake, folder.snapshot_places(self.pipeline), now)
        return self.message(now)

    def message(self, now: datetime) -> str:
        waiting = ready.find_not_ready(self.pipeline, self.lake, folder.snapshot_places(self.pipeline), now)
        return waiting.message if waiting else ""

    @property
    def signature(self) -> dict[str, str]:
        return source_signature(self.pipeline, self.lake)


def minutes(count: float) -> datetime:
    return NOW + timedelta(minutes=count)


def test_a_folder_without_its_marker_holds_back_later_ones(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake, **MARKER)
    source.put(f"{FIRST}/items.csv", f"{FIRST}/_SUCCESS", f"{SECOND}/items.csv")
    source.put(f"{THIRD}/items.csv", f"{THIRD}/_SUCCESS", f"{FOURTH}/items.csv")
    message = f"{SECOND} is not ready: no _SUCCESS; 2 later ones wait"

    assert source.extract() == ([FIRST], (message,))
    assert source.extract() == ([], (message,)), "a later run says it again"
    before = source.signature
    source.put(f"{SECOND}/_SUCCESS")
    assert source.signature != before, "clean.json must not hide it"
    assert source.extract() == ([SECOND, THIRD], (f"{FOURTH} is not ready: no _SUCCESS",))
    source.put(f"{FOURTH}/_SUCCESS")
    assert source.extract() == ([FOURTH], ())


def test_what_was_taken_is_not_asked_again(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake)
    source.put(f"{FIRST}/items.csv", f"{THIRD}/items.csv")
    assert source.extract() == ([FIRST, THIRD], ())
    source.settings = MARKER | SETTLE

    assert source.extract() == ([], ()), "it was set after they were taken"
    source.put(f"{FIRST}/items.csv", content="id\n2\n")
    assert "changed after it was landed" in source.extract()[1][0]
    assert source.extract("others") == ([FIRST, THIRD], ()), "a table that is added gets what others have taken"
    source.put(f"{SECOND}/items.csv")
    (message, _) = source.extract()[1]
    assert message == f"{SECOND} is not ready: no _SUCCESS and it was not yet seen unchanged for 5m (settle)"


def test_the_marker_is_no_file_of_a_table(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake, file="*.done")
    source.files["items"] = "*"
    source.put(f"{FIRST}/items.csv", f"{FIRST}/items.done", f"{FIRST}/b.done")

    assert source.extract() == ([FIRST], ())
    (landed,) = landing.list_snapshots(lake, "items")
    assert [file.name for file in landed.files] == ["items.csv"]
    (source.root / FIRST / "b.done").unlink()
    assert source.extract() == ([], ()), "it is no change of the snapshot"


def test_a_folder_is_ready_when_two_looks_far_apart_are_equal(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake, **SETTLE)
    source.put(f"{FIRST}/items.csv", f"{SECOND}/items.csv")
    message = f"{FIRST} is not ready: it was not yet seen unchanged for 5m (settle); 1 later one waits"

    assert source.look(NOW) == message, "the first look"
    assert source.look(minutes(4.99)) == message
    source.put(f"{FIRST}/other.txt")  # whatever it is
    assert source.look(minutes(5)) == message
    assert source.look(minutes(9.99)) == message
    os.utime(source.root / FIRST / "items.csv", (1, 1))
    assert source.look(minutes(10)) == message
    assert source.message(minutes(15)) == "", "the look before it and this one are far enough apart"
    source.put(f"{SECOND}/items.csv", content="id\n2\n")
    assert source.message(minutes(15)) == f"{SECOND} is not ready: it was not yet seen unchanged for 5m (settle)"


def test_only_a_look_is_remembered_and_losing_it_costs_another(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake, **SETTLE)
    source.put(f"{FIRST}/items.csv")

    assert source.message(NOW) != "" and not lake.state_path("ready.json").exists(), "status only reads"
    source.look(NOW)
    written = lake.state_path("ready.json").stat().st_mtime_ns
    source.look(minutes(1))
    assert lake.state_path("ready.json").stat().st_mtime_ns == written, "nothing new to remember"
    for content in (
        "",
        "[]",
        "[" * 100_000,
        '{"20250101_000000": 1}',
        '{"20250101_000000": {"listing": "x", "seen": "y"}}',
    ):
        lake.state_path("ready.json").write_text(content)
        assert source.look(minutes(6)) != ""
        assert source.look(minutes(11)) == ""
    source.look(minutes(-60))
    assert source.look(minutes(-59)) != "", "the clock was set back"
    assert source.look(minutes(-55)) == ""


def test_both_must_hold(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake, **MARKER, **SETTLE)
    source.put(f"{FIRST}/items.csv")

    source.look(NOW)
    assert source.look(minutes(5)) == f"{FIRST} is not ready: no _SUCCESS"
    source.put(f"{FIRST}/_SUCCESS")
    assert source.look(minutes(6)) == f"{FIRST} is not ready: it was not yet seen unchanged for 5m (settle)"
    assert source.look(minutes(11)) == ""


def test_a_file_that_vanishes_while_it_is_looked_at_is_a_change(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path, lake, **SETTLE)
    source.put(f"{FIRST}/items.csv")

    def gone(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(landing, "file_signature", gone)
    source.look(NOW)
    assert source.look(minutes(6)) != ""


def test_a_source_without_snapshot_folders_is_taken_when_its_own_folder_is_ready(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake, **MARKER)
    source.put("items.csv")

    assert source.extract() == ([], ("source is not ready: no _SUCCESS",))
    source.put("_SUCCESS")
    assert source.extract()[1] == () and len(landing.list_snapshots(lake, "items")) == 1
    source.settings = SETTLE
    source.put("items.csv", content="id\n2\n")
    source.look(NOW)
    source.put("log.txt")  # no file of a table
    assert source.look(minutes(5)) == ""
    source.put("items.csv", content="id\n3\n")
    assert source.look(minutes(6)) != ""


def test_a_source_of_which_nothing_is_ready_has_nothing_to_compare(tmp_path: Path, lake: Lake) -> None:
    source = Source(tmp_path, lake, **MARKER)
    source.put(f"{FIRST}/items.csv")

    with open_source(source.pipeline, lake, ["items"]) as opened, pytest.raises(ConfigError, match="no _SUCCESS"):
        peek(opened, "items", NOW)
    source.put(f"{FIRST}/_SUCCESS", f"{SECOND}/items.csv")
    source.extract()
    with open_source(source.pipeline, lake, ["items"]) as opened:
        assert snapshot_name(peek(opened, "items", NOW)[0].time) == FIRST, "what is not ready is not compared"


def test_the_clean_mark_holds_while_nothing_is_ready_and_not_longer(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path, lake, **SETTLE)
    source.put(f"{FIRST}/items.csv")
    clock = [NOW]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return clock[0]

    monkeypatch.setattr("lakehouse.extract.datetime", Clock)
    source.look(clock[0])
    up_to_date.write_mark(lake, up_to_date.read_inputs(source.pipeline, lake), source.pipeline)

    clock[0] = minutes(4)
    assert up_to_date.is_up_to_date(source.pipeline, lake)
    source.put(f"{FIRST}/items.csv", content="id\n2\n")
    source.look(clock[0])
    assert up_to_date.is_up_to_date(source.pipeline, lake), "a folder that is still written starts no JVM"
    clock[0] = minutes(8)
    assert up_to_date.is_up_to_date(source.pipeline, lake)
    clock[0] = minutes(9)
    assert not up_to_date.is_up_to_date(source.pipeline, lake)
    assert find_not_ready(source.pipeline, lake) is None
