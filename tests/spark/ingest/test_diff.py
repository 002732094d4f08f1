"""Tests the law of the product: the rows before with the change set applied are the snapshot; twice changes nothing.

Snapshots are CSV files read by the product; the expected results are computed here again, in plain Python.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from chispa import assert_df_equality
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from lakehouse.config import Table
from lakehouse.ingest import diff as snapshot_diff
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake import cdc
from lakehouse.spark import session
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

SCHEMA = "part STRING, a STRING, b INT, x DOUBLE, s STRING, u STRING, at INT, seen STRING"
KEYS, CONTENT = ("part", "a", "b"), ("x", "s", "u", "at", "seen")
IGNORED = "seen"
POLICIES = ("fail", "latest", "quarantine")
TIME = datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc)

Key = tuple[Any, ...]
Values = tuple[Any, ...]
State = dict[Key, Values]  # key -> content, both as canonical values


def canonical(values: Iterable[Any]) -> Values:
    """NaN equals NaN and -0.0 equals 0.0; in Python, NaN does not."""
    return tuple("NaN" if isinstance(v, float) and math.isnan(v) else v for v in values)


class Differ:
    """Compares a table's state with a snapshot, with the functions of the product."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder, self._lakes = spark, folder, count()

    def rows(self, table: Table, text: str) -> DataFrame:
        folder = self.folder / str(next(self._lakes))
        folder.mkdir()
        (folder / "items.csv").write_text(text, encoding="utf-8")
        landed = landing.land_snapshot(Lake(str(folder / "lake")), "items", TIME, [folder / "items.csv"])
        return snapshot_reader.read(ReadSettings(self.spark, table, "UTC"), landed).rows

    def diff(self, table: Table, state: list[Values], rows: DataFrame) -> Diff:
        before = self.spark.createDataFrame(state, table.schema_ddl)
        verdicts = snapshot_diff.verdicts(rows, before, table).persist()
        counts = Counts(**snapshot_diff.count_verdicts(verdicts).collect()[0].asDict())
        changes = snapshot_diff.changed_rows(rows, before, verdicts, counts, table)
        changed = snapshot_diff.to_change_set(changes, 7, TIME)
        return Diff(table, counts, verdicts, changed, snapshot_diff.quarantine_rows(rows, verdicts, table))


@dataclass
class Diff:
    table: Table
    counts: Counts
    verdicts: DataFrame
    change_set: DataFrame
    quarantined: DataFrame

    @property
    def operations(self) -> dict[Key, Any]:
        """Key -> I, D, or the names of the columns that an update changed."""
        rows = self.change_set.collect()
        actual = {tuple(row[k] for k in self.table.keys): row._cdc_changed or row._cdc_operation for row in rows}
        assert len(actual) == len(rows)
        return actual


@pytest.fixture
def differ(spark: SparkSession, tmp_path: Path) -> Differ:
    return Differ(session.isolated_session(spark, data_bytes=0), tmp_path)


def table(policy: str = "fail", **changed: Any) -> Table:
    plain = {"file": "items.csv", "format": "csv", "schema": SCHEMA, "keys": list(KEYS), "ignore": [IGNORED]}
    updated_at = {"updated_at": "at"} if policy == "latest" else {}
    return Table.model_validate(plain | {"duplicates": policy} | updated_at | changed)


def csv(header: Iterable[str], lines: Iterable[str]) -> str:
    return "\n".join([",".join(header), *lines]) + "\n"


# --- by example -------------------------------------------------------------------------------------------------

A = ("doc-7", 12)  # the key of most examples
A_TEXT = "doc-7,12"
B = ("doc-71", 2)  # the same text if keys were concatenated
B_TEXT = "doc-71,2"
ROW = (1.5, "s", "u", 1, "seen")
ROW_TEXT = "1.5,s,u,1,seen"

# the rows before -> the snapshot's records -> operations
EXAMPLES: dict[str, tuple[dict[Key, Values], list[str], dict[Key, Any]]] = {
    "the same": ({A: ROW}, [f"{A_TEXT},{ROW_TEXT}"], {}),
    "new": ({}, [f"{A_TEXT},{ROW_TEXT}"], {A: "I"}),
    "gone": ({A: ROW}, [], {A: "D"}),
    "two keys of the same text": ({A: ROW}, [f"{B_TEXT},{ROW_TEXT}"], {A: "D", B: "I"}),
    "an empty key is a key": ({("", 1): ROW}, [f'"",1,{ROW_TEXT}'], {}),
    "another value": ({A: ROW}, [f"{A_TEXT},2.5,s,u,2,seen"], {A: ["x", "at"]}),
    "null to value": ({A: (None, None, "u", 1, "seen")}, [f"{A_TEXT},{ROW_TEXT}"], {A: ["x", "s"]}),
    "value to null": ({A: ROW}, [f"{A_TEXT},,s,,1,seen"], {A: ["x", "u"]}),
    "null to empty": ({A: (1.5, None, "u", 1, "seen")}, [f'{A_TEXT},1.5,"",u,1,seen'], {A: ["s"]}),
    "empty to null": ({A: (1.5, "", "u", 1, "seen")}, [f"{A_TEXT},1.5,,u,1,seen"], {A: ["s"]}),
    "null and null": ({A: (None,) * 5}, [f"{A_TEXT},,,,,"], {}),
    "the value of another column": ({A: (1.5, None, "u", 1, "seen")}, [f"{A_TEXT},1.5,u,,1,seen"], {A: ["s", "u"]}),
    "the same text, cut elsewhere": ({A: (1.5, "ab", "c", 1, "")}, [f'{A_TEXT},1.5,a,bc,1,""'], {A: ["s", "u"]}),
    "NaN is NaN": ({A: (math.nan, "s", "u", 1, "seen")}, [f"{A_TEXT},NaN,s,u,1,seen"], {}),
    "NaN to a number": ({A: (math.nan, "s", "u", 1, "seen")}, [f"{A_TEXT},{ROW_TEXT}"], {A: ["x"]}),
    "NaN to null": ({A: (math.nan, "s", "u", 1, "seen")}, [f"{A_TEXT},,s,u,1,seen"], {A: ["x"]}),
    "-0.0 is 0.0": ({A: (0.0, "s", "u", 1, "seen")}, [f"{A_TEXT},-0.0,s,u,1,seen"], {}),
    "0 to null": ({A: (-0.0, "s", "u", 1, "seen")}, [f"{A_TEXT},,s,u,1,seen"], {A: ["x"]}),
    "an ignored column": ({A: ROW}, [f"{A_TEXT},1.5,s,u,1,other"], {}),
    "an ignored column and another": ({A: ROW}, [f"{A_TEXT},1.5,t,u,1,other"], {A: ["s", "seen"]}),
    "equal rows": ({}, [f"{A_TEXT},{ROW_TEXT}"] * 3, {A: "I"}),
    "equal rows, but for a zero's sign": ({}, [f"{A_TEXT},0.0,,,,", f"{A_TEXT},-0.0,,,,"], {A: "I"}),
    "a malformed row keeps what was there": ({A: ROW}, [f"{A_TEXT},x,s,u,1,seen"], {}),
    "a malformed row is not inserted": ({}, [f"{A_TEXT},x,s,u,1,seen"], {}),
    "a malformed row beside a good one": ({A: ROW}, [f"{A_TEXT},x,,,,", f"{A_TEXT},,,,,", f"{B_TEXT},,,,,"], {B: "I"}),
    "a null in a key keeps nothing": ({A: ROW}, [f"doc-7,,{ROW_TEXT}", f",12,{ROW_TEXT}"], {A: "D"}),
}


def example_batch() -> tuple[list[Values], str, dict[Key, Any]]:
    """All examples as parts of one table."""
    state = [(part, *key, *values) for part, (before, _, _) in EXAMPLES.items() for key, values in before.items()]
    lines = [f'"{part}",{line}' for part, (_, records, _) in EXAMPLES.items() for line in records]
    expected = {(part, *key): op for part, (_, _, ops) in EXAMPLES.items() for key, op in ops.items()}
    return state, csv([*KEYS, *CONTENT], lines), expected


def test_only_another_value_is_a_change(differ: Differ) -> None:
    state, text, expected = example_batch()

    actual = differ.diff(table(), state, differ.rows(table(), text)).operations

    parts = {key[0] for key in actual.keys() ^ expected.keys()} | {k[0] for k in actual if actual[k] != expected.get(k)}
    assert {part: ([op for k, op in actual.items() if k[0] == part], EXAMPLES[part][2]) for part in parts} == {}


DUPLICATES: dict[str, tuple[list[str], dict[str, str]]] = {  # records -> the result of each policy for the new key
    "equal": ([f"{A_TEXT},{ROW_TEXT}"] * 2, {"fail": "I", "latest": "I", "quarantine": "I"}),
    "an older one": (
        [f"{A_TEXT},1,new,,2,", f"{A_TEXT},1,old,,1,"],
        {"fail": "conflict", "latest": "new", "quarantine": "protected"},
    ),
    "the older one first": (
        [f"{A_TEXT},1,old,,1,", f"{A_TEXT},1,new,,2,"],
        {"fail": "conflict", "latest": "new", "quarantine": "protected"},
    ),
    "one without a time": (
        [f"{A_TEXT},1,old,,,", f"{A_TEXT},1,new,,-5,"],
        {"fail": "conflict", "latest": "new", "quarantine": "protected"},
    ),
    "a tie": (
        [f"{A_TEXT},1,one,,2,", f"{A_TEXT},1,two,,2,", f"{A_TEXT},1,old,,1,"],
        {"fail": "conflict", "latest": "conflict", "quarantine": "protected"},
    ),
    "a tie without times": (
        [f"{A_TEXT},1,one,,,", f"{A_TEXT},1,two,,,"],
        {"fail": "conflict", "latest": "conflict", "quarantine": "protected"},
    ),
    "a tie of equals": (
        [f"{A_TEXT},1,new,,2,", f"{A_TEXT},1,new,,2,", f"{A_TEXT},1,old,,1,"],
        {"fail": "conflict", "latest": "new", "quarantine": "protected"},
    ),
    "a tie below the top": (
        [f"{A_TEXT},1,one,,1,", f"{A_TEXT},1,two,,1,", f"{A_TEXT},1,new,,2,"],
        {"fail": "conflict", "latest": "new", "quarantine": "protected"},
    ),
    "only an ignored column differs": (
        [f"{A_TEXT},1,s,,1,one", f"{A_TEXT},1,s,,1,two"],
        {"fail": "conflict", "latest": "conflict", "quarantine": "protected"},
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_rows_of_one_key_and_different_content_follow_the_policy(differ: Differ, policy: str) -> None:
    lines = [f'"{part}",{line}' for part, (records, _) in DUPLICATES.items() for line in records]
    result = differ.diff(table(policy), [], differ.rows(table(policy), csv([*KEYS, *CONTENT], lines)))

    words = {cdc.INSERT: "I", snapshot_diff.CONFLICT: "conflict", snapshot_diff.PROTECTED: "protected"}
    actual = {row.part: words[row[snapshot_diff.VERDICT]] for row in result.verdicts.collect()}
    actual |= {row.part: row.s for row in result.change_set.collect() if row.s == "new"}
    assert actual == {part: expected[policy] for part, (_, expected) in DUPLICATES.items()}
    assert result.counts.conflicts == Counter(actual.values())["conflict"]
    quarantined = [row.rule for row in result.quarantined.collect()]
    assert quarantined == ["duplicate_key"] * result.counts.quarantined
    assert bool(quarantined) == (policy == "quarantine")


def test_a_change_set_has_rows_as_they_are_now_and_deleted_rows_as_they_were(differ: Differ) -> None:
    state = [("p", "gone", 1, math.nan, "last", None, 1, "x"), ("p", "old", 2, 1.5, "s", "u", 1, "x")]
    lines = ["p,old,2,1.5,t,u,1,y", "p,new,3,,,,,"]
    result = differ.diff(table(), state, differ.rows(table(), csv([*KEYS, *CONTENT], lines)))

    expected = differ.spark.createDataFrame(
        [
            (*state[0], "D", TIME, 7, None),
            ("p", "new", 3, None, None, None, None, None, "I", TIME, 7, None),
            ("p", "old", 2, 1.5, "t", "u", 1, "y", "U", TIME, 7, ["s", "seen"]),
        ],
        f"{SCHEMA}, _cdc_operation STRING, _cdc_timestamp TIMESTAMP, _cdc_sequence BIGINT, _cdc_changed ARRAY<STRING>",
    )
    assert_df_equality(
        result.change_set, expected, ignore_nullable=True, ignore_row_order=True, allow_nan_equality=True
    )


def test_quarantined_rows_have_their_reasons(differ: Differ) -> None:
    settings = table("quarantine", schema="id INT, v INT, w DATE", keys=["id"], ignore=[])
    lines = ["1,x,1/1/24", "1,5,", ",5,", "y,5,", "2,5", "3,1,", "3,2,", "4,4,"]
    result = differ.diff(settings, [], differ.rows(settings, csv(["id", "v", "w"], lines)))

    def row(id: str | None, v: str, w: str | None = None) -> str:
        parts = [f'"{name}":' + ("null" if t is None else f'"{t}"') for name, t in (("id", id), ("v", v), ("w", w))]
        return "{" + ",".join(parts) + "}"

    doubled = "another row of the snapshot has the same key"
    expected = [
        (row("1", "x", "1/1/24"), "v", "x", "v: not an INT; w: not a DATE", "malformed"),
        (row("1", "5"), "id", '{"id":1}', doubled, "duplicate_key"),
        (row(None, "5"), "id", None, "id: null in a key", "null_key"),
        (row("y", "5"), "id", "y", "id: not an INT", "malformed"),
        (row("2", "5"), None, "2,5", "the record does not have the 3 fields of the header", "malformed"),
        (row("3", "1"), "id", '{"id":3}', doubled, "duplicate_key"),
        (row("3", "2"), "id", '{"id":3}', doubled, "duplicate_key"),
    ]
    ddl = "row STRING, column STRING, value STRING, reason STRING, rule STRING"
    assert_df_equality(
        result.quarantined, differ.spark.createDataFrame(expected, ddl), ignore_nullable=True, ignore_row_order=True
    )
    assert result.counts.unreadable_keys == 2
    assert snapshot_diff.example_keys(result.verdicts, cdc.INSERT, settings) == "4"


def test_keys_are_compared_like_values(differ: Differ) -> None:
    settings = table(schema="k DOUBLE, v INT", keys=["k"], ignore=[])
    state = [(math.nan, 1), (0.0, 1), (1.5, 1)]
    result = differ.diff(settings, state, differ.rows(settings, csv(["k", "v"], ["nan,1", "-0.0,1", "0,1", "1.5,2"])))

    assert result.operations == {(1.5,): ["v"]}
    assert (result.counts.duplicates, result.counts.unchanged, result.counts.deleted) == (1, 2, 0)


OF_EVERY_TYPE = {  # column type -> text before, text now
    "BOOLEAN": ("true", "false"),
    "TINYINT": ("1", "2"),
    "SMALLINT": ("1", "2"),
    "INT": ("1", "2"),
    "BIGINT": ("1", "2"),
    "FLOAT": ("1.5", "NaN"),
    "DOUBLE": ("1.5", "1.5000000000000002"),
    "DECIMAL(10,2)": ("1.10", "1.11"),
    "DECIMAL(38,18)": ("1.000000000000000001", "1.000000000000000002"),
    "STRING": ("São", "São "),
    "BINARY": ("a", "A"),
    "DATE": ("2024-02-29", "2024-03-01"),
    "TIMESTAMP": ("2024-01-01 10:00:00.000001", "2024-01-01 10:00:00.000002"),
    "TIMESTAMP_NTZ": ("2024-01-01 10:00:00", "2024-01-01 10:00:01"),
}


def test_a_difference_in_a_column_of_any_type_is_an_update(differ: Differ) -> None:
    """Row n differs in column n alone; the last one differs in none."""
    names = [f"c{n}" for n in range(len(OF_EVERY_TYPE))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, OF_EVERY_TYPE, strict=True))
    settings = table(schema=f"id STRING, {columns}", keys=["id"], ignore=[])
    before, now = ([texts[n] for texts in OF_EVERY_TYPE.values()] for n in (0, 1))
    lines = [",".join([name, *before[:n], now[n], *before[n + 1 :]]) for n, name in enumerate(names)]
    old = differ.rows(settings, csv(["id", *names], [",".join([name, *before]) for name in [*names, "same"]]))
    state = [tuple(row)[: len(names) + 1] for row in old.collect()]

    result = differ.diff(
        settings, state, differ.rows(settings, csv(["id", *names], [*lines, ",".join(["same", *before])]))
    )

    assert result.operations == {(name,): [name] for name in names}
    assert result.counts.unchanged == 1


def test_a_first_load_needs_no_state(differ: Differ) -> None:
    text = csv([*KEYS, *CONTENT], [f"p,k{n},{n},,,,," for n in range(20)])
    result = differ.diff(table(), [], differ.rows(table(), text))

    assert set(result.operations.values()) == {"I"}
    assert result.counts == Counts(20, 20, 0, 0, 0, 0, 0, 0, 0)
    empty = differ.diff(table(), [], differ.rows(table(), csv([*KEYS, *CONTENT], [])))
    assert (empty.operations, empty.counts) == ({}, Counts(0, 0, 0, 0, 0, 0, 0, 0, 0))


# --- random -----------------------------------------------------------------------------------------------------

BAD = object()
# The spellings of each column, and what they mean.
FIELDS: dict[str, dict[str, Any]] = {
    "a": {"doc-7": "doc-7", "doc-71": "doc-71", '""': "", "": None},
    "b": {"12": 12, "2": 2, "y": BAD, "": None},
    "x": {"1.5": 1.5, "NaN": math.nan, "0.0": 0.0, "-0.0": -0.0, "": None, "1;5": BAD},
    "s": {"t": "t", '"say ""t""\n"': 'say "t"\n', '""': "", "": None},
    "u": {"t": "t", '""': "", "": None},
    "at": {"1": 1, "2": 2, "": None, "2.0": BAD},
    "seen": {"p": "p", "q": "q", "": None},
}
GOOD = {name: {t: v for t, v in texts.items() if v is not BAD} for name, texts in FIELDS.items()}
SURE = {name: {t: v for t, v in texts.items() if v is not None} for name, texts in GOOD.items()}

Record = tuple[str, ...]  # the fields' texts; one short: ragged


@st.composite
def pairs(draw: st.DrawFn) -> tuple[State, list[Record]]:
    """The rows before, and a snapshot that is related to them."""
    keys = st.tuples(st.sampled_from(list(SURE["a"])), st.sampled_from(list(SURE["b"])))
    content = st.tuples(*[st.sampled_from(list(GOOD[name])) for name in CONTENT])
    before = draw(st.dictionaries(keys, content, max_size=5))
    spellings = [st.sampled_from([*GOOD[name], *GOOD[name], *FIELDS[name]]) for name in FIELDS]
    records = draw(st.lists(st.tuples(*spellings), max_size=3))
    for key, texts in before.items():
        n = draw(st.integers(0, len(CONTENT) - 1))
        same = (*key, *texts)
        other = (*key, *texts[:n], draw(spellings[n + 2]), *texts[n + 1 :])
        kinds = {"kept": [same], "other": [other], "gone": [], "twice": [other, other], "doubled": [same, other]}
        kinds["ragged"] = [same[:-1]]
        records += kinds[draw(st.sampled_from([*kinds, "kept", "other", "other"]))]
    records = draw(st.permutations(records))
    state = {
        (SURE["a"][a], SURE["b"][b]): tuple(GOOD[n][t] for n, t in zip(CONTENT, texts, strict=True))
        for (a, b), texts in before.items()
    }
    return state, records


@dataclass
class Expected:
    """Return the expected result of a snapshot, by the contract alone."""

    state: State
    operations: dict[Key, Any]
    counts: Counter[str]
    rules: Counter[str]


def expected(before: State, records: list[Record], policy: str) -> Expected:
    counts, rules, operations = Counter(rows_read=len(records)), Counter[str](), dict[Key, Any]()
    of_key: dict[Key, list[Values | None]] = {}  # None: malformed
    for record in records:
        values = dict(zip(FIELDS, (FIELDS[n][t] for n, t in zip(FIELDS, record, strict=False)), strict=False))
        key = (values["a"], values["b"])
        if len(record) < len(FIELDS) or (BAD in key and None not in key):
            rules["malformed"] += 1
            counts["unreadable_keys"] += 1
        elif None in key:
            rules["null_key"] += 1
        else:
            content = tuple(values[n] for n in CONTENT)
            of_key.setdefault(key, []).append(None if BAD in content else canonical(content))
    after = {key: canonical(values) for key, values in before.items()}
    for key, contents in of_key.items():
        good = [c for c in contents if c is not None]
        chosen = _chosen(good, policy)
        if len(good) < len(contents) or (chosen is None and policy == "quarantine"):
            rules["malformed"] += len(contents) - len(good)
            rules["duplicate_key"] += len(good)
        elif chosen is None:
            counts["conflicts"] += 1
        else:
            counts["duplicates"] += len(good) - 1
            old = after.get(key)
            changed = [n for n, was, now in zip(CONTENT, old or (), chosen, strict=False) if was != now]
            if old is not None and not set(changed) - {IGNORED}:
                counts["unchanged"] += 1
                continue
            counts["updated" if old else "inserted"] += 1
            operations[key] = changed or "I"
            after[key] = chosen
    for key in before.keys() - of_key.keys():
        operations[key] = "D"
        counts["deleted"] += 1
        del after[key]
    counts["quarantined"] = rules.total()
    return Expected(after, operations, counts, rules)


def _chosen(good: list[Values], policy: str) -> Values | None:
    """Return the content that represents a key, or None if its rows contradict each other."""
    if policy == "latest" and good:
        at = CONTENT.index("at")
        newest = max(c[at] or 0 for c in good)
        good = [c for c in good if (c[at] or 0) == newest]
    return good[0] if len(set(good)) == 1 else None


def applied(before: State, change_set: list[Any]) -> State:
    """Apply a change set to a state, and check that each change is possible."""
    after = {key: canonical(values) for key, values in before.items()}
    for row in change_set:
        key, values = tuple(row[k] for k in KEYS), canonical(row[c] for c in CONTENT)
        assert (key in after) == (row._cdc_operation != "I"), key
        assert row._cdc_operation != "D" or after[key] == values, key
        if row._cdc_operation == "D":
            del after[key]
        else:
            after[key] = values
    return after


@pytest.mark.parametrize(("policy", "size"), [("fail", None), ("latest", 0), ("quarantine", 0)])
def test_applying_the_difference_gives_the_snapshot_and_twice_changes_nothing(
    differ: Differ, policy: str, size: int | None
) -> None:
    """Once with the settings for large data, with which Spark compiles the code that it otherwise interprets."""
    differ.spark = session.isolated_session(differ.spark, size)
    settings_of_table = table(policy)

    @settings(
        max_examples=2,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(pairs(), min_size=12, max_size=14))
    def law(batch: list[tuple[State, list[Record]]]) -> None:
        """The pairs are parts of one table: one comparison for all."""
        before: State = {}
        lines, after, operations = [], dict[Key, Values](), dict[Key, Any]()
        counts, rules = Counter[str](), Counter[str]()
        for n, (state, records) in enumerate(batch):
            part = f"p{n}"
            before |= {(part, *key): values for key, values in state.items()}
            lines += [",".join([part, *record]) for record in records]
            one = expected(state, records, policy)
            after |= {(part, *key): values for key, values in one.state.items()}
            operations |= {(part, *key): op for key, op in one.operations.items()}
            counts, rules = counts + one.counts, rules + one.rules
        assume(len(lines) > 3 * len(batch))

        rows = differ.rows(settings_of_table, csv([*KEYS[:1], *FIELDS], lines)).persist()
        result = differ.diff(settings_of_table, [(*k, *v) for k, v in before.items()], rows)

        assert +Counter({name: count or 0 for name, count in vars(result.counts).items()}) == +counts
        if not result.counts.conflicts:
            c = result.counts
            assert c.rows_read == c.inserted + c.updated + c.unchanged + c.quarantined + c.duplicates
        assert result.operations == operations
        assert applied(before, result.change_set.collect()) == after
        assert Counter(row.rule for row in result.quarantined.collect()) == rules

        state_now = [(*k, *(math.nan if v == "NaN" else v for v in values)) for k, values in after.items()]
        again = differ.diff(settings_of_table, state_now, rows)
        assert again.counts.changes == 0
        assert (again.counts.quarantined, again.counts.conflicts) == (
            result.counts.quarantined,
            result.counts.conflicts,
        )
        rows.unpersist()

    law()
