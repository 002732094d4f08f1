"""The law of the product through its stages, on real Delta: the rows before plus the change set are the snapshot.

Tables of every type live through five snapshots by chance, as CSV, JSON and Parquet, without history and with it: rows
come, change, go and come back, double, contradict one another or cannot be read. After each snapshot the ledger and
the change set, and in the end bronze, match the model in plain Python in tests/reference_model.py.
"""

from __future__ import annotations

import json
import math
import os
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from helpers import Project, Row, nonzero_counts
from pyarrow import parquet
from reference_model import Cdc, Change, Columns, HistoryRow, Key, Record, SnapshotResult, Timeline, canonical_value

ROWS, SNAPSHOTS = 220, 5
SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same snapshots
FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
GUARDS_OFF = {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}


# --- columns and their values --------------------------------------------------------------------------------------


class Wrong(NamedTuple):
    """A field that is not of its column's type: a text or, in Parquet, a number."""

    given: Any


class Column(NamedTuple):
    name: str
    kind: str
    values: tuple[Any, ...]
    wrong: tuple[Any, ...] = ()


def _float(value: float) -> float:
    """The FLOAT next to it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]


STRINGS = (
    *("", " ", "  x ", "x", "X", "null", "NULL", "NaN", "N/A", "None", "true", "00123", "123", "1e5", "-0.0"),
    *(",", ";", "a,b", '"', '""', 'say "x"', "'", "\\", '\\"', "\\n", "#x", "=1+1", "|", "\t", "x\ny", "\r\n", "\r"),
    *("São", "Sa\u0303o", "\U0001f600", "\u2028", "\u00a0", "\ufeff", "\ufffd", "{}", "[1]", "_cdc_operation", "I"),
    "long " * 4_000,
)  # fmt: skip
INT = ("1.0", "x", " 5", "1e3", "1,000", "9999999999999999999")
TYPES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {  # values, and texts that are none
    "STRING": (STRINGS, ()),
    "TINYINT": ((0, 1, -1, 127, -128), (*INT, "128")),
    "SMALLINT": ((0, 7, 32_767, -32_768), (*INT, "32768")),
    "INT": ((0, 1, -5, 2**31 - 1, -(2**31)), (*INT, "2147483648")),
    "BIGINT": ((0, 12, 2**53 + 1, 2**63 - 1, -(2**63)), INT),
    "DECIMAL(38,18)": (
        (*map(Decimal, ("0", "1", "-1", "0.1", "1.000000000000000001", "1.000000000000000002")),
         Decimal("9" * 20 + "." + "9" * 18), Decimal("-" + "9" * 20 + "." + "9" * 18)),
        ("0.1234567890123456789", "1" * 21, "1,5"),
    ),
    "DECIMAL(10,2)": (
        tuple(map(Decimal, ("0", "1.1", "1.11", "-0.01", "99999999.99", "-99999999.99"))),
        ("1.105", "1,10", "100000000"),
    ),
    "DOUBLE": (
        (0.0, -0.0, math.nan, math.inf, -math.inf, 0.1, 0.30000000000000004, 5e-324, 1.7976931348623157e308, -2.5),
        ("1e400", "1,5", "x"),
    ),
    "FLOAT": (
        (0.0, -0.0, math.nan, math.inf, -math.inf, _float(0.1), 1.5, _float(3.4028234663852886e38), _float(1e-45)),
        ("1e39", "1,5", "0x1"),
    ),
    "BOOLEAN": ((True, False), ("2", "verdadeiro", " true")),
    "DATE": (
        (date(1, 1, 1), date(1582, 10, 15), date(1900, 2, 28), date(1970, 1, 1), date(2024, 2, 29), date(9999, 12, 31)),
        ("2023-02-29", "12:30", "01/02/2024", "2024-01-01 00:00"),
    ),
    "TIMESTAMP": (
        (_at(1, 1, 1), _at(1883, 11, 18, 12, 3, 58), _at(1969, 12, 31, 23, 59, 59, 999_999), _at(1970, 1, 1),
         _at(2024, 1, 1, 10, 0, 0, 1), _at(2024, 1, 1, 10, 0, 0, 2), _at(9999, 12, 31, 23, 59, 59, 999_999)),
        ("2024-02-30 10:00", "now", "12:30", "2024-01-01 10:00:00.1234567"),
    ),
    "TIMESTAMP_NTZ": (
        (datetime(1, 1, 1), datetime(1970, 1, 1), datetime(2018, 11, 4, 0, 30), datetime(2024, 1, 1, 10, 0, 0, 1),
         datetime(9999, 12, 31, 23, 59, 59, 999_999)),
        ("2024-01-01T10:00:00Z", "today", "12:30"),
    ),
    "BINARY": ((b"", b"a", b"A", "São".encode(), b"a,b"), ()),
}  # fmt: skip

NESTED: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "ARRAY<STRING>": (
        (
            [],
            ["a"],
            ["a", "b"],
            ["b", "a"],
            ["ab"],
            ["", "a"],
            ["a", ""],
            ["a,b"],
            ["null"],
            [None, "n"],
            ["n", None],
            ["n"],
            [None],
            ["\n", '"'],
        ),
        ('{"a":1}', '"x"', "1"),
    ),
    "STRUCT<x: INT, y: STRING, z: ARRAY<DOUBLE>>": (
        (
            *({"x": 1, "y": "1", "z": [z]} for z in (0.0, -0.0, math.nan, 1.5)),
            *({"x": 1, "y": y, "z": [1.5, -0.0]} for y in ("", "2", "é")),
            {"x": None, "y": None, "z": None},
            {"x": 1, "y": None, "z": None},
            {"x": None, "y": "1", "z": [None]},
            {"x": 2, "y": None, "z": []},
            {"x": None, "y": "\r\n", "z": [math.inf, None]},
        ),
        ("[]", '{"x":"y"}', '{"z":[1e400]}', '"x"'),
    ),
    "ARRAY<STRUCT<day: DATE, price: DECIMAL(10,2)>>": (
        (
            [],
            [{"day": date(2024, 2, 29), "price": Decimal("1.1")}],
            [{"day": date(2024, 2, 29), "price": Decimal("1.1")}] * 2,
            [{"day": date(1, 1, 1), "price": Decimal("0")}, {"day": date(9999, 12, 31), "price": None}],
        ),
        ("{}", '[{"day":"2023-02-29"}]', '[{"price":1.105}]'),
    ),
}


def columns(kinds: Iterable[str], prefix: str, nulls: bool) -> list[Column]:
    known = TYPES | NESTED
    empty = (None, None) if nulls else ()
    return [Column(f"{prefix}{n}", kind, (*known[kind][0], *empty), known[kind][1]) for n, kind in enumerate(kinds)]


# --- a source that changes ----------------------------------------------------------------------------------------

Line = dict[str, Any] | None  # None: it cannot be split into fields


@dataclass
class Source:
    """Rows that come, change, go and come back."""

    rng: random.Random
    keys: list[Column]
    content: list[Column]

    def __post_init__(self) -> None:
        self.rows: dict[Any, Row] = {}
        self.gone: dict[Any, Row] = {}
        self.come(ROWS)

    def come(self, number: int) -> None:
        for _ in range(number):
            row = {column.name: self.rng.choice(column.values) for column in (*self.keys, *self.content)}
            self.rows.setdefault(self.key(row), row)

    def key(self, row: Row) -> Any:
        return tuple(canonical_value(row[column.name]) for column in self.keys)

    def live(self) -> None:
        """From one snapshot to the next."""
        for key in self.some(self.gone, 0.4):  # back, as it was or not
            self.rows.setdefault(key, self.gone[key])
        for key in self.some(self.rows, 0.1):
            self.gone[key] = self.rows.pop(key)
        for key in self.some(self.rows, 0.3):
            self.rows[key] = self.rows[key] | self.other(self.rng.randint(1, 3))
        self.come(ROWS // 12)

    def other(self, number: int) -> Row:
        """Columns with another value; by chance the same, or one that is equal to it."""
        return {column.name: self.rng.choice(column.values) for column in self.rng.sample(self.content, number)}

    def some(self, rows: dict[Any, Row], share: float) -> list[Any]:
        return self.rng.sample(list(rows), int(len(rows) * share))

    def snapshot(self, broken: bool) -> list[Line]:
        """The rows, some of them duplicated, contradicted or malformed; null keys; and lines that could be any row."""
        lines: list[Line] = list(self.rows.values())
        for key in self.some(self.rows, 0.04):  # equal rows
            lines += [self.rows[key]] * self.rng.randint(1, 2)
        for key in self.some(self.rows, 0.02):  # may contradict
            lines.append(self.rows[key] | self.other(1))
        spoilt = [column for column in self.content if column.wrong]
        for key in self.some(self.rows, 0.05):
            column = self.rng.choice(spoilt)
            wrong = self.rows[key] | {column.name: Wrong(self.rng.choice(column.wrong))}
            lines[lines.index(self.rows[key])] = wrong
        for row in self.rng.sample(list(self.rows.values()), 3):
            lines.append(row | {self.rng.choice(self.keys).name: None})
        if broken:
            column = next(column for column in self.keys if column.wrong)
            lines += [
                row | {column.name: Wrong(column.wrong[0])} for row in self.rng.sample(list(self.rows.values()), 2)
            ]
            lines += [None, None]
        return lines

    def record(self, line: Line) -> Record:
        """Return the meaning of a line."""
        if line is None:
            return Record(None, None, is_key_unreadable=True)
        key = [line[column.name] for column in self.keys]
        content = [line[column.name] for column in self.content]
        if None in key:
            return Record(None, None)
        if any(isinstance(part, Wrong) for part in key):
            return Record(None, None, is_key_unreadable=True)
        spoilt = any(isinstance(value, Wrong) for value in content)
        return Record(self.key(line), None if spoilt else tuple(map(canonical_value, content)))


# --- files: each value in one of its spellings --------------------------------------------------------------------


def text(rng: random.Random, value: Any) -> str:
    """A scalar as CSV or JSON may write it."""
    match value:
        case bool():
            return rng.choice(["true", "TRUE", "t", "yes", "1"] if value else ["false", "False", "n", "0"])
        case float() if math.isnan(value):
            return rng.choice(["NaN", "nan"])
        case float() if math.isinf(value):
            return ("-" if value < 0 else "") + rng.choice(["Infinity", "inf"])
        case Decimal():
            return rng.choice([f"{value:f}", str(value), f"{value:f}" if value % 1 else f"{value:f}.0"])
        case datetime():
            zones = ["", "Z", "+00:00"] if value.tzinfo else [""]
            return value.replace(tzinfo=None).isoformat(sep=rng.choice(" T")) + rng.choice(zones)
        case date():
            return value.isoformat()
        case bytes():
            return value.decode()
    return str(value)


def as_csv(rng: random.Random, lines: list[Line], columns: list[Column]) -> bytes:
    columns = rng.sample(columns, len(columns))
    names = [rng.choice([column.name, column.name.upper()]) for column in columns]

    def field(value: Any) -> str:
        if value is None:
            return ""
        shown = str(value.given) if isinstance(value, Wrong) else text(rng, value)
        if not shown or any(sign in shown for sign in ',"\r\n') or rng.random() < 0.2:
            return '"' + shown.replace('"', '""') + '"'
        return shown

    ragged = ["x", ",".join(["1"] * (len(columns) + 1))]
    records = [
        ragged[n % 2] if line is None else ",".join(field(line[c.name]) for c in columns)
        for n, line in enumerate(lines)
    ]
    return "\n".join([",".join(names), *records, ""]).encode()


def as_json(rng: random.Random, lines: list[Line], columns: list[Column]) -> bytes:
    """An object a line, or an array of them."""

    def shown(value: Any) -> str:
        match value:
            case None:
                return "null"
            case Wrong():
                nested = value.given[:1] in ("{", "[", '"')
                return value.given if nested else json.dumps(value.given)
            case list():
                return f"[{', '.join(map(shown, value))}]"
            case dict():
                members = [f"{json.dumps(name)}: {shown(inner)}" for name, inner in value.items()]
                return f"{{{', '.join(rng.sample(members, len(members)))}}}"
            case bool():
                return rng.choice([json.dumps(value), json.dumps(text(rng, value))])
            case Decimal() | int() | float() if math.isfinite(value) and rng.random() < 0.6:
                return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value)
        return json.dumps(text(rng, value), ensure_ascii=rng.random() < 0.5)

    def to_json(line: Line) -> str:
        if line is None:
            return rng.choice(['"text"', "[1]", '{"k0": "x", "K0": "x"}'])
        there = [c.name for c in columns if line[c.name] is not None or rng.random() < 0.5]
        members = [f"{json.dumps(name)}: {shown(line[name])}" for name in rng.sample(there, len(there))]
        return f"{{{', '.join(members)}}}"

    objects = [to_json(line) for line in lines]
    whole = "\n".join([*objects, ""]) if rng.random() < 0.7 else f"[{', '.join(objects)}]"
    return whole.encode()


def as_parquet(rng: random.Random, lines: list[Line], columns: list[Column]) -> bytes:
    """INT as int64 and DECIMAL(10,2) with four places, so that a value may be wrong."""
    stored = {
        **{
            "STRING": pa.string(),
            "TINYINT": pa.int8(),
            "SMALLINT": pa.int16(),
            "INT": pa.int64(),
            "BIGINT": pa.int64(),
        },
        **{"DECIMAL(38,18)": pa.decimal128(38, 18), "DECIMAL(10,2)": pa.decimal128(14, 4), "DOUBLE": pa.float64()},
        **{"FLOAT": pa.float32(), "BOOLEAN": pa.bool_(), "DATE": pa.date32(), "TIMESTAMP": pa.timestamp("us", "UTC")},
        **{"TIMESTAMP_NTZ": pa.timestamp("us"), "BINARY": pa.binary(), "ARRAY<STRING>": pa.list_(pa.string())},
        "STRUCT<x: INT, y: STRING, z: ARRAY<DOUBLE>>": pa.struct(
            [("x", pa.int32()), ("y", pa.string()), ("z", pa.list_(pa.float64()))]
        ),
        "ARRAY<STRUCT<day: DATE, price: DECIMAL(10,2)>>": pa.list_(
            pa.struct([("day", pa.date32()), ("price", pa.decimal128(10, 2))])
        ),
    }

    def plain(value: Any) -> Any:
        return value.given if isinstance(value, Wrong) else value

    columns = rng.sample(columns, len(columns))
    rows = [line for line in lines if line is not None]
    arrays = [pa.array([plain(row[c.name]) for row in rows], stored[c.kind]) for c in columns]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(arrays, [c.name for c in columns]), sink)
    return bytes(sink.getvalue())


# --- the tables ---------------------------------------------------------------------------------------------------


class Format(NamedTuple):
    keys: list[Column]
    content: list[Column]
    write: Callable[[random.Random, list[Line], list[Column]], bytes]
    history: dict[str, list[str]]  # what the table with history keeps


def formats() -> dict[str, Format]:
    """Every type is in one of them, and in two if it has traps; what a table costs grows with its columns."""
    struct_kind, ends = list(NESTED)[1:]
    in_parquet = {"INT": (5_000_000_000,), "DECIMAL(10,2)": (Decimal("1.105"), Decimal("1234567890.5"))}

    def typed(found: list[Column]) -> list[Column]:
        return [column._replace(wrong=in_parquet.get(column.kind, ())) for column in found]

    return {
        "csv": Format(
            columns(["STRING", "BIGINT", "DATE"], "k", False),
            columns(["STRING", "STRING", "DECIMAL(10,2)", "DOUBLE", "TIMESTAMP", "BOOLEAN", "TINYINT"], "c", True),
            as_csv,
            {},  # without
        ),
        "json": Format(
            columns(["STRING", "TIMESTAMP"], "k", False),
            columns(["DECIMAL(38,18)", "STRING", "FLOAT", struct_kind, "ARRAY<STRING>"], "c", True),
            as_json,
            {"history_for": ["c0", "c3"]},
        ),
        "parquet": Format(
            typed(columns(["BINARY", "INT", "DOUBLE", "TIMESTAMP_NTZ"], "k", False)),
            typed(columns(["SMALLINT", "STRING", "DATE", "DECIMAL(10,2)", "BINARY", ends, "FLOAT"], "c", True)),
            as_parquet,
            {"history_except": ["c2", "c6"]},
        ),
    }


IGNORED = "c1"


def table(file_format: str, of: Format, **settings: Any) -> Row:
    every = [*of.keys, *of.content]
    return {
        "file": f"{file_format}.{file_format}",
        "format": file_format,
        "schema": ", ".join(f"{column.name} {column.kind}" for column in every),
        "keys": [column.name for column in of.keys],
        "ignore": [IGNORED],
        "duplicates": "quarantine",
        "guard": GUARDS_OFF,
        **settings,
    }


def kept(of: Format) -> set[str]:
    names = {column.name for column in of.content}
    if "history_except" in of.history:
        return names - {*of.history["history_except"], IGNORED}
    return set(of.history.get("history_for", names))


def snapshots(seed: int, of: Format, folder: Path, name: str) -> Iterator[tuple[datetime, list[Record]]]:
    """Write a table's snapshots, and return what they mean.

    The first and the third have rows that could be any: the first is taken, since nothing goes, and the third is held.
    The last is the one before it in another order and other spellings.
    """
    rng = random.Random(f"{SEED} {seed}" if SEED else seed)
    source = Source(rng, of.keys, of.content)
    lines: list[Line] = []
    for number in range(SNAPSHOTS):
        if number < SNAPSHOTS - 1:
            if number:
                source.live()
            lines = source.snapshot(broken=number in (0, 2))
        rng.shuffle(lines)
        time = FIRST + timedelta(days=number)
        stamp = folder / f"{time:%Y%m%d_%H%M%S}"
        stamp.mkdir(exist_ok=True)
        (stamp / f"{name}.{name}").write_bytes(of.write(rng, lines, [*of.keys, *of.content]))
        there = [line for line in lines if line is not None or name != "parquet"]
        yield time, [source.record(line) for line in there]


# --- the law ------------------------------------------------------------------------------------------------------


def differing(found: dict[Any, Any], wanted: dict[Any, Any]) -> dict[Any, tuple[Any, Any]]:
    """Return the first few that differ: actual, expected."""
    wrong = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
    return {key: (found.get(key), wanted.get(key)) for key in wrong[:3]}


@dataclass
class Reader:
    """The lake's rows, as the model has them."""

    project: Project
    of: Format

    def key(self, row: Row) -> Key:
        return tuple(canonical_value(row[column.name]) for column in self.of.keys)

    def content(self, row: Row) -> tuple[Any, ...]:
        return tuple(canonical_value(row[column.name]) for column in self.of.content)

    def change_set(self, entry: Row) -> dict[Key, Change]:
        rows = self.project.change_set(entry)
        assert {(row["_cdc_timestamp"], row["_cdc_sequence"]) for row in rows} <= {
            (entry["snapshot_time"], entry["sequence"])
        }
        found = [
            Change(
                row["_cdc_operation"],
                self.key(row),
                self.content(row),
                tuple(row["_cdc_changed"]) if row["_cdc_changed"] is not None else None,
            )
            for row in rows
        ]
        assert len({change.key for change in found}) == len(found)
        return {change.key: change for change in found}

    def bronze(self, name: str) -> list[tuple[Key, Any, Cdc, Row]]:
        return [
            (
                self.key(row),
                self.content(row),
                Cdc(row["_cdc_operation"], row["_cdc_timestamp"], row["_cdc_sequence"]),
                row,
            )
            for row in self.project.rows_with_cdc(f"bronze/{name}")
        ]


def hold(project: Project, of: Format, name: str, taken: list[SnapshotResult], timeline: Timeline) -> None:
    """Compare the tables of a format, without history and with it, with the model."""
    reader = Reader(project, of)
    for twin in project.tables.keys() & {name, f"{name}_history"}:
        entries = project.ledger(twin)
        found = [(e["snapshot_time"], e["status"], e["sequence"], nonzero_counts(e)) for e in entries]
        assert found == [(t.time, t.status, t.sequence, dict(t.diff.counts)) for t in taken], twin
        for entry, one in zip(entries, taken, strict=True):
            if one.status == "accepted":
                wanted = {change.key: change for change in one.diff.changes}
                assert differing(reader.change_set(entry), wanted) == {}, (twin, entry["sequence"])

    if name in project.tables:
        hold_now(reader, name, timeline)
    if f"{name}_history" in project.tables:
        hold_history(reader, name, timeline)


def hold_history(reader: Reader, name: str, timeline: Timeline) -> None:
    windows = reader.bronze(f"{name}_history")
    assert all(row["__START_AT"] == cdc.time for _, _, cdc, row in windows)
    spans = [HistoryRow(key, content, cdc, row["__END_AT"]) for key, content, cdc, row in windows]
    assert len(spans) == len(timeline.history)
    history = {(span.key, span.cdc.time): span for span in timeline.history}
    assert differing({(span.key, span.cdc.time): span for span in spans}, history) == {}, name


def hold_now(reader: Reader, name: str, timeline: Timeline) -> None:
    rows = reader.bronze(name)
    assert len(rows) == len(timeline.rows)
    assert differing({key: (content, cdc) for key, content, cdc, _ in rows}, timeline.rows) == {}, name


def assert_law(folder: Path, *names: str, tuning: dict[str, int] | None = None) -> None:
    """Run all snapshots of tables in these formats, JSON and Parquet with history, and compare them with the model."""
    every = {name: of for name, of in formats().items() if name in names}
    tables = {
        f"{name}_history" if of.history else name: table(name, of, **({"scd": 2} if of.history else {}), **of.history)
        for name, of in every.items()
    }
    project = Project(folder, tables, tuning=tuning)
    models: dict[str, tuple[list[SnapshotResult], Timeline]] = {}
    for seed, (name, of) in enumerate(every.items()):
        columns = tuple(column.name for column in of.content)
        timeline = Timeline(Columns(columns, frozenset({IGNORED})), kept(of))
        models[name] = [timeline.take_snapshot(*one) for one in snapshots(seed, of, project.source, name)], timeline
        statuses = [taken.status for taken in models[name][0]]
        assert statuses == ["accepted", "accepted", "held", "accepted", "accepted"]
        assert models[name][0][-1].diff.changes == []

    first = project.run()
    assert first.code == 0, first.stderr  # the snapshots that were held are superseded
    for name, of in every.items():
        hold(project, of, name, *models[name])

    versions = project.versions()
    assert project.run().code == 0
    assert project("bronze").code == 0
    assert project.versions() == versions
    if tuning is None:  # else the lake is the same
        checks = project("verify")
        assert checks.code == 0, [c for c in checks.document["checks"] if c["result"] != "holds"]
