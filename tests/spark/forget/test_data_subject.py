"""In texts, a key is found in every form that the lake has had it in, and another key is not."""

from __future__ import annotations

import pytest

from lakehouse.forget.data_subject import text_pattern


@pytest.mark.parametrize(
    ("forms", "is_number", "named", "not_named"),
    [
        (["7"], True, ["7", "007", "7.0", "v=7,", "'7'"], ["17", "70", "0x7", "-70", "7.5", "1.7", "a7"]),
        (["007", "7"], True, ["7", "007", "0007"], ["0070"]),
        (["1.10"], True, ["1.1", "1.10", "01.100"], ["1.11", "11.10"]),
        (["-7"], True, ["-7", "-007"], ["70"]),
        (["0"], True, ["0", "000", "0.0"], ["10"]),
        (["7"], False, ["7", "key 7!"], ["007", "77"]),
        (["Ana Maria"], False, ["(Ana Maria)"], ["Ana", "Ana Mariana"]),
        (["a.b"], False, ["a.b"], ["axb"]),
        (["a\tb"], False, ["a\tb", "a\\tb"], ["ab"]),
        (["ana", "5d41402abc4b2a76"], False, ["hmac 5d41402abc4b2a76 twice", "ana"], ["5d41402abc4b2a769"]),
    ],
)
def test_a_key_is_found_as_given_typed_and_stored(
    forms: list[str], is_number: bool, named: list[str], not_named: list[str]
) -> None:
    pattern = text_pattern(forms, is_number)

    assert [text for text in named if not pattern.search(text)] == []
    assert [text for text in not_named if pattern.search(text)] == []
