"""In texts, a key is found in every form that the lake has had it in, and another key is not."""

from __future__ import annotations

import pytest

from lakehouse.config import Table
from lakehouse.errors import ConfigError
from lakehouse.forget.data_subject import can_be_guessed, is_identifier, parse_key, text_pattern
from lakehouse.lake.forgotten_keys import require_recognisable


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
        (
            ['ana "é@x.org'],
            False,
            ['{"k": "ana \\"é@x.org"}', r"ana \"\u00e9@x.org", "ana%20%22%C3%A9%40x.org", "ana+%22%C3%A9%40x.org"],
            [],
        ),
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


@pytest.mark.parametrize(
    ("schema", "key", "guessed", "identifies"),
    [
        ("cpf BIGINT", {"cpf": "12345678909"}, True, True),
        ("cpf STRING", {"cpf": "123.456.789-09"}, True, True),
        ("phone STRING", {"phone": "+55 (11) 99999-0000"}, True, True),
        ("id INT, cpf STRING", {"id": "7", "cpf": "12345678909"}, True, True),
        ("id INT", {"id": "7"}, True, False),
        ("id STRING", {"id": "000ff655"}, True, False),
        ("id INT, day DATE", {"id": "7", "day": "2025-10-03"}, True, False),
        ("id STRING", {"id": "000ff655-7a9f-4baa-b108-413f581399ef"}, False, False),
        ("id BIGINT", {"id": "12345678"}, True, False),
        ("at STRING", {"at": "2025-10-03 12:00:00"}, True, False),
        ("day STRING", {"day": "03/10/2025"}, True, False),
        ("email STRING", {"email": "maria.silva@example.com"}, True, False),
        ("id STRING, cpf BIGINT", {"id": "000ff655-7a9f-4baa-b108-413f581399ef", "cpf": "12345678909"}, False, False),
    ],
)
def test_a_key_that_can_be_found_by_trial_is_known_by_its_parts(
    schema: str, key: dict[str, str], guessed: bool, identifies: bool
) -> None:
    table = Table(file="x.csv", format="csv", schema=schema, keys=list(key))

    assert can_be_guessed(table, key) is guessed
    assert is_identifier(table, key) is identifies


def test_a_key_that_pii_hashes_cannot_be_found_by_trial() -> None:
    table = Table(file="x.csv", format="csv", schema="cpf STRING", keys=["cpf"], pii={"cpf": "hmac"})

    assert not is_identifier(table, {"cpf": "12345678909"})


ROW = "0123456789abcdef" * 2
SALES = Table(
    file="x.csv",
    format="csv",
    schema="day DATE, Cpf STRING, phone STRING, note STRING, price DOUBLE",
    keys="all",
    pii={"phone": "hmac", "note": "mask"},
)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ([ROW.upper()], {"_cdc_row": ROW}),
        ([f"_cdc_row={ROW}"], {"_cdc_row": ROW}),
        (["cpf=12345678909"], {"Cpf": "12345678909"}),
        (["cpf=a=1, b", "day=2025-10-03"], {"day": "2025-10-03", "Cpf": "a=1, b"}),
        (['cpf="a,b",day=2025-10-03'], {"day": "2025-10-03", "Cpf": "a,b"}),
        (["phone=99"], {"phone": "99"}),
        *((words, None) for words in (["12345678909"], ["cpf="], ["cpf=1", "cpf=2"], ["cpf=1", "id=2"])),
        *((words, None) for words in (["note=x"], ["price=1.5"], [ROW, "cpf=1"], [ROW[1:]])),
    ],
)
def test_rows_without_a_key_are_named_by_values_that_can_be_compared_or_by_their_hash(
    words: list[str], key: dict[str, str] | None
) -> None:
    if key is None:
        with pytest.raises(ConfigError, match="do not name rows of a table without a key"):
            parse_key(SALES, words)
    else:
        assert list(parse_key(SALES, words).items()) == list(key.items())


@pytest.mark.parametrize(
    ("keys", "entry", "is_known"),
    [
        (["cpf"], "0a", True),
        (["cpf"], '["day", "cpf"] hmac-sha256:77:0a', True),
        (["cpf"], '["_cdc_row"] 0a', False),
        (["cpf"], '["a b"] 0a', False),
        ("all", '["_cdc_row"] 0a', True),
        ("all", '["cpf"] 0a', True),
        ("all", "hmac-sha256:77:0a", False),
    ],
)
def test_keys_that_a_table_does_not_have_any_more_are_recognised_as_such(
    keys: list[str] | str, entry: str, is_known: bool
) -> None:
    table = Table(file="x.csv", format="csv", schema="day DATE, cpf STRING", keys=keys)
    if is_known:
        require_recognisable(table, [entry])
    else:
        with pytest.raises(ConfigError, match="cannot be recognised"):
            require_recognisable(table, [entry])
