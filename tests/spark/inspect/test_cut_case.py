"""A case that is cut from the lake has no personal value, and no character that cannot be seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lakehouse.errors import ConfigError
from lakehouse.inspect import cut_case
from lakehouse.inspect.cases import Case
from lakehouse.inspect.cut_case import _Mask


def test_a_key_whose_personal_part_was_not_replaced_is_refused() -> None:
    mask = _Mask({"bronze.people": frozenset({"email", "cpf"}), "gold.people": frozenset({"email", "cpf"})})
    assert mask.row("bronze.people", {"id": 1, "Email": "a@b.c", "cpf": 123}) == {
        "id": 1,
        "Email": "Email 1",
        "cpf": None,
    }

    assert mask.key("gold.people", {"id": 1, "email": "a@b.c"}) == {"id": 1, "email": "Email 1"}
    for key in ({"cpf": "123"}, {"email": "A@B.C"}):  # a number, and a text that the model makes
        with pytest.raises(ConfigError, match="cannot be replaced"):
            mask.key("gold.people", key)


def test_a_row_without_a_key_keeps_its_count_unless_it_is_there_once() -> None:
    rows = [{"a": "x", "n": None, "_cdc_row": "7f", "_cdc_count": count} for count in (1, 2)]
    assert [cut_case._without_nulls(row) for row in rows] == [{"a": "x"}, {"a": "x", "_cdc_count": 2}]


def test_a_written_case_has_no_invisible_character_and_the_same_values(tmp_path: Path) -> None:
    texts = [
        "\x1b]52;c;aGk=\x07",
        "a\u202eb",
        "x\u2066\U000e0041",
        "line\nfeed",
        "caf\u00e9 \u00a0",
        "=1",
        "no",
        "1e3",
        "",
    ]
    rows = tuple({"id": n, f"na\u200bme{n}": text} for n, text in enumerate(texts))
    case = Case(tmp_path / "cut.yml", "cut", "gold.x", {"bronze.t": rows})

    cut_case._write(tmp_path / "tests" / "cut.yml", case, "cut", list(rows))

    written = (tmp_path / "tests" / "cut.yml").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in written.split("\n"))
    assert yaml.safe_load(written)["cases"]["cut"]["given"]["bronze.t"] == list(rows)
