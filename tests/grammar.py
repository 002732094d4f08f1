"""Generates random models of the SQL that can be refreshed incrementally, and tables that change at random.

Three small tables have few values, so that joins match, groups collide and NULLs are frequent. A model is a chain of
blocks: each reads tables or earlier CTEs, joined by equal columns or by ranges of days, and is plain, DISTINCT, grouped
(with or without totals) or has window functions. Every column carries a type, so that the generated SQL is valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Draw = Callable[[st.SearchStrategy[Any]], Any]

DDL = {
    "silver.sales": "id INT, day DATE, shop STRING, item INT, amount DECIMAL(9,2), qty INT",
    "silver.items": "id INT, name STRING, kind STRING, since DATE",
    "silver.lines": "id INT, sale INT, label STRING, price DECIMAL(12,3), at DATE",
}
KEYS = dict.fromkeys(DDL, ("id",))
_TYPE_CODES = {"INT": "i", "DATE": "d", "STRING": "s", "DECIMAL": "n"}
COLUMNS = {r: {name: _TYPE_CODES[kind] for name, kind in re.findall(r"(\w+) ([A-Z]+)", ddl)} for r, ddl in DDL.items()}
_DAYS = [date(2025, 1, 30), date(2025, 1, 31), date(2025, 2, 1), date(2025, 2, 2), date(2025, 2, 27), date(2025, 3, 4)]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i": st.one_of(st.none(), st.integers(0, 4)),
    "d": st.one_of(st.none(), st.sampled_from(_DAYS)),
    "s": st.one_of(st.none(), st.sampled_from(["a", "b", "B", "", "ab"])),
    "n": st.one_of(st.none(), st.sampled_from([Decimal(v) for v in ("0.00", "0.10", "-3.33", "7.77", "1000000.01")])),
}


@dataclass(frozen=True)
class Model:
    """A model's SQL, and the keys that it is configured with."""

    sql: str
    keys: tuple[str, ...]


# --- tables that change ----------------------------------------------------------------------------------------------


@st.composite
def tables(draw: Draw) -> Tables:
    return {relation: draw(_rows(relation, draw(st.integers(0, 7)))) for relation in DDL}


@st.composite
def changed_tables(draw: Draw, now: Tables) -> Tables:
    """Return the tables after some rows were inserted, deleted or updated; most often only one table changes."""
    changed = draw(st.lists(st.sampled_from(sorted(DDL)), min_size=1, max_size=3))
    return {r: draw(_changed_table_rows(r, rows)) if r in changed else rows for r, rows in now.items()}


def row_images(then: list[Row], now: list[Row]) -> list[Row]:
    """Return the inserted and deleted rows, and the old and new image of each updated row."""
    return [row for row in then if row not in now] + [row for row in now if row not in then]


@st.composite
def _row(draw: Draw, relation: str, key: int) -> Row:
    drawn = {name: draw(VALUES[kind]) for name, kind in COLUMNS[relation].items() if name != "id"}
    return {"id": key} | drawn


@st.composite
def _rows(draw: Draw, relation: str, count: int) -> list[Row]:
    return [draw(_row(relation, key)) for key in range(count)]


@st.composite
def _changed_table_rows(draw: Draw, relation: str, rows: list[Row]) -> list[Row]:
    by_id = {row["id"]: row for row in rows}
    for key in draw(st.lists(st.integers(0, 8), min_size=1, max_size=3, unique=True)):
        action = draw(st.sampled_from(["delete", "replace", "column"]))
        if action == "delete":
            by_id.pop(key, None)
        elif action == "replace" or key not in by_id:
            by_id[key] = draw(_row(relation, key))
        else:
            column = draw(st.sampled_from([c for c in COLUMNS[relation] if c != "id"]))
            by_id[key] = by_id[key] | {column: draw(VALUES[COLUMNS[relation][column]])}
    return [by_id[key] for key in sorted(by_id)]


# --- models ---------------------------------------------------------------------------------------------------------


@dataclass
class _Block:
    """A SELECT that is being drawn: its sources, and the visible columns with their types."""

    sources: list[str] = field(default_factory=list)
    visible: list[tuple[str, str]] = field(default_factory=list)
    only_tables: bool = True
    ids: list[str] = field(default_factory=list)  # of the joined tables: together they identify a row


@st.composite
def models(draw: Draw) -> Model:
    relations: dict[str, dict[str, str]] = dict(COLUMNS)
    ctes: list[str] = []
    for at in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        text, outputs, _ = draw(_select(relations, ctes, last=False))
        relations[f"c{at}"] = outputs
        ctes.append(f"c{at} AS (\n{text}\n)")
    text, _, keys = draw(_select(relations, ctes, last=True))
    return Model((f"WITH {', '.join(ctes)}\n" if ctes else "") + text, tuple(keys))


@st.composite
def _select(
    draw: Draw, relations: dict[str, dict[str, str]], ctes: list[str], last: bool
) -> tuple[str, dict[str, str], list[str]]:
    block = draw(_from(relations, len(ctes)))
    where = f"\nWHERE {draw(_condition(block.visible))}" if draw(st.integers(0, 3)) == 0 else ""
    source = "FROM " + "\n".join(block.sources) + where
    shape = draw(st.sampled_from([_plain, _distinct, _grouped, _grouped, _grouped_with_totals, _windowed]))
    select, tail, outputs, keys = draw(shape(block))
    return f"SELECT {select}\n{source}{tail}", outputs, keys


@st.composite
def _from(draw: Draw, relations: dict[str, dict[str, str]], ctes: int) -> _Block:
    block = _Block()
    for at in range(draw(st.sampled_from([1, 1, 2, 2, 3]))):
        newest = [f"c{ctes - 1}"] * 3 if ctes and at == 0 else []
        relation = draw(st.sampled_from([*relations, *newest]))
        columns = [(f"t{at}.{name}", kind) for name, kind in relations[relation].items()]
        side = draw(st.sampled_from(["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"]))
        if at == 0:
            block.sources.append(f"{relation} AS t{at}")
        elif draw(st.integers(0, 9)) == 0:
            side = "CROSS JOIN"
            block.sources.append(f"CROSS JOIN {relation} AS t{at}")
        else:
            block.sources.append(f"{side} {relation} AS t{at} ON {draw(_join_condition(block.visible, columns))}")
        if at == 0 or side not in ("LEFT SEMI JOIN", "LEFT ANTI JOIN"):
            block.visible += columns
            block.only_tables &= relation in COLUMNS
            block.ids.append(f"t{at}.id")
    return block


@st.composite
def _join_condition(draw: Draw, here: list[tuple[str, str]], there: list[tuple[str, str]]) -> str:
    pairs = [(a, b, kind) for a, kind in here for b, other in there if kind == other]
    if not pairs:
        return draw(_condition(there))
    left, right, kind = draw(st.sampled_from(pairs))
    days = draw(st.integers(0, 3))
    ranges = [
        f"{right} BETWEEN date_sub({left}, {days}) AND {left}",
        f"{left} BETWEEN {right} AND date_add({right}, {days})",
        f"{right} <= {left}",
        f"date_sub({left}, {days}) < {right}",
        f"{right} >= {left} AND {right} < date_add({left}, 28)",
    ]
    condition = draw(st.sampled_from([f"{right} = {left}", f"{left} = {right}", f"{left} <=> {right}"]))
    if kind == "d" and draw(st.booleans()):
        condition = draw(st.sampled_from(ranges))
    if draw(st.integers(0, 3)) == 0:
        condition += f" AND {draw(_condition(there))}"
    return condition


@st.composite
def _condition(draw: Draw, columns: list[tuple[str, str]]) -> str:
    column, kind = draw(st.sampled_from(columns))
    choices = {
        "i": [f"{column} > 1", f"{column} <> 2", f"coalesce({column}, 9) > 2"],
        "s": [f"{column} = 'a'", f"{column} IN ('a', 'b')", f"upper({column}) <> 'B'"],
        "d": [f"{column} >= DATE '2025-02-01'", f"month({column}) = 2"],
        "n": [f"{column} > 0", f"{column} <= 1"],
    }
    return draw(st.sampled_from([*choices[kind], f"{column} IS NULL", f"{column} IS NOT NULL"]))


@st.composite
def _expression(draw: Draw, columns: list[tuple[str, str]]) -> tuple[str, str]:
    column, kind = draw(
        st.sampled_from([*columns, *columns[-3:]])
    )  # columns of the last source more often: they may be NULL
    made = {
        "i": [(f"{column} % 2", "i"), (f"coalesce({column}, 7)", "i"), (f"CAST({column} AS DECIMAL(9,2))", "n")],
        "s": [(f"upper({column})", "s"), (f"coalesce({column}, '-')", "s"), (f"length({column})", "i")],
        "d": [(f"trunc({column}, 'MONTH')", "d"), (f"date_add({column}, 1)", "d"), (f"day({column})", "i")],
        "n": [(f"CAST({column} * 2 AS DECIMAL(12,3))", "n"), (f"{column} IS NULL AND TRUE", "b")],
    }
    options = [(column, kind)] * 4 + [m for m in made[kind] if m[1] != "b"]
    return draw(st.sampled_from(options))


@st.composite
def _expressions(draw: Draw, columns: list[tuple[str, str]], most: int) -> dict[str, tuple[str, str]]:
    count = draw(st.integers(1, most))
    expressions = [draw(_expression(columns)) for _ in range(count)]
    return {f"x{at}": e for at, e in enumerate(dict.fromkeys(expressions))}


def _select_list(named: dict[str, tuple[str, str]]) -> str:
    return ", ".join(f"{text} AS {name}" for name, (text, _) in named.items())


Shape = tuple[str, str, dict[str, str], list[str]]  # select list, what follows WHERE, outputs, keys


@st.composite
def _plain(draw: Draw, block: _Block) -> Shape:
    named = draw(_expressions(block.visible, 4))
    keys = draw(st.lists(st.sampled_from(sorted(named)), min_size=1, max_size=2, unique=True))
    return _select_list(named), "", {n: k for n, (_, k) in named.items()}, keys


@st.composite
def _distinct(draw: Draw, block: _Block) -> Shape:
    listed, _, outputs, keys = draw(_plain(block))
    return f"DISTINCT {listed}", "", outputs, keys


@st.composite
def _aggregates(draw: Draw, columns: list[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    aggregates: dict[str, tuple[str, str]] = {}
    for at in range(draw(st.integers(1, 3))):
        column, kind = draw(st.sampled_from(columns))
        options = [("COUNT(*)", "i"), (f"COUNT({column})", "i"), (f"COUNT(DISTINCT {column})", "i")]
        options += [(f"MIN({column})", kind), (f"MAX({column})", kind)]
        options += {
            "i": [(f"SUM({column})", "i"), (f"AVG(CAST({column} AS DECIMAL(9,0)))", "n")],
            "n": [
                (f"CAST(SUM({column}) AS DECIMAL(18,3))", "n"),
                (f"CAST(AVG({column}) AS DECIMAL(18,6))", "n"),
                (f"COUNT(*) FILTER (WHERE {column} > 0)", "i"),
            ],
            "s": [(f"array_join(array_sort(collect_set({column})), ',')", "s"), (f"COUNT_IF({column} = 'a')", "i")],
            "d": [(f"datediff(MAX({column}), MIN({column}))", "i")],
        }[kind]
        aggregates[f"m{at}"] = draw(st.sampled_from(options))
    return aggregates


@st.composite
def _having(draw: Draw, columns: list[tuple[str, str]]) -> str:
    if draw(st.integers(0, 3)):
        return ""
    column, _ = draw(st.sampled_from(columns))
    conditions = ["COUNT(*) > 1", f"COUNT(DISTINCT {column}) = 1", f"MAX({column}) IS NULL"]
    return f"\nHAVING {draw(st.sampled_from(conditions))}"


@st.composite
def _grouped(draw: Draw, block: _Block) -> Shape:
    named, measures = draw(_expressions(block.visible, 2)), draw(_aggregates(block.visible))
    everything = {**named, **measures}
    by = ", ".join(text for text, _ in named.values())
    if draw(st.booleans()):
        by = ", ".join(str(at) for at in range(1, len(named) + 1))
    tail = f"\nGROUP BY {by}{draw(_having(block.visible))}"
    return _select_list(everything), tail, {n: k for n, (_, k) in everything.items()}, list(named)


@st.composite
def _grouped_with_totals(draw: Draw, block: _Block) -> Shape:
    named, measures = draw(_expressions(block.visible, 3)), draw(_aggregates(block.visible))
    texts = [text for text, _ in named.values()]
    sets = [", ".join(texts[:n]) for n in range(len(texts), -1, -1)]
    chosen = sets[: draw(st.integers(1, len(sets)))]
    options = [
        f"GROUPING SETS ({', '.join(f'({s})' for s in chosen)})",
        f"ROLLUP ({', '.join(texts)})",
        f"CUBE ({', '.join(texts)})",
        f"{', '.join(texts)} WITH ROLLUP",
        f"{', '.join(texts)} GROUPING SETS ({', '.join(f'({s})' for s in chosen)})",
    ]
    if len(texts) > 1:
        options += [f"{texts[0]}, ROLLUP ({', '.join(texts[1:])})", f"{texts[0]}, CUBE ({', '.join(texts[1:])})"]
    by = draw(st.sampled_from(options))
    everything = {**named, "gid": ("GROUPING_ID()", "i"), **measures}
    tail = f"\nGROUP BY {by}{draw(_having(block.visible))}"
    return _select_list(everything), tail, {n: k for n, (_, k) in everything.items()}, [*named, "gid"]


@st.composite
def _windowed(draw: Draw, block: _Block) -> Shape:
    named = draw(_expressions(block.visible, 2))
    by = ", ".join(text for text, _ in named.values())
    windows: dict[str, tuple[str, str]] = {}
    for at in range(draw(st.integers(1, 2))):
        column, kind = draw(st.sampled_from(block.visible))
        order, _ = draw(st.sampled_from(block.visible))
        over = f"OVER (PARTITION BY {by} ORDER BY {order})"
        options = [
            (f"RANK() {over}", "i"),
            (f"DENSE_RANK() {over}", "i"),
            (f"COUNT({column}) {over}", "i"),
            (f"MAX({column}) OVER (PARTITION BY {by})", kind),
            (f"MIN({column}) {over}", kind),
        ]
        if kind == "n":
            options.append((f"CAST(SUM({column}) {over} AS DECIMAL(18,3))", "n"))
        if block.only_tables:
            unique_over = f"OVER (PARTITION BY {by} ORDER BY {', '.join([order, *block.ids])})"
            options += [
                (f"ROW_NUMBER() {unique_over}", "i"),
                (f"LAG({column}) {unique_over}", kind),
                (f"LEAD({column}, 2) {unique_over}", kind),
            ]
        windows[f"w{at}"] = draw(st.sampled_from(options))
    more = {f"y{at}": e for at, e in enumerate(draw(_expressions(block.visible, 2)).values())}
    everything = {**named, **more, **windows}
    keys = [*named, *draw(st.lists(st.sampled_from(sorted(more)), max_size=1))]
    return _select_list(everything), "", {n: k for n, (_, k) in everything.items()}, keys
