"""Columns in the names of files: which files a pattern means, and the texts that their names give."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from lakehouse.config import Table
from lakehouse.config.file_pattern import FilePattern
from lakehouse.config.ready import Ready
from lakehouse.extract.folder import find_table_files

COLUMNS = ("id", "uf", "ano", "dia")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("clientes_{uf}.csv", "clientes_SP.csv", {"uf": "SP"}),
        ("clientes_{uf}.csv", "clientes_.csv", None),  # at least one character
        ("clientes_{uf}.csv", "clientes_SP.CSV", None),
        ("clientes_{uf}.csv", "2025/clientes_SP.csv", None),
        ("clientes_{uf}.csv", "clientes_S/P.csv", None),  # no placeholder crosses a folder
        ("clientes_{uf}.csv", "clientes_São Paulo.2.csv", {"uf": "São Paulo.2"}),
        ("clientes.csv", "clientes.csv", {}),
        ("cli?ntes_{uf}_*.csv", "clientes_SP_1_2.csv", {"uf": "SP"}),
        ("{uf}_{dia}.csv", "SP_2025_01.csv", {"uf": "SP", "dia": "2025_01"}),  # as few as the rest allows
        ("{ano}/{dia}/x_{uf}.csv", "2025/01/x_SP.csv", {"ano": "2025", "dia": "01", "uf": "SP"}),
        ("**/x_{uf}.csv", "x_SP.csv", {"uf": "SP"}),
        ("**/x_{uf}.csv", "a/b/x_SP.csv", {"uf": "SP"}),
        ("{uf}/x_{uf}.csv", "SP/x_SP.csv", {"uf": "SP"}),  # twice: the same text
        ("{uf}/x_{uf}.csv", "SP/x_RJ.csv", None),
        ("[!ab]_{uf}[0-9].csv", "c_SP1.csv", {"uf": "SP"}),
        ("[!ab]_{uf}[0-9].csv", "a_SP1.csv", None),
        ("[]^]_{uf}.csv", "^_SP.csv", {"uf": "SP"}),
        ("a.b({uf})+.csv", "a.b(SP)+.csv", {"uf": "SP"}),
        ("a.b({uf})+.csv", "axb(SP)+.csv", None),
        ("{other}_{UF}.csv", "{other}_SP.csv", {"uf": "SP"}),  # not declared: a part of the name
        ("./{uf}.csv", "SP.csv", {"uf": "SP"}),
    ],
)
def test_a_name_gives_the_texts_of_its_columns_or_is_not_the_tables(
    pattern: str, name: str, expected: dict[str, str] | None, tmp_path: Path
) -> None:
    assert FilePattern(pattern, COLUMNS).values(name) == expected
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    schema = ", ".join(f"{column} STRING" for column in COLUMNS)
    table = Table.model_validate({"file": pattern, "format": "csv", "schema": schema, "keys": ["id"]})
    assert find_table_files(tmp_path, table).names == ([name] if expected is not None else [])


@pytest.mark.parametrize(
    "pattern", ["a**.csv", "a**/b.csv", "**b/*.csv", "a/**", "**", "{uf}**.csv", "[**].csv", "***/a"]
)
def test_two_asterisks_are_the_name_of_a_folder_and_nothing_else(pattern: str) -> None:
    table = {"format": "csv", "schema": "id STRING, uf STRING", "keys": ["id"]}

    for model, data in ((Table, table | {"file": pattern}), (Ready, {"file": pattern})):
        with pytest.raises(ValidationError, match="only as the name of a folder"):
            model.model_validate(data)
    Table.model_validate(table | {"file": "**/a/**/*.csv"})


def test_a_file_in_an_archive_has_the_texts_of_the_archives_name() -> None:
    pattern = FilePattern("x_{uf}.zip", COLUMNS)
    assert pattern.find_values("x_SP.zip/inner/a.csv") == {"uf": "SP"}
    assert pattern.find_values("y_SP.zip/x_RJ.csv") is None


def test_a_placeholder_of_no_column_is_named() -> None:
    pattern = FilePattern("x_{fu}_{uf}.csv", COLUMNS)
    assert (pattern.columns, pattern.unknown_placeholders) == (("uf",), ("{fu}",))
