"""Files with lines and documents around their records: what is left of them, for tests on several paths."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

from helpers import Project

FIRST = "20250101_000000"
TABLE: dict[str, Any] = {"format": "csv", "schema": "id STRING, qty INT", "keys": ["id"]}
CUT: dict[str, Any] = {"skip_lines": 2, "skip_footer": 1}
INSIDE: dict[str, Any] = {"format": "json", "records": "data.items"}
TITLED = 'Title of "a\n\nid,qty\na,1\nb,x\nTotal,1\n'
DOCUMENT = '{"n": 1.10,\n"data": {"items": [\n{"id": "a", "qty": 1},\n{"id": "b", "qty": "x"}\n]}}\n'
GOOD: list[tuple[str, int | None]] = [("a", 1)]


def _zipped(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return data.getvalue()


# By table: its file, its content, its settings, the rows of bronze, and the lines in quarantine, or the reason.
Case = tuple[str, bytes, dict[str, Any], list[tuple[str, int | None]], list[int | None] | str]
CASES: dict[str, Case] = {
    "plain": ("plain.csv", TITLED.replace('"', "").encode(), CUT, GOOD, [5]),
    "crlf": ("crlf.csv", TITLED.replace("\n", "\r\n").encode(), CUT, GOOD, [5]),
    "cr": ("cr.csv", TITLED.replace("\n", "\r").encode(), CUT, GOOD, [5]),
    "mixed": ("mixed.csv", (TITLED.replace("\n", "\r\n") + "\n").replace("1\r", "1").encode(), CUT, GOOD, [5]),
    "bom": ("bom.csv", ("\ufeff" + TITLED).encode(), CUT, GOOD, [5]),
    "gz": ("gz.csv.gz", gzip.compress(TITLED.encode()), CUT, GOOD, [5]),
    "members": (
        "members.zip",
        _zipped(x=TITLED.encode(), y=TITLED.replace("a,1", "c,1").replace("b,x\n", "").encode()),
        CUT,
        [("a", 1), ("c", 1)],
        [5],
    ),
    "wide": ("wide.csv", TITLED.encode("UTF-16"), CUT | {"options": {"encoding": "UTF-16"}}, GOOD, [5]),
    "latin": (
        "latin.csv",
        TITLED.replace("a,1", "\u00e9,1").encode("ISO-8859-1"),
        CUT | {"options": {"encoding": "ISO-8859-1"}},
        [("\u00e9", 1)],
        [5],
    ),
    "undecodable": ("undecodable.csv", b"\xff\xfe\n" + TITLED.encode()[1:], CUT | {"skip_lines": 3}, GOOD, [6]),
    "bare": ("bare.csv", TITLED.replace("id,qty\n", "").encode(), CUT | {"options": {"header": False}}, GOOD, [4]),
    "single": (
        "single.csv",
        b"T\n\nid\na\n\nb\nTotal\n",
        CUT | {"schema": "id STRING"},
        [("a", None), ("b", None)],
        [],
    ),
    "few": ("few.csv", b"T\n\n\n", CUT, [], "few.csv has 2 lines, fewer than are left out"),
    "no_header": ("no_header.csv", b"T\n\nTotal\n", CUT, [], "no_header.csv is empty"),
    "renamed": ("renamed.csv", TITLED.replace("qty", "n").encode(), CUT, [], "line 3"),
    "open_quote": ("open_quote.csv", TITLED.replace("b,x", 'b,"x').encode(), CUT, [], "at or before line 5"),
    "document": ("document.json", ("\ufeff" + DOCUMENT).encode(), INSIDE, GOOD, [4]),
    "packed": ("packed.json.gz", gzip.compress(DOCUMENT.encode()), INSIDE, GOOD, [4]),
    "pages": (
        "pages.json",
        (DOCUMENT + '{"data":{"items":[{"id":"c","qty":3}]}}\n').encode(),
        INSIDE,
        [("a", 1), ("c", 3)],
        [4],
    ),
    "indented": (
        "indented.json",
        b'{"data": {"items": [\n {\n  "id": "a",\n  "qty": 1\n },\n {"id": 7.50, "qty": 2}\n]}}',
        INSIDE,
        [("7.50", 2), ("a", 1)],
        [],
    ),
    "nested": ("nested.json", b'{"data": {"items": {"id": "a"}}}', INSIDE, [], "data.items is an object"),
    "no_utf8": ("no_utf8.json", b'{"data": {"items": [{"id": "\xff"}]}}', INSIDE, [], "is not UTF-8"),
    "page": ("page.json", b"<!doctype html><html></html>", INSIDE, [], "an HTML page"),
}


def deliver(folder: Path, **tuning: Any) -> Project:
    """Return a project with a table for each case, whose files are delivered."""
    tables = {name: TABLE | {"file": file} | settings for name, (file, _, settings, *_) in CASES.items()}
    project = Project(folder, tables, tuning=tuning)
    snapshot = project.snapshot(FIRST)
    for file, content, *_ in CASES.values():
        (snapshot / file).write_bytes(content)
    return project


def check(project: Project) -> None:
    """Assert that a run took the rows of each case, and nothing else."""
    for name, (*_, rows, expected) in CASES.items():
        (entry,) = project.ledger(name)
        if isinstance(expected, str):
            assert entry["status"] == "rejected" and expected in entry["reason"], name
            continue
        assert entry["status"] == "accepted", (name, entry["reason"])
        assert [(row["id"], row.get("qty")) for row in project.rows(f"bronze/{name}")] == rows, name
        lines = [row["line"] for row in project("quarantine", name).document["rows"]]
        assert lines == expected, name
