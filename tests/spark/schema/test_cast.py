"""Casting text to declared types: the exact value or a reason why there is none; nothing is rounded, cut or guessed."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.schema.cast import cast_text

DAY = "2024-01-01"


def cast_texts(
    spark: SparkSession, kind: str, texts: list[str], zone: str = "UTC", **options: str
) -> dict[str | None, tuple[str | None, str | None]]:
    """The value (as Spark shows it) and the reason for each text, and for null."""
    declared = T.DataType.fromDDL(kind)
    value, reason = cast_text(F.col("text"), declared, zone, options)
    rows = spark.createDataFrame([(text,) for text in [*texts, None]], "text STRING")
    found = rows.select("text", value.alias("value"), reason.alias("reason"))
    assert found.schema["value"].dataType == declared
    return {
        row.text: (row.value, row.reason) for row in found.withColumn("value", F.col("value").cast("string")).collect()
    }


def same(*texts: str) -> dict[str, str]:
    return {text: text for text in texts}


ACCEPTED: dict[str, dict[str, str]] = {
    "STRING": same("", " a ", "00123", "1e5", "N/A", "null", "NULL", "a\nb", "São", "\0", "\ufffd"),
    "TINYINT": same("127", "-128"),
    "SMALLINT": same("32767", "-32768"),
    "INT": same("5", "-5", "2147483647", "-2147483648") | {"+5": "5", "007": "7", "-0": "0"},
    "BIGINT": same("9223372036854775807", "-9223372036854775808"),
    "FLOAT": {"1.5": "1.5", "-0": "-0.0", "3.4e38": "3.4E38", "NaN": "NaN", "-Infinity": "-Infinity"},
    "DOUBLE": {
        **{"1.5": "1.5", "+.5": "0.5", "5.": "5.0", "1e3": "1000.0", "1E-3": "0.001", "0.1": "0.1", "-0.0": "-0.0"},
        **{"NaN": "NaN", "nan": "NaN", "Infinity": "Infinity", "-infinity": "-Infinity", "inf": "Infinity"},
    },
    "DECIMAL(10,2)": {
        **{"1.10": "1.10", "1.1": "1.10", "1": "1.00", "+1.1": "1.10", "-0.5": "-0.50", ".5": "0.50", "5.": "5.00"},
        **{"1.1000": "1.10", "0012.30": "12.30", "99999999.99": "99999999.99", "1e3": "1000.00", "105e-1": "10.50"},
    },
    "DECIMAL(10,0)": {
        **{"5": "5", "5.": "5", "5.00": "5", "1e3": "1000", "10e-1": "1", "2500e-2": "25", "0e-9": "0", "0.0e-3": "0"},
        **{"1.50e1": "15", "-10.0e-1": "-1"},
    },
    "DECIMAL(38,18)": same("12345678901234567890.123456789012345678"),
    "DECIMAL(38,0)": {"9" * 38: "9" * 38, "1e25": "1" + "0" * 25},
    "BOOLEAN": {
        **dict.fromkeys(["true", "TRUE", "t", "yes", "y", "1"], "true"),
        **dict.fromkeys(["false", "False", "f", "no", "n", "0"], "false"),
    },
    "DATE": {
        **same("2024-02-29", "0001-01-01", "9999-12-31"),
        **{"2024-1-5": "2024-01-05", "1704067200000": DAY, "-1704067200000": "1916-01-02"},
    },
    "TIMESTAMP": {
        **{DAY: f"{DAY} 00:00:00", f"{DAY} 10:30": f"{DAY} 10:30:00", "2024-1-1 9:5": f"{DAY} 09:05:00"},
        **{f"{DAY}T10:30:05": f"{DAY} 10:30:05", f"{DAY} 10:30:05.5": f"{DAY} 10:30:05.5"},
        **{f"{DAY} 10:30:05.123456": f"{DAY} 10:30:05.123456", f"{DAY} 1:0:0.1234560000": f"{DAY} 01:00:00.123456"},
        **{f"{DAY}T10:00:00Z": f"{DAY} 10:00:00", f"{DAY} 10:00:00 UTC": f"{DAY} 10:00:00"},
        **{f"{DAY}T10:00:00+03:00": f"{DAY} 07:00:00", f"{DAY} 10:00:00-0330": f"{DAY} 13:30:00"},
        **{f"{DAY} 10:00:00-03": f"{DAY} 13:00:00", f"{DAY} 10:00:00 America/Sao_Paulo": f"{DAY} 13:00:00"},
        **{f"{DAY}T10:00Z": f"{DAY} 10:00:00", f"{DAY} 9:05 -03:00": f"{DAY} 12:05:00"},
        **{f"{DAY} 10:00 America/Sao_Paulo": f"{DAY} 13:00:00", f"{DAY}T10:00+0530": f"{DAY} 04:30:00"},
        **{"1704103200123": f"{DAY} 10:00:00.123", "-1000000000001": "1938-04-24 22:13:19.999"},
    },
    "TIMESTAMP_NTZ": {
        **{DAY: f"{DAY} 00:00:00", f"{DAY}T10:30:05.5": f"{DAY} 10:30:05.5"},
        **{"1704103200123": f"{DAY} 10:00:00.123"},
    },
    "BINARY": same("", "São"),
}

REJECTED: dict[str, list[str]] = {
    "STRING": [],
    "TINYINT": ["128", "-129", "1.0"],
    "SMALLINT": ["32768", "-32769", ""],
    "INT": [
        *(" 5", "5 ", "5\n", "5.7", "5.0", "1e3", "", " ", "x", "2147483648", "-2147483649", "1_000", "1,000", "1.000"),
        *("0x1F", "\u0665", "--5", "+", "5L", "NaN", "true", "null"),
    ],
    "BIGINT": ["9223372036854775808", "1e3", " 1"],
    "FLOAT": ["1e39", "-1e39", "1,5"],
    "DOUBLE": [
        "1e400",
        "-1e400",
        " 1.5",
        "1.5 ",
        "1.5\n",
        "1,5",
        "1.5d",
        "1.5f",
        "0x1p3",
        "e5",
        ".",
        "",
        "1.000,5",
        "--1",
    ],
    "DECIMAL(10,2)": [
        *("1.105", "0.001", "100000000", "99999999.999", " 1.10", "1.10\n", "1,10", "1.000,10", "", ".", "NaN"),
        *("Infinity", "1e400", "1e-3", "1e-30", "1.0000000000000000000001e0", "1e8", "x"),
    ],
    "DECIMAL(10,0)": ["0.5", ".5", ".4", "5.5", "1e-1", "10000000000", "15e-1", "10e-2", "e1", ".e1", "1e"],
    "DECIMAL(38,18)": ["0.1234567890123456789", "123456789012345678901"],
    "DECIMAL(38,0)": ["9" * 39, "0.1"],
    "BOOLEAN": ["", "2", "verdadeiro", " true", "true ", "on"],
    "DATE": [
        *("2023-02-29", "2024-13-01", "2024-01-32", "2024-00-10", f"{DAY} 00:00", f"{DAY}T00:00:00", f"{DAY}Z", ""),
        *(f" {DAY}", f"{DAY}\n", "2024-01", "2024", "20240101", "01/02/2024", "12:30", "epoch", "today", "now"),
        *("1704067200001", "170406720000", "17040672000000", "1704067200000.0", "+1704067200000", "1704067200000\n"),
    ],
    "TIMESTAMP": [
        *("12:30", "T12:30", "12:30:00", "2024-02-30 10:00", f"{DAY} 25:00", f"{DAY} 24:00:00", f"{DAY} 10:60", ""),
        *(f"{DAY} 10:00:60", f"{DAY} 10:00:00.1234567", f"{DAY} 10:00:00.1234567Z", f"{DAY} 10:00:00 Mars/Olympus"),
        *(f"{DAY} 10:00:00+25:00", f" {DAY}", f"{DAY} 10:00\n", f"{DAY} 10", f"{DAY} 10:00 PM", "01/02/2024 10:00"),
        *("1704067200", "17040672000000", "1704067200000.5", "now", "today", "epoch", "2024-01"),
        *(f"{DAY}T10Z", f"{DAY}T10:60Z", f"{DAY}T10:00 Mars/Olympus"),
    ],
    "TIMESTAMP_NTZ": [f"{DAY}T10:00:00Z", f"{DAY} 10:00:00+03:00", "12:30", f"{DAY} 10:00:00.1234567", "now"],
    "BINARY": [],
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_type_accepts_its_spellings_and_no_others(spark: SparkSession, kind: str) -> None:
    found = cast_texts(spark, kind, [*ACCEPTED[kind], *REJECTED[kind]])

    named = f"{'an' if kind == 'INT' else 'a'} {kind}"
    expected: dict[str | None, tuple[str | None, str | None]] = {None: (None, None)}
    expected |= {text: (value, None) for text, value in ACCEPTED[kind].items()}
    expected |= dict.fromkeys(REJECTED[kind], (None, f"not {named}"))
    assert {text: got for text, got in found.items() if got != expected[text]} == {}


ZONES: dict[str, dict[str, str]] = {
    "America/Sao_Paulo": {
        f"{DAY} 10:00:00": f"{DAY} 13:00:00",
        f"{DAY} 10:00:00.123456": f"{DAY} 13:00:00.123456",
        DAY: f"{DAY} 03:00:00",
        "2023-12-31 23:00": f"{DAY} 02:00:00",
        "2017-01-01 10:00": "2017-01-01 12:00:00",  # daylight saving time, until 2019
        "2018-11-03 23:59:59.999999": "2018-11-04 02:59:59.999999",
        f"{DAY}T10:00:00Z": f"{DAY} 10:00:00",
        f"{DAY}T10:00:00+00:00": f"{DAY} 10:00:00",
        f"{DAY}T10:00:00-03:00": f"{DAY} 13:00:00",
        f"{DAY} 10:00:00 Europe/Lisbon": f"{DAY} 10:00:00",
    },
    "Asia/Kolkata": {f"{DAY} 10:00:00": f"{DAY} 04:30:00", DAY: "2023-12-31 18:30:00"},
}


@pytest.mark.parametrize("zone", ZONES)
def test_the_pipelines_zone_applies_to_texts_without_a_zone(spark: SparkSession, zone: str) -> None:
    found = cast_texts(spark, "TIMESTAMP", list(ZONES[zone]), zone)

    assert found == {None: (None, None)} | {text: (value, None) for text, value in ZONES[zone].items()}


def test_timestamps_ntz_are_not_shifted(spark: SparkSession) -> None:
    text = f"{DAY} 10:00:00"

    assert cast_texts(spark, "TIMESTAMP_NTZ", [text], "America/Sao_Paulo")[text] == (text, None)


SAO_PAULO = "America/Sao_Paulo"
PATTERNS: dict[str, tuple[str, dict[str, str], dict[str, str | None]]] = {
    "dates": (
        "DATE",
        {"dateFormat": "dd/MM/yyyy"},
        {
            **{"31/12/2024": "2024-12-31", "29/02/2024": "2024-02-29"},
            # Sources mix both: midnight in UTC, midnight in the pipeline's zone, and neither.
            **{"1420070400000": "2015-01-01", "1420077600000": "2015-01-01", "1420070400001": None},
            # Midnight was skipped in São Paulo that day: it began at one o'clock.
            **{"1541386800000": None, "1541300400000": "2018-11-04", "142007040000": None},
            **dict.fromkeys(
                ["31/02/2024", "1/2/2024", "31/12/24", "31/12/2024 10:00", "31/12/2024 ", "2024-12-31", ""]
            ),
        },
    ),
    "dates, the option in another case": ("DATE", {"DATEFORMAT": "yyyyMMdd"}, {"20241231": "2024-12-31", DAY: None}),
    "timestamps": (
        "TIMESTAMP",
        {"timestampFormat": "dd/MM/yyyy HH:mm:ss"},
        {
            **{"31/12/2023 22:00:00": f"{DAY} 01:00:00", "01/01/2017 10:00:00": "2017-01-01 12:00:00"},
            **dict.fromkeys(["31/02/2024 10:00:00", f"{DAY} 10:00:00", "31/12/2023 22:00", "31/12/2023 22:00:00.5"]),
        },
    ),
    "timestamps with a zone": (
        "TIMESTAMP",
        {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ssXXX"},
        {f"{DAY}T10:00:00-03:00": f"{DAY} 13:00:00", f"{DAY}T10:00:00Z": f"{DAY} 10:00:00", f"{DAY}T10:00:00": None},
    ),
    "a letter that is no zone": (
        "TIMESTAMP",
        {"timestampFormat": "'Vez' dd.MM.yyyy HH'h'mm"},
        {"Vez 01.01.2024 10h00": f"{DAY} 13:00:00", "01.01.2024 10h00": None},
    ),
    "timestamps without zone": (
        "TIMESTAMP_NTZ",
        {"timestampNTZFormat": "dd/MM/yyyy HH:mm"},
        {"31/12/2023 22:00": "2023-12-31 22:00:00", DAY: None},
    ),
    "several patterns": (
        "DATE",
        {"dateFormat": "[dd/MM/yyyy][yyyy-MM-dd]"},
        {"31/12/2024": "2024-12-31", DAY: DAY, "1704067200000": DAY, "31/12/2024-12-31": None, "2024/12/31": None},
    ),
    "several patterns with a time": (
        "TIMESTAMP",
        {"timestampFormat": "[dd/MM/yyyy[ HH:mm]][yyyy-MM-dd'T'HH:mm:ss]"},
        {
            **{
                "01/01/2024": f"{DAY} 03:00:00",
                "01/01/2024 10:00": f"{DAY} 13:00:00",
                f"{DAY}T10:00:00": f"{DAY} 13:00:00",
            },
            **{"1704103200000": f"{DAY} 10:00:00", "01/01/2024T10:00:00": None},
        },
    ),
    "a pattern that could read 13 digits": (
        "TIMESTAMP",
        {"timestampFormat": "yyyyMMddHHmmss"},
        {"20240101100000": f"{DAY} 13:00:00", "2024010110000": None, "1704103200000": None},
    ),
    "milliseconds": (
        "DATE",
        {"dateFormat": "epoch_ms"},
        {
            **{"0": "1970-01-01", "-86400000": "1969-12-31", "86400000": "1970-01-02", "10800000": "1970-01-01"},
            **dict.fromkeys(["1", DAY, "86400000.0", "999999999999999999", "9" * 30, ""]),
        },
    ),
    "seconds": (
        "TIMESTAMP",
        {"timestampFormat": "epoch_s"},
        {
            **{"1704103200": f"{DAY} 10:00:00", "+1": "1970-01-01 00:00:01", "-1": "1969-12-31 23:59:59"},
            **{"253402300799": "9999-12-31 23:59:59", "253402300800": None, "-62135596801": None, DAY: None},
        },
    ),
    "the names of months, by a locale": (
        "DATE",
        {"dateFormat": "dd MMMM yyyy", "locale": "pt-BR"},
        {"01 janeiro 2024": DAY, "31 fevereiro 2024": None, "01 January 2024": None, "1704067200000": DAY},
    ),
    "the names of months and a zone": (
        "TIMESTAMP",
        {"timestampFormat": "dd MMMM yyyy HH:mm", "locale": "fr-FR"},
        {"01 janvier 2024 10:00": f"{DAY} 13:00:00", "01 janvier 2024": None, '"': None},
    ),
    "the pattern of another type": ("DATE", {"timestampFormat": "dd/MM/yyyy"}, {DAY: DAY, "31/12/2024": None}),
}


@pytest.mark.parametrize(("kind", "options", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_accepts_only_matching_texts(
    spark: SparkSession, kind: str, options: dict[str, str], expected: dict[str, str | None]
) -> None:
    found = cast_texts(spark, kind, list(expected), SAO_PAULO, **options)

    assert {text: value for text, (value, _) in found.items()} == {None: None} | expected
    assert {text for text, (_, reason) in found.items() if reason} == {t for t, value in expected.items() if not value}


NUMBERS: dict[str, tuple[str, dict[str, str | None]]] = {
    "pt-BR": (
        "DECIMAL(38,4)",
        {
            **{"1.234,56": "1234.5600", "-0,5": "-0.5000", "1234,56": "1234.5600", "1.234": "1234.0000"},
            **{"1.234.567.890.123.456.789.012.345,6789": "1234567890123456789012345.6789", "+7": "7.0000"},
            **{",5": "0.5000", "5,": "5.0000", "1,5e3": "1500.0000", "0,00010": "0.0001"},
            **dict.fromkeys(
                ["1.23,4", "12.34", "1,234.56", "0.500", "1.2345", "1234.567", "1..234", ".234", "1,2,3", "0,00001"]
            ),
            **dict.fromkeys(["", ",", ".", "-", " 1,5", "R$ 1,50", "1 234", "NaN", "1.234,5.0"]),
        },
    ),
    "en-US": ("DECIMAL(10,2)", {"1,234.56": "1234.56", "1234.56": "1234.56", "1.234,56": None, "1,5": None}),
    "fr-FR": (
        "DECIMAL(10,2)",
        {"1\u202f234,56": "1234.56", "1\u00a0234,56": "1234.56", "1 234": "1234.00", "1 23,4": None, "1.234": None},
    ),
    "de-CH": ("DECIMAL(10,2)", {"1\u2019234.56": "1234.56", "1'234.56": "1234.56", "1,5": None, "1'23": None}),
    "de-DE": ("INT", {"1.234": "1234", "1234": "1234", "-2.147.483.648": "-2147483648", "1,0": None, "1.23": None}),
    "es-ES": ("DOUBLE", {"1.234,5": "1234.5", "1e3": "1000.0", "NaN": "NaN", "-inf": "-Infinity", "1.5": None}),
    "IT-it": ("FLOAT", {"0,5": "0.5", "0.5": None}),
}


@pytest.mark.parametrize("locale", NUMBERS)
def test_numbers_are_parsed_only_in_the_notation_of_the_locale(spark: SparkSession, locale: str) -> None:
    kind, expected = NUMBERS[locale]
    found = cast_texts(spark, kind, list(expected), locale=locale)

    assert {text: value for text, (value, _) in found.items()} == {None: None} | expected
    assert {text for text, (_, reason) in found.items() if reason} == {t for t, value in expected.items() if not value}
    assert all(reason is None or locale in reason for _, reason in found.values())


def test_a_locale_applies_to_numbers_only(spark: SparkSession) -> None:
    assert cast_texts(spark, "STRING", ["1.234,5"], locale="pt-BR")["1.234,5"] == ("1.234,5", None)
    assert cast_texts(spark, "DATE", [DAY], locale="pt-BR")[DAY] == (DAY, None)
