"""Reads the rows of a cube's charts, and its newest rows, as plain values. Collects a bounded part of them.

The limits are `MAX_TIMES` times on an axis, `MAX_SERIES` series and `MAX_BARS` bars of a dimension, and `MAX_ROWS` rows
in a table. The page reports how much it does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.inspect.json_rows import json_rows
from lakehouse.lake import delta
from lakehouse.models.sql.plan import Plan
from lakehouse.report.shape import ChartRows, ColumnKind, CubeShape, cube_shape, leading_comment, time_keys
from lakehouse.spark.collect import select_collectable
from lakehouse.spark.persist import persist_rows
from lakehouse.storage.paths import Lake

Document = dict[str, Any]

MAX_TIMES, MAX_SERIES, MAX_BARS, MAX_ROWS = 400, 6, 15, 200
_MAX_DIMENSION_VALUES, _MAX_CATEGORY_VALUES = 100, 12  # a dimension or category with more values has no chart
_MAX_CACHED_ROWS = 1_000_000
# The columns of a chart's rows; measures are m0, m1, ...
_TIME, _SERIES, _LABEL, _COUNT = "t", "d", "label", "n"


def read_cube(spark: SparkSession, lake: Lake, plan: Plan, is_personal: Callable[[str], bool]) -> Document | None:
    """Return the document of a cube, or None if it was never computed.

    Args:
        spark: A session that no other thread uses.
        lake: The lake with the cube's table.
        plan: The plan of the cube.
        is_personal: Returns whether a column may contain personal data and must not be read.
    """
    path = lake.table(plan.model)
    if not delta.exists(spark, path):
        return None
    table = delta.read(spark, path)
    hidden = list(filter(is_personal, table.columns))
    kinds = {f.name: column_kind(f.dataType) for f in table.schema}
    cube = cube_shape(plan, kinds, hidden, _choose_time_axis(table, time_keys(plan, kinds, hidden)))
    row_count = table.count()
    visible = table.drop(*hidden)
    # All queries of a small cube read cached rows; each query of a large cube reads only the columns that it needs.
    with persist_rows(visible) if row_count <= _MAX_CACHED_ROWS else nullcontext(visible) as rows:
        oldest_time, times = _newest_times(rows, cube.time)
        recent = rows
        if cube.time and oldest_time is not None:
            recent = rows.where(_quoted_column(cube.time) >= F.lit(oldest_time).cast(rows.schema[cube.time].dataType))
        charts = {chart: _has_few_series(recent, cube, chart) for chart in cube.charts}
        return {
            "model": plan.model,
            "about": leading_comment(plan.sql),
            "rows": row_count,
            "time": cube.time,
            "dimensions": [*cube.dimensions],
            "measures": list(cube.measures),
            "hidden": hidden,
            "times_cut": MAX_TIMES if times > MAX_TIMES else 0,
            "uncharted": [" · ".join(chart.by) for chart, is_shown in charts.items() if not is_shown],
            "charts": [_chart_document(recent, cube, chart) for chart, is_shown in charts.items() if is_shown],
            "table": _table_document(rows, cube, {c: k for c, k in kinds.items() if c not in hidden}),
        }


def column_kind(data_type: T.DataType) -> ColumnKind:
    """Return the role that values of a type can have in a table or chart.

    Args:
        data_type: The type.
    """
    match data_type:
        case T.DateType() | T.TimestampType() | T.TimestampNTZType():
            return "time"
        case T.NumericType():
            return "number"
        case T.StringType() | T.BooleanType():
            return "text"
    return "other"


def _quoted_column(name: str) -> Column:
    return F.col(quote_identifier(name))


def _choose_time_axis(rows: DataFrame, times: list[str]) -> str | None:
    """Return the time key with the most distinct values: for bond prices, the day of the quote, not the maturity.

    Returns None if there are not several time keys.
    """
    if len(times) < 2:
        return None
    counts = rows.agg(*[F.approx_count_distinct(_quoted_column(name)).alias(f"n{n}") for n, name in enumerate(times)])
    (distinct_values,) = counts.collect()
    return max(zip(distinct_values, times, strict=True), key=lambda pair: pair[0])[1]


def _newest_times(rows: DataFrame, time: str | None) -> tuple[Any, int]:
    """Return the oldest time that is shown, and the number of times, counted to `MAX_TIMES + 1`."""
    if time is None:
        return None, 0
    times = rows.select(_quoted_column(time).alias(_TIME)).where(F.col(_TIME).isNotNull()).distinct()
    newest = times.orderBy(F.desc(_TIME)).limit(MAX_TIMES + 1)
    ranked = [row[_TIME] for row in select_collectable(newest, [_TIME]).collect()]
    return (ranked[:MAX_TIMES][-1], len(ranked)) if ranked else (None, 0)


def _has_few_series(rows: DataFrame, cube: CubeShape, chart: ChartRows) -> bool:
    """Return whether a chart has few enough series to be readable: not one per client."""
    if not chart.by:
        return True
    limit = _MAX_CATEGORY_VALUES if chart.by[0] in cube.categories else _MAX_DIMENSION_VALUES
    return rows.select(*map(_quoted_column, chart.by)).distinct().limit(limit + 1).count() <= limit


def _chart_document(rows: DataFrame, cube: CubeShape, chart: ChartRows) -> Document:
    """Return the rows of a chart: `t` is the time, `d` the series, `m0`, `m1`, ... the measures."""
    if chart.grouping_level is not None and cube.grouping_column:
        rows = rows.where(_quoted_column(cube.grouping_column) == chart.grouping_level)
    names = {f"m{n}": measure for n, measure in enumerate(chart.measures)}
    keys = [_quoted_column(cube.time).alias(_TIME)] if cube.time else []
    if chart.by:  # one text for the values of all dimensions; for a single dimension, null stays null
        texts = [_quoted_column(name).cast("string") for name in chart.by]
        joined = F.concat_ws(" · ", *[F.coalesce(text, F.lit("—")) for text in texts])
        keys.append((texts[0] if len(texts) == 1 else joined).alias(_SERIES))
    if chart.is_aggregated:
        sums = [F.sum(_quoted_column(measure)).alias(column) for column, measure in names.items()]
        chart_rows = rows.groupBy(*keys).agg(F.count("*").alias(_COUNT), *sums)
    else:
        labels = [_quoted_column(cube.labels[name]).alias(_LABEL) for name in chart.by if name in cube.labels]
        measures = [_quoted_column(measure).alias(column) for column, measure in names.items()]
        chart_rows = rows.select(*keys, *labels, *measures)
    document: Document = {
        "by": [cube.labels.get(name, name) for name in chart.by],
        "time": cube.time,
        "adds": chart.is_aggregated,
        "measures": ([{"column": _COUNT, "name": ""}] if chart.is_aggregated else [])
        + [{"column": column, "name": name} for column, name in names.items()],
        "counted": [d for d in cube.dimensions if d not in chart.by],
    }
    if not chart.by:
        return document | {"series": chart_points(json_rows(chart_rows.orderBy(_TIME)), document)}
    return document | _series_and_bars(chart_rows, cube, document)


def _series_and_bars(rows: DataFrame, cube: CubeShape, chart: Document) -> Document:
    """Return the points of the largest series over time, and the bars of all series at the newest time."""
    first_measure = F.abs(F.col(chart["measures"][0]["column"]).cast("double"))
    weights = {row[0]: row[1] for row in rows.groupBy(_SERIES).agg(F.sum(first_measure).alias("w")).collect()}
    ranked = sorted(weights, key=lambda series: (-(weights[series] or 0), series is None, str(series)))
    limit = MAX_SERIES if not chart["adds"] else _MAX_CATEGORY_VALUES
    points: list[Document] = []
    if cube.time:
        largest = ranked[:limit]
        is_largest = F.coalesce(F.col(_SERIES).isin([series for series in largest if series is not None]), F.lit(False))
        if None in largest:
            is_largest |= F.col(_SERIES).isNull()
        points = chart_points(json_rows(rows.where(is_largest).orderBy(_TIME, _SERIES)), chart)
        newest = rows.agg(F.max(_TIME).alias(_TIME))
        rows = rows.join(F.broadcast(newest), on=_TIME, how="left_semi")
    bars = chart_points(json_rows(rows.orderBy(F.desc_nulls_last(first_measure), _SERIES).limit(MAX_BARS)), chart)
    return {"kinds": len(ranked), "series": points, "bars": bars, "newest": bars[0].get(_TIME) if bars else None}


def chart_points(rows: list[Document], chart: Document) -> list[Document]:
    """Convert rows to points of a chart: JSON numbers for the measures, and a readable name for the series.

    If several series have the same label, it is written after their keys.

    Args:
        rows: The rows, with the columns of this module.
        chart: The chart; of it only the measures are read.
    """
    labels = {row[_SERIES]: row.get(_LABEL) or row[_SERIES] for row in rows if _SERIES in row}
    are_labels_unique = len(set(labels.values())) == len(labels)
    points = []
    for row in rows:
        point: Document = {m["column"]: json_number(row[m["column"]]) for m in chart["measures"]}
        if _TIME in row:
            point[_TIME] = row[_TIME]
        if _SERIES in row:
            label, key = labels[row[_SERIES]], row[_SERIES]
            point[_SERIES] = label if are_labels_unique or label == key else f"{key} ({label})"
        points.append(point)
    return points


def json_number(value: Any) -> float | int | None:
    """Return a value as a JSON number: as near as a double comes; None for null, NaN and the infinities.

    Args:
        value: A number, or its text.
    """
    if value is None or value in ("NaN", "Infinity", "-Infinity"):
        return None
    return value if isinstance(value, int) else float(value)


def _table_document(rows: DataFrame, cube: CubeShape, kinds: Mapping[str, ColumnKind]) -> Document:
    """Return the newest rows, or the first rows by key if the cube has no time axis."""
    order = [F.desc_nulls_last(_quoted_column(cube.time))] if cube.time else []
    order += [F.asc(_quoted_column(cube.grouping_column))] if cube.grouping_column else []
    order += [F.asc_nulls_last(_quoted_column(d)) for d in cube.dimensions]
    shown = json_rows((rows.orderBy(*order) if order else rows).limit(MAX_ROWS))
    return {
        "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
        "rows": [list(row.values()) for row in shown],
    }
