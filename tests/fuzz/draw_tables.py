"""Draws tables: a schema, a format with a dialect, and rows with odd values, in several snapshots."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from law import INT, NESTED, STRINGS, TYPES

from fuzz.case import Column, Row, Table
from fuzz.files import PARQUET_TYPES, Mutation

NAMES = ("a", "B", "nome", "from", "ção", "id_", "n", "value", "key", "Data", "select", "1st", "order")
FILE_NAMES = ("Tipo Titulo", "x.y", "a`b", "a,b", "{x}", "São Paulo", "n=1", "a;b", "a\tb")  # only in files
STRUCT = "STRUCT<x: INT, y: STRING>"
KINDS = (
    *TYPES,
    "DECIMAL(5,0)",
    "DECIMAL(38,0)",
    "ARRAY<STRING>",
    "ARRAY<BIGINT>",
    STRUCT,
    f"ARRAY<{STRUCT}>",
    "ARRAY<ARRAY<INT>>",
)
ODD_TEXTS = (
    *STRINGS, *INT, "\0", "a\0b", "\x1b[31m", "\ud800", "NaN", "-Infinity", "1_000", "0x10", "+1", ".5", "5.", "1e-400", "١٢٣", "1 000,5", "1.234,56",
    "(1)", "1/2", "TRUE", "on", "sim", "2024-02-30", "0000-01-01", "10000-01-01", "9999-12-31 23:59:59.9999999", "2018-11-04 00:30:00", "2018-02-17T23:30:00",
    "2024-01-01T00:00:00+14:00", "2024-01-01T00:00:00[Europe/Paris]", "24:00", "1970-01-01T00:00:60Z", "31/12/2024", "12-31-24", "1712345678901", "-62135596800000", "253402300800000",
    "{", "[", "[1,2", '{"a":1}', '{"a":1,"a":2}', "[[]]", "nan", "\ufeffx", "x" * 70_000,
)  # fmt: skip
PATTERNS = (
    "dd/MM/yyyy",
    "yyyyMMdd",
    "d/M/yy",
    "MMM d, yyyy",
    "yyyy-MM-dd'T'HH:mm:ssXXX",
    "epoch_ms",
    "epoch_s",
    "dd/MM/yyyy[ HH:mm]",
    "yyyy-MM-dd HH:mm:ss.SSS",
    "EEE, dd MMM yyyy",
    "yyyy-DDD",
)
ENCODINGS = (
    *["UTF-8"] * 6,
    "ISO-8859-1",
    "windows-1252",
    "UTF-16",
    "UTF-16LE",
    "GBK",
    "Shift_JIS",
    "IBM850",
    "US-ASCII",
    "GB18030",
)
PYTHON_NAMES = {"UTF-16LE": "utf-16-le", "IBM850": "cp850"}
DAMAGE = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b'"',
    b",",
    b"\x1a",
    b"\xed\xa0\x80",
    b"\x80",
    b"]",
    b"}",
    b"\\",
    b"\n\n",
    b"\xc3",
    b"NaN",
    b"PAR1",
)
WHOLE = (
    b"",
    b"\n",
    b"\xef\xbb\xbf",
    b"<html><body>login</body></html>",
    b"PK\x03\x04 no zip",
    b"\x1f\x8b\x08\x00",
    b"[]",
    b"{}",
    b"null",
    b"[" * 5_000,
    b"\0" * 100,
    b"PAR1",
    b'{"a":' * 3_000,
)

# By declared type, the types that a Parquet file has it in; the last ones do not fit.
STORED: dict[str, tuple[str, ...]] = {
    "STRING": ("string", "large_string", "dictionary", "string_view", "null", "binary", "int64"),
    "TINYINT": ("int8", "int16", "int64", "uint8", "null", "float64"),
    "SMALLINT": ("int16", "int8", "int64", "uint16", "null", "string"),
    "INT": ("int32", "int64", "uint32", "int16", "dec_5_0", "null", "string"),
    "BIGINT": ("int64", "int32", "uint64", "null", "dec_38_18", "float64"),
    "DECIMAL(38,18)": ("dec_38_18", "dec_10_2", "int64", "null", "float64"),
    "DECIMAL(10,2)": ("dec_10_2", "dec_14_4", "dec_9_2", "dec_60_4", "int32", "null", "string"),
    "DECIMAL(5,0)": ("dec_5_0", "dec_10_2", "int64", "int8"),
    "DECIMAL(38,0)": ("dec_38_18", "uint64", "int64"),
    "DOUBLE": ("float64", "float32", "float16", "int32", "int64", "null", "dec_10_2"),
    "FLOAT": ("float32", "float64", "float16", "int16", "null"),
    "BOOLEAN": ("bool", "null", "int8"),
    "DATE": ("date32", "date64", "ts_ms", "tz_us", "null", "string", "int32"),
    "TIMESTAMP": ("tz_us", "tz_ms", "tz_ns", "ts_us", "ts_ns", "ts_ms", "date32", "null", "int64"),
    "TIMESTAMP_NTZ": ("ts_us", "ts_ms", "ts_ns", "date32", "null", "tz_us"),
    "BINARY": ("binary", "large_binary", "fixed16", "binary_view", "uuid", "string", "null"),
    "ARRAY<STRING>": ("list_string", "large_list", "null", "list_int64"),
    "ARRAY<BIGINT>": ("list_int64", "null", "list_string"),
    STRUCT: ("struct", "struct_wide", "null", "map"),
    f"ARRAY<{STRUCT}>": ("list_struct", "null", "struct"),
}
_DAYS = (date(1, 1, 1), date(1582, 10, 10), date(1970, 1, 1), date(2018, 11, 4), date(2024, 2, 29), date(9999, 12, 31))
_MOMENTS = tuple(datetime(d.year, d.month, d.day, 0, 30, 0, 1) for d in _DAYS)
_RECENT = (datetime(1970, 1, 1), datetime(2018, 11, 4, 0, 30), datetime(2024, 1, 1, 10, 0, 0, 1), datetime(2200, 1, 1))
_DECIMALS = tuple(map(Decimal, ("0", "1", "-1", "1.5", "999.99", "-0.01", "12345")))
_INTS = (
    0,
    1,
    -1,
    5,
    7,
    100,
    127,
    255,
    32_767,
    65_535,
    2**31 - 1,
    2**32 - 1,
    2**53 + 1,
    2**63 - 1,
    2**64 - 1,
    -128,
    -(2**31),
    -(2**63),
)
_FLOATS = (0.0, -0.0, 1.0, 1.5, -2.25, math.nan, math.inf, -math.inf, 1e300, 3.4e38, 5e-324, 60_000.0)
_TEXTS = tuple(text for text in STRINGS if len(text) < 100)


def _decimals(precision: int, scale: int) -> tuple[Decimal, ...]:
    limit, step = Decimal(10) ** (precision - scale), Decimal(1).scaleb(-scale)
    with_scale = [value.quantize(step) for value in _DECIMALS if abs(value) < limit]
    return (*with_scale, limit - step, step - limit)


PARQUET_VALUES: dict[str, tuple[Any, ...]] = {
    **{n: tuple(v for v in _INTS if -(2 ** (b - 1)) <= v < 2 ** (b - 1)) for n, b in (("int8", 8), ("int16", 16), ("int32", 32), ("int64", 64))},
    **{f"u{n}": tuple(v for v in _INTS if 0 <= v < 2**b) for n, b in (("int8", 8), ("int16", 16), ("int32", 32), ("int64", 64))},
    **dict.fromkeys(("float32", "float64"), _FLOATS),
    "float16": (0.0, -0.0, 1.5, math.nan, math.inf, 60_000.0),
    "string": (*_TEXTS, b"\xff\xfe", b"\xed\xa0\x80", "a\0b"),
    **dict.fromkeys(("large_string", "string_view", "dictionary"), _TEXTS),
    **dict.fromkeys(("binary", "large_binary", "binary_view"), (b"", b"a", b"A", b"\xff\xfe", b"\0", "ção".encode())),
    **dict.fromkeys(("fixed16", "uuid"), (b"0123456789abcdef", b"\0" * 16, b"\xff" * 16)),
    **dict.fromkeys(("date32", "date64"), _DAYS),
    "null": (None,),
    "bool": (True, False),
    **{f"{zone}_{unit}": _RECENT if unit == "ns" else _MOMENTS + _RECENT for zone in ("ts", "tz") for unit in ("ms", "us", "ns")},
    "ts_ns": (*_RECENT, 1, 1_000, 1_700_000_000_000_000_001),
    "tz_ns": (*_RECENT, 1, -1, 1_700_000_000_000_000_500),
    "time32": (time(1), time(23, 59, 59, 999_000)),
    "time64": (time(1), time(23, 59, 59, 999_999)),
    "duration": (timedelta(1), timedelta(-1)),
    "dec_9_2": _decimals(9, 2), "dec_10_2": _decimals(10, 2), "dec_14_4": _decimals(14, 4), "dec_5_0": _decimals(5, 0),
    "dec_38_18": _decimals(30, 18), "dec_60_4": (*_decimals(14, 4), Decimal(10) ** 50),
    "list_string": ([], [None], ["a"], ["a", "b"], ["", None]),
    "large_list": ([], [None], ["a", "b"]),
    "list_int64": ([], [None], [1, 2], [2**63 - 1]),
    "map": ([], [("a", 1)], [("a", None), ("b", 2)]),
    "struct": ({"x": 1, "y": "a"}, {"x": None, "y": None}, {"x": -5, "y": ""}),
    "struct_wide": ({"x": 1, "y": "a", "z": 1.5}, {"x": 2**40, "y": None, "z": None}),
    "list_struct": ([], [None], [{"x": 1, "y": "a"}, {"x": None, "y": "b"}]),
}  # fmt: skip
assert {n for names in STORED.values() for n in names} <= set(PARQUET_TYPES) & set(PARQUET_VALUES)
UNDECLARED = ("time32", "time64", "duration", "uuid", "float16", "dec_60_4", "map", "int32", "null", "uint64", "struct")


def draw_table(rng: random.Random, name: str, snapshots: int) -> Table:
    file_format = rng.choice(["csv", "csv", "json", "parquet"])
    odd = rng.choice([0.0, 0.0, 0.1, 0.1, 0.3])  # the share of values that are odd, in some rows
    settings: dict[str, Any] = {}
    columns = _draw_columns(rng, file_format, settings, is_odd=odd > 0.1)
    scalars = [c for c in columns if c.kind and "<" not in c.kind]
    keys = rng.sample(scalars, min(len(scalars), rng.choice([1, 1, 1, 2])))
    settings |= _draw_settings(rng, columns, keys, is_strict=odd > 0.1)
    layout = {"csv": _csv_layout, "json": _json_layout, "parquet": _parquet_layout}[file_format](rng, settings)
    if rng.random() < 0.12:
        layout["parts"] = 2
    value = _VALUES[file_format]
    if snapshots > 1 and rng.random() < 0.2:
        columns = _add_later(rng, columns, settings, snapshots)
    rows: list[list[Row] | None] = [[_draw_row(rng, columns, value, settings, odd) for _ in range(rng.randint(3, 25))]]
    while len(rows) < snapshots:
        rows.append(_change_rows(rng, rows[-1] or rows[0] or [], columns, value, settings, odd))
    return Table(
        name,
        file_format,
        tuple(columns),
        settings,
        tuple(rows),
        layout,
        tuple(_draw_mutations(rng) if odd else () for _ in rows),
    )


def _add_later(rng: random.Random, columns: list[Column], settings: dict[str, Any], snapshots: int) -> list[Column]:
    """Have a column that no setting names added by a later snapshot."""
    named = str({name: value for name, value in settings.items() if name != "options"})
    free = [column for column in columns if column.kind and f"'{column.name}'" not in named]
    if not free or len(columns) < 3:
        return columns
    later = rng.choice(free)
    since = rng.randrange(1, snapshots)
    return [replace(column, since=since) if column is later else column for column in columns]


def _draw_columns(rng: random.Random, file_format: str, settings: dict[str, Any], is_odd: bool) -> list[Column]:
    kinds = [rng.choice([k for k in KINDS if file_format != "csv" or "<" not in k]) for _ in range(rng.randint(2, 7))]
    kinds[0] = rng.choice(["STRING", "STRING", "INT", "BIGINT", "DATE", "DECIMAL(10,2)", "TIMESTAMP"])
    if file_format == "parquet":
        kinds = [kind if kind in STORED else "STRING" for kind in kinds]
    odd = rng.random() < 0.25
    names = rng.sample(NAMES, len(kinds)) if odd else [f"c{at}" for at in range(len(kinds))]
    columns = [Column(n, k, _draw_stored(rng, k, is_odd)) for n, k in zip(names, kinds, strict=True)]
    if rng.random() < 0.15:
        settings["names"] = {rng.choice(columns).name: rng.choice(FILE_NAMES)}
    if rng.random() < 0.2:
        columns.append(Column(rng.choice(["extra", "EXTRA", "x", "_extra"]), None, rng.choice(UNDECLARED)))
    return columns


def _draw_stored(rng: random.Random, kind: str, is_odd: bool) -> str:
    options = STORED.get(kind, ("string",))
    if is_odd:
        return rng.choice(options)
    return rng.choice(options[:3]) if rng.random() < 0.3 else options[0]


def _draw_settings(rng: random.Random, columns: list[Column], keys: list[Column], is_strict: bool) -> dict[str, Any]:
    content = [c for c in columns if c.kind and c not in keys]
    settings: dict[str, Any] = {
        "keys": [column.name for column in keys],
        "duplicates": rng.choice(["fail", "latest"] if is_strict else ["quarantine", "quarantine", "latest"]),
    }
    times = [c for c in content if c.kind and c.kind.startswith(("TIMESTAMP", "DATE", "INT", "BIGINT"))]
    if settings["duplicates"] == "latest":
        settings |= {"updated_at": rng.choice(times).name} if times else {"duplicates": "quarantine"}
    if rng.random() < 0.85:
        settings["guard"] = {"min_rows": 0, "max_deleted": 1.0, "max_quarantined": 1.0}
    if is_strict and rng.random() < 0.2:
        settings["malformed"] = "fail"
    if content and rng.random() < 0.2:
        settings["ignore"] = [rng.choice(content).name]
    if rng.random() < 0.2:
        settings["scd"] = 2
        if content and rng.random() < 0.4:
            settings[rng.choice(["history_for", "history_except"])] = [rng.choice(content).name]
    if rng.random() < 0.15:
        settings["pii"] = {
            c.name: rng.choice(["hmac", "mask", "drop"]) for c in rng.sample(content, min(1, len(content)))
        }
    return settings


# --- layouts --------------------------------------------------------------------------------------------------------


def _csv_layout(rng: random.Random, settings: dict[str, Any]) -> dict[str, Any]:
    sep = rng.choice([",", ",", ",", ";", "\t", "|", "~", "¬", " "])
    quote = rng.choice(['"', '"', '"', '"', "'", ""])
    escape = rng.choice([quote, quote, quote, "\\"]) or '"'
    encoding = rng.choice(ENCODINGS) if rng.random() < 0.4 else "UTF-8"
    header = rng.random() < 0.9
    options: dict[str, Any] = {}
    options |= {} if sep == "," else {"sep": "\\t" if sep == "\t" and rng.random() < 0.5 else sep}
    options |= {} if quote == '"' else {"quote": quote}
    options |= {} if escape == (quote or '"') else {"escape": escape}
    options |= {} if encoding == "UTF-8" else {"encoding": encoding}
    options |= {} if header else {"header": False}
    for name, values in {
        "locale": ("pt-BR", "en-US", "fr-FR", "de-CH"),
        "nullValue": ("NULL", "-", "\\N", '""', "x"),
        "emptyValue": ("EMPTY", "-"),
        "ignoreLeadingWhiteSpace": (True,),
        "ignoreTrailingWhiteSpace": (True,),
        "maxColumns": ("3", "20"),
        "maxCharsPerColumn": ("10", "1000"),
    }.items():
        if rng.random() < 0.06:
            options[name] = rng.choice(values)
    _draw_patterns(rng, options)
    settings["options"] = options
    _draw_null_values(rng, settings)
    lines = {"skip_lines": rng.randrange(4), "skip_footer": rng.randrange(3)} if rng.random() < 0.1 else {}
    settings |= lines
    compression = rng.choice([".gz", ".zip"]) if rng.random() < 0.1 else ""
    bom = b"\xef\xbb\xbf" if encoding == "UTF-8" and rng.random() < 0.1 else b""
    return {
        "sep": sep, "quote": quote, "escape": escape, "header": header, "bom": bom, "compression": compression,
        "encoding": PYTHON_NAMES.get(encoding, encoding), "is_lossy": encoding != "UTF-8" or "maxColumns" in options or not header or "\\" in (sep, escape),
        "end": rng.choice(["\n", "\n", "\r\n", "\r"]), "last_end": rng.random() < 0.8, "order": rng.randrange(100),
        "around": [*lines.values()] or [0, 0],
    }  # fmt: skip


def _draw_patterns(rng: random.Random, options: dict[str, Any]) -> None:
    for name in ("dateFormat", "timestampFormat", "timestampNTZFormat"):
        if rng.random() < 0.1:
            options[name] = rng.choice(PATTERNS)


def _draw_null_values(rng: random.Random, settings: dict[str, Any]) -> None:
    if rng.random() < 0.08:
        settings["null_values"] = {"*": rng.sample(["", "x", "1", "NULL", "0", "\\N"], 2)}


def _json_layout(rng: random.Random, settings: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    _draw_patterns(rng, options)
    if rng.random() < 0.05:
        options["locale"] = "pt-BR"
    settings["options"] = options
    _draw_null_values(rng, settings)
    is_inside = rng.random() < 0.1
    settings |= {"records": "data.items"} if is_inside else {}
    return {
        "is_array": is_inside or rng.random() < 0.4,
        "is_inside": is_inside,
        "space": rng.choice(["", " ", " \t"]),
        "end": rng.choice(["\n", "\n", "\r\n"]),
        "bom": b"\xef\xbb\xbf" if rng.random() < 0.05 else b"",
        "compression": rng.choice([".gz", ".zip"]) if rng.random() < 0.1 else "",
    }


def _parquet_layout(rng: random.Random, settings: dict[str, Any]) -> dict[str, Any]:
    if rng.random() < 0.1:
        settings["options"] = {"datetimeRebaseMode": rng.choice(["EXCEPTION", "CORRECTED", "LEGACY"])}
    return {
        "codec": rng.choice(["snappy", "snappy", "gzip", "zstd", "none", "lz4", "brotli"]),
        "row_group": rng.choice([1_000, 1, 3]),
        "dictionary": rng.random() < 0.5,
        "page": rng.choice(["1.0", "2.0"]),
        "int96": rng.random() < 0.1,
        "version": rng.choice(["1.0", "2.4", "2.6", "2.6"]),
        "store_schema": rng.random() < 0.7,
        "statistics": rng.random() < 0.8,
    }


# --- rows -----------------------------------------------------------------------------------------------------------


def _draw_row(
    rng: random.Random, columns: list[Column], value: Callable[..., Any], settings: dict[str, Any], odd: float
) -> Row:
    keys, odd = settings["keys"], rng.choice([0.0, odd])
    return [value(rng, column, settings, odd / 10 if column.name in keys else odd) for column in columns]


def _change_rows(
    rng: random.Random,
    rows: list[Row],
    columns: list[Column],
    value: Callable[..., Any],
    settings: dict[str, Any],
    odd: float,
) -> list[Row] | None:
    if odd and rng.random() < 0.06:
        return None
    if odd and rng.random() < 0.1:
        return []
    changed = [row for row in rows if rng.random() > 0.15]
    for at, row in enumerate(changed):
        if rng.random() < 0.3:
            column = rng.randrange(len(columns))
            changed[at] = [*row[:column], value(rng, columns[column], settings, odd), *row[column + 1 :]]
    changed += [_draw_row(rng, columns, value, settings, odd) for _ in range(rng.randint(0, 4))]
    changed += rng.sample(changed, min(len(changed), rng.choice([0, 0, 1, 2])))  # doubled
    rng.shuffle(changed)
    return changed


def _typed(rng: random.Random, kind: str) -> Any:
    """Return a value of a type, as JSON has it."""
    if kind.startswith("DECIMAL("):
        precision, scale = map(int, kind[8:-1].split(","))
        return rng.choice(_decimals(precision, scale))
    if kind == STRUCT:
        return rng.choice([{"x": 1, "y": "a"}, {"x": None}, {"y": "é", "x": 7}, {}])
    if kind == f"ARRAY<{STRUCT}>":
        return rng.choice([[], [{"x": 1}], [{"x": 1, "y": "a"}, None]])
    if kind == "ARRAY<ARRAY<INT>>":
        return rng.choice([[], [[]], [[1, None], [2]], [None]])
    if kind == "ARRAY<BIGINT>":
        return rng.choice([[], [1, 2], [None, 2**62]])
    return rng.choice((TYPES | NESTED)[kind][0])


def _as_text(rng: random.Random, value: Any) -> str:
    match value:
        case bool():
            return rng.choice(["true", "TRUE", "t", "1"] if value else ["false", "False", "n", "0"])
        case datetime():
            return value.replace(tzinfo=None).isoformat(sep=rng.choice(" T")) + (
                rng.choice(["", "Z"]) if value.tzinfo else ""
            )
        case Decimal():
            return f"{value:f}"
        case bytes():
            return value.decode("latin-1")
    return str(value)


def _csv_value(rng: random.Random, column: Column, settings: dict[str, Any], odd: float) -> str | None:
    if rng.random() < odd / 3:
        return None
    if rng.random() < odd or column.kind is None:
        return rng.choice(ODD_TEXTS)
    if rng.random() < 0.5 and column.kind in ("INT", "BIGINT", "STRING"):
        return str(rng.randrange(60))
    value = _typed(rng, column.kind)
    option = {"DATE": "dateFormat", "TIMESTAMP": "timestampFormat", "TIMESTAMP_NTZ": "timestampNTZFormat"}.get(
        column.kind
    )
    if option and option in settings.get("options", {}):
        return rng.choice(
            [
                "31/12/2024",
                "20241231",
                "1/2/24",
                "Dec 31, 2024",
                "2024-12-31T00:00:00-03:00",
                "1735603200000",
                "1735603200",
                "31/12/2024 10:30",
                "2024-12-31 10:00:00.123",
                "Tue, 31 Dec 2024",
                "2024-366",
            ]
        )
    return _as_text(rng, value)


def _json_value(rng: random.Random, column: Column, settings: dict[str, Any], odd: float) -> str | None:
    if rng.random() < odd / 3:
        return rng.choice([None, "null"])
    if rng.random() < odd or column.kind is None:
        raw = (
            "{}",
            "[]",
            "1",
            "-0",
            "1.0",
            "1e400",
            "0.1e1",
            "true",
            "NaN",
            "01",
            '"\\u0000"',
            '"\\ud800"',
            '{"x":{"x":[]}}',
            '[[1],{"a":null}]',
            "12345678901234567890123",
            "1" + "0" * 400,
        )
        return rng.choice([json.dumps(rng.choice(ODD_TEXTS)), *raw])
    if "<" in column.kind:
        return json.dumps(_typed(rng, column.kind), default=str)
    text = _csv_value(rng, column, settings, 0) or ""
    value = _typed(rng, column.kind)
    if isinstance(value, bool) or (isinstance(value, int | float) and math.isfinite(value) and rng.random() < 0.7):
        return json.dumps(value)
    return json.dumps(text, ensure_ascii=rng.random() < 0.5)


def _parquet_value(rng: random.Random, column: Column, settings: dict[str, Any], odd: float) -> Any:
    if rng.random() < odd / 2:
        return None
    values = PARQUET_VALUES[column.stored]
    if rng.random() < 0.5 and column.stored in ("int32", "int64", "string"):
        number = rng.randrange(60)
        return str(number) if column.stored == "string" else number
    value = rng.choice(values)
    if isinstance(value, datetime) and column.stored.startswith("tz"):
        return value.replace(tzinfo=timezone.utc)
    return value


_VALUES: dict[str, Callable[..., Any]] = {"csv": _csv_value, "json": _json_value, "parquet": _parquet_value}


def _draw_mutations(rng: random.Random) -> tuple[Mutation, ...]:
    if rng.random() > 0.12:
        return ()
    if rng.random() < 0.15:
        return (("whole", 0.0, rng.choice(WHOLE)),)
    kinds = ["insert", "insert", "replace", "cut", "remove", "double"]
    return tuple((rng.choice(kinds), rng.random(), rng.choice(DAMAGE)) for _ in range(rng.choice([1, 1, 2])))
