"""Tests the strict CSV reader: headers, records, open quotes and line numbers, with the defaults and other options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import DataRefused
from lakehouse.storage import landing
from lakehouse.storage.csv_dialect import Dialect, RewriteReasons

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def one(content: str | bytes) -> Path:
        file = tmp_path / "clientes.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return one


def dialect(**options: str) -> Dialect:
    return Dialect.from_options(options)


@pytest.mark.parametrize(
    ("content", "header", "records"),
    [
        ("id,nome\n1,a\n2,b\n", ["id", "nome"], 2),
        ("id,nome\n1,a\n2,b", ["id", "nome"], 2),
        ("id,nome\r\n1,a\r\n", ["id", "nome"], 1),
        ("id,nome\r1,a\r2,b\r", ["id", "nome"], 2),
        ("\ufeffid,nome\n1,a\n", ["id", "nome"], 1),
        ('\ufeff"id","nome"\n1,a\n', ["id", "nome"], 1),
        ("\n\nid,nome\n\n1,a\n\n", ["id", "nome"], 1),
        ("id,nome\n", ["id", "nome"], 0),
        ("id", ["id"], 0),
        ("id,,nome\n", ["id", "", "nome"], 0),
        ('id,"no\nme"\n1,a\n', ["id", "no\nme"], 1),
        ('id,nome\n1,"a\nb"\n2,"c\r\n\r\nd"\n', ["id", "nome"], 2),
        ('id,nome\n1,"say ""a"""\n2,""\n', ["id", "nome"], 2),
        ('id,nome\n1,a"b\n2,"\n"\n', ["id", "nome"], 2),
        ("id,nome\n1,a\\\n2,b\n", ["id", "nome"], 2),
        ("id,nome\n,\n,,\n1\n", ["id", "nome"], 3),
        ("id,nome\n1,a\0b\n", ["id", "nome"], 1),
        (b"id,nome\n1,\xe3\xff\n2,b\n", ["id", "nome"], 2),
        (f'id,nome\n1,"{"x" * (1 << 20)}"\n', ["id", "nome"], 1),
    ],
)
def test_records_are_counted_whatever_they_contain(
    write: Write, content: str | bytes, header: list[str], records: int | None
) -> None:
    file = write(content)

    assert dialect().read_header(file) == header
    assert dialect().count_records(file) == records


def test_a_file_without_a_record_has_no_header(write: Write) -> None:
    assert dialect().read_header(write("")) is None
    assert dialect().read_header(write("\ufeff\n\r\n")) is None


@pytest.mark.parametrize(
    ("options", "content", "header", "records"),
    [
        ({"sep": ";"}, "id;nome\n1;a,b\n", ["id", "nome"], 1),
        ({"delimiter": ";"}, "id;nome\n1;a\n", ["id", "nome"], 1),
        ({"SEP": "\t"}, "id\tnome\n1\ta b\n", ["id", "nome"], 1),
        ({"header": "FALSE"}, "1,a\n2,b\n", ["1", "a"], 2),
        ({"quote": "'"}, "id,nome\n1,'a\nb'\n2,\"\n", ["id", "nome"], 2),
        ({"quote": "'", "escape": "'"}, "id,nome\n1,'a''b\n'\n", ["id", "nome"], 1),
        ({"quote": ""}, '"id","nome"\n1,"a\n2,b"\n', ['"id"', '"nome"'], 2),
        # Python takes the character for an escape outside quotes too, so records are not counted.
        ({"escape": "\\"}, 'id,nome\n1,"a\\"\nb"\n2,c\n', ["id", "nome"], None),
        ({"encoding": "ISO-8859-1"}, "id,preço\n1,ã\n".encode("latin-1"), ["id", "preço"], 1),
        ({"charset": "windows-1252"}, "id,preço €\n1,ã\n".encode("cp1252"), ["id", "preço €"], 1),
        ({"encoding": "UTF-16"}, 'id,preço\n1,"ਊ"\n'.encode("utf-16"), ["id", "preço"], 1),
        ({"encoding": "UTF-16LE"}, "id,preço\n1,ã\n".encode("utf-16-le"), ["id", "preço"], 1),
        ({"encoding": "utf8"}, "\ufeffid,preço\n1,ã\n", ["id", "preço"], 1),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_by_sparks_names_change_the_dialect(
    write: Write, options: dict[str, str], content: str | bytes, header: list[str], records: int | None
) -> None:
    file = write(content)

    assert Dialect.from_options(options).read_header(file) == header
    assert Dialect.from_options(options).count_records(file) == records


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('id,nome\n1,a\n2,"b\n3,c\n', 4),
        ('id,nome\n1,"a"b\n2,c\n', 2),
        ('id,nome\n1,"a" \n', 2),
        ('id,nome\n1,"a\n\nb"c\n', 4),
        ('id,nome\n1,a\n"', 3),
    ],
)
def test_a_quote_left_open_or_with_text_behind_it_is_refused_with_its_line(
    write: Write, content: str, line: int
) -> None:
    with pytest.raises(DataRefused) as error:
        dialect().count_records(write(content))

    assert "clientes.csv" in error.value.found
    assert error.value.where.endswith(f"line {line}")


def test_a_header_with_an_open_quote_is_refused(write: Write) -> None:
    with pytest.raises(DataRefused):
        dialect().read_header(write('id,"nome\n1,a\n'))


def test_a_tab_may_be_written_as_a_backslash_and_a_t(write: Write) -> None:
    assert dialect(sep="\\t").read_header(write("id\tnome\n")) == ["id", "nome"]


@pytest.mark.parametrize(
    ("options", "content", "spans"),
    [
        ({}, "id\n1\n", False),
        ({}, 'id\n"1"\n', True),
        ({"quote": "'"}, "id\n1\n", True),
        ({"quote": ""}, 'id\n"1\n', False),
        ({"encoding": "UTF-16"}, "id\n1\n".encode("utf-16"), True),
        ({"encoding": "UTF-16", "quote": ""}, "id\n1\n".encode("utf-16"), True),
    ],
)
def test_only_a_file_without_quotes_is_safe_to_split_at_lines(
    write: Write, options: dict[str, str], content: str | bytes, spans: bool
) -> None:
    assert Dialect.from_options(options).may_span_lines(landing.inspect_file(write(content))) is spans


# Line ends


@pytest.mark.parametrize(
    ("content", "line_end", "mixed"),
    [
        ("id\n1\n", "\n", False),
        ("id\r\n1\r\n", "\r\n", False),
        ("id\r1\r", "\r", False),
        ("id", "\n", False),
        ("id\r\n1\n", "\r\n", True),
        ("id\n1\r", "\n", True),
        ('id\n"a\r\nb"\n', "\n", True),
        ("x" * (1 << 21) + "\r\n1\r\n", "\r\n", False),
        ("x" * ((1 << 20) - 1) + "\r\n1\r\n", "\r\n", False),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_line_ends_are_those_of_the_file(write: Write, content: str, line_end: str, mixed: bool) -> None:
    file = write(content)

    assert (dialect().line_end(file), dialect().rewrite_reasons(file)) == (line_end, RewriteReasons(False, mixed))


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "windows-1252"])
def test_line_ends_are_unified_outside_quotes_only(write: Write, tmp_path: Path, encoding: str) -> None:
    text = 'id,v\r\n"1","a\r\nb"\r2,"c\rd\n"\n\r\n3,\xe3\r'
    file = write(text.encode(encoding))
    misread = dialect(encoding=encoding).rewrite_reasons(file)
    dialect(encoding=encoding).rewrite(file, tmp_path / "out", misread)

    assert misread == RewriteReasons(has_nul=False, mixes_line_ends=True)

    with (tmp_path / "out").open(encoding=encoding, newline="") as out:
        assert out.read() == 'id,v\n"1","a\r\nb"\n2,"c\rd\n"\n\n3,\xe3\n'


@pytest.mark.parametrize("escape", ['"', "\\"])
def test_nul_becomes_the_replacement_character(write: Write, tmp_path: Path, escape: str) -> None:
    file = write('id,v\r\n"\0",a\r\n')
    misread = dialect(escape=escape).rewrite_reasons(file)
    dialect(escape=escape).rewrite(file, tmp_path / "out", misread)

    assert misread == RewriteReasons(has_nul=True, mixes_line_ends=False)
    assert (tmp_path / "out").read_bytes() == 'id,v\r\n"\ufffd",a\r\n'.encode()


@pytest.mark.parametrize(("text", "options"), [('id\r\n"1\n', {}), ("id\r\n1\n", {"escape": "\\"})])
def test_mixed_line_ends_are_refused_if_quotes_are_escaped_otherwise(
    write: Write, tmp_path: Path, text: str, options: dict[str, str]
) -> None:
    with pytest.raises(DataRefused) as error:
        dialect(**options).rewrite(write(text), tmp_path / "out", RewriteReasons(False, True))
    assert "clientes.csv" in error.value.found


# Lines


def lines(file: Path, *wanted: tuple[str, ...], width: int = 2, **options: str) -> dict[Any, int]:
    return dialect(**options).line_numbers(file, set(wanted), width)


def test_a_record_is_found_on_the_line_where_it_first_begins(write: Write) -> None:
    file = write('id,nome\n\n1,"a\nb"\n2,c\n\n3,d\n2,c\n')

    assert lines(file, ("1", "a\nb"), ("2", "c"), ("3", "d"), ("4", "e")) == {
        ("1", "a\nb"): 3,
        ("2", "c"): 5,
        ("3", "d"): 7,
    }


def test_records_of_another_width_are_found_by_the_fields_they_share(write: Write) -> None:
    file = write("id,nome\n1\n2,b,c,d\n")

    assert lines(file, ("1", ""), ("2", "b")) == {("1", ""): 2, ("2", "b"): 3}


def test_lines_are_those_of_the_dialect(write: Write) -> None:
    file = write("preço;nome\n1;ã\n".encode("latin-1"))

    assert lines(file, ("1", "ã"), sep=";", encoding="ISO-8859-1") == {("1", "ã"): 2}


def test_an_escape_outside_quotes_at_the_end_leaves_the_lines_before_it(write: Write) -> None:
    file = write("id,nome\nx,1\ny,2\\")

    assert lines(file, ("x", "1"), ("y", "2\\"), escape="\\") == {("x", "1"): 2}
