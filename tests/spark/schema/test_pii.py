"""Hashes of personal columns: equal to RFC 2104 for any text, with a key that no plan shows."""

from __future__ import annotations

import hashlib
import io
import random
import sys
from contextlib import redirect_stdout
from datetime import date, datetime, timezone
from decimal import Decimal

import pytest
from pydantic import SecretStr
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.schema import pii as pii_columns
from lakehouse.spark.session import isolated_session

KEYS = ["k" * 32, "a key of letters, ção and 漢字, of more than one block of SHA-256: " + "x" * 40]
LONG = "two blocks " * 20


def table(key: str, ddl: str = "text STRING", **pii: str) -> Table:
    made = Table(file="t.csv", format="csv", schema=ddl, keys=["text"], pii=pii or {"text": "hmac"})
    made._pii_key = SecretStr(key)
    return made


def reference_hmac(key: str, text: str) -> str:
    """HMAC as RFC 2104 defines it, by SHA-256 alone."""
    raw = key.encode()
    block = (hashlib.sha256(raw).digest() if len(raw) > 64 else raw).ljust(64, b"\0")
    inner, outer = bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block)
    return hashlib.sha256(outer + hashlib.sha256(inner + text.encode()).digest()).hexdigest()


def test_hmac_equals_the_rfc_for_any_text_and_null_stays_null(spark: SparkSession) -> None:
    rng = random.Random(7)
    letters = [chr(c) for c in range(1, sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    texts = [
        "",
        " ",
        "null",
        "é",
        "e\u0301",
        LONG,
        *("".join(rng.choices(letters, k=rng.randrange(90))) for _ in range(60)),
    ]
    rows = spark.createDataFrame([(text,) for text in [*texts, None]], "text STRING")
    for key in KEYS:
        value = pii_columns.protected_value("text", F.col("text"), table(key))
        assert value is not None
        found = {row[0]: row[1] for row in rows.select("text", value).collect()}
        assert found == {text: reference_hmac(key, text) for text in texts} | {None: None}


def test_the_value_is_hashed_not_its_spelling(spark: SparkSession) -> None:
    """So 007 and 7 are the same key in a column of numbers, and different keys in a column of text."""
    isolated = isolated_session(spark)
    at = datetime(2025, 10, 3, 17, 5, 29, 758000, tzinfo=timezone.utc)
    values = {
        "INT": (7, "7"),
        "DECIMAL(10,2)": (Decimal("1.1"), "1.10"),
        "DATE": (date(2025, 1, 2), "2025-01-02"),
        "TIMESTAMP": (at, "2025-10-03 17:05:29.758"),
        "BOOLEAN": (True, "true"),
    }
    for kind, (value, text) in values.items():
        hashed = pii_columns.protected_value("text", F.col("text"), table(KEYS[0], f"text {kind}"))
        assert hashed is not None
        row = isolated.createDataFrame([(value,)], f"text {kind}").select(hashed).collect()[0]
        assert row[0] == reference_hmac(KEYS[0], text), kind


@pytest.mark.usefixtures("spark")
def test_hashed_and_masked_columns_are_strings_and_dropped_ones_are_gone() -> None:
    made = table(KEYS[0], "text STRING, points INT, seen DATE, name STRING", text="hmac", points="mask", seen="drop")
    declared = T.DataType.fromDDL(made.schema_ddl)
    assert isinstance(declared, T.StructType)
    assert (
        pii_columns.protected_schema(declared, made).simpleString() == "struct<text:string,points:string,name:string>"
    )


def test_no_plan_shows_the_key(spark: SparkSession) -> None:
    value = pii_columns.protected_value("text", F.col("text"), table(KEYS[0]))
    assert value is not None
    shown = io.StringIO()
    with redirect_stdout(shown):
        spark.range(1).select(F.col("id").cast("string").alias("text")).select(value).explain("extended")
    assert "hashed" in shown.getvalue()
    for form in (KEYS[0], KEYS[0].encode().hex(), bytes(b ^ 0x36 for b in KEYS[0].encode()).hex()):
        assert form.lower() not in shown.getvalue().lower()
