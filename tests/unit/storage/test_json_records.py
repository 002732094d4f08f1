"""The records of a JSON document are found by the names that lead to them, and all else is checked strictly."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import DataRefused
from lakehouse.storage.json_records import copy_records, copy_with_records

NAMES = ("data", "items")


def records_of(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> str:
    (folder / "a.json").write_bytes(text.encode())
    copy_records(folder / "a.json", folder / "copy.json", names)
    return (folder / "copy.json").read_bytes().decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"data": {"items": [{"id": 1.10}]}}', '[{"id": 1.10}]'),
        ('{"n": 1, "data": {"a": [], "items": [ ], "b": null}, "z": {"items": 1}}', "[]"),
        ('\ufeff{"Data": {"ITEMS": [1, "x", null]}}\n', '[1, "x", null]'),
        ('{\n"data": {\r\n"items": [\n{"id": 1},\n{"id": 2}\n]}}', '\n\n[\n{"id": 1},\n{"id": 2}\n]'),
        ('{"data": {"items": [1]}}\n{"data": {"items": []}} {"data": {"items": [2, 3]}}\n', "[1\n,2, 3]"),
        ('{"a": {"data": {"items": [9]}}, "data": {"items": [1]}}', "[1]"),
    ],
)
def test_the_array_is_found_by_its_names(tmp_path: Path, text: str, expected: str) -> None:
    assert records_of(tmp_path, text) == expected


def test_a_name_may_contain_a_dot_and_the_path_may_be_one_name(tmp_path: Path) -> None:
    assert records_of(tmp_path, '{"data.items": [1]}', ("data.items",)) == "[1]"


@pytest.mark.parametrize(
    ("text", "found", "kept"),
    [
        ("", "it is empty", "it is empty"),
        ("[1]", "the document is an array", "the document is an array"),
        ('"x"', "the document is a text", "the document is a text"),
        ('{"data": {"items": {"a": []}}}', "data.items is an object", "data.items is an object"),
        ('{"data": {"items": null}}', "data.items is null", "data.items is null"),
        ('{"data": [{"items": []}]}', "data is an array", "data is an array"),
        ('{"data": {"Items": 1.5}}', "data.Items is a number", "data.Items is a number"),
        ('{"ana": 1, "data": {"ana": 2}}', "data has no items; it has ana", "data has no items"),
        ("{}", "the document has no data", "the document has no data"),
        ('{"data": {"items": [], "ITEMS": []}}', "data has ITEMS twice", "data has ITEMS twice"),
        ('{"data": {"items": []}} {"data": {}}', "data has no items", "data has no items"),
    ],
)
def test_a_document_without_the_array_is_refused(tmp_path: Path, text: str, found: str, kept: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataRefused) as hidden:
        copy_records(tmp_path / "a.json", tmp_path / "copy.json", NAMES)
    with pytest.raises(DataRefused) as refused:
        copy_records(tmp_path / "a.json", tmp_path / "copy.json", NAMES, shows_names=True)

    assert hidden.value.found == f"a.json has no array of records: {kept}"
    assert refused.value.found == f"a.json has no array of records: {found}"
    assert f"records: {kept}\n" in refused.value.to_record()
    assert "data.items" in refused.value.expected


@pytest.mark.parametrize(
    "text",
    [
        '{"data": {"items": [1]}',
        '{"data": {"items": [1',
        '{"data": {"items": [1,]}}',
        '{"data": {"items": [1],}}',
        '{"data": {"items": [1]} "x": 1}',
        '{"data" {"items": [1]}}',
        '{"data": {"items": [NaN]}}',
        '{"x": Infinity, "data": {"items": []}}',
        '{"data": {"items": []}} x',
        "{'data': {'items': []}}",
        '{data: {"items": []}}',
        '{"data": {"items": ["a\tb"]}}',
        '{"data": {"items": [01]}}',
        '{"data": {"items": [' + "[" * 100_000,
    ],
)
def test_a_document_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataRefused, match="is no complete JSON document"):
        records_of(tmp_path, text)


def random_value(random_: random.Random, depth: int = 0) -> Any:
    if depth > 3 or random_.random() < 0.4:
        return random_.choice([None, True, 0, -1.5, "", "a]}", 'say "x"', "\n", "\u00e9"])
    if random_.random() < 0.5:
        return [random_value(random_, depth + 1) for _ in range(random_.randrange(4))]
    return {random_.choice("abc"): random_value(random_, depth + 1) for _ in range(random_.randrange(4))}


def test_any_document_gives_the_records_that_a_parser_finds(tmp_path: Path) -> None:
    random_ = random.Random(1)
    for _ in range(1000):
        documents = [{"a": random_value(random_), "b": {"c": [random_value(random_)], "x": random_value(random_)}}]
        documents += [random_value(random_) for _ in range(random_.randrange(2))]
        text = "\n".join(json.dumps(each, indent=random_.choice([None, 1])) for each in documents)
        expected: list[Any] | None = []
        for each in documents:
            at = each.get("b") if isinstance(each, dict) else None
            at = at.get("c") if isinstance(at, dict) else None
            expected = expected + at if isinstance(at, list) and expected is not None else None
        try:
            found = json.loads(records_of(tmp_path, text, ("b", "c")))
        except DataRefused:
            found = None
        assert found == expected, text


def test_the_documents_around_other_records_stay_as_they_are(tmp_path: Path) -> None:
    source, target = tmp_path / "a.json", tmp_path / "b.json"
    source.write_bytes(b'{"n": 1.10, "data": {"items": [1,\r\n 2]}}\n{"data":{"items":[]}, "x": "\\u00e9"}\n')

    copy_with_records(source, target, NAMES, lambda array: array.replace("1", "[3]"))

    assert target.read_bytes() == source.read_bytes().replace(b"[1,", b"[[3],")
