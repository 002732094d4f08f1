"""Rows as JSON values: each type is exact."""

from __future__ import annotations

import json

from pyspark.sql import SparkSession

from lakehouse.inspect.json_rows import json_rows

VALUES = """
    SELECT CAST('1.10' AS DECIMAL(10,2)) AS price, CAST(0 AS DECIMAL(20,10)) AS none_of_it,
           CAST('12345678901234567890.123' AS DECIMAL(38,3)) AS large, CAST(9007199254740993 AS BIGINT) AS id,
           TIMESTAMP'2025-03-30 01:30:00.120000' AS at, TIMESTAMP'2025-01-01 00:00:00' AS midnight,
           TIMESTAMP_NTZ'2025-01-01 10:20:30' AS local, DATE'0001-01-01' AS day, DATE'9999-12-31' AS last_day,
           CAST('0.1' AS FLOAT) AS small, CAST('NaN' AS DOUBLE) AS nan, -CAST('Infinity' AS DOUBLE) AS infinite,
           false AS no, X'00FF' AS raw, CAST(NULL AS STRING) AS nothing, '' AS empty, 'é "x"' AS text,
           ARRAY(NAMED_STRUCT('n', CAST('1.0' AS DECIMAL(4,1)), 'd', DATE'2025-01-01')) AS nested
"""
PLAIN = {
    "price": "1.10",
    "none_of_it": "0.0000000000",
    "large": "12345678901234567890.123",
    "id": 9007199254740993,
    "at": "2025-03-30T01:30:00.12Z",
    "midnight": "2025-01-01T00:00:00Z",
    "local": "2025-01-01T10:20:30",
    "day": "0001-01-01",
    "last_day": "9999-12-31",
    "small": 0.1,
    "nan": "NaN",
    "infinite": "-Infinity",
    "no": False,
    "raw": "AP8=",
    "nothing": None,
    "empty": "",
    "text": 'é "x"',
    "nested": [{"n": "1.0", "d": "2025-01-01"}],
}


def test_every_type_is_exact_and_valid_json(spark: SparkSession) -> None:
    rows = json_rows(spark.sql(VALUES))

    assert rows == [PLAIN]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
