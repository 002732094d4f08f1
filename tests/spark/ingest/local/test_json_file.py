"""Objects of plain values are taken apart by an expression exactly as the parser takes them apart."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.ingest.local import json_file
from lakehouse.ingest.local.local_file import LocalFile
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.storage.landing import LandedFile

SEED = int(os.environ.get("LAKEHOUSE_SEED", "0"))
NAMES = ["id", "Name", "preço", "n"]
VALUES = [
    *('""', '"x"', '"null"', '"say \\"hi\\""', '"\\u00e9"', '"\\ud800"', '"é, }{:"', '"\t"', '"a', '"\x7f"', "'x'"),
    *("0", "-0", "1.50", "1E+5", "01", "1.", ".5", "+1", "-", "NaN", "-Infinity", "1e999", "12345678901234567890"),
    *("null", "true", "false", "True", "nul", "[1, 2]", '{"id": 1}', "[]", ""),
]


def random_line(rng: random.Random) -> str:
    names = rng.choice([*[NAMES] * 16, NAMES[::-1], NAMES[:2], [*NAMES, "more"], ["id", "ID", "n"]])
    plain = ['"x"', '"São"', "7", "-1.5", "null", "true"]
    space = rng.choice(["", "", " ", "\t "])
    pairs = [f"{space}{json.dumps(name, ensure_ascii=False)}{space}:{space}{rng.choice(plain)}" for name in names]
    if rng.random() < 0.3:
        pairs[rng.randrange(len(pairs))] = f'"{rng.choice(NAMES)}":{rng.choice(VALUES)}'
    line = "{" + f"{space},".join(pairs) + space + "}"
    return rng.choice([line] * 20 + [line + "x", line[:-1], f"[{line}]", "7", f"  {line}"])


def read(path: Path, locale: str | None) -> tuple[list[pa.RecordBatch], LocalFile]:
    options = {"locale": locale} if locale else {}
    columns = "id STRING, Name STRING, price DECIMAL(12,2), n INT, other STRING"
    table = {"file": "x.json", "format": "json", "schema": columns, "keys": ["id"], "options": options}
    settings = ReadSettings(None, Table.model_validate(table | {"names": {"price": "preço"}}), "UTC")  # type: ignore[arg-type]
    types = [T.StringType(), T.StringType(), T.DecimalType(12, 2), T.IntegerType(), T.StringType()]
    names = ["id", "Name", "price", "n", "other"]
    declared = T.StructType([T.StructField(name, kind) for name, kind in zip(names, types, strict=True)])
    settings.__dict__["declared"] = declared
    object.__setattr__(settings, "optional_columns", frozenset(names))
    landed = LandedFile(path.name, path.stat().st_size, "x", "", False, True)
    file = json_file.open_file(settings, landed, path)
    return list(file.read()), file


@pytest.mark.parametrize("locale", [None, "pt-BR"])
@pytest.mark.parametrize("is_array", [False, True])
@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_the_expression_and_the_parser_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, is_array: bool, locale: str | None
) -> None:
    rng, path, used = random.Random(seed), tmp_path / "x.json", []
    lines = [random_line(rng) for _ in range(600)]
    if is_array:
        lines = [line for line in lines if is_object(line)]
    ends = ["\n", "\n", "\r\n", "\n  \n", "\r", "\n\n"] if seed % 2 else ["\n"]
    text = "[" + ",\n".join(lines) + "]" if is_array else "".join(line + rng.choice(ends) for line in lines)
    text = rng.choice(["", "\ufeff"]) + text.removesuffix(rng.choice(["", "\n"]))
    path.write_bytes(text.encode())
    monkeypatch.setattr(json_file, "_BATCH_ROWS", 50)
    monkeypatch.setattr(json_file, "_BLOCK_BYTES", 3_000)
    match = json_file._JsonReader._match_plain_objects

    def watched(reader: json_file._JsonReader, texts: pa.StringArray) -> pa.StructArray | None:
        found = match(reader, texts)
        used.append(0 if found is None else len(found) - found.null_count)
        return found

    monkeypatch.setattr(json_file._JsonReader, "_match_plain_objects", watched)
    fast, of_fast = read(path, locale)
    monkeypatch.setattr(json_file._JsonReader, "_match_plain_objects", lambda *_: None)
    slow, of_slow = read(path, locale)

    assert sum(used) > 50
    assert pa.Table.from_batches(fast).to_pylist() == pa.Table.from_batches(slow).to_pylist()
    assert [batch.schema for batch in fast] == [batch.schema for batch in slow]
    assert of_fast.broken == of_slow.broken
    if not is_array:  # Python's own lines are those of the reader
        with path.open(encoding="utf-8-sig") as file:
            lines = [line.removesuffix("\n") for line in file]
        count = sum(batch.num_rows for batch in fast) + len(of_fast.broken)
        assert count == sum(bool(line.strip(" ")) for line in lines)
    assert (of_fast.unknown_columns, of_fast.missing_columns) == (of_slow.unknown_columns, of_slow.missing_columns)


def is_object(line: str) -> bool:
    def refuse(text: str) -> None:
        raise ValueError(text)

    try:
        return isinstance(json.loads(line, parse_constant=refuse), dict)
    except ValueError:
        return False
