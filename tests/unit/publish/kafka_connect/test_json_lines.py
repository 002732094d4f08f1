"""The newest JSON line of a key counts, whatever the order of the lines and however often each was written."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import DataRefused, InfrastructureError
from lakehouse.publish.kafka_connect.json_lines import compare_with_table, differences, read_latest_rows, to_text

KEYS: dict[str, type] = {"day": date, "kind": str}


def written(folder: Path, name: str, *lines: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def line(offset: int, value: Any, day: str = "2024-01-02", kind: str = "a", **more: Any) -> dict[str, Any]:
    return {"day": day, "kind": kind, "v": value, "__offset": offset, "__op": "u", **more}


def test_the_newest_line_of_a_key_counts_and_a_delete_removes_it(tmp_path: Path) -> None:
    written(tmp_path / "year=2024/month=01", "t+0+4.json", line(4, "new"), line(5, "x", kind="b", __deleted="true"))
    written(tmp_path / "year=2024/month=01", "t+0+0.json", line(0, "old"), line(1, "x", kind="b", __deleted="false"))
    written(tmp_path / "year=2024/month=02", "t+0+2.json", line(2, "\u2028", day="2024-02-01"))

    assert read_latest_rows(tmp_path, KEYS) == {
        ("2024-01-02", "a"): {"day": "2024-01-02", "kind": "a", "v": "new"},
        ("2024-02-01", "a"): {"day": "2024-02-01", "kind": "a", "v": "\u2028"},
    }
    assert read_latest_rows(tmp_path / "nowhere", KEYS) == {}


events = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=12)


@given(events, st.randoms(use_true_random=False))
def test_duplicate_lines_in_any_order_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int | None]], chance: Any
) -> None:
    lines = [line(n, v, kind=k, __deleted=str(v is None).lower()) for n, (k, v) in enumerate(changes)]
    duplicated = lines + chance.sample(lines, len(lines) // 2)
    chance.shuffle(duplicated)
    folder = tmp_path_factory.mktemp("lines")
    for n in range(0, len(duplicated), 3):
        written(folder, f"t+0+{n}.json", *duplicated[n : n + 3])

    wanted = dict(changes)
    remaining = {kind: str(value) for kind, value in wanted.items() if value is not None}
    assert {key[1]: row["v"] for key, row in read_latest_rows(folder, KEYS).items()} == remaining


@pytest.mark.parametrize(
    "bad", ["{", "[]", "1", '{"day": "2024-01-02", "kind": "a"}', '{"kind": "a", "__offset": 1}', '{"day": "2024-01-0']
)
def test_an_unreadable_line_is_rejected_with_its_location(tmp_path: Path, bad: str) -> None:
    (tmp_path / "t+0+0.json").write_text(json.dumps(line(0, 1)) + "\n" + bad)
    with pytest.raises(DataRefused) as error:
        read_latest_rows(tmp_path, KEYS)
    assert error.value.where == f"{tmp_path / 't+0+0.json'}, line 2"


def test_a_foreign_object_and_a_key_in_two_partitions_are_rejected(tmp_path: Path) -> None:
    written(tmp_path, "t+0+0.json", line(0, 1))
    written(tmp_path, "t+1+0.json", line(1, 1))
    with pytest.raises(DataRefused, match="partitions 0 and 1"):
        read_latest_rows(tmp_path, KEYS)
    written(tmp_path, "part-00000.json", line(0, 1))
    with pytest.raises(DataRefused, match="no sink wrote"):
        read_latest_rows(tmp_path, KEYS)


def test_numbers_and_times_are_compared_by_value(tmp_path: Path) -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, 600, timezone(timedelta(hours=-3)))
    table = {
        "day": date(2024, 1, 2),
        "kind": "a",
        "n": Decimal("5.430000"),
        "b": True,
        "t": moment,
        "i": 2**60,
        "z": None,
    }
    row = {"day": "2024-01-02", "kind": "a", "b": True, "i": 2**60, "z": None, "__offset": 1}
    written(tmp_path, "t+0+1.json", row | {"n": "5.43", "t": "2024-01-02T06:04:05.000600Z"})
    assert differences(read_latest_rows(tmp_path, KEYS), [table], KEYS) == []
    assert to_text("0E-10", Decimal) == to_text(Decimal("-0.00")) == "0"
    assert to_text("1E+3", Decimal) == to_text(Decimal("1000.0")) == "1000"
    many = "0." + "1" * 40  # more digits than Python's default context keeps
    assert to_text(many, Decimal) == many != to_text(many + "1", Decimal)

    written(tmp_path, "t+0+2.json", row | {"n": "5.44", "t": "no time", "__offset": 2})
    (difference,) = differences(read_latest_rows(tmp_path, KEYS), [table], KEYS)
    assert difference.startswith(
        "1 different: 2024-01-02/a: n 5.43 and 5.44, t 2024-01-02T06:04:05.000600+00:00 and no time"
    )


def test_an_unreachable_database_can_be_retried(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="PostgreSQL cannot be reached to read t"):
        compare_with_table("postgresql://ana@127.0.0.1:1/d", "t", tmp_path)


def test_rows_on_one_side_only_are_reported_by_key(tmp_path: Path) -> None:
    written(tmp_path, "t+0+0.json", line(0, "x"), line(1, "y", kind="b"))
    rows = [{"day": date(2024, 1, 2), "kind": kind, "v": "x"} for kind in ("a", "c")]
    assert differences(read_latest_rows(tmp_path, KEYS), rows, KEYS) == [
        "1 only in the table: 2024-01-02/c",
        "1 only on S3: 2024-01-02/b",
    ]
    (difference,) = differences(
        read_latest_rows(tmp_path, KEYS), [rows[0] | {"more": 1}, rows[0] | {"kind": "b", "v": "y"}], KEYS
    )
    assert difference == "1 different: 2024-01-02/a: more 1 and None"
    written(tmp_path, "t+0+2.json", line(2, "x", old=7))
    (difference,) = differences(read_latest_rows(tmp_path, KEYS), [rows[0], rows[0] | {"kind": "b", "v": "y"}], KEYS)
    assert difference == "1 different: 2024-01-02/a: old None and 7"


def test_documents_are_compared_by_value_whatever_the_order_of_fields_and_the_zeros() -> None:
    table = {"b": [Decimal("1.10"), None, "x", True], "a": {"c": "1.1"}}
    line = '{"a": {"c": "1.1"}, "b": [1.1, null, "x", true]}'
    assert to_text(table) == to_text(line, dict) == '{"a": {"c": "1.1"}, "b": [1.1, None, "x", true]}'
    assert to_text('["1.1"]', list) != to_text("[1.1]", list)
