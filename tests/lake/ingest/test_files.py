"""Tests files with all kinds of faults, one table each: read correctly, quarantined, or refused with a reason."""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Project, Row, nonzero_counts
from pyspark.sql import SparkSession

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
Files = dict[str, str | bytes]


def table(file: str, schema: str, keys: str = "id", **settings: Any) -> dict[str, Any]:
    kinds = {"json": "json", "parquet": "parquet"}
    kind = next((kind for part, kind in kinds.items() if part in file), "csv")
    return {"file": file, "format": kind, "schema": schema, "keys": keys.split(), **settings}


def zipped(**members: str | bytes) -> bytes:
    """A zip; `a__csv` is a.csv."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return data.getvalue()


def put(project: Project, stamp: str, files: Files) -> None:
    folder = project.snapshot(stamp)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def by_key(project: Project, name: str) -> dict[Any, tuple[Any, ...]]:
    """A table of bronze: the first column to the others."""
    return {first: tuple(rest) for first, *rest in (row.values() for row in project.rows(f"bronze/{name}"))}


def waiting(project: Project, name: str) -> dict[str | None, tuple[str | None, int | None]]:
    """What waits in quarantine: by value, its column and line."""
    rows: list[Row] = project("quarantine", name).document["rows"]
    return {row["value"]: (row["column"], row["line"]) for row in rows}


# --- what can be read, and rows that cannot: one project, one run -----------------------------------------------

TABLES = {
    "words": table(
        "words.csv",
        "id STRING, n INT, amount DECIMAL(10,2), day DATE, seen TIMESTAMP",
        guard={"max_quarantined": 1},
    ),
    "prices": table(
        "prices.csv.gz",
        "id STRING, price DECIMAL(10,2), n INT",
        options={"sep": ";", "locale": "pt-BR"},
    ),
    "dates": table(
        "dates.csv",
        "id STRING, day DATE, seen TIMESTAMP",
        options={"dateFormat": "[dd/MM/yyyy][yyyy-MM-dd]", "timestampFormat": "epoch_s"},
    ),
    "parts": table("parts*", "id STRING, note STRING", keys="id note"),
    "lines": table("lines.csv", "id STRING, note STRING", options={"encoding": "UTF-16"}),
    "odd": table("odd.csv", "id STRING, note STRING"),
    "legacy": table("legacy.csv", "id STRING, note STRING", options={"encoding": "windows-1252", "sep": ";"}),
    "events": table("events.json", "id STRING, price DECIMAL(10,2), day DATE, seen TIMESTAMP, note STRING"),
    "bundle": table("bundle*", "id STRING, v INT") | {"format": "json"},
}
MEGABYTE = "x" * (1 << 20)
FILES: Files = {
    "words.csv": "id,n,amount,day,seen\n"
    "good,1,10e-1,2024-02-29,2024-01-01T10:00Z\n"
    "a,one,1,2024-01-01,\nb,1,1,2024-02-30,\nc,2147483648,1,2024-01-01,\n"
    'd,1,"1,5",2024-01-01,\ne,1,"1.234,56",2024-01-01,\nf,1,1.005,2024-01-01,\ng,1,1,2024-01-01,25:00\n',
    "prices.csv.gz": gzip.compress(
        b'id;price;n\na;1.234,56;1.000\nb;-0,5;-7\nc;1234,56;\nd;"1.23,4";1\ne;12.34;1\nf;1.234;1\n'
    ),
    "dates.csv": "id,day,seen\na,31/12/2024,1735689600\nb,2024-12-31,0\nc,1735603200000,\n"
    "d,1735603200001,\ne,12/31/2024,\nf,2024-12-31,x\n",
    "parts1.csv": "id,note\ndoc-7,12\ndoc-71,2\n",
    "parts2.csv.gz": gzip.compress(b"NOTE,id\n2,b\n"),
    "parts3.zip": zipped(
        c__csv="id,note\nc,3\n", d__csv='id,note\nd,"4\n4"\n', __MACOSX="", **{"__MACOSX/._c__csv": "x"}
    ),
    "lines.csv": 'id,note\n"1",a\r\n2,"ã\r\n\U0001f600"\n3,c\r4,d\r\n'.encode("utf-16"),
    "odd.csv": f'id,note\r\na,"{MEGABYTE}"\nb,x\0y\r\n\ue000,\uf8fe\nc\nd,1,2\r\ne,\n',
    "legacy.csv": "id;note\na;São €\n".encode("windows-1252") + b"b;\x81\nc;x\0y\nd;\xe3\n",
    "events.json": '{"id":"a","price":"12.50","day":1735603200000,"seen":"1735603200123","note":1.50}\n'
    '{"id":"b","price":12.5,"day":"2024-12-31","seen":"2024-12-31T10:00-03:00","note":true}\n'
    '{"id":"c","price":"12,50"}\n{"ID":"d","id":"e"}\n{"id":"f","price":\n'
    '{"id":"a","price":"12.50","day":1735603200000,"seen":"1735603200123","note":1.50}\n',
    "bundle1.json": '{\n  "id": "a",\n  "v": 1\n}\n',
    "bundle2.zip": zipped(a__json='[\n{"id": "b", "v": 2}\n]', b__json='{"id": "c",\n "v": 3}\n{"id": "d"}'),
}


@pytest.fixture(scope="module")
def read(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("read"), dict(TABLES))
    put(project, FIRST, FILES)
    result = project.run()
    assert result.code == 0, result.document
    for name in TABLES:
        (entry,) = project.ledger(name)
        assert entry["rows_read"] == sum(entry[c] for c in nonzero_counts(entry) if c not in ("rows_read", "deleted"))
    return project


def test_text_impossible_dates_overflow_and_a_decimal_comma_are_named_with_their_line(read: Project) -> None:
    utc = timezone.utc
    assert by_key(read, "words") == {
        "good": (1, Decimal("1.00"), date(2024, 2, 29), datetime(2024, 1, 1, 10, tzinfo=utc))
    }
    assert waiting(read, "words") == {
        **{"one": ("n", 3), "2024-02-30": ("day", 4), "2147483648": ("n", 5), "1,5": ("amount", 6)},
        **{"1.234,56": ("amount", 7), "1.005": ("amount", 8), "25:00": ("seen", 9)},
    }


def test_numbers_of_a_locale_are_read_where_it_is_named_and_lines_are_those_of_the_unpacked_text(read: Project) -> None:
    assert by_key(read, "prices") == {
        **{"a": (Decimal("1234.56"), 1000), "b": (Decimal("-0.50"), -7), "c": (Decimal("1234.56"), None)},
        "f": (Decimal(1234), 1),
    }
    assert waiting(read, "prices") == {"1.23,4": ("price", 5), "12.34": ("price", 6)}


def test_dates_of_several_notations_and_instants_are_read_and_no_time_is_dropped(read: Project) -> None:
    day, utc = date(2024, 12, 31), timezone.utc
    assert by_key(read, "dates") == {
        "a": (day, datetime(2025, 1, 1, tzinfo=utc)),
        "b": (day, datetime(1970, 1, 1, tzinfo=utc)),
        "c": (day, None),
    }
    assert waiting(read, "dates") == {"1735603200001": ("day", 5), "12/31/2024": ("day", 6), "x": ("seen", 7)}


def test_packed_files_are_read_beside_plain_ones_and_stay_packed_in_landing(read: Project) -> None:
    assert by_key(read, "parts").items() >= {"b": ("2",), "c": ("3",), "d": ("4\n4",)}.items()
    landed = read.lake / "landing" / "parts" / FIRST
    assert {p.name: p.read_bytes() for p in landed.glob("parts*")} == {
        name: content if isinstance(content, bytes) else content.encode()
        for name, content in FILES.items()
        if name.startswith("parts")
    }
    assert list((read.lake / "_state" / "plain").iterdir()) == []


def test_utf16_and_line_ends_of_several_kinds_leave_nothing_in_the_last_column(read: Project) -> None:
    assert by_key(read, "lines") == {"1": ("a",), "2": ("ã\r\n\U0001f600",), "3": ("c",), "4": ("d",)}


def test_a_megabyte_and_characters_for_private_use_are_kept_and_nul_and_ragged_rows_wait(read: Project) -> None:
    assert by_key(read, "odd") == {"a": (MEGABYTE,), "\ue000": ("\uf8fe",), "e": (None,)}
    assert waiting(read, "odd") == {"x\ufffdy": ("note", 3), "c": (None, 5), "d,1,2": (None, 6)}


def test_windows_1252_is_read_where_it_is_named_and_bytes_without_a_meaning_wait(read: Project) -> None:
    assert by_key(read, "legacy") == {"a": ("São €",), "d": ("ã",)}
    assert waiting(read, "legacy") == {"\ufffd": ("note", 3), "x\ufffdy": ("note", 4)}


def test_keys_of_several_columns_are_not_concatenated(read: Project) -> None:
    assert by_key(read, "parts").items() >= {"doc-7": ("12",), "doc-71": ("2",)}.items()


def test_json_is_typed_by_the_schema_and_bad_lines_are_named(read: Project) -> None:
    day, utc = date(2024, 12, 31), timezone.utc
    assert by_key(read, "events") == {
        "a": (Decimal("12.50"), day, datetime(2024, 12, 31, 0, 0, 0, 123_000, tzinfo=utc), "1.50"),
        "b": (Decimal("12.50"), day, datetime(2024, 12, 31, 13, tzinfo=utc), "true"),
    }
    assert waiting(read, "events") == {
        **{"12,50": ("price", 3), '{"ID":"d","id":"e"}': (None, 4), '{"id":"f","price":': (None, 5)}
    }
    assert nonzero_counts(read.ledger("events")[0])["duplicates"] == 1


def test_json_that_spans_lines_is_read_one_object_a_file_or_an_array(read: Project) -> None:
    assert by_key(read, "bundle") == {"a": (1,), "b": (2,), "c": (3,), "d": (None,)}


def test_a_second_reader_finds_the_same_in_all_of_them(read: Project) -> None:
    result = read("verify")
    assert result.code == 0, result.document
    same = [c for c in result.document["checks"] if c["what"] == "bronze = the last accepted snapshot"]
    compared = {c["name"] for c in same if c["result"] == "holds" and "not compared" not in c["figures"]}
    assert compared == {"prices", "dates", "words", "parts", "lines", "odd", "legacy"}


# --- what cannot be read: rejected, with the file and the reason ------------------------------------------------

GOOD = b"id,v\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(500))
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "cut_gzip": ("cut.csv.gz", gzip.compress(GOOD)[:-20], "cut.csv.gz is truncated or damaged"),
    "cut_zip": ("cut.zip", zipped(a__csv=GOOD)[:-20], "cut.zip is truncated or damaged"),
    "no_zip": ("no.zip", GOOD, "no.zip is truncated or damaged"),
    "slip": (
        "slip.zip",
        zipped(**{"../../evil.csv": GOOD}),
        "'../../evil.csv', which is not a valid name below its folder",
    ),
    "bomb": ("bomb.csv.gz", b"", "bomb.csv.gz unpacks to more than"),
    "cut_json": ("cut.json", b'{\n "id": "a",\n "v": ', "cut.json is not a complete JSON array, nor complete objects"),
    "cut_array": ("array.json", b'[{"id": "a", "v": 1},\n', "array.json is not a complete JSON array"),
    "cut_parquet": ("cut.parquet", b"PAR1 and no footer", "the file cannot be read"),
    "long_line": ("long.json.gz", b"", "long.json has a line of 68,157,4"),
    "long_object": ("objects.json.gz", b"", "objects.json has an object of 68,157,4"),
    "long_value": ("long.parquet", b"", "a row has 68,157,440 bytes in long.parquet: v"),
    "blank_column": ("blank.csv", b"id,,w\na,1,2\n", "blank.csv has no column v"),
    "shifted": (
        "shifted.csv.gz",
        gzip.compress(b"a,1\nb,2\n"),
        "no column id, v; its header has 2 names, not shown since they may be a row",
    ),
}


@pytest.fixture(scope="module")
def broken(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    tables = {name: table(file, "id STRING, v INT") for name, (file, _, _) in BROKEN.items()}
    tables["link"] = table("link.csv", "id STRING, v INT")
    project = Project(tmp_path_factory.mktemp("broken"), tables)
    put(project, FIRST, {file: content for file, content, _ in BROKEN.values()})
    put(project, FIRST, {"bomb.csv.gz": gzip.compress(bytes(101 << 20), 1)})
    long = '{"id":"a","v":"' + "1" * (65 << 20) + '"}'
    put(project, FIRST, {"long.json.gz": gzip.compress(f'{long}\n{{"id":"b","v":1}}\n'.encode(), 1)})
    put(project, FIRST, {"objects.json.gz": gzip.compress(f'[{{"id":"b","v":1}},{long}]'.encode(), 1)})
    pq.write_table(pa.table({"id": ["a"], "v": ["1" * (65 << 20)]}), project.source / FIRST / "long.parquet")
    (project.folder / "outside.csv").write_bytes(GOOD)
    (project.source / FIRST / "link.csv").symlink_to(project.folder / "outside.csv")
    assert project.run().code == 5
    return project


def assert_rejected(project: Project, *names: str) -> None:
    for name in names:
        (entry,) = project.ledger(name)
        file, _, reason = BROKEN[name]
        assert entry["status"] == "rejected"
        assert reason in entry["reason"]
        assert str(project.lake / "landing" / name / FIRST / file) in entry["reason"]
        assert "_state" not in entry["reason"]
        assert not (project.lake / "bronze" / name).exists()


def test_a_cut_or_invalid_packed_file_is_rejected(broken: Project) -> None:
    assert_rejected(broken, "cut_gzip", "cut_zip", "no_zip")


def test_an_archive_that_leaves_its_folder_or_has_no_end_is_rejected(broken: Project) -> None:
    assert_rejected(broken, "slip", "bomb")
    assert not list(broken.folder.rglob("evil.csv"))
    assert list((broken.lake / "_state" / "plain").iterdir()) == []


def test_json_and_parquet_files_that_were_cut_are_rejected(broken: Project) -> None:
    assert_rejected(broken, "cut_json", "cut_array", "cut_parquet")


def test_a_row_that_no_reader_could_hold_is_rejected(broken: Project) -> None:
    assert_rejected(broken, "long_line", "long_object", "long_value")


def test_a_blank_or_missing_header_is_rejected_and_nothing_shifts(broken: Project) -> None:
    assert_rejected(broken, "blank_column", "shifted")


def test_a_link_out_of_the_source_is_not_followed(broken: Project) -> None:
    (entry,) = broken.ledger("link")
    assert entry["status"] == "rejected"
    assert "no file link.csv" in entry["reason"]


def test_an_unsupported_option_is_refused_at_validate(tmp_path: Path) -> None:
    options = {"sep": "||", "encoding": "hex", "dateFormat": "DD/MM/YYYY", "locale": "pt_BR", "mode": "DROPMALFORMED"}
    project = Project(tmp_path, {"items": table("items.csv", "id STRING", options=options)})
    for verb in ("validate", "run"):
        refused = project(verb)
        assert refused.code == 2
        for name in options:
            assert f"tables.items.options.{name}: " in refused.error["found"]
    assert not project.lake.exists()


# --- from one snapshot to the next ------------------------------------------------------------------------------

VALUES = "id STRING, v DOUBLE, note STRING"


def test_values_that_are_equal_or_null_make_one_true_update_each_and_a_split_makes_none(
    spark: SparkSession, tmp_path: Path
) -> None:
    project = Project(tmp_path, {"items": table("*.csv", VALUES)})
    put(project, FIRST, {"a.csv": 'id,v,note\nnan,NaN,\nzero,-0.0,x\none,1.0,\ntwo,,y\nempty,2,""\n'})
    assert project.run().code == 0

    put(
        project,
        SECOND,
        {"b.csv": 'note,id,v\n,one,1\n"",empty,2.00\n', "c.csv": "id,v,note\ntwo,,y\nzero,0,x\nnan,nan,\n"},
    )
    assert project.run().code == 0
    assert nonzero_counts(project.ledger()[-1]) == {"rows_read": 5, "unchanged": 5}

    put(project, THIRD, {"a.csv": 'id,v,note\nnan,1,\nzero,,x\none,1,""\ntwo,NaN,y\nempty,2,\n'})
    assert project.run().code == 0
    assert nonzero_counts(project.ledger()[-1]) == {"rows_read": 5, "updated": 5}
    changed = {row["id"]: row["_cdc_changed"] for row in project.change_set(project.ledger()[-1])}
    assert changed == {"nan": ["v"], "zero": ["v"], "one": ["note"], "two": ["v"], "empty": ["note"]}


def test_a_row_that_was_deleted_and_comes_again_is_live_and_both_are_in_the_change_sets(
    spark: SparkSession, tmp_path: Path
) -> None:
    project = Project(tmp_path, {"items": table("items.csv", "id STRING, v INT", guard={"max_deleted": 1})})
    for stamp, text in {FIRST: "id,v\na,1\nb,2\n", SECOND: "id,v\na,1\n", THIRD: "id,v\na,1\nb,2\n"}.items():
        put(project, stamp, {"items.csv": text})
    assert project.run().code == 0

    sets = [[(row["_cdc_operation"], row["id"]) for row in project.change_set(e)] for e in project.ledger()]
    assert sets == [[("I", "a"), ("I", "b")], [("D", "b")], [("I", "b")]]
    assert by_key(project, "items") == {"a": (1,), "b": (2,)}


STRUCTS = "s STRUCT<x: INT NOT NULL, y: STRING>, a ARRAY<STRUCT<z: INT NOT NULL>>"
ALWAYS = "named_struct('x', 1, 'y', 'a')"  # of whose fields Spark knows that none is null


@pytest.mark.parametrize("tuning", [{}, {"small_table_bytes": 0, "local_rows": 1}], ids=["driver", "spark"])
def test_a_struct_may_be_null_though_its_fields_are_not(
    spark: SparkSession, tmp_path: Path, tuning: dict[str, int]
) -> None:
    totals = (
        f"SELECT i.s AS g, MAX({ALWAYS}) AS m, GROUPING_ID() AS gid FROM bronze.items AS i GROUP BY i.s WITH ROLLUP"
    )
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "silver.s": (
            f"SELECT i.id AS id, i.s AS s, CASE WHEN i.id > 'a' THEN {ALWAYS} END AS m FROM bronze.items AS i",
            {"keys": ["id"]},
        ),
        "gold.g": (totals, {"keys": ["g", "gid"]}),
    }
    shop = Project(tmp_path, {"items": table("t.json", f"id STRING, {STRUCTS}")}, models, tuning=tuning)
    put(shop, FIRST, {"t.json": '{"id": "a", "s": null, "a": [null]}\n{"id": "b", "s": {"x": 1}, "a": [{"z": 1}]}\n'})
    assert shop.run().code == 0
    changed = '{"id": "a", "s": {"x": 2}, "a": null}\n{"id": "b", "s": null}\n{"id": "c", "s": {"y": "only"}}\n'
    put(shop, SECOND, {"t.json": changed})
    assert shop.run().code == 0

    only = {"x": None, "y": "only"}
    assert by_key(shop, "items") == {"a": ({"x": 2, "y": None}, None), "b": (None, None), "c": (only, None)}
    always = {"x": 1, "y": "a"}
    assert [row["m"] for row in shop.rows("silver/s")] == [None, always, always]
    assert {row["m"]["x"] for row in shop.rows("gold/g")} == {1}
    assert shop("verify").code == 0
