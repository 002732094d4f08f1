"""Tests copies of files without some records: the others keep their bytes, or in Parquet their values."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.ingest.readers import json_reader, parquet_reader
from lakehouse.lake import change_sets
from lakehouse.storage import landing
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.paths import Lake

TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)


def is_excluded(fields: Mapping[str, str], text: str) -> bool:
    return fields["id"] == "b" if fields else "b" in text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["UTF-8", "windows-1252", "UTF-16"])
def test_csv_keeps_every_other_byte(tmp_path: Path, end: str, encoding: str) -> None:
    kept = ["note,ID", f'"x{end}, y ""z""",a', "é,c", "", "one field", "e,d"]
    added = [*kept[:2], "é,b", f'"x{end}y",b', *kept[2:], "b", "too,many,b"]
    source, target = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_bytes(end.join([*added, ""]).encode(encoding))
    Dialect.from_options({"encoding": encoding}).copy_without(source, target, ["note", "id"], is_excluded)
    assert target.read_bytes() == end.join([*kept, ""]).encode(encoding)


def test_csv_keeps_invalid_bytes_a_byte_order_mark_and_a_missing_last_line_end(tmp_path: Path) -> None:
    source, target = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_bytes(b"\xef\xbb\xbfid,note\na,\xff\xfe\nb,x\nc,\x00")
    Dialect.from_options({}).copy_without(source, target, ["id", "note"], is_excluded)
    assert target.read_bytes() == b"\xef\xbb\xbfid,note\na,\xff\xfe\nc,\x00"


def test_csv_without_a_header_uses_the_declared_columns(tmp_path: Path) -> None:
    source, target = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_text("x,b\ny,a\n")
    Dialect.from_options({"header": "false"}).copy_without(source, target, ["note", "ID"], is_excluded)
    assert target.read_text() == "y,a\n"


def test_json_lines_arrays_and_multiline_objects_keep_the_other_records_as_written(tmp_path: Path) -> None:
    source, target = tmp_path / "a.json", tmp_path / "b.json"
    a, b = '{"id": "a",  "n": 1.10}', '{"id": "b"}'
    for text, left in (
        (f"\ufeff{a}\r\n{b}\r\n\r\nbroken\r\n", f"\ufeff{a}\r\n\r\nbroken\r\n"),
        (f"[{a},\n {b}]", f"[{a}]"),
        (f"[{b}]", "[]"),
        ('{\n"id": "b2"\n}\n' + b.replace("{", "{\n"), '{\n"id": "b2"\n}'),
    ):
        source.write_text(text, encoding="utf-8", newline="")
        json_reader.copy_without(source, target, {b, b.replace("{", "{\n")})
        assert target.read_bytes().decode() == left


def test_parquet_keeps_types_metadata_row_groups_and_old_timestamps(tmp_path: Path) -> None:
    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    schema = pa.schema(
        [
            ("n", pa.int32()),
            ("d", pa.decimal128(10, 2)),
            ("t", pa.timestamp("us", "UTC")),
            ("l", pa.list_(pa.string())),
        ],
        metadata={"mine": "kept"},
    )
    rows = [{"n": n, "d": Decimal("1.10"), "t": TIME, "l": [str(n), None]} for n in range(10)]
    for old in (False, True):
        table = pa.Table.from_pylist(rows, schema)
        pq.write_table(table, source, row_group_size=3, compression="gzip", use_deprecated_int96_timestamps=old)
        excluded = set(random.Random(3).sample(range(10), 4)) | {0, 1, 2}  # a complete row group
        parquet_reader.copy_without(source, target, excluded, {"noted": "here"})
        written = pq.ParquetFile(target)
        assert [r["n"] for r in written.read().to_pylist()] == [n for n in range(10) if n not in excluded]
        assert written.schema_arrow.types == pq.ParquetFile(source).schema_arrow.types
        assert written.schema.column(2).physical_type == ("INT96" if old else "INT64")
        metadata = written.metadata.metadata
        assert (metadata[b"mine"], metadata[b"noted"]) == (b"kept", b"here")
        assert written.metadata.row_group(0).column(0).compression == "GZIP"


def test_a_rewritten_file_keeps_the_hash_and_size_of_the_received_file(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    (tmp_path / "a.csv").write_text("id\na\nb\n")
    (tmp_path / "c.csv").write_text("id\nc\n")
    before = landing.land_snapshot(lake, "t", TIME, [tmp_path / "a.csv", tmp_path / "c.csv"])
    landing.rewrite_file(
        lake, before, "a.csv", lambda old, new: new.write_text(old.read_text().replace("b\n", "")) and None
    )
    (after,) = landing.list_snapshots(lake, "t")
    assert (after.folder / "a.csv").read_text() == "id\na\n"
    assert (after.file_hashes, after.size) == (before.file_hashes, before.size)
    assert [f.as_received for f in after.files] == [False, True]
    assert sorted(p.name for p in after.folder.iterdir()) == ["_manifest.json", "a.csv", "c.csv"]


def test_a_failed_rewrite_leaves_the_file_unchanged(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    (tmp_path / "a.csv").write_text("id\na\n")
    snapshot = landing.land_snapshot(lake, "t", TIME, [tmp_path / "a.csv"])

    def fails(old: Path, new: Path) -> None:
        new.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        landing.rewrite_file(lake, snapshot, "a.csv", fails)
    assert sorted(p.name for p in snapshot.folder.iterdir()) == ["_manifest.json", "a.csv"]
    assert (snapshot.folder / "a.csv").read_text() == "id\na\n"
    assert json.loads((snapshot.folder / "_manifest.json").read_text())["files"][0]["as_received"]


def test_change_set_folders_of_a_table_exclude_those_of_a_table_with_a_longer_name(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    own = ["cdc/items_20250101_000000.parquet", "cdc/items_20250101_000000_7.parquet", "full-load/items.parquet"]
    own.append("full-load/items_20250101_000000.parquet")
    others = [
        "cdc/items_old_20250101_000000.parquet",
        "full-load/items_old.parquet",
        "cdc/item_20250101_000000.parquet",
    ]
    for name in (*own, *others):
        (tmp_path / "raw" / name).mkdir(parents=True)
    folders = [p.relative_to(tmp_path / "raw").as_posix() for p in change_sets.table_folders(lake, "items")]
    assert folders == [own[2], own[3], *own[:2]]
