"""A value that does not fit its type shows which setting of the table reads it, if any does."""

from __future__ import annotations

import pytest

from lakehouse.config import Table
from lakehouse.config.option_advice import option_advice

UNDECODABLE = "v: NUL, or bytes that are not valid in the file's encoding"


def advice(kind: str, value: str | None, reason: str = "v: not so", **settings: object) -> str:
    table = {"file": "t.csv", "format": "csv", "schema": f"id STRING, v {kind}", "keys": ["id"]} | settings
    return option_advice(Table.model_validate(table), "v", value, reason)


@pytest.mark.parametrize(
    ("kind", "value", "setting"),
    [
        ("DECIMAL(10,2)", "5893,32", "`locale: pt-BR`"),
        ("DOUBLE", "-1.234.567,8", "`locale: pt-BR`"),
        ("INT", "1.234.567", "`locale: pt-BR`"),
        ("DECIMAL(10,2)", "1,234.56", "`locale: en-US`"),
        ("BIGINT", "1,234,567", "`locale: en-US`"),
        ("DOUBLE", "1 234,5", "`locale: fr-FR`"),
        ("DOUBLE", "1'234.5", "`locale: de-CH`"),
        ("DATE", "31/12/2024", '`dateFormat: "dd/MM/yyyy"`'),
        ("DATE", "12/31/2024", '`dateFormat: "MM/dd/yyyy"`'),
        ("DATE", "1.2.24", '`dateFormat: "d.M.yy"`'),
        ("DATE", "2024/12/31", '`dateFormat: "yyyy/MM/dd"`'),
        ("DATE", "20241231", '`dateFormat: "yyyyMMdd"`'),
        ("DATE", "31/12/2024 00:00", '`dateFormat: "dd/MM/yyyy HH:mm"`'),
        ("DATE", "31/12/2024 10:30", 'v as TIMESTAMP in `schema`, and set `timestampFormat: "dd/MM/yyyy HH:mm"`'),
        ("DATE", "2024-12-31T10:30:00Z", "declare v as TIMESTAMP in `schema`, since its values have a time of day"),
        ("DATE", "2024-12-31 00:00:01", "declare v as TIMESTAMP in `schema`, since its values have a time of day"),
        ("TIMESTAMP", "31/12/2024 10:30:05", '`timestampFormat: "dd/MM/yyyy HH:mm:ss"`'),
        ("TIMESTAMP_NTZ", "31-12-2024T10:30", "`timestampNTZFormat: \"dd-MM-yyyy'T'HH:mm\"`"),
        ("TIMESTAMP_NTZ", "2024-12-31 10:30:00Z", "declare v as TIMESTAMP"),
        ("INT", "K-17", "declare v as STRING"),
    ],
)
def test_the_setting_that_reads_a_value_is_named(kind: str, value: str, setting: str) -> None:
    assert setting in advice(kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT", "99999999999"),
        ("INT", ""),
        ("INT", None),
        ("DATE", "2024-02-30"),
        ("DATE", "99/99/2024"),
        ("DATE", "13/13/2024"),
        ("DATE", "2024/13/01"),
        ("DATE", "30/02/2024"),
        ("DATE", "20241399"),
        ("DATE", "99/99/2024 10:30"),
        ("DATE", "2024-99-99 10:30"),
        ("DATE", "2024-12-31 00:00"),
        ("TIMESTAMP", "31/12/2024 25:00"),
        ("DATE", "never"),
        ("BOOLEAN", "on"),
        ("STRING", "5893,32"),
    ],
)
def test_a_value_that_no_setting_reads_has_no_advice(kind: str, value: str | None) -> None:
    assert advice(kind, value) == ""


def test_a_setting_that_is_there_is_not_advised_and_a_protected_value_not_looked_at() -> None:
    assert "locale" not in advice("DOUBLE", "5893,32", options={"locale": "en-US"})
    assert advice("DATE", "31/12/2024", options={"DATEFORMAT": "yyyy"}) == ""
    assert advice("DATE", "31/12/2024", pii={"v": "mask"}) == ""
    assert "`encoding`" in advice("STRING", "a\ufffd", UNDECODABLE)
