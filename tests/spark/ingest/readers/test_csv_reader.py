"""Tests reading landed CSV: every record as written, in the right columns, or with the reason why it is malformed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot, ReadSettings
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS, RECEIVED
from lakehouse.spark import session
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake
from lakehouse.storage.prepare_files import readable_snapshot

SCHEMA = "id STRING, v INT, note STRING"
HEADER = "id,v,note\n"
TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)

Row = tuple[Any, ...]
Contents = str | bytes | dict[str, str | bytes]


class Source:
    """Lands files as one snapshot and reads them with a table's settings."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder, self._lakes = session.isolated_session(spark, data_bytes=0), folder, count()
        self.reading = ExitStack()
        self.settings: dict[str, Any] = {"file": "*", "format": "csv", "schema": SCHEMA, "keys": ["id"]}

    def land(self, contents: Contents) -> landing.LandedSnapshot:
        files = contents if isinstance(contents, dict) else {"items.csv": contents}
        for name, content in files.items():
            (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        self.lake = Lake(str(self.folder / f"lake {next(self._lakes)}"))
        return landing.land_snapshot(self.lake, "items", TIME, [self.folder / name for name in files])

    def table(self, **settings: Any) -> Table:
        return Table.model_validate(self.settings | settings)

    def read(self, contents: Contents, optional: Iterable[str] = (), **settings: Any) -> ParsedSnapshot:
        table, landed = self.table(**settings), self.land(contents)
        files = self.reading.enter_context(readable_snapshot(self.lake, table, landed))
        return snapshot_reader.read(ReadSettings(self.spark, table, "UTC", frozenset(optional)), files)

    def rows(self, contents: Contents, **settings: Any) -> list[Row]:
        """Return the declared columns of all rows, which must have no problem and a readable key."""
        read = self.read(contents, **settings)
        actual = read.rows.collect()
        assert [(row[PROBLEMS], row[KEY_STATE]) for row in actual] == [([], "read")] * len(actual)
        assert read.record_count in (None, len(actual))
        return values(actual)

    def refusal(self, contents: Contents, optional: Iterable[str] = (), **settings: Any) -> str:
        table, landed = self.table(**settings), self.land(contents)
        with pytest.raises(DataRefused) as refused, readable_snapshot(self.lake, table, landed) as files:
            snapshot_reader.read(ReadSettings(self.spark, table, "UTC", frozenset(optional)), files)
        return refused.value.to_text()


@pytest.fixture
def source(spark: SparkSession, tmp_path: Path) -> Iterator[Source]:
    source = Source(spark, tmp_path)
    with source.reading:
        yield source


def values(rows: list[Any]) -> list[Row]:
    beside = (PROBLEMS, RECEIVED, KEY_STATE)
    return [tuple(v for name, v in row.asDict().items() if name not in beside) for row in rows]


def problems(rows: DataFrame) -> dict[str, tuple[list[tuple[str | None, str | None]], str]]:
    """Return the column and value of each problem, and the state of the key, by the row's note."""
    return {row.note: ([(p.column, p.value) for p in row[PROBLEMS]], row[KEY_STATE]) for row in rows.collect()}


# Columns


def test_columns_are_found_by_name_whatever_their_order_and_case(source: Source) -> None:
    read = source.read("NOTE,v,Id\nx,1,a\n,2,b\n")

    received = ['{"NOTE":"x","v":"1","Id":"a"}', '{"NOTE":null,"v":"2","Id":"b"}']
    expected = source.spark.createDataFrame(
        [("a", 1, "x", [], received[0], "read"), ("b", 2, None, [], received[1], "read")],
        f"{SCHEMA}, {PROBLEMS} ARRAY<STRUCT<column: STRING, value: STRING, reason: STRING>>,"
        f" {RECEIVED} STRING, {KEY_STATE} STRING",
    )
    assert_df_equality(read.rows, expected, ignore_nullable=True, ignore_row_order=True)
    assert read.unknown_columns == ()


def test_unknown_columns_are_reported_and_kept_in_the_row_as_received(source: Source) -> None:
    read = source.read("extra,id,,v,note,\n9,a,z,1,x,\n")

    (row,) = read.rows.collect()
    assert values([row]) == [("a", 1, "x")]
    assert json.loads(row[RECEIVED]) == {
        **{"extra": "9", "id": "a", "(column 3)": "z", "v": "1", "note": "x", "(column 6)": None}
    }
    assert read.unknown_columns == ("(column 3)", "(column 6)", "extra")


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("id,v", ["no column note"]),
        ("v", ["no column id, note"]),
        ("id,v,note,V", ["more than one column named V, v"]),
        ("id,v,note,x,X", ["more than one column named X, x"]),
        ("id,ID,v", ["more than one column named ID, id", "no column note"]),
        ("ids,v,note", ["no column id", "ids"]),
        ("a,1,x", ["no column id, v, note"]),
    ],
)
def test_a_header_that_lacks_or_doubles_a_column_is_refused_with_the_differences(
    source: Source, header: str, named: list[str]
) -> None:
    message = source.refusal(f"{header}\n")

    assert [words for words in named if words not in message] == []
    assert "the columns id, v, note" in message
    assert "items.csv, line 1" in message


@pytest.mark.parametrize(
    ("contents", "option"),
    [
        ("id;v;note\na;1;x\n", 'set `sep` to ";"'),
        ("id\tv\tnote\na\t1\tx\n", 'set `sep` to "\\t"'),
        ("ids,v,note\na,1,x\n", "`names`"),
        ("ids;v;note\na;1;x\n", 'set `sep` to ";"'),
        ("id,v,observa\xe7\xe3o\n".encode("latin-1"), "set `encoding`"),
    ],
)
def test_the_option_that_the_header_needs_is_named(source: Source, contents: Contents, option: str) -> None:
    assert option in source.refusal(contents).rpartition("next:")[2]


def test_a_row_in_place_of_the_header_is_not_kept(source: Source) -> None:
    table, landed = source.table(), source.land("a,1,secret\n")
    with pytest.raises(DataRefused) as refused, readable_snapshot(source.lake, table, landed) as files:
        snapshot_reader.read(ReadSettings(source.spark, table, "UTC"), files)

    assert "secret" in refused.value.to_text()
    assert "secret" not in refused.value.to_record()
    assert "its header has 3 names" in refused.value.to_record()


def test_a_column_that_no_snapshot_had_yet_is_null_where_it_is_missing(source: Source) -> None:
    assert values(source.read("id,v\na,1\n", optional={"note"}).rows.collect()) == [("a", 1, None)]
    assert "no column v" in source.refusal("id\na\n", optional={"note"})


def test_a_key_that_no_snapshot_had_yet_is_null(source: Source) -> None:
    """Every key would be null: refused, or every row in quarantine."""
    try:
        read = source.read("v,note\n1,x\n", optional={"id"})
    except DataRefused:
        return
    assert problems(read.rows) == {"x": ([("id", None)], "null")}


def test_a_file_without_header_has_the_columns_of_the_schema(source: Source) -> None:
    assert source.rows("a,1,x\nb,2,y\n", options={"header": "false"}) == [("a", 1, "x"), ("b", 2, "y")]


# Records

X_LINES = "x\n" * (1 << 19)
RECORDS: dict[str, tuple[str | bytes, list[Row]]] = {
    "a quoted separator": ('a,1,"x,y"\n', [("a", 1, "x,y")]),
    "a quoted newline": ('a,1,"x\n\ny"\nb,2,z\n', [("a", 1, "x\n\ny"), ("b", 2, "z")]),
    "a doubled quote": ('a,1,"say ""x"""\nb,2,""""\n', [("a", 1, 'say "x"'), ("b", 2, '"')]),
    "a quote inside a field": ('a,1,x"y\nb,2,z"\n', [("a", 1, 'x"y'), ("b", 2, 'z"')]),
    "a backslash before a quote": ('a,1,"x\\"\nb,2,"\\n"\n', [("a", 1, "x\\"), ("b", 2, "\\n")]),
    "blank is null, quoted is empty": ('a,,\nb,1,""\n"",2,x\n', [("a", None, None), ("b", 1, ""), ("", 2, "x")]),
    "numbers in a text": ("00123,1,1e5\n1.10,2,007\n", [("00123", 1, "1e5"), ("1.10", 2, "007")]),
    "words that mean nothing": ("N/A,1,NULL\n#null,,NaN\n", [("N/A", 1, "NULL"), ("#null", None, "NaN")]),
    "spaces are kept": (' a ,1, x \nb,2," y"\n', [(" a ", 1, " x "), ("b", 2, " y")]),
    "blank lines are none": ("\n\na,1,x\n\nb,2,y\n\n", [("a", 1, "x"), ("b", 2, "y")]),
    "no newline at the end": ("a,1,x", [("a", 1, "x")]),
    "lines that end in CRLF": ("a,1,x\r\nb,2,\r\n", [("a", 1, "x"), ("b", 2, None)]),
    "lines that end in CR": ("a,1,x\rb,2,y\r", [("a", 1, "x"), ("b", 2, "y")]),
    "NUL characters": ("\0a,1,\0\nb,2,x\0y\n", [("\0a", 1, "\0"), ("b", 2, "x\0y")]),
    "a megabyte in a cell": (f"a,1,{'x' * (1 << 20)}\nb,2,y\n", [("a", 1, "x" * (1 << 20)), ("b", 2, "y")]),
    "a megabyte of lines": (f'a,1,"{X_LINES}"\nb,2,y\n', [("a", 1, X_LINES), ("b", 2, "y")]),
    "emoji and accents": ("São,1,\U0001f600\n", [("São", 1, "\U0001f600")]),
    "characters for private use": (
        '\ue000,1,\uf8fe\n"\ue000",2,"\uf8fe"\n',
        [("\ue000", 1, "\uf8fe"), ("\ue000", 2, "\uf8fe")],
    ),
    "characters for private use, without quotes": ("\ue000,1,\ue000\n", [("\ue000", 1, "\ue000")]),
    "the replacement character itself": ("a,1,\ufffd\n", [("a", 1, "\ufffd")]),
}


@pytest.mark.parametrize(("body", "expected"), RECORDS.values(), ids=RECORDS)
def test_records_are_read_as_written(source: Source, body: str, expected: list[Row]) -> None:
    assert source.rows(HEADER + body) == expected


LINE_ENDS = {
    "CR LF": ('id,v,note\r\na,1,"x\r\ny"\r\n', [("a", 1, "x\r\ny")]),
    "CR": ('id,v,note\ra,1,"x\ry"\rb,2,"x\r\ny"\r', [("a", 1, "x\ry"), ("b", 2, "x\r\ny")]),
    "LF, then CR LF": ('id,v,note\n"a",1,x\r\nb,2,y\nc,3,z\r\n', [("a", 1, "x"), ("b", 2, "y"), ("c", 3, "z")]),
    "CR LF, then LF": ('id,v,note\r\n"a",1,x\nb,2,"\r\n\n"\n', [("a", 1, "x"), ("b", 2, "\r\n\n")]),
    "LF, then CR": ('id,v,note\n"a",1,x\rb,2,\nc,3,z\r', [("a", 1, "x"), ("b", 2, None), ("c", 3, "z")]),
    "all, and blank lines": ('\r\nid,v,note\n\r"a",1,""\r\n\r\nb,2,"\r"', [("a", 1, ""), ("b", 2, "\r")]),
    "all, without quotes": ("id,v,note\r\na,1,x\nb,2,y\rc,3,z", [("a", 1, "x"), ("b", 2, "y"), ("c", 3, "z")]),
}


@pytest.mark.parametrize(("text", "expected"), LINE_ENDS.values(), ids=LINE_ENDS)
def test_line_ends_of_any_kind_end_records_and_are_kept_inside_quotes(
    source: Source, text: str, expected: list[Row]
) -> None:
    assert source.rows(text) == expected


def test_a_cr_outside_quotes_ends_a_record_even_if_it_was_meant_as_text(source: Source) -> None:
    read = source.read('id,v,note\na,1,"x"\nb,2,y\rz\n')

    assert [(row.id, row[KEY_STATE]) for row in read.rows.collect()] == [
        ("a", "read"),
        ("b", "read"),
        ("z", "unreadable"),
    ]


def test_line_ends_are_unified_in_other_encodings_too(source: Source) -> None:
    text = 'id,v,note\nã,1,x\r\nb,2,"y\r\n"\n'.encode("utf-16")

    assert source.rows(text, options={"encoding": "UTF-16"}) == [("ã", 1, "x"), ("b", 2, "y\r\n")]


def test_a_record_of_another_width_is_malformed_and_its_key_unreadable(source: Source) -> None:
    body = 'a,1,x\nb\nc,3,y,"z"\nd,4\ne,5,\n'
    rows = source.read(HEADER + body).rows.collect()

    whole = [(row.id, row[KEY_STATE], [(p.column, p.value) for p in row[PROBLEMS]]) for row in rows]
    assert whole == [
        ("a", "read", []),
        ("b", "unreadable", [(None, "b")]),
        ("c", "unreadable", [(None, 'c,3,y,"z"')]),
        ("d", "unreadable", [(None, "d,4")]),
        ("e", "read", []),
    ]
    assert "3 fields" in rows[1][PROBLEMS][0].reason


@pytest.mark.parametrize("quoted", [False, True], ids=["no quote in the file", "a quote in the file"])
def test_a_record_of_blanks_only_is_a_record(source: Source, quoted: bool) -> None:
    end = '"z"' if quoted else "z"
    read = source.read(f"id\tv\tnote\na\t1\tx\n\t\t\nb\t2\t{end}\n", options={"sep": "\t"})

    assert problems(read.rows) == {"x": ([], "read"), None: ([("id", None)], "null"), "z": ([], "read")}


@pytest.mark.parametrize("body", ['a,1,"x\nb,2,y\n', 'a,1,"x"y\n', 'a,1,"x" \nb,2,y\n', '"'])
def test_a_quote_that_swallows_the_rest_is_refused(source: Source, body: str) -> None:
    assert "not well-formed CSV" in source.refusal(HEADER + body)


def test_the_records_are_counted_by_another_reader_where_they_may_span_lines(source: Source) -> None:
    assert source.read(HEADER + 'a,1,"x\ny"\n\nb,2,z\n').record_count == 2
    assert source.read(HEADER + "a,1,x\n").record_count is None


# Values and keys


def test_each_value_that_does_not_fit_is_a_problem_of_its_own(source: Source) -> None:
    read = source.read(
        'id,v,note,day\na,1,ok,2024-01-01\nb,x,two,1/1/24\nc,"",empty,\nd,1.0,one,2024-02-30\n',
        schema="id STRING, v INT, note STRING, day DATE",
    )

    assert problems(read.rows) == {
        "ok": ([], "read"),
        "two": ([("v", "x"), ("day", "1/1/24")], "read"),
        "empty": ([("v", "")], "read"),
        "one": ([("v", "1.0"), ("day", "2024-02-30")], "read"),
    }
    assert [row.v for row in read.rows.collect()] == [1, None, None, None]


def test_a_key_is_read_null_or_unreadable(source: Source) -> None:
    body = 'a,1,good\na,x,lost\na,"",lost too\n,1,null\na,,null too\n,x,both\n"",1,empty\n'
    read = source.read(HEADER + body, keys=["id", "v"])

    assert problems(read.rows) == {
        "good": ([], "read"),
        "lost": ([("v", "x")], "unreadable"),
        "lost too": ([("v", "")], "unreadable"),
        "null": ([("id", None)], "null"),
        "null too": ([("v", None)], "null"),
        "both": ([("id", None), ("v", "x")], "null"),
        "empty": ([], "read"),
    }


# Encodings


def test_invalid_utf8_makes_only_its_field_malformed(source: Source) -> None:
    rows = source.read(b"id,v,note\na,1,ok\nb,2,S\xe3o\n\xff,3,bad key\n", schema=SCHEMA).rows.collect()

    actual = {row.id: ([p.column for p in row[PROBLEMS]], row[KEY_STATE]) for row in rows}
    assert actual == {"a": ([], "read"), "b": (["note"], "read"), "\ufffd": (["id"], "unreadable")}


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("header", [True, False])
def test_a_byte_order_mark_is_skipped(source: Source, quote: str, header: bool) -> None:
    text = f"\ufeff{HEADER if header else ''}{quote}a{quote},1,x\n"

    assert source.rows(text, options={"header": str(header).lower()}) == [("a", 1, "x")]


@pytest.mark.parametrize(
    ("encoding", "python"),
    [("ISO-8859-1", "latin-1"), ("UTF-16", "utf-16"), ("UTF-16LE", "utf-16-le"), ("windows-1252", "cp1252")],
)
def test_other_encodings_are_read_by_option(source: Source, encoding: str, python: str) -> None:
    data = 'id,v,note\nã,1,"São\nPaulo"\nb,2,ç\n'.encode(python)

    assert source.rows(data, options={"encoding": encoding}) == [("ã", 1, "São\nPaulo"), ("b", 2, "ç")]


OPTIONS: dict[str, tuple[dict[str, str], str, list[Row]]] = {
    "another separator": ({"sep": ";"}, 'id;v;note\na;1;x,y\nb;2;"x;y"\n', [("a", 1, "x,y"), ("b", 2, "x;y")]),
    "another quote": ({"quote": "'"}, "id,v,note\na,1,'x,y'\nb,2,\"z\n", [("a", 1, "x,y"), ("b", 2, '"z')]),
    "no quote": ({"quote": ""}, 'id,v,note\na,1,"x\nb,2,y"\n', [("a", 1, '"x'), ("b", 2, 'y"')]),
    "backslash escapes": ({"escape": "\\"}, 'id,v,note\na,1,"x\\"y"\nb,2,C:\\\n', [("a", 1, 'x"y'), ("b", 2, "C:\\")]),
    "a word for the empty string": ({"emptyValue": "-"}, 'id,v,note\na,1,""\nb,2,\n', [("a", 1, "-"), ("b", 2, None)]),
    "white space around": (
        {"ignoreLeadingWhiteSpace": "true", "ignoreTrailingWhiteSpace": "true"},
        'id, v ,note\n a , 1, x y \nb,2, " z"\n',
        [("a", 1, "x y"), ("b", 2, " z")],
    ),
    "as many characters as there are": ({"maxCharsPerColumn": "4"}, "id,v,note\na,1,wxyz\n", [("a", 1, "wxyz")]),
    "numbers by a locale": ({"locale": "pt-BR", "sep": ";"}, "id;v;note\na;1.000;1.000\n", [("a", 1000, "1.000")]),
    "a word for null": ({"nullValue": "NA"}, "id,v,note\na,NA,NA\nb,2,n\n", [("a", None, None), ("b", 2, "n")]),
}


@pytest.mark.parametrize(("options", "text", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_reader_options_work_over_the_defaults(
    source: Source, options: dict[str, str], text: str, expected: list[Row]
) -> None:
    assert source.rows(text, options=options) == expected


@pytest.mark.parametrize("options", [{"maxCharsPerColumn": "2"}, {"maxColumns": "2"}], ids=str)
def test_a_file_beyond_a_limit_that_was_set_is_refused(source: Source, options: dict[str, str]) -> None:
    with pytest.raises((DataRefused, *session.SPARK_ERRORS)) as raised:
        source.read("id,v,note\na,1,xyz\n", options=options).rows.collect()
    assert (
        isinstance(snapshot_reader.to_data_refused(raised.value, "items.csv"), DataRefused)
        or raised.type is DataRefused
    )


@pytest.mark.parametrize(
    ("body", "options"), [('"\n\0",1,bad\nb,2,"good"\n', {}), ("\0a\0,1,bad\nb,2,good\n", {"quote": ""})]
)
def test_nul_is_malformed_where_spark_would_drop_it(source: Source, body: str, options: dict[str, str]) -> None:
    read = source.read(HEADER + body, options=options)

    actual = problems(read.rows)
    assert (actual["bad"][1], actual["good"]) == ("unreadable", ([], "read"))
    assert "NUL" in next(row for row in read.rows.collect() if row.note == "bad")[PROBLEMS][0].reason


def test_bytes_without_a_meaning_in_another_encoding_are_malformed(source: Source) -> None:
    read = source.read(b"id,v,note\na,1,\x81\nb,2,\xe3\n", options={"encoding": "windows-1252"})

    assert problems(read.rows) == {"\ufffd": ([("note", "\ufffd")], "read"), "\xe3": ([], "read")}


# Files


def test_packed_files_are_read_unpacked(source: Source) -> None:
    text = "note,id,v\n" + '"y\r\nz",b,2\n'
    contents: Contents = {"a.csv": "id,v,note\na,1,x\n", "b.csv.gz": gzip.compress(text.encode())}

    assert sorted(source.rows(contents)) == [("a", 1, "x"), ("b", 2, "y\r\nz")]


def test_an_error_inside_a_packed_file_names_the_file_as_received(source: Source) -> None:
    message = source.refusal({"a.csv.gz": gzip.compress(b"id,v\n")})

    assert "a.csv has no column note" in message
    assert f"{source.lake.landing_path('items')}/20250101_000000/a.csv.gz/a.csv, line 1" in message


def test_a_file_with_nothing_but_its_header_has_no_rows(source: Source) -> None:
    assert source.rows(HEADER) == []
    assert source.rows("id,v,note") == []
    assert source.rows('"id",v,note\n') == []


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"], ids=repr)
def test_an_empty_file_is_refused(source: Source, content: str) -> None:
    assert "items.csv is empty" in source.refusal(content)


def test_a_snapshot_without_files_is_refused(source: Source) -> None:
    assert "no file" in source.refusal({})


def test_several_files_are_one_snapshot_each_by_its_own_header(source: Source) -> None:
    read = source.read(
        {
            "a.csv": "id,v,note\na,1,x\n",
            "b.csv": 'note,extra,id,v\n"y\nz",?,b,2\n',
            "c.csv": "NOTE,ID,V\n",
            "d.csv": "\ufeffv,id,note\n3,c,\n",
        }
    )

    assert sorted(values(read.rows.collect())) == [("a", 1, "x"), ("b", 2, "y\nz"), ("c", 3, None)]
    assert read.unknown_columns == ("extra",)
    assert read.record_count is None


def test_one_file_that_lacks_a_column_refuses_them_all(source: Source) -> None:
    assert "b.csv has no column note" in source.refusal({"a.csv": HEADER, "b.csv": "id,v\n"})


@pytest.mark.parametrize("name", ["sales (1) a+b%20#c.csv", "sales [2024].csv", "sales{1}.csv"])
def test_a_files_name_is_no_pattern(source: Source, name: str) -> None:
    assert source.rows({name: "id,v,note\na,1,x\n"}) == [("a", 1, "x")]


@pytest.mark.parametrize("name", ["_b.csv", ".b.csv"])
def test_a_file_that_spark_would_ignore_is_refused(source: Source, name: str) -> None:
    assert name in source.refusal({"a.csv": "id,v,note\na,1,x\n", name: "id,v,note\nb,2,y\n"})


def test_a_lake_may_lie_in_a_folder_of_any_name(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "São [old] {1}"
    folder.mkdir()

    assert Source(spark, folder).rows("id,v,note\na,1,x\n") == [("a", 1, "x")]


# Lines


@pytest.fixture
def lines(source: Source) -> Callable[..., dict[str, int | None]]:
    def of(contents: Contents, **settings: Any) -> dict[str, int | None]:
        """Return the line of each row, by its first field as received."""
        table, landed = source.table(**settings), source.land(contents)
        read = snapshot_reader.read(ReadSettings(source.spark, table, "UTC"), landed)
        refused = read.rows.select(read.rows[RECEIVED].alias("row"))
        actual = snapshot_reader.add_line_numbers(source.spark, refused, table, landed).collect()
        return {next(iter(json.loads(row["row"]).values())): row.line for row in actual}

    return of


def test_rejected_rows_get_the_line_on_which_they_begin(lines: Callable[..., dict[str, int | None]]) -> None:
    text = 'id,v,note\na,1,"x\ny"\n\nb,"",z\nc\nd,4,x,y\n'

    assert lines(text) == {"a": 2, "b": 5, "c": 6, "d": 7}


def test_lines_are_found_in_files_of_other_columns_and_encodings(lines: Callable[..., dict[str, int | None]]) -> None:
    files = {"a.csv": "id;v;note\nã;1;x\n", "b.csv": "note;more;v;id\ny;;2;b\nz;;3;c\n"}
    encoded: Contents = {name: text.encode("latin-1") for name, text in files.items()}

    assert lines(encoded, options={"sep": ";", "encoding": "ISO-8859-1"}) == {"ã": 2, "y": 2, "z": 3}


def test_lines_are_found_whatever_options_remove_from_the_fields(lines: Callable[..., dict[str, int | None]]) -> None:
    options = {"ignoreLeadingWhiteSpace": "true", "ignoreTrailingWhiteSpace": "true", "nullValue": "-"}

    assert lines("id,v,note\na , - ,x\nb,1, y \n", options=options) == {"a": 2, "b": 3}


def test_rows_that_are_in_no_file_have_no_line(source: Source) -> None:
    landed = source.land(HEADER + "a,1,x\n")
    refused = source.spark.createDataFrame([('{"id":"z","v":"1","note":"x"}',)], "row STRING")

    (row,) = snapshot_reader.add_line_numbers(source.spark, refused, source.table(), landed).collect()
    assert row.line is None
