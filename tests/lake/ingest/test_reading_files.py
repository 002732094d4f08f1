"""Files are read as they are, on every path: the rules of docs/guide/reading-files.md."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from guide import Example, parse_sections
from helpers import Project
from pyspark.sql import SparkSession

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "reading-files.md"
FIRST = "20250101_000000"
TABLE: dict[str, Any] = {"format": "csv", "schema": "id STRING, qty INT", "keys": ["id"]}
TITLED = 'Title of "a\n\nid,qty\na,1\nb,x\nTotal,1\n'

pytestmark = pytest.mark.usefixtures("spark")


def test_the_page_of_reading_files_shows_what_happens(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = parse_sections(PAGE.read_text(encoding="utf-8"))

    example = Example(section, tmp_path, spark)
    example.check()

    assert example.project("verify").code == 0


def zipped(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return data.getvalue()


# By table: its file, its content, its settings, the rows of bronze, and the lines in quarantine or the reason.
Rows = list[tuple[str, int | None]]
CASES: dict[str, tuple[str, bytes, dict[str, Any], Rows, list[int | None] | str]] = {
    "plain": ("plain.csv", TITLED.replace('"', "").encode(), {}, [("a", 1)], [5]),
    "crlf": ("crlf.csv", TITLED.replace("\n", "\r\n").encode(), {}, [("a", 1)], [5]),
    "cr": ("cr.csv", TITLED.replace("\n", "\r").encode(), {}, [("a", 1)], [5]),
    "mixed": ("mixed.csv", (TITLED.replace("\n", "\r\n") + "\n").replace("1\r", "1").encode(), {}, [("a", 1)], [5]),
    "bom": ("bom.csv", ("\ufeff" + TITLED).encode(), {}, [("a", 1)], [5]),
    "gz": ("gz.csv.gz", gzip.compress(TITLED.encode()), {}, [("a", 1)], [5]),
    "members": (
        "members.zip",
        zipped(x=TITLED.encode(), y=TITLED.replace("a,1", "c,1").replace("b,x\n", "").encode()),
        {},
        [("a", 1), ("c", 1)],
        [5],
    ),
    "wide": ("wide.csv", TITLED.encode("UTF-16"), {"options": {"encoding": "UTF-16"}}, [("a", 1)], [5]),
    "latin": (
        "latin.csv",
        TITLED.replace("a,1", "\u00e9,1").encode("ISO-8859-1"),
        {"options": {"encoding": "ISO-8859-1"}},
        [("\u00e9", 1)],
        [5],
    ),
    "undecodable": ("undecodable.csv", b"\xff\xfe\n" + TITLED.encode()[1:], {"skip_lines": 3}, [("a", 1)], [6]),
    "bare": ("bare.csv", TITLED.replace("id,qty\n", "").encode(), {"options": {"header": False}}, [("a", 1)], [4]),
    "single": ("single.csv", b"T\n\nid\na\n\nb\nTotal\n", {"schema": "id STRING"}, [("a", None), ("b", None)], []),
    "few": ("few.csv", b"T\n\n\n", {}, [], "few.csv has 2 lines, fewer than are left out"),
    "no_header": ("no_header.csv", b"T\n\nTotal\n", {}, [], "no_header.csv is empty"),
    "renamed": ("renamed.csv", TITLED.replace("qty", "n").encode(), {}, [], "line 3"),
    "open_quote": ("open_quote.csv", TITLED.replace("b,x", 'b,"x').encode(), {}, [], "at or before line 5"),
}


@pytest.mark.parametrize("tuning", [{}, {"driver_compare_bytes": 0}], ids=["in the driver", "by Spark"])
def test_lines_around_the_records_are_left_out_of_any_file(tmp_path: Path, tuning: dict[str, Any]) -> None:
    tables = {
        name: TABLE | {"skip_lines": 2, "skip_footer": 1, "file": file} | settings
        for name, (file, _, settings, *_) in CASES.items()
    }
    shop = Project(tmp_path, tables, tuning=tuning)
    folder = shop.snapshot(FIRST)
    for file, content, *_ in CASES.values():
        (folder / file).write_bytes(content)

    shop.run()

    for name, (*_, rows, expected) in CASES.items():
        (entry,) = shop.ledger(name)
        if isinstance(expected, str):
            assert entry["status"] == "rejected" and expected in entry["reason"], name
            continue
        assert entry["status"] == "accepted", (name, entry["reason"])
        assert [(row["id"], row.get("qty")) for row in shop.rows(f"bronze/{name}")] == rows, name
        quarantine = shop("quarantine", name).document["rows"]
        assert [row["line"] for row in quarantine] == expected, name
    if not tuning:
        assert shop("verify").code == 0
        _forget_keeps_the_lines_around_the_records(shop)


def _forget_keeps_the_lines_around_the_records(shop: Project) -> None:
    for name in ("gz", "wide"):
        assert shop("forget", name, "a", "--yes").code == 0
        landed = shop.lake / "landing" / name / FIRST / CASES[name][0]
        content = gzip.decompress(landed.read_bytes()) if name == "gz" else landed.read_bytes()
        text = content.decode("UTF-16" if name == "wide" else "UTF-8")
        assert text == TITLED.replace("a,1\n", "")
    assert shop("verify").code == 0
