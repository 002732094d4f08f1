"""What a cube shows: the rows of a few charts and its newest rows, as plain values. Spark hands out a bounded part.

What is left out is counted, and the page says so: `MOST_TIMES` times on an axis, `MOST_SERIES` and `MOST_BARS` of a
dimension, `MOST_ROWS` rows in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.inspect.diff_samples import json_rows, persist_rows
from lakehouse.lake import delta
from lakehouse.models.sql.plan import Plan
from lakehouse.report.shape import Kind, Shape, View, about, shape, time_keys
from lakehouse.storage.paths import Lake

Document = dict[str, Any]

MOST_TIMES, MOST_SERIES, MOST_BARS, MOST_ROWS = 400, 6, 15, 200
_MOST_KINDS, _MOST_CLASSES = 100, 12  # of a dimension or class that has a chart of its own
_MOST_KEPT = 1_000_000  # rows
_TIME, _KIND, _LABEL, _COUNT = "t", "d", "label", "n"


def read(spark: SparkSession, lake: Lake, plan: Plan, is_personal: Callable[[str], bool]) -> Document | None:
    """A cube's document, or None where it was never computed.

    Args:
        spark: a session of the caller's own.
        is_personal: tells of a column whether it must not be read.
    """
    path = lake.table(plan.model)
    if not delta.exists(spark, path):
        return None
    table = delta.read(spark, path)
    hidden = list(filter(is_personal, table.columns))
    kinds = {f.name: _kind(f.dataType) for f in table.schema}
    found = shape(plan, kinds, hidden, _axis(table, time_keys(plan, kinds, hidden)))
    there = table.count()
    with _at_hand(table.drop(*hidden), there) as rows:
        since, times = _since(rows, found.time)
        shown = rows.where(_column(found.time) >= F.lit(since)) if found.time and since is not None else rows
        views = {view: _is_worth_it(shown, found, view) for view in found.views}
        return {
            "model": plan.model,
            "about": about(plan.sql),
            "rows": there,
            "time": found.time,
            "dimensions": [*found.dimensions],
            "measures": list(found.measures),
            "hidden": hidden,
            "times_cut": MOST_TIMES if times > MOST_TIMES else 0,
            "uncharted": [" · ".join(view.by) for view, is_worth_it in views.items() if not is_worth_it],
            "charts": [_chart(shown, found, view) for view, is_worth_it in views.items() if is_worth_it],
            "table": _table(rows, found, {c: k for c, k in kinds.items() if c not in hidden}),
        }


def _at_hand(rows: DataFrame, count: int) -> AbstractContextManager[DataFrame]:
    """A small cube is read once and kept for what is asked of it; of a large one each question reads what it needs."""
    return persist_rows(rows) if count <= _MOST_KEPT else nullcontext(rows)


def _kind(kind: T.DataType) -> Kind:
    match kind:
        case T.DateType() | T.TimestampType() | T.TimestampNTZType():
            return "time"
        case T.NumericType():
            return "number"
        case T.StringType() | T.BooleanType():
            return "text"
    return "other"


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _axis(rows: DataFrame, times: list[str]) -> str | None:
    """Of several keys that are times the one with the most different values: of a bond, quote day and not maturity."""
    if len(times) < 2:
        return None
    counts = rows.agg(*[F.approx_count_distinct(_column(name)).alias(f"n{n}") for n, name in enumerate(times)])
    (found,) = counts.collect()
    return max(zip(found, times, strict=True), key=lambda each: each[0])[1]


def _since(rows: DataFrame, time: str | None) -> tuple[Any, int]:
    """The oldest of the newest times, and how many there are, one more than are shown at most."""
    if time is None:
        return None, 0
    times = rows.select(_column(time).alias(_TIME)).where(F.col(_TIME).isNotNull()).distinct()
    newest = times.orderBy(F.desc(_TIME)).limit(MOST_TIMES + 1)
    ranked = [row[_TIME] for row in newest.collect()]
    return (ranked[:MOST_TIMES][-1], len(ranked)) if ranked else (None, 0)


def _is_worth_it(rows: DataFrame, cube: Shape, view: View) -> bool:
    """Whether what would tell the series apart is of few kinds: not each client by name."""
    if not view.by:
        return True
    most = _MOST_CLASSES if view.by[0] in cube.classes else _MOST_KINDS
    kinds = rows.select(*map(_column, view.by)).distinct().limit(most + 1).count()
    return kinds <= most


def _chart(rows: DataFrame, cube: Shape, view: View) -> Document:
    """A view's rows: `t` the time, `d` what tells series apart, a column a measure."""
    if view.level is not None and cube.grouping:
        rows = rows.where(_column(cube.grouping) == view.level)
    names = {f"m{n}": m for n, m in enumerate(view.measures)}
    plain = _aggregated(rows, cube, view, names)
    found: Document = {
        "by": [cube.labels.get(name, name) for name in view.by],
        "time": cube.time,
        "adds": view.adds,
        "measures": ([{"column": _COUNT, "name": ""}] if view.adds else [])
        + [{"column": column, "name": name} for column, name in names.items()],
        "counted": [d for d in cube.dimensions if d not in view.by],
    }
    if not view.by:
        return found | {"series": numbers(json_rows(plain.orderBy(_TIME)), found)}
    return found | _by_kind(plain, cube, found)


def _aggregated(rows: DataFrame, cube: Shape, view: View, names: Mapping[str, str]) -> DataFrame:
    keys = [_column(cube.time).alias(_TIME)] if cube.time else []
    keys += [_kind_of(view.by).alias(_KIND)] if view.by else []
    if view.adds:
        sums = [F.sum(_column(m)).alias(n) for n, m in names.items()]
        return rows.groupBy(*keys).agg(F.count("*").alias(_COUNT), *sums)
    label = [_column(cube.labels[name]).alias(_LABEL) for name in view.by if name in cube.labels]
    return rows.select(*keys, *label, *[_column(m).alias(n) for n, m in names.items()])


def _kind_of(by: tuple[str, ...]) -> Column:
    """One text for the values of several dimensions; of a single one, null for null."""
    texts = [_column(name).cast("string") for name in by]
    return texts[0] if len(texts) == 1 else F.concat_ws(" · ", *[F.coalesce(text, F.lit("—")) for text in texts])


def _by_kind(rows: DataFrame, cube: Shape, chart: Document) -> Document:
    """The series of the kinds that weigh most, and all kinds at the newest time."""
    first = chart["measures"][0]["column"]
    weight = F.sum(F.abs(F.col(first).cast("double")))
    weights = {r[0]: r[1] for r in rows.groupBy(_KIND).agg(weight.alias("w")).collect()}
    ranked = sorted(weights, key=lambda kind: (-(weights[kind] or 0), kind is None, str(kind)))
    most = MOST_SERIES if not chart["adds"] else _MOST_CLASSES
    found: Document = {"kinds": len(ranked), "series": [], "newest": None}
    if cube.time:
        shown = rows.where(_is_one_of(ranked[:most]))
        found["series"] = numbers(json_rows(shown.orderBy(_TIME, _KIND)), chart)
        newest = rows.agg(F.max(_TIME).alias(_TIME))
        rows = rows.join(F.broadcast(newest), on=_TIME, how="left_semi")
    bars = rows.orderBy(F.desc_nulls_last(F.abs(F.col(first).cast("double"))), _KIND).limit(MOST_BARS)
    found["bars"] = numbers(json_rows(bars), chart)
    found["newest"] = found["bars"][0].get(_TIME) if found["bars"] else None
    return found


def _is_one_of(kinds: list[Any]) -> Column:
    known = F.col(_KIND).isin([kind for kind in kinds if kind is not None])
    return known | F.col(_KIND).isNull() if None in kinds else F.coalesce(known, F.lit(False))


def numbers(rows: list[Document], chart: Document) -> list[Document]:
    """Rows as a chart takes them: doubles for its measures, as near as they come, and a name for each kind.

    Where several kinds have one name it only stands beside their keys.
    """
    named = {row[_KIND]: row.get(_LABEL) or row[_KIND] for row in rows if _KIND in row}
    are_names = len(set(named.values())) == len(named)
    found = []
    for row in rows:
        point: Document = {m["column"]: number(row[m["column"]]) for m in chart["measures"]}
        if _TIME in row:
            point[_TIME] = row[_TIME]
        if _KIND in row:
            name, key = named[row[_KIND]], row[_KIND]
            point[_KIND] = name if are_names or name == key else f"{key} ({name})"
        found.append(point)
    return found


def number(value: Any) -> float | int | None:
    """What JSON calls a number; nothing for NaN and the infinities, which it has not."""
    if value is None or value in ("NaN", "Infinity", "-Infinity"):
        return None
    return value if isinstance(value, int) else float(value)


def _table(rows: DataFrame, cube: Shape, kinds: Mapping[str, Kind]) -> Document:
    """The newest rows, or the first by key where there is no time."""
    order = [F.desc_nulls_last(_column(cube.time))] if cube.time else []
    order += [F.asc(_column(cube.grouping))] if cube.grouping else []
    order += [F.asc_nulls_last(_column(d)) for d in cube.dimensions]
    shown = json_rows((rows.orderBy(*order) if order else rows).limit(MOST_ROWS))
    return {
        "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
        "rows": [list(row.values()) for row in shown],
    }
