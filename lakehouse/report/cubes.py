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
from lakehouse.report.shape import ChartRows, ColumnKind, CubeShape, cube_shape, leading_comment, time_keys
from lakehouse.storage.paths import Lake

Document = dict[str, Any]

MAX_TIMES, MAX_SERIES, MAX_BARS, MAX_ROWS = 400, 6, 15, 200
_MAX_DIMENSION_VALUES, _MAX_CATEGORY_VALUES = 100, 12  # of a dimension or class that has a chart of its own
_MAX_CACHED_ROWS = 1_000_000  # rows
_TIME, _SERIES, _LABEL, _COUNT = "t", "d", "label", "n"


def read_cube(spark: SparkSession, lake: Lake, plan: Plan, is_personal: Callable[[str], bool]) -> Document | None:
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
    kinds = {f.name: _column_kind(f.dataType) for f in table.schema}
    found = cube_shape(plan, kinds, hidden, _choose_time_axis(table, time_keys(plan, kinds, hidden)))
    there = table.count()
    with _cache_if_small(table.drop(*hidden), there) as rows:
        since, times = _newest_times(rows, found.time)
        shown = rows.where(_quoted_column(found.time) >= F.lit(since)) if found.time and since is not None else rows
        views = {view: _has_few_series(shown, found, view) for view in found.charts}
        return {
            "model": plan.model,
            "about": leading_comment(plan.sql),
            "rows": there,
            "time": found.time,
            "dimensions": [*found.dimensions],
            "measures": list(found.measures),
            "hidden": hidden,
            "times_cut": MAX_TIMES if times > MAX_TIMES else 0,
            "uncharted": [" · ".join(view.by) for view, is_worth_it in views.items() if not is_worth_it],
            "charts": [_chart_document(shown, found, view) for view, is_worth_it in views.items() if is_worth_it],
            "table": _table_document(rows, found, {c: k for c, k in kinds.items() if c not in hidden}),
        }


def _cache_if_small(rows: DataFrame, count: int) -> AbstractContextManager[DataFrame]:
    """A small cube is read once and kept for what is asked of it; of a large one each question reads what it needs."""
    return persist_rows(rows) if count <= _MAX_CACHED_ROWS else nullcontext(rows)


def _column_kind(kind: T.DataType) -> ColumnKind:
    match kind:
        case T.DateType() | T.TimestampType() | T.TimestampNTZType():
            return "time"
        case T.NumericType():
            return "number"
        case T.StringType() | T.BooleanType():
            return "text"
    return "other"


def _quoted_column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _choose_time_axis(rows: DataFrame, times: list[str]) -> str | None:
    """Of several keys that are times the one with the most different values: of a bond, quote day and not maturity."""
    if len(times) < 2:
        return None
    counts = rows.agg(*[F.approx_count_distinct(_quoted_column(name)).alias(f"n{n}") for n, name in enumerate(times)])
    (found,) = counts.collect()
    return max(zip(found, times, strict=True), key=lambda each: each[0])[1]


def _newest_times(rows: DataFrame, time: str | None) -> tuple[Any, int]:
    """The oldest of the newest times, and how many there are, one more than are shown at most."""
    if time is None:
        return None, 0
    times = rows.select(_quoted_column(time).alias(_TIME)).where(F.col(_TIME).isNotNull()).distinct()
    newest = times.orderBy(F.desc(_TIME)).limit(MAX_TIMES + 1)
    ranked = [row[_TIME] for row in newest.collect()]
    return (ranked[:MAX_TIMES][-1], len(ranked)) if ranked else (None, 0)


def _has_few_series(rows: DataFrame, cube: CubeShape, view: ChartRows) -> bool:
    """Whether what would tell the series apart is of few kinds: not each client by name."""
    if not view.by:
        return True
    most = _MAX_CATEGORY_VALUES if view.by[0] in cube.categories else _MAX_DIMENSION_VALUES
    kinds = rows.select(*map(_quoted_column, view.by)).distinct().limit(most + 1).count()
    return kinds <= most


def _chart_document(rows: DataFrame, cube: CubeShape, view: ChartRows) -> Document:
    """A view's rows: `t` the time, `d` what tells series apart, a column a measure."""
    if view.grouping_level is not None and cube.grouping_column:
        rows = rows.where(_quoted_column(cube.grouping_column) == view.grouping_level)
    names = {f"m{n}": m for n, m in enumerate(view.measures)}
    plain = _chart_rows(rows, cube, view, names)
    found: Document = {
        "by": [cube.labels.get(name, name) for name in view.by],
        "time": cube.time,
        "adds": view.is_aggregated,
        "measures": ([{"column": _COUNT, "name": ""}] if view.is_aggregated else [])
        + [{"column": column, "name": name} for column, name in names.items()],
        "counted": [d for d in cube.dimensions if d not in view.by],
    }
    if not view.by:
        return found | {"series": chart_points(json_rows(plain.orderBy(_TIME)), found)}
    return found | _series_and_bars(plain, cube, found)


def _chart_rows(rows: DataFrame, cube: CubeShape, view: ChartRows, names: Mapping[str, str]) -> DataFrame:
    keys = [_quoted_column(cube.time).alias(_TIME)] if cube.time else []
    keys += [_series_value(view.by).alias(_SERIES)] if view.by else []
    if view.is_aggregated:
        sums = [F.sum(_quoted_column(m)).alias(n) for n, m in names.items()]
        return rows.groupBy(*keys).agg(F.count("*").alias(_COUNT), *sums)
    label = [_quoted_column(cube.labels[name]).alias(_LABEL) for name in view.by if name in cube.labels]
    return rows.select(*keys, *label, *[_quoted_column(m).alias(n) for n, m in names.items()])


def _series_value(by: tuple[str, ...]) -> Column:
    """One text for the values of several dimensions; of a single one, null for null."""
    texts = [_quoted_column(name).cast("string") for name in by]
    return texts[0] if len(texts) == 1 else F.concat_ws(" · ", *[F.coalesce(text, F.lit("—")) for text in texts])


def _series_and_bars(rows: DataFrame, cube: CubeShape, chart: Document) -> Document:
    """The series of the kinds that weigh most, and all kinds at the newest time."""
    first = chart["measures"][0]["column"]
    weight = F.sum(F.abs(F.col(first).cast("double")))
    weights = {r[0]: r[1] for r in rows.groupBy(_SERIES).agg(weight.alias("w")).collect()}
    ranked = sorted(weights, key=lambda kind: (-(weights[kind] or 0), kind is None, str(kind)))
    most = MAX_SERIES if not chart["adds"] else _MAX_CATEGORY_VALUES
    found: Document = {"kinds": len(ranked), "series": [], "newest": None}
    if cube.time:
        shown = rows.where(_is_one_of(ranked[:most]))
        found["series"] = chart_points(json_rows(shown.orderBy(_TIME, _SERIES)), chart)
        newest = rows.agg(F.max(_TIME).alias(_TIME))
        rows = rows.join(F.broadcast(newest), on=_TIME, how="left_semi")
    bars = rows.orderBy(F.desc_nulls_last(F.abs(F.col(first).cast("double"))), _SERIES).limit(MAX_BARS)
    found["bars"] = chart_points(json_rows(bars), chart)
    found["newest"] = found["bars"][0].get(_TIME) if found["bars"] else None
    return found


def _is_one_of(kinds: list[Any]) -> Column:
    known = F.col(_SERIES).isin([kind for kind in kinds if kind is not None])
    return known | F.col(_SERIES).isNull() if None in kinds else F.coalesce(known, F.lit(False))


def chart_points(rows: list[Document], chart: Document) -> list[Document]:
    """Rows as a chart takes them: doubles for its measures, as near as they come, and a name for each kind.

    Where several kinds have one name it only stands beside their keys.
    """
    named = {row[_SERIES]: row.get(_LABEL) or row[_SERIES] for row in rows if _SERIES in row}
    are_names = len(set(named.values())) == len(named)
    found = []
    for row in rows:
        point: Document = {m["column"]: json_number(row[m["column"]]) for m in chart["measures"]}
        if _TIME in row:
            point[_TIME] = row[_TIME]
        if _SERIES in row:
            name, key = named[row[_SERIES]], row[_SERIES]
            point[_SERIES] = name if are_names or name == key else f"{key} ({name})"
        found.append(point)
    return found


def json_number(value: Any) -> float | int | None:
    """What JSON calls a number; nothing for NaN and the infinities, which it has not."""
    if value is None or value in ("NaN", "Infinity", "-Infinity"):
        return None
    return value if isinstance(value, int) else float(value)


def _table_document(rows: DataFrame, cube: CubeShape, kinds: Mapping[str, ColumnKind]) -> Document:
    """The newest rows, or the first by key where there is no time."""
    order = [F.desc_nulls_last(_quoted_column(cube.time))] if cube.time else []
    order += [F.asc(_quoted_column(cube.grouping_column))] if cube.grouping_column else []
    order += [F.asc_nulls_last(_quoted_column(d)) for d in cube.dimensions]
    shown = json_rows((rows.orderBy(*order) if order else rows).limit(MAX_ROWS))
    return {
        "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
        "rows": [list(row.values()) for row in shown],
    }
