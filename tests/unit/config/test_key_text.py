"""A key as people type it: several columns in one word or several, quotes, nulls."""

from __future__ import annotations

import pytest

from lakehouse.config.key_text import KeyTextError, parse_key_text


@pytest.mark.parametrize(
    ("columns", "words", "expected"),
    [
        (["id"], ["7"], {"id": "7"}),
        (["id"], ["a=1,b=2"], {"id": "a=1,b=2"}),
        (["id"], ["id=7"], {"id": "7"}),
        (["id"], ['ID="id=7"'], {"id": "id=7"}),
        (["id"], ["NULL"], {"id": "NULL"}),
        (["id"], ["id=NULL"], {"id": None}),
        (["a", "b"], ["b=2,a=1"], {"a": "1", "b": "2"}),
        (["a", "b"], ["A=1,B=x=y"], {"a": "1", "b": "x=y"}),
        (["a", "b"], ['a="x,y",b="say ""no"""'], {"a": "x,y", "b": 'say "no"'}),
        (["a", "b"], ["a=,b=NULL"], {"a": None, "b": None}),
        (["a", "b"], ['a="",b="NULL"'], {"a": "", "b": "NULL"}),
        (["a", "b"], ["a=x,y", "b= 2"], {"a": "x,y", "b": " 2"}),
    ],
)
def test_a_key_has_a_text_or_null_for_each_column(
    columns: list[str], words: list[str], expected: dict[str, str | None]
) -> None:
    assert parse_key_text(columns, words) == expected


@pytest.mark.parametrize(
    "words",
    [["1"], ["a=1"], ["a=1,a=2"], ["a=1,b=2,c=3"], ["a=1,b=2,"], ['a="1,b=2'], ['a="1"2,b=2'], ["a=1", "2"], [""]],
)
def test_a_text_that_is_no_key_is_an_error(words: list[str]) -> None:
    with pytest.raises(KeyTextError):
        parse_key_text(["a", "b"], words)


def test_without_nulls_every_text_is_a_value() -> None:
    assert parse_key_text(["a", "b"], ["a=NULL", "b="], may_be_null=False) == {"a": "NULL", "b": ""}
