"""Lines before and after the records of a CSV file are left out, whatever they contain, and line numbers stay."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path

import pytest

from lakehouse.errors import DataRefused
from lakehouse.storage import csv_body
from lakehouse.storage.csv_body import Body, CutLines, copy_with_body, copy_with_empty_head
from lakehouse.storage.csv_dialect import Dialect


def cut(folder: Path, content: bytes, first: int, last: int, **options: str) -> tuple[bytes, Body]:
    (folder / "a.csv").write_bytes(content)
    dialect, target = Dialect.from_options(options), folder / "cut.csv"
    body = copy_with_empty_head(folder / "a.csv", target, dialect, CutLines(first, last))
    return target.read_bytes(), body


@pytest.mark.parametrize(
    ("content", "first", "last", "expected"),
    [
        ("Title\n\nid,v\na,1\nTotal,1\n", 2, 1, "\n\nid,v\na,1\n"),
        ("id\na\nTotal", 0, 1, "id\na\n"),
        ("id\na\nTotal\n\n\n", 0, 1, "id\na\n"),  # empty lines at the end are no lines of the footer
        ("id\na\n\nTotal\nSource\n", 0, 3, "id\na\n"),  # those inside it are
        ('id\n"a\nb"\nTotal\n', 0, 1, 'id\n"a\nb"\n'),
        ('An "open quote\nid\na\n', 1, 0, "\nid\na\n"),
        ('id\na\nAn "open quote\n', 0, 1, "id\na\n"),
        ("\ufeffTitle\nid\na\n", 1, 0, "\nid\na\n"),
        ("\ufeffid\na\nTotal\n", 0, 1, "id\na\n"),
        ("Title\r\nid\r\na\r\nTotal\r\n", 1, 1, "\r\nid\r\na\r\n"),
        ("Title\rid\ra\rTotal\r", 1, 1, "\rid\ra\r"),
        ("Title\nid\r\na\r\n", 1, 0, "\r\nid\r\na\r\n"),  # the line ends of the records
        ("Title\nid", 1, 0, "\nid"),
        ("Title\n", 1, 0, "\n"),
        ("id\nTotal\n", 0, 2, ""),
    ],
)
def test_the_lines_that_are_no_data_are_left_out(
    tmp_path: Path, content: str, first: int, last: int, expected: str
) -> None:
    text, body = cut(tmp_path, content.encode(), first, last)

    assert text.decode() == expected
    assert body.has_quote == ('"' in expected)


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "UTF-16BE", "ISO-8859-1", "windows-1252", "GB18030"])
def test_a_file_stays_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    text, _ = cut(tmp_path, "Título\nid\nção\nTotal\n".encode(encoding), 1, 1, encoding=encoding)

    assert text == "\nid\nção\n".encode(encoding)


def test_bytes_that_are_invalid_stay_and_count_only_among_the_records(tmp_path: Path) -> None:
    text, body = cut(tmp_path, b"T\xed\nid\na\n\xff\n", 1, 1)
    assert (text, body.is_decodable) == (b"\nid\na\n", True)
    text, body = cut(tmp_path, b"T\nid\n\xff\n", 1, 0)
    assert (text, body.is_decodable) == (b"\nid\n\xff\n", False)


@pytest.mark.parametrize(
    ("content", "first", "last", "found"),
    [
        ("", 1, 0, "0 lines, fewer than are left out (skip_lines: 1)"),
        ("a\n", 2, 0, "1 line,"),
        ("a", 1, 1, "1 line, fewer than are left out (skip_lines: 1 and skip_footer: 1)"),
        ("a\n\n\n", 0, 2, "1 line, fewer than are left out (skip_footer: 2)"),
        ("\n\n", 0, 1, "0 lines,"),
        ("a\nb\nc\n", 1, 3, "3 lines,"),
    ],
)
def test_a_file_with_fewer_lines_is_refused(tmp_path: Path, content: str, first: int, last: int, found: str) -> None:
    with pytest.raises(DataRefused) as refused:
        cut(tmp_path, content.encode(), first, last)

    assert found in refused.value.found
    assert refused.value.where == str(tmp_path / "a.csv")


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_body, "_MAX_LINE", 10)
    monkeypatch.setattr(csv_body, "_CHUNK", 4)
    for first, last in ((1, 0), (0, 1)):
        with pytest.raises(DataRefused, match="a line of more than 10 characters"):
            cut(tmp_path, b"x" * 40, first, last)


def reference(text: str, first: int, last: int) -> str | None:
    """Return what is left of a text, line by line; None if it has too few lines."""
    lines = list(io.StringIO(text, newline=""))
    end = len(lines)
    while last and end and not lines[end - 1].strip("\r\n"):
        end -= 1
    if first > len(lines) or (last and end - last < first):
        return None
    body = lines[first : end - last if last else None]
    rest = "".join(lines[first:])
    found = re.search("\r\n|\r|\n", rest) or (re.search("\r\n|\r|\n", lines[first - 1]) if first else None)
    return (found[0] if found else "\n") * first + "".join(body)


def cut_text(text: str, first: int, last: int) -> str | None:
    out, lines = io.StringIO(newline=""), CutLines(first, last)
    try:
        csv_body._copy_body(io.StringIO(text, newline=""), out, Path("a"), lines, lambda _, end: end * first)
    except DataRefused:
        return None
    return out.getvalue()


def test_any_text_is_cut_as_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    random_ = random.Random(1)
    for _ in range(5000):
        text = "".join(random_.choice(["a", "b,", "\n", "\r\n", "\r", '"']) for _ in range(random_.randrange(12)))
        first, last = random_.randrange(3), random_.randrange(4)
        monkeypatch.setattr(csv_body, "_CHUNK", random_.choice([1, 2, 3, 100]))
        assert cut_text(text, first, last) == reference(text, first, last), (text, first, last)


def test_records_are_removed_between_the_same_head_and_foot(tmp_path: Path) -> None:
    for encoding in ("UTF-8", "UTF-16", "ISO-8859-1"):
        content = 'Título "x\nid;v\na;1\nb;"2\n3"\n\nTotal;2\n\n'
        source, target = tmp_path / "a.csv", tmp_path / "b.csv"
        source.write_bytes(content.encode(encoding))
        dialect = Dialect.from_options({"encoding": encoding, "sep": ";"})

        def without_b(path: Path, kept: Path, dialect: Dialect = dialect) -> None:
            dialect.copy_without(path, kept, [], lambda fields, _: fields.get("id") == "b")

        copy_with_body(source, target, dialect, CutLines(1, 2), without_b)

        assert target.read_bytes() == content.replace('b;"2\n3"\n', "").encode(encoding)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "b.csv"]
