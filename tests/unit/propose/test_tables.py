"""What `init` proposes for a table: options, types and keys, for one odd file each, and what its comments say."""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse import config
from lakehouse.errors import DataRefused
from lakehouse.models.sql import pipeline_plans
from lakehouse.propose import init_pipeline


def proposed(tmp_path: Path, *snapshots: str | bytes, name: str = "t.csv") -> dict[str, Any]:
    """Return the proposal for a file that has a content in each snapshot; the written pipeline must be valid."""
    for day, content in enumerate(snapshots, start=1):
        folder = tmp_path / "source" / f"202501{day:02}_000000"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    document = init_pipeline(tmp_path / "source", tmp_path / "pipeline")
    (table,) = document["tables"]
    assert set(config.load(tmp_path / "pipeline").tables) == ({table["table"]} if table["written"] else set())
    return dict(table)


def types(table: dict[str, Any]) -> dict[str, str]:
    return {column["name"]: column["type"] for column in table["columns"]}


def notes(table: dict[str, Any]) -> str:
    return " | ".join([*table["notes"], *(note for column in table["columns"] for note in column["notes"])])


def column_of(*values: str, name: str = "v", sep: str = ",") -> str:
    """A CSV with the key `id` and one column of values."""
    return f"id{sep}{name}\n" + "".join(f"k{n}{sep}{value}\n" for n, value in enumerate(values))


TRIMMED = {"ignoreLeadingWhiteSpace": "true", "ignoreTrailingWhiteSpace": "true"}
MANY = [str(n) for n in range(100, 140)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "22", "-3"], "INT"),
        (["123456", "7"], "BIGINT"),
        (["999999999999999999", "1"], "BIGINT"),
        (["12345678901234567890", "1"], "STRING"),
        (["0001", "0002"], "STRING"),
        (["+5511", "+5512"], "STRING"),
        (["10.50", "7", "0.1"], "DECIMAL(18,2)"),
        (["-23.5505199", "-46.6333094"], "DECIMAL(18,7)"),
        (["12345678901234567890.12", "1.5"], "DECIMAL(38,2)"),
        (["1.5e3", "2.5E-4"], "DECIMAL(18,5)"),
        (["0.1234567890123456789012", "5"], "STRING"),
        (["6.02e23", "1.6e-19"], "DOUBLE"),
        (["1e400", "5"], "STRING"),
        (["true", "FALSE"], "BOOLEAN"),
        (["0", "1"], "INT"),
        (["yes", "no"], "STRING"),
        (["10%", "20%"], "STRING"),
        (["12:30", "13:45"], "STRING"),
        (["1234567890123", "9876543210123"], "STRING"),
        (["1", "two", "3"], "STRING"),
        (["2025-01-31", "2024-12-01"], "DATE"),
        (["2025-01-31", "2025-02-31"], "STRING"),
        (["2025-01-31 10:00:00", "2025-01-31"], "TIMESTAMP"),
        (["2025-01-31T10:00:00.123Z", "2025-01-31T10:00:00+03:00"], "TIMESTAMP"),
        (["2025-01-31 10:00:00.1234567", "2025-01-31 10:00:00"], "STRING"),
        (["31/12/2024", "01/02/2025"], "DATE"),
        (["12/31/2024", "01/02/2025"], "DATE"),
        (["31.12.2024 23:59", "01.02.2025 00:00"], "TIMESTAMP"),
        (["", ""], "STRING"),
        ([*MANY, "n/d"], "INT"),
        ([*MANY, "abc"], "INT"),
        ([*MANY, "abc", "def", "ghi", "jkl"], "STRING"),
    ],
)
def test_a_type_holds_every_value(tmp_path: Path, values: list[str], expected: str) -> None:
    table = proposed(tmp_path, column_of(*values))

    assert types(table) == {"id": "STRING", "v": expected}
    assert table["keys"] == ["id"]


@pytest.mark.parametrize("name", ["customer_id", "idCliente", "CEP", "phone", "cod_produto", "sku"])
def test_an_identifier_of_digits_is_text(tmp_path: Path, name: str) -> None:
    assert types(proposed(tmp_path, column_of("101", "102", name=name)))[name] == "STRING"


@pytest.mark.parametrize(
    ("values", "name", "expected", "options"),
    [
        (["1766149200000", "1766149201000"], "updated_at", "TIMESTAMP", {}),
        (["1765497600000", "1765411200000"], "data_base", "DATE", {}),
        (["1766149200", "1766149201"], "ts", "TIMESTAMP", {"timestampFormat": "epoch_s"}),
        (["20250131", "20241201"], "date", "DATE", {"dateFormat": "yyyyMMdd"}),
        (["20250131", "20241301"], "date", "BIGINT", {}),
        (["20250131", "20241201"], "amount", "BIGINT", {}),
        (["1766149200", "1766149201"], "amount", "STRING", {}),
        (["7891234567890", "5511987654321"], "data", "STRING", {}),
    ],
)
def test_integers_are_times_only_if_name_and_values_say_so(
    tmp_path: Path, values: list[str], name: str, expected: str, options: dict[str, str]
) -> None:
    table = proposed(tmp_path, column_of(*values, name=name))

    assert types(table)[name] == expected
    assert table["options"] == options


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("id;v\na;1,5\nb;2,25\n", {"sep": ";", "locale": "pt-BR"}),
        ("id;v\na;1.234,50\nb;2,25\n", {"sep": ";", "locale": "pt-BR"}),
        ('id,v\na,"1,234.50"\nb,2.25\n', {"locale": "en-US"}),
        ("id;v\na;1 234,50\nb;12 345,6\n", {"sep": ";", "locale": "fr-FR"}),
        ("id;v\na;1'234.50\nb;12'345.6\n", {"sep": ";", "locale": "de-CH"}),
        ("id\tv\na\t1\nb\t2\n", {"sep": r"\t"}),
        ("id|v\na|1\nb|2\n", {"sep": "|"}),
        ('id,v\r\na,"x, ""y""\r\nz"\r\nb,2\r\n', {}),
        ("id,v\n'a','x, y'\n'b','2'\n", {"quote": "'"}),
        ('id;v\na;5" pipe\nb;"open\nc;x\n', {"sep": ";", "quote": ""}),
        ('id;v\na;"say \\"hi\\""\nb;x\n', {"sep": ";", "escape": "\\"}),
        ("\ufeffid,v\na,1\nb,2\n", {}),
        ("id,v\na, 1 \nb, 2\n", TRIMMED),
        ("id,v\na,1\nb,NULL\n" + "".join(f"k{n},{n}\n" for n in range(40)), {"nullValue": "NULL"}),
        ("id,day\na,31/12/2024\nb,01/02/2025\n", {"dateFormat": "dd/MM/yyyy"}),
        ("id,day\na,12/31/2024\nb,01/02/2025\n", {"dateFormat": "MM/dd/yyyy"}),
        ("id,day\na,1/12/2024\nb,31/2/2024\nc,13/1/2025\n".replace("31/2", "29/2"), {"dateFormat": "d/M/yyyy"}),
        ("id,day\na,31/12/2024\nb,2025-02-01\n", {"dateFormat": "[dd/MM/yyyy][yyyy-MM-dd]"}),
        (
            "id,at\na,31/12/2024 10:00:05\nb,01/02/2025 07:30\nc,01/02/2025\n",
            {"timestampFormat": "dd/MM/yyyy[ HH:mm[:ss]]"},
        ),
        ("id,date,due_date\na,20250131,2025-02-01\nb,20241231,2025-03-01\n", {"dateFormat": "[yyyyMMdd][yyyy-MM-dd]"}),
        ("id,ts,seen_at\na,1766149200,2025-01-01 10:00\nb,1766149300,2025-01-01 11:00\n", {}),
        ("id,at\na,31/12/2024 10:00 UTC\nb,01/01/2025 10:00 UTC\n", {}),
        ("id,at\na,31/12/2024 10:00 +0300\nb,2025-01-01T10:00:00Z\n", {}),
        ("id,at\na, 1766149200000 \nb, 1766149200001 \n", {**TRIMMED}),
        ("a1;2025-01-31;10\nb2;2025-02-01;20\n", {"sep": ";", "header": "false"}),
    ],
)
def test_the_dialect_is_found(tmp_path: Path, content: str, options: dict[str, str]) -> None:
    assert proposed(tmp_path, content)["options"] == options


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", {}), ("latin-1", {"encoding": "windows-1252"}), ("utf-16", {"encoding": "UTF-16"})],
)
def test_the_encoding_is_found(tmp_path: Path, encoding: str, expected: dict[str, str]) -> None:
    table = proposed(tmp_path, "id,nome\na,João\nb,Conceição\n".encode(encoding))

    assert table["options"] == expected
    assert types(table) == {"id": "STRING", "nome": "STRING"}


def test_a_note_about_the_files_of_several_snapshots_is_written_once(tmp_path: Path) -> None:
    first, second = (text.encode("iso-8859-1") for text in ("id,name\n1,João\n2,Inês\n", "id,name\n1,Açaí\n2,Inês\n"))
    found = proposed(tmp_path, first, second)["notes"]

    assert [note.rpartition(" are ")[2] for note in found if "is not UTF-8" in note] == ["ã ç ê í"]


def test_two_encodings_of_one_file_are_mentioned(tmp_path: Path) -> None:
    table = proposed(tmp_path, "id,n\na,João\n".encode("latin-1"), "id,n\na,João\n".encode())

    assert table["options"] == {}
    assert "files are in windows-1252 and UTF-8" in notes(table)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (
            "id,day\na,01/02/2025\nb,03/04/2025\n",
            "no day above 12 shows whether day or month comes first in day; dd/MM",
        ),
        ("id;v\na;1.234\nb;2.345\n", "three digits after the point"),
        ('id,v\na,"1,234"\nb,"2,345"\n', "can be read with a decimal comma (pt-BR) and with a decimal point (en-US)"),
        ("id,v\na,NULL\nb,N/A\n", "the text N/A, NULL is not read as null (2 values)"),
        ("id,v\na,0001\nb,0002\n", "begin with zeros"),
        ("id,v\na,1\nb,2,3\nc,4\n", "do not have as many fields as the header"),
        ("id,v\na,1\na,1\nb,2\n", "rows that are equal to another one in all columns count as one row (1)"),
        ("id,v\na,1\n", "unique in 1 row; one snapshot cannot show whether it is stable"),
        ("a,31/12/2024\nb,01/01/2025\n", "header: none"),
        ("id;v\na;R$ 1.250,00\nb;-R$ 10,50\n", "its numbers have a sign such as R$ or %"),
        ("id,v\na,5%\nb,7.5%\n", "its numbers have a sign such as R$ or %"),
        (
            "id;v\n" + "".join(f"a{n};{n},50\n" for n in range(11)) + "b;a combinar\n",
            "STRING, since 1 of 12 values is neither a number nor a date; the numbers are of the locale pt-BR",
        ),
    ],
)
def test_a_comment_says_what_is_not_certain(tmp_path: Path, content: str, note: str) -> None:
    table = proposed(tmp_path, content)

    assert note in notes(table) or note.startswith("unique")
    text = (tmp_path / "pipeline" / "pipeline.yml").read_text(encoding="utf-8")
    assert note.split(";", maxsplit=1)[0][:40] in " ".join(text.replace("#", " ").split())


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.csv", "", "the file is empty"),
        ("t.csv", "id,v\n", "it has no rows"),
        ("t.csv", "id,v\na,1\na,2\n", "no usable key"),
        ("t.csv", "id,v\na,1\n,2\n", "no usable key"),
        ("t.csv", "id,ID,v\na,b,1\n", "more than one column is named"),
        ("t.csv", "amount\n1.50\n2.50\n", "no usable key"),
        ("t.csv", 'id,v\na,"1\nb,2\n', None),
        ("t.txt", "ID   NAME\n1    Ana Lima\n2    Bruno  S\n".replace("Lima", "  L"), "fixed widths"),
        ("t.csv", "id;v\na;1;\nb;2;\nc;3;\n", "its first line has 2 fields and most lines have 3"),
        ("t.csv", "id;;\na;1;x\nb;2;y\n", "most names in its first line are blank"),
        ("t.csv", "Report\n" * 30 + "id;v\n" + "a;1\n" * 60, "its first line has 1 field and most lines have 2"),
        ("t.csv", "\x01\x02\x03\x04,\x05\n" * 50, "control characters"),
        ("t.csv", "PK\x03\x04 id,v\n", "zip archive"),
        ("t.csv", "<!DOCTYPE html><html></html>", "HTML"),
        ("t.json", '[{"id": 1}, {"id": 2', "cut short"),
        ("t.json", "<html>", "does not begin with a JSON object"),
        ("t.parquet", "id,v\n", "not a complete Parquet file"),
        ("t.csv.gz", "no gzip", "truncated or damaged"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: str, problem: str | None
) -> None:
    if problem is None:  # it can be read with `"` as plain text
        assert proposed(tmp_path, content, name=name)["options"] == {"quote": ""}
        return
    with pytest.raises(DataRefused) as refused:
        proposed(tmp_path, content, name=name)

    assert problem in refused.value.found
    assert not (tmp_path / "pipeline").exists()


TITLES = {  # the content, and the number of lines before the header
    "none": ("id;v\na;1\nb;2\nc;3\n", 0),
    "one": ("Report of May\nid;v\na;1\nb;2\nc;3\n", 1),
    "an empty line": ("Report of May\n\nid;v\na;1\nb;2\nc;3\n", 2),
    "separators": ("Report;;\n;;\nid;v;w\na;1;x\nb;2;y\n", 2),
    "a quote in it": ('Report of "May\nid;v\na;1\nb;2\nc;"3"\n', 1),
    "an open quote": ('"Report\nid;v\na;1\nb;2\nc;3\n', 1),
    "CR LF": ("Report\r\n\r\nid;v\r\na;1\r\nb;2\r\nc;3\r\n", 2),
    "another separator": ("Report, all shops, in 2025\nid;v\na;1\nb;2\nc;3\n", 1),
    "for Excel": ("sep=;\nid;v\na;1\n", 1),
}


@pytest.mark.parametrize("case", TITLES)
def test_lines_before_the_header_are_skipped(tmp_path: Path, case: str) -> None:
    content, count = TITLES[case]

    table = proposed(tmp_path, content)

    assert (table["skip_lines"], [column["name"] for column in table["columns"]][:2]) == (count, ["id", "v"])
    assert table["rows"] == [content.count("\na") + content.count("\nb") + content.count("\nc")]
    text = (tmp_path / "pipeline" / "pipeline.yml").read_text(encoding="utf-8")
    assert (f"skip_lines: {count}\n" in text) is bool(count)


def test_files_with_different_numbers_of_lines_before_the_header_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(DataRefused) as refused:
        proposed(tmp_path, "Report\nid;v\na;1\nb;2\nc;3\n", "Report\n\nid;v\na;1\nb;2\nc;3\n")

    assert "different numbers of lines before the header (t.csv 1, t.csv 2)" in refused.value.found


KEY_CASES: list[tuple[str, list[str], list[str]]] = [
    ("an id before other unique columns", ["email,id,v\na@x,1,5\nb@x,2,5\n"], ["id"]),
    ("the table's own id before other ids", ["idCliente,id_t,v\n1,7,x\n2,8,x\n"], ["id_t"]),
    ("the table's own number before other ids", ["CPF,Nº T,v\n11,7,x\n12,8,x\n"], ["no_t"]),
    ("two ids", ["order_id,product_id,v\n1,1,x\n1,2,x\n2,1,x\n"], ["order_id", "product_id"]),
    (
        "an id and a day before text",
        ["shop_id,day,note\n1,2025-01-01,a\n1,2025-01-02,b\n2,2025-01-01,c\n"],
        ["shop_id", "day"],
    ),
    (
        "three columns",
        ["uf,ano,mes,v\nSP,2024,1,9\nSP,2024,2,9\nSP,2025,1,9\nRJ,2024,1,9\nRJ,2024,2,8\nRJ,2025,1,9\n"],
        ["uf", "ano", "mes"],
    ),
    ("unique in every snapshot", ["a_id,b_id,v\n1,1,x\n2,1,x\n", "a_id,b_id,v\n1,1,x\n1,2,x\n"], ["a_id", "b_id"]),
    ("stable", ["run_id,code,v\n1,a,x\n2,b,x\n", "run_id,code,v\n3,a,x\n4,b,x\n"], ["code"]),
    (
        "another table's id and a time",
        ["sensor_id,at,v\n1,2025-01-01 10:00:00,5\n1,2025-01-01 11:00:00,5\n2,2025-01-01 10:00:00,5\n"],
        ["sensor_id", "at"],
    ),
    ("equal rows count once", ["id,v\n1,x\n1,x\n2,y\n"], ["id"]),
    (
        "a number in the first column, in few rows",
        ["pedido,data,valor\n7,2025-01-01,1.5\n8,2025-01-02,2.5\n"],
        ["pedido"],
    ),
    ("two numbers", ["order,line,sku_text,v\n1,1,a,9\n1,2,a,9\n2,1,a,8\n2,2,b,9\n"], ["order", "line"]),
    ("an amount is no key", ["code,amount\na,1.50\nb,2.50\n"], ["code"]),
    ("days in two forms are equal", ["id_x,day,v\n1,2025-01-13,x\n1,02/01/2025,x\n2,13/01/2025,x\n"], ["id_x", "day"]),
]


@pytest.mark.parametrize(("snapshots", "keys"), [case[1:] for case in KEY_CASES], ids=[case[0] for case in KEY_CASES])
def test_the_key_is_unique_in_every_snapshot_and_stable(tmp_path: Path, snapshots: list[str], keys: list[str]) -> None:
    assert proposed(tmp_path, *snapshots)["keys"] == keys


def test_a_key_that_changes_with_every_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="only 0% of its values are in the next one"):
        proposed(tmp_path, "uuid,v\na,1\nb,1\n", "uuid,v\nc,1\nd,1\n")


def test_snapshots_with_different_separators_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(
        DataRefused, match=r"a snapshot has the columns id,v, and the newest one id, v: another separator"
    ):
        proposed(tmp_path, "id,v\na,1\nb,2\n", "id;v\na;1\nb;2\n")


def test_one_day_in_two_forms_is_one_key(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="no usable key"):
        proposed(tmp_path, "day,v\n2025-01-13,1\n13/01/2025,2\n")


def test_few_older_versions_of_a_row_are_left_to_the_time_of_its_update(tmp_path: Path) -> None:
    rows = [f"{n},{n % 7},2025-01-01 10:00:00" for n in range(40)]
    table = proposed(tmp_path, "\n".join(["id,v,updated_at", *rows, "3,9,2025-01-02 10:00:00"]) + "\n")

    assert table["keys"] == ["id"]
    assert "the newest by updated_at is kept" in notes(table)
    assert config.load(tmp_path / "pipeline").tables["t"].updated_at == "updated_at"


def test_versions_of_a_row_do_not_make_its_values_part_of_the_key(tmp_path: Path) -> None:
    rows = [f"{n},a{n % 7},2025-01-01 10:00:00" for n in range(40)]
    table = proposed(tmp_path, "\n".join(["id,name,updated_at", *rows, "3,b,2025-01-02 10:00:00"]) + "\n")

    assert table["keys"] == ["id"]
    assert "the newest by updated_at is kept" in notes(table)


ODD_HEADER = "Tipo Título,preço (R$),a.b,x`y,_cdc_operation,2024,,id,${HOME},from\n"


def test_columns_without_a_usable_name_go_through_names(tmp_path: Path) -> None:
    table = proposed(tmp_path, ODD_HEADER + "t,1.50,1,x,I,5,,1,h,f\nu,2.50,2,y,I,6,,2,i,g\n")

    written = config.load(tmp_path / "pipeline").tables["t"]
    assert written.names == {
        "tipo_titulo": "Tipo Título",
        "preco_r": "preço (R$)",
        "a_b": "a.b",
        "x_y": "x`y",
        "cdc_operation": "_cdc_operation",
        "column_2024": "2024",
        "column_7": "(column 7)",
        "home": "${HOME}",
    }
    assert [column.name for column in written.columns][-1] == "from"
    assert table["keys"] == ["id"]


def test_a_column_that_the_newest_snapshot_lacks_is_left_out(tmp_path: Path) -> None:
    table = proposed(tmp_path, "id,old,v\na,1,1\n", "id,v,new\na,1,2\n")

    assert list(types(table)) == ["id", "v", "new"]
    assert "old is left out" in notes(table)


def test_one_json_object_over_several_lines_is_a_row(tmp_path: Path) -> None:
    table = proposed(tmp_path, json.dumps({"id": "a", "v": 1}, indent=2), name="t.json")

    assert (table["rows"], table["keys"]) == ([1], ["id"])


@pytest.mark.parametrize(
    ("documents", "records"),
    [
        (['{"count": 2, "data": {"a.b": [{"id": "a"}, {"id": "b"}], "tags": ["x"]}}'], "data.`a.b`"),
        (['{"items": [{"id": "a"}]}', '{"items": []}', '{"items": [\n{"id": "a"}, {"id": "b"}]}'], "items"),
        (['{"id": "q", "items": [{"id": "a"}, {"id": "b"}], "more": [{"id": "a"}]}'], ""),  # which of them?
        (['{"id": "a", "lines": [{"n": 1}]}\n{"id": "b", "lines": [{"n": 1}]}\n'], ""),  # two records
        (['{"id": "q", "items": [{"id": "a"}]}', '{"id": "q", "rows": [{"id": "a"}]}'], ""),
        (['[{"id": "a", "lines": [{"n": 1}]}, {"id": "b"}]'], ""),
        (['{"id": "q", "items": [{"id": "a"}, 1]}'], ""),
    ],
)
def test_records_inside_a_document_are_found_if_there_is_one_array_of_objects(
    tmp_path: Path, documents: list[str], records: str
) -> None:
    table = proposed(tmp_path, *documents, name="t.json")

    assert table["records"] == records
    if records:
        assert (list(types(table)), table["keys"]) == (["id"], ["id"])
        assert f"records: each file is one object, whose only array of objects is {records}" in notes(table)


@pytest.mark.parametrize("layout", ["[%s,\n%s]", "%s\n%s\n", "[\n  %s,\n  %s\n]", "%s\r\n\r\n%s"])
def test_json_has_exact_numbers_and_nested_types(tmp_path: Path, layout: str) -> None:
    first = '{"id": "a", "n": 1, "price": 1.10, "ok": true, "tags": ["x"], "who": {"name": "A", "age": 3}, "mix": [1]}'
    second = '{"id": "b", "n": 2, "price": "2.345", "ok": false, "tags": [], "who": null, "mix": "text"}'
    table = proposed(tmp_path, layout % (first, second), name="t.json")

    assert types(table) == {
        "id": "STRING",
        "n": "INT",
        "price": "DECIMAL(18,3)",
        "ok": "BOOLEAN",
        "tags": "ARRAY<STRING>",
        "who": "STRUCT<name: STRING, age: BIGINT>",
        "mix": "STRING",
    }


def test_json_over_several_chunks_is_read_completely(tmp_path: Path) -> None:
    records = [{"id": f"k{n}", "text": "x" * 50} for n in range(30_000)]

    assert proposed(tmp_path, json.dumps(records, indent=1), name="t.json")["rows"] == [30_000]


def test_a_small_parquet_file_that_stands_for_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), ["x" * 500_000])
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": list(range(200_000)), "v": shared}), out)

    with pytest.raises(DataRefused) as refused:
        proposed(tmp_path, bytes(out.getvalue()), name="t.parquet")

    assert "the column v has 100,000,000,000 bytes" in refused.value.found


def test_parquet_types_come_from_the_footer(tmp_path: Path) -> None:
    now = datetime(2025, 1, 1, tzinfo=timezone.utc)
    columns = {
        "id": pa.array([1, 2], pa.int32()),
        "price": pa.array([Decimal("1.10"), Decimal("2.20")], pa.decimal128(12, 2)),
        "at": pa.array([now, now + timedelta(1)], pa.timestamp("us", "UTC")),
        "local": pa.array([now.replace(tzinfo=None)] * 2, pa.timestamp("us")),
        "day": pa.array([now.date()] * 2),
        "f": pa.array([1.5, 2.5]),
        "tags": pa.array([["a"], []], pa.list_(pa.string())),
        "nothing": pa.nulls(2),
        "time": pa.array([1, 2], pa.time64("us")),
        "u": pa.array([1, 2], pa.uint32()),
        "A name": pa.array(["a", "b"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    table = proposed(tmp_path, (tmp_path / "x.parquet").read_bytes(), name="t.parquet")

    assert types(table) == {
        "id": "INT",
        "price": "DECIMAL(12,2)",
        "at": "TIMESTAMP",
        "local": "TIMESTAMP_NTZ",
        "day": "DATE",
        "f": "DOUBLE",
        "tags": "ARRAY<STRING>",
        "nothing": "STRING",
        "u": "BIGINT",
        "a_name": "STRING",
    }
    assert "time is left out" in notes(table)
    assert table["keys"] == ["id"]


def test_parquet_types_of_several_snapshots_are_the_wider_ones(tmp_path: Path) -> None:
    contents = []
    for number, kind in enumerate((pa.int32(), pa.int64())):
        columns = {"id": pa.array([1, 2], kind), "v": pa.nulls(2) if number else pa.array(["a", None])}
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        contents.append((tmp_path / "x.parquet").read_bytes())
    table = proposed(tmp_path, *contents, name="t.parquet")

    assert types(table) == {"id": "BIGINT", "v": "STRING"}
    assert (table["keys"], table["stable"]) == (["id"], 1.0)


def test_packed_files_are_read_by_the_name_inside(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.csv.gz").write_bytes(gzip.compress(b"id;v\n1;x\n2;y\n"))
    with zipfile.ZipFile(source / "b.zip", "w") as archive:
        archive.writestr("inner.json", '{"id": 1, "v": 2}\n{"id": 2, "v": 3}\n')

    tables = init_pipeline(source, tmp_path / "pipeline")["tables"]

    assert [(t["table"], t["file"], t["format"], t["options"]) for t in tables] == [
        ("a", "a.csv.gz", "csv", {"sep": ";"}),
        ("b", "b.zip", "json", {}),
    ]


def test_columns_that_are_words_of_sql_are_quoted_in_the_model(tmp_path: Path) -> None:
    names = ["id", "select", "From", "order", "date", "case", "interval", "name"]
    (tmp_path / "source").mkdir()
    rows = "".join(f"{n},{','.join('x' * 7)}\n" for n in range(5))
    (tmp_path / "source/t.csv").write_text(f"{','.join(names)}\n{rows}", encoding="utf-8")

    init_pipeline(tmp_path / "source", tmp_path / "pipeline")

    plans = pipeline_plans.plan_pipeline(config.load(tmp_path / "pipeline"))
    sql = (tmp_path / "pipeline/silver/t.sql").read_text(encoding="utf-8")
    assert list(plans) == ["silver.t"]
    assert "t.`select`" in sql and "t.name" in sql and "t.date" in sql


@pytest.mark.parametrize("layout", ["{}\n{}\n", "[{},{}]"])
@pytest.mark.parametrize("value", ['"\\ud800"', '{"x": ["\\udfff"]}', '{"\\ud800": 1}'])
def test_an_object_with_half_of_a_surrogate_pair_is_counted_as_malformed(
    tmp_path: Path, layout: str, value: str
) -> None:
    """`run` puts it in quarantine, since it is no text in UTF-8."""
    (tmp_path / "source").mkdir()
    content = layout.format('{"id": "a", "v": "x"}', f'{{"id": "b", "v": {value}}}')
    (tmp_path / "source/t.json").write_text(content, encoding="utf-8")

    document = init_pipeline(tmp_path / "source", tmp_path / "pipeline")

    text = (tmp_path / "pipeline/pipeline.yml").read_text(encoding="utf-8")
    assert "1 are no JSON objects" in text, document
