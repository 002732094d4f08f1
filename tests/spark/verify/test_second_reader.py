"""The second reader of `verify` knows the notations that `ingest` reads."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.schema.cast import cast_text
from lakehouse.storage.file_io import store_path
from lakehouse.storage.landing import LandedFile
from lakehouse.verify import second_reader
from lakehouse.verify.checked_table import CheckedTable

ZONE = "America/Sao_Paulo"
NUMBERS = (
    *("nan", "NaN", "NAN", "+nan", "inf", "-inf", "+Inf", "INFINITY", "-Infinity", "+infinity", "infinite", "in", "1e"),
    *("1", "+1", "-1", "007", "-0", "-0.0", "1.", ".5", "-.5", "+1.50", ".", "+", "1e5", "1E+5", "-1.5e-3", "1e400"),
    *("3.5e38", "1e-400", "1f", "1d", "2.5F", "0x1p3", "1_000", "1,5", "128", "40000", "3000000000", "1e3.5", "--1"),
    *("\u0661", "\u00bd", "\uff11", "x", "true", "TRUE", "f", "No", "y", "T", "0", "yes"),
)
DAYS = ("2025-01-02", "2025-1-2", "0001-01-01", "9999-12-31", "2025-02-30", "2018-11-04", "2018-02-18")
HOURS = (
    "",
    " 10:00",
    "T10:00",
    " 1:2",
    " 10:00:00",
    "T10:00:00.5",
    " 10:00:00.123456",
    " 10:00:00.1200000",
    " 24:00",
    " 00:30",
)
ZONES = ("", "Z", "+03:00", "-0300", "+3", " UTC", " GMT", " America/Sao_Paulo", "-23:00", " BRT")
TIMES = (
    *(f"{day}{hour}{zone}" for day in DAYS for hour in HOURS for zone in ZONES),
    "1735689600000",
    "-1735689600000",
    "12:30",
)
TYPES = {
    **dict.fromkeys(["TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE"], NUMBERS),
    **dict.fromkeys(["DECIMAL(10,2)", "DECIMAL(38,0)", "BOOLEAN"], NUMBERS),
    **dict.fromkeys(["DATE", "TIMESTAMP", "TIMESTAMP_NTZ"], TIMES),
}


def checked(schema: str) -> CheckedTable:
    config = Table.model_validate({"file": "t.csv", "format": "csv", "schema": schema, "keys": ["k"]})
    pipeline: Any = SimpleNamespace(tables={"t": config}, timezone=ZONE)
    return CheckedTable(SparkSession.active(), cast(Any, None), pipeline, "t", cast(Any, None), {})


@pytest.fixture(scope="module")
def read_twice(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tuple[Any, Any]]]:
    """By type and text, the value that `ingest` reads in a file, and the one that the second reader does."""
    path, names = tmp_path_factory.mktemp("file") / "t.csv", [f"v{n}" for n in range(len(TYPES))]
    every = dict.fromkeys([*NUMBERS, *TIMES])
    path.write_text("\n".join([",".join(["k", *names]), *(",".join([f'"{t}"'] * (1 + len(names))) for t in every), ""]))
    table = checked("k STRING, " + ", ".join(f"{name} {kind}" for name, kind in zip(names, TYPES, strict=True)))
    rows = second_reader.read_typed(table, cast(LandedFile, SimpleNamespace(name="t.csv")), store_path(str(path)))
    texts = spark.createDataFrame([(text,) for text in every], "k STRING")
    values = [cast_text(F.col("k"), table.file_schema[name].dataType, ZONE, {})[0].alias(name) for name in names]
    as_text = [F.col(name).cast("string").alias(name) for name in names]
    sides = (side.select("k", *as_text) for side in (texts.select("k", *values), rows))
    first, second = ({row["k"]: row for row in side.collect()} for side in sides)
    return {k: {t: (first[t][n], second[t][n]) for t in TYPES[k]} for n, k in zip(names, TYPES, strict=True)}


@pytest.mark.parametrize("kind", TYPES)
def test_the_second_reader_reads_a_text_as_ingest_does(
    read_twice: dict[str, dict[str, tuple[Any, Any]]], kind: str
) -> None:
    """A row whose key `ingest` reads and the second reader does not is one that `verify` does not find."""
    of_ingest = {text: both for text, both in read_twice[kind].items() if both[0] is not None}

    assert len(of_ingest) >= 5
    assert {text: both for text, both in of_ingest.items() if both[0] != both[1]} == {}


@pytest.mark.parametrize("kind", [T.DoubleType(), T.FloatType()])
def test_numbers_that_are_not_finite_are_parsed_in_every_spelling(spark: SparkSession, kind: T.DataType) -> None:
    """A key `inf` in quarantine keeps its row in bronze: verify has to find that key."""
    spellings: dict[str, Any] = {"inf": math.inf, "+Infinity": math.inf, "-INF": -math.inf, "-infinity": -math.inf}
    spellings |= {"1.5": 1.5, "-0.0": 0.0, "x": None, "infinite": None}
    rows = spark.createDataFrame([(text,) for text in [*spellings, "NaN", "nan"]], "text STRING")

    parsed = second_reader.parse_text(checked("k DOUBLE"), T.StructField("k", kind), F.col("text"))
    found = {row[0]: row[1] for row in rows.select("text", parsed).collect()}

    assert math.isnan(found.pop("NaN")) and math.isnan(found.pop("nan"))
    assert found == spellings


def test_an_empty_field_of_binary_is_no_bytes_and_a_blank_one_null(spark: SparkSession) -> None:
    field = T.StructField("k", T.BinaryType())
    rows = spark.createDataFrame([(second_reader._EMPTY_TEXT,), (None,), ("a",)], "k STRING")

    value = second_reader._value_column(checked("k BINARY"), field, True)
    found = [row[0] for row in rows.select(F.col("k").cast("binary").alias("k")).select(value).collect()]

    assert found == [b"", None, b"a"]
