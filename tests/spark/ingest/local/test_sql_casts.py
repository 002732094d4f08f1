"""DuckDB casts a text as Spark does: random texts for every type, pattern, locale and zone."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.ingest.local.sql_casts import cast_sql, create_functions, in_range_sql
from lakehouse.schema.cast import cast_text
from lakehouse.spark.session import local_frame

SEED = os.environ.get("LAKEHOUSE_SEED", "0")  # set by make test-random; else always the same texts
TEXTS = 1_000 if "LAKEHOUSE_SEED" in os.environ else 200

NUMBERS = ["TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL(10,2)", "DECIMAL(38,18)", "DECIMAL(5,5)"]
PATTERNS = [
    None,
    "epoch_ms",
    "epoch_s",
    "dd/MM/yyyy",
    "d/M/yyyy",
    "yyyyMMdd",
    "yyyy-MM-dd'T'HH:mm:ssXXX",
    "yyyy-MM-dd[ HH:mm[:ss]]",
    "yyyy-MM-dd HH:mm:ss.SSS",
    "yyyy-MM-dd'T'HH:mm:ss[.SSSSSS]",
    "[dd/MM/yyyy][yyyy-MM-dd]",
    "H:m dd/MM/yyyy",
    "yyyy",
]
OPTIONS = {"DATE": "dateFormat", "TIMESTAMP": "timestampFormat", "TIMESTAMP_NTZ": "timestampNTZFormat"}
CASES: list[tuple[str, dict[str, str], str]] = [
    *[(name, options, "UTC") for name in NUMBERS for options in ({}, {"locale": "pt-BR"}, {"locale": "fr-FR"})],
    *[(name, {}, "UTC") for name in ("BOOLEAN", "STRING", "BINARY")],
    *[
        (name, {option: pattern} if pattern else {}, zone)
        for name, option in OPTIONS.items()
        for pattern in PATTERNS
        for zone in ("UTC", "America/Sao_Paulo", "Europe/Lisbon")
    ],
]


_ODD_NUMBERS = [
    "inf",
    "-Infinity",
    "NaN",
    "+nan",
    "1e400",
    "1e-400",
    "-",
    "+",
    ".",
    "1_000",
    "0x1f",
    "1d",
    "0,5",
    "1e5.5",
]
_ODD_NUMBERS += ["\u0661\u0662", "0.500", "0." + "0" * 60]
_WORDS = [
    "true",
    "TRUE",
    "t",
    "T",
    "yes",
    "Y",
    "1",
    "0",
    "no",
    "N",
    "False",
    "f",
    "on",
    "fal\u017fe",
    "2",
    "\u00e9",
    "x",
]


class Texts:
    """Draws texts that are values, nearly values, or values of another type."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def __call__(self, data_type: str, pattern: str | None) -> str:
        by_pattern = pattern and not pattern.startswith("epoch") and self.rng.random() < 0.6
        if by_pattern:
            return self.by_pattern(str(pattern))
        kinds: list[Callable[[], str]] = [self.number, self.number, self.day, self.time, self.word]
        kinds += [self.day, self.time] * 3 if data_type in OPTIONS else [self.number, self.word] * 3
        return self.rng.choice(kinds)()

    def digits(self, count: int) -> str:
        return "".join(self.rng.choice("0123456789") for _ in range(self.rng.randint(1, count)))

    def number(self) -> str:
        d, c = self.digits, self.rng.choice
        return c(
            [
                d(3),
                c("+-") + d(5),
                d(25),
                "0" * self.rng.randint(1, 30) + d(4),
                f"{d(3)}.{d(3)}",
                f".{d(4)}",
                f"{d(2)}.",
                f"{d(2)}e{c(['', '+', '-'])}{d(2)}",
                f".{d(2)}E{d(3)}",
                f"{d(4)}.{d(2)}{'0' * self.rng.randint(0, 30)}",
                f"{d(36)}.12",
                f"{c(['', '-'])}{d(3)}.{d(3)},{d(2)}",
                f"{c(['1', '12', '0'])}{c(['.', ' ', ','])}{d(3)}",
                *_ODD_NUMBERS,
                " 1",
                "1 ",
                "",
            ]
        )

    def day(self) -> str:
        r, c = self.rng.randint, self.rng.choice
        year = c([0, 1, 1582, 1900, 2018, 2024, 9999])
        return c(
            [
                f"{year:04}-{r(0, 13):02}-{r(0, 32):02}",
                f"{year}-{r(1, 12)}-{r(1, 31)}",
                f"{r(0, 32):02}/{r(0, 13):02}/{year:04}",
                f"{year:04}{r(1, 12):02}{r(1, 31):02}",
                *["2024-02-29", "2023-02-29", "1600000000000", "-1600000000000", "253402300800000", "2024-01-01T"],
                str(r(-(10**14), 10**14)),
            ]
        )

    def time(self) -> str:
        r, c = self.rng.randint, self.rng.choice
        day = c([f"{c([1, 1582, 2018, 2024, 9999]):04}-{r(1, 12):02}-{r(1, 31):02}", "2018-11-04", "2024-1-5"])
        clock = c([f"{r(0, 24):02}:{r(0, 60):02}:{r(0, 60):02}", "00:30:00", f"{r(0, 24)}:{r(0, 59)}", "10"])
        fraction = c(["", "", f".{self.digits(9)}", ".123000000000"])
        zones = [
            "Z",
            "+03:00",
            "-0300",
            "+3",
            "-18:00",
            "+18:30",
            "UTC",
            " Z",
            " America/Sao_Paulo",
            " America/Nowhere",
        ]
        return day + c([" ", "T", "t", "  ", ""]) + clock + fraction + c(["", "", *zones, "z", " +05:30", "-3:00"])

    def word(self) -> str:
        return self.rng.choice(_WORDS)

    def by_pattern(self, pattern: str) -> str:
        rng = self.rng
        t = datetime(
            rng.choice([1, 1900, 2018, 2024, 9999]),
            rng.randint(1, 12),
            rng.randint(1, 28),
            *map(rng.randint, [0] * 3, [23, 59, 59]),
        )
        fraction, zone = self.digits(6), rng.choice(["Z", "+03:00", "-03:00", "+0300", "+19:00", "z"])
        pattern = pattern.replace("'", "")
        text = (
            pattern.translate({ord("["): None, ord("]"): None})
            if rng.random() < 0.5
            else re.sub(r"\[.*\]", "", pattern)
        )
        parts = {"yyyy": f"{t.year:04}", "MM": f"{t.month:02}", "dd": f"{t.day:02}", "HH": f"{t.hour:02}"}
        parts |= {"mm": f"{t.minute:02}", "ss": f"{t.second:02}", "XXX": zone, "SSSSSS": fraction, "SSS": fraction[:3]}
        parts |= {"M": str(t.month), "d": str(t.day), "H": str(t.hour), "m": str(t.minute)}
        text = re.sub("|".join(parts), lambda match: parts[match[0]], text)
        return text + rng.choice(["", "", "", "", " ", "0", "x"])


def by_driver(texts: list[str], data_type: T.DataType, options: dict[str, str], zone: str) -> Iterator[Any]:
    cast = cast_sql("text", data_type, zone, options)
    assert cast is not None
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        create_functions(connection, zone)
        connection.register("texts", pa.table({"text": pa.array(texts, pa.string())}))
        casts = f"SELECT text, {cast} AS value FROM texts"
        rows = connection.execute(f"SELECT text, {in_range_sql('value', data_type)} FROM ({casts})").fetchall()
    values = dict(rows)
    yield from (values[text] for text in texts)


def by_spark(
    spark: SparkSession, texts: list[str], data_type: T.DataType, options: dict[str, str], zone: str
) -> Iterator[Any]:
    value, _ = cast_text(F.col("text"), data_type, zone, options)
    if isinstance(data_type, T.TimestampType):
        value = value.cast("timestamp_ntz")  # the session is in UTC
    rows = local_frame(spark, "text STRING", [(text,) for text in texts]).select("text", value).collect()
    values = {row[0]: row[1] for row in rows}
    yield from (values[text] for text in texts)


def comparable(value: Any) -> Any:
    """Return a form in which NaN equals NaN, and a decimal equals itself with more zeros."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return value.normalize()
    return bytes(value) if isinstance(value, bytearray) else value


@pytest.mark.parametrize(("ddl", "options", "zone"), CASES, ids=str)
def test_both_casts_give_the_same_values(spark: SparkSession, ddl: str, options: dict[str, str], zone: str) -> None:
    draw = Texts(random.Random(f"{SEED} {ddl} {options} {zone}"))
    data_type = T.DataType.fromDDL(ddl)
    pattern = options.get(OPTIONS.get(ddl, ""))
    texts = list(dict.fromkeys(draw(ddl, pattern) for _ in range(TEXTS)))
    driver, ours = by_driver(texts, data_type, options, zone), by_spark(spark, texts, data_type, options, zone)
    different = [
        (text, one, other)
        for text, one, other in zip(texts, driver, ours, strict=True)
        if comparable(one) != comparable(other)
    ]
    assert different == []


@pytest.mark.parametrize(
    ("ddl", "options"),
    [
        ("DATE", {"dateFormat": "dd MMM yyyy", "locale": "pt-BR"}),
        ("TIMESTAMP", {"timestampFormat": "yyyy-MM-dd hh:mm a"}),
        ("STRING COLLATE UTF8_LCASE", {}),
        ("ARRAY<INT>", {}),
    ],
)
def test_what_only_spark_casts_has_no_sql(spark: SparkSession, ddl: str, options: dict[str, str]) -> None:
    schema = T.DataType.fromDDL(f"value {ddl}")
    assert isinstance(schema, T.StructType)
    assert cast_sql("text", schema[0].dataType, "UTC", options) is None
