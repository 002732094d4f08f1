"""Compacted objects fold to the same rows, have nothing of an earlier one, and a kill in between does no harm."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_pipeline import write_pipeline

from lakehouse.config import load
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.publish.kafka_connect import compact, json_lines
from lakehouse.publish.kafka_connect.compact import compact_objects
from lakehouse.publish.kafka_connect.json_lines import read_latest_rows
from lakehouse.storage import file_io

KEYS: dict[str, type] = {"day": date, "kind": str}
events = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=12)


def line(offset: int, kind: str, value: Any) -> dict[str, Any]:
    deleted = str(value is None).lower()
    return {"day": "2024-01-02", "kind": kind, "v": value, "__deleted": deleted, "__offset": offset}


def write(folder: Path, lines: list[dict[str, Any]]) -> None:
    for n in range(0, len(lines), 3):
        file = folder / f"year=2024/month={1 + n % 12:02}" / f"t+0+{n}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(each) + "\n" for each in lines[n : n + 3]), encoding="utf-8")


def remaining(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for file in sorted(folder.rglob("*.json")) for text in file.read_text().splitlines()]


class Killed(BaseException):
    """The end of the process."""


@given(events, st.randoms(use_true_random=False), st.integers(0, 9))
def test_the_rows_stay_and_nothing_of_earlier_ones_whenever_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int | None]], chance: Any, steps: int
) -> None:
    folder = tmp_path_factory.mktemp("topic")
    lines = [line(n, kind, value) for n, (kind, value) in enumerate(changes)]
    duplicated = lines + chance.sample(lines, len(lines) // 2)
    chance.shuffle(duplicated)
    write(folder, duplicated)
    rows = read_latest_rows(folder, KEYS)

    left = steps
    with pytest.MonkeyPatch.context() as patch:

        def limited(inner: Any) -> Any:
            def call(*arguments: Any) -> None:
                nonlocal left
                if not left:
                    raise Killed
                left -= 1
                inner(*arguments)

            return call

        for name in ("write_atomically", "remove"):
            patch.setattr(file_io, name, limited(getattr(file_io, name)))
        try:
            compact_objects(folder, KEYS)
        except Killed:
            assert read_latest_rows(folder, KEYS) == rows

    first = compact_objects(folder, KEYS)
    assert first["lines"] - first["removed_lines"] == len(remaining(folder))
    assert read_latest_rows(folder, KEYS) == rows
    live = {kind: n for n, (kind, _) in enumerate(changes) if dict(changes)[kind] is not None}
    assert {(each["kind"], each["__offset"]) for each in remaining(folder)} == set(live.items())
    assert all(file.read_text() for file in folder.rglob("*.json"))
    assert compact_objects(folder, KEYS)["removed_lines"] == 0


def test_lines_that_come_meanwhile_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [line(0, "a", 1), line(1, "b", 1), line(2, "b", None)])
    inner = file_io.write_atomically

    def write_more(file: Any, content: bytes) -> None:
        monkeypatch.setattr(file_io, "write_atomically", inner)
        inner(file, content)
        (tmp_path / "t+0+3.json").write_text(json.dumps(line(3, "b", 7)) + "\n" + json.dumps(line(4, "a", None)))

    monkeypatch.setattr(file_io, "write_atomically", write_more)
    compact_objects(tmp_path, KEYS)

    assert read_latest_rows(tmp_path, KEYS) == {("2024-01-02", "b"): {"day": "2024-01-02", "kind": "b", "v": "7"}}
    assert [each["__offset"] for each in remaining(tmp_path)] == [3, 4, 0]


def test_nothing_is_removed_before_the_deletion_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "objects/t", [line(0, "a", 1), line(1, "a", 2), line(2, "b", 3)])
    write_pipeline(
        tmp_path,
        gold={"kinds": {}},
        publish={"postgres": {"url": "postgresql://localhost/x", "tables": {"gold.kinds": "kinds"}}},
        connect={
            "url": "http://localhost:1",
            "connectors": ["a.json"],
            "objects": "s3a://bucket/topics",
            "topics": {"t": "kinds"},
        },
    )
    (tmp_path / "gold").mkdir()
    (tmp_path / "gold/kinds.sql").write_text("SELECT i.id AS id, COUNT(*) AS n FROM bronze.items AS i GROUP BY i.id")
    (tmp_path / "a.json").write_text("{}")
    pipeline = load(tmp_path)
    rows = [{"day": date(2024, 1, 2), "kind": "a", "v": 2}]
    monkeypatch.setattr(file_io, "store_path", lambda _: tmp_path / "objects")
    monkeypatch.setattr(json_lines, "read_table", lambda *_: (rows, KEYS))

    with pytest.raises(DataRefused, match="1 only on S3") as refused:
        compact.compact(pipeline)
    assert "2024-01-02" not in refused.value.to_record()
    assert len(remaining(tmp_path / "objects")) == 3

    rows.append({"day": date(2024, 1, 2), "kind": "b", "v": 3})
    done = compact.compact(pipeline)
    assert done["topics"] == [
        {
            **{"topic": "t", "table": "kinds"},
            **{"lines": 3, "removed_lines": 1, "rewritten_objects": 1, "removed_objects": 0},
        }
    ]


def test_a_pipeline_without_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no objects"):
        compact.compact(load(write_pipeline(tmp_path)))
