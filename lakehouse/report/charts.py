"""Builds the charts as Vega-Lite specifications with Altair, from the plain rows of a cube.

The data have column names of this module (`t`, `d`, `m0`), because Vega could take a user's column name for an
expression. Colours are the page's CSS variables, so that a chart follows the theme and the print style without being
drawn again.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import altair as alt

from lakehouse.report.words import Words

Document = dict[str, Any]
Rows = list[dict[str, Any]]

_SERIES_COLOURS = [f"var(--series-{n})" for n in range(1, 13)]
_CHANGE_COLOURS = {"inserted": "var(--inserted)", "updated": "var(--updated)", "deleted": "var(--deleted)"}
_NUMBER_FORMAT = ",.6~f"
_SHORT_NUMBERS_FROM = 10_000  # an axis writes 10k
_BAR_HEIGHT = 22  # pixels
_FEW_TIMES = 2  # up to so many, values are points or bars
_MONTHS_ONLY_FROM = 100  # days; a longer axis shows months without days


def cube_figures(cube: Document, words: Words) -> list[Document]:
    """Return the charts of a cube, each as `figure` returns it.

    Args:
        cube: The cube, as `read_cube` returns it.
        words: The language.
    """
    return [chart for view in cube["charts"] for chart in _view_figures(view, words)]


def _view_figures(view: Document, words: Words) -> Iterable[Document]:
    # A row count of a cube with one more key counts the values of that key.
    counted = view["counted"]
    count_title = words("count_of", name=counted[0]) if len(counted) == 1 else words("count")
    measures = [m | {"name": m["name"] or count_title} for m in view["measures"]]
    if not view["by"]:
        for m in measures:
            yield figure(m["name"], _trend_chart(view["series"], m, words), wide=len(measures) == 1)
        return
    label = " · ".join(view["by"])
    title = words("by", label=label)
    if view["series"]:
        # Each series has a row at each time; the measures of a missing row are zero if they add up, else unknown.
        known = {(row["t"], row["d"]): row for row in view["series"]}
        empty = dict.fromkeys((m["column"] for m in measures), 0 if view["adds"] else None)
        times, series = dict.fromkeys(t for t, _ in known), dict.fromkeys(d for _, d in known)
        points = [known.get((t, d), empty | {"t": t, "d": d}) for t, d in product(times, series)]
        rows = _with_series_names(points, words)
        spec = _series_chart(rows, measures, view["adds"], words)
        legend = list(zip(_series_names(rows), _SERIES_COLOURS, strict=False))
        yield figure(title, spec, _shown_of_all(view, rows, measures, words), legend, wide=True)
    if view["bars"]:
        if view["newest"] is not None:
            title = words("by_newest", label=label, time=words.moment(view["newest"]))
        rows = _with_series_names(view["bars"], words)
        yield figure(title, _bar_chart(rows, measures, words), _shown_of_all(view, rows, measures, words), wide=True)


def figure(title: str, spec: Document, beneath: str = "", legend: Iterable[Any] = (), wide: bool = False) -> Document:
    """Return a chart for the page.

    Args:
        title: The title.
        spec: The Vega-Lite specification.
        beneath: The line below the title.
        legend: The name and the colour of each series.
        wide: Whether it takes the full width of the page, not half of it.
    """
    return {"title": title, "beneath": beneath, "legend": list(legend), "spec": spec, "wide": wide}


def _shown_of_all(view: Document, rows: Rows, measures: list[Document], words: Words) -> str:
    """Return how many of the series are shown, and the measure that they were chosen by."""
    shown, of = len(_series_names(rows)), view["kinds"]
    return words("top", shown=words.number(shown), of=words.number(of), measure=measures[0]["name"])


def change_chart(shown: Rows, words: Words) -> Document:
    """Return the chart of a table's inserted, updated and deleted rows by snapshot.

    Args:
        shown: The change counts of the snapshots, oldest first.
        words: The language.
    """
    rows = [
        {
            # The second part keeps two snapshots apart whose clock times are equal, when clocks are set back.
            "t": f"{words.chart_time(e['snapshot_time'])} {e['snapshot_time']}",
            "when": words.time(e["snapshot_time"]),
            "k": words(kind),
            "n": e[kind],
            "v": -e[kind] if kind == "deleted" else e[kind],
        }
        for e in shown
        for kind in _CHANGE_COLOURS
    ]
    day = f"utcFormat(toDate(split(datum.label, ' ')[0]), '{words('day_of_month')}')"
    chart = (
        _base_chart(rows, 130)
        .mark_bar(size=max(3, min(22, 260 // len(shown))))
        .encode(
            x=alt.X(
                "t:O", title=None, sort=None, axis=alt.Axis(labelExpr=day, labelAngle=0, labelOverlap=True, ticks=False)
            ),
            y=alt.Y("v:Q", title=None, axis=_y_axis(rows, ["v"])),
            color=alt.Color(
                "k:N",
                legend=None,
                scale=alt.Scale(domain=[words(k) for k in _CHANGE_COLOURS], range=list(_CHANGE_COLOURS.values())),
            ),
            tooltip=[
                alt.Tooltip("when:N", title=words("snapshot")),
                alt.Tooltip("k:N", title=" "),
                alt.Tooltip("n:Q", title=words("count"), format=_NUMBER_FORMAT),
            ],
        )
    )
    return _to_spec(chart)


def _trend_chart(rows: Rows, measure: Document, words: Words) -> Document:
    """Return the chart of one measure over time."""
    column, rows = measure["column"], _with_clock_times(rows, words)
    base = _base_chart([{"t": row["t"], column: row[column]} for row in rows], 110).encode(
        x=_time_axis(rows, words),
        y=alt.Y(f"{column}:Q", title=None, axis=_y_axis(rows, [column])),
        tooltip=[_time_tooltip(rows), alt.Tooltip(f"{column}:Q", title=measure["name"], format=_NUMBER_FORMAT)],
    )
    line = base.mark_line(color=_SERIES_COLOURS[0], strokeWidth=1.75, clip=True)
    dots = base.mark_point(color=_SERIES_COLOURS[0], filled=True, size=36, opacity=1)
    return _to_spec(alt.layer(line, *([dots] if _has_few_times(rows) else []), _hover_points(base)))


def _series_chart(rows: Rows, measures: list[Document], is_stacked: bool, words: Words) -> Document:
    """Return a chart with a line for each series, or with the series of additive values stacked.

    The reader chooses the measure beside the chart.
    """
    chosen, kinds = _measure_selector(measures, words), _series_names(rows)
    rows = _with_clock_times(rows, words)
    base = (
        _base_chart(rows, 230)
        .transform_calculate(v=f"datum[{chosen.name}]")
        .encode(
            x=_time_axis(rows, words),
            y=alt.Y("v:Q", title=None, axis=_y_axis(rows, [m["column"] for m in measures])),
            color=alt.Color("d:N", legend=None, scale=alt.Scale(domain=kinds, range=_SERIES_COLOURS[: len(kinds)])),
            tooltip=[_time_tooltip(rows), alt.Tooltip("d:N", title=" "), *_measure_tooltips(measures)],
        )
    )
    if is_stacked and _has_few_times(rows):
        return _to_spec(base.mark_bar(size=24).add_params(chosen))
    if is_stacked:
        area = base.mark_area(interpolate="step-after", line=False, clip=True)
        return _to_spec(area.add_params(chosen))
    line = base.mark_line(strokeWidth=1.75, clip=True)  # with gaps where a series has no row
    isolated_points = base.mark_point(filled=True, size=36 if _has_few_times(rows) else 9, opacity=1)
    return _to_spec(alt.layer(line, isolated_points, _hover_points(base)).add_params(chosen))


def _bar_chart(rows: Rows, measures: list[Document], words: Words) -> Document:
    chosen = _measure_selector(measures, words)
    columns = [m["column"] for m in measures]
    chart = (
        _base_chart(rows, _BAR_HEIGHT * len(rows))
        .transform_calculate(v=f"datum[{chosen.name}]")
        .mark_bar(color=_SERIES_COLOURS[0], height={"band": 0.62})
        .encode(
            x=alt.X("v:Q", title=None, axis=_y_axis(rows, columns)),
            y=alt.Y(
                "d:N",
                title=None,
                sort=alt.EncodingSortField("v", order="descending"),
                axis=alt.Axis(ticks=False, domain=False, labelLimit=180, labelPadding=8),
            ),
            tooltip=[alt.Tooltip("d:N", title=" "), *_measure_tooltips(measures)],
        )
    )
    return _to_spec(chart.add_params(chosen))


# --- parts ------------------------------------------------------------------------------------------------------


def _has_few_times(rows: Rows) -> bool:
    """Return whether lines and areas would be short or, of one time, have no length at all."""
    return len({row["t"] for row in rows}) <= _FEW_TIMES


def _base_chart(rows: Rows, height: int) -> alt.Chart:
    chart: alt.Chart = alt.Chart(alt.InlineData(values=rows), width="container", height=height)
    return chart


def _to_spec(chart: alt.TopLevelMixin) -> Document:
    """Return the specification of a chart that fills its element, axes included.

    Altair's configuration is removed: the page configures Vega with its own colours.
    """
    document: Document = chart.to_dict()
    return {name: value for name, value in document.items() if name != "config"} | {
        "autosize": {"type": "fit-x", "contains": "padding"}
    }


def _hover_points(base: alt.Chart) -> Any:
    """Return invisible points, which make it easy to hit a value with the pointer."""
    return base.mark_point(opacity=0, size=120, filled=True)


def _time_axis(rows: Rows, words: Words) -> alt.X:
    """Return the time axis, in UTC: in the reader's zone, west of Greenwich, a day would be shown as the day before."""
    days = len({str(row["t"])[:10] for row in rows})
    day = words("day_of_month")
    formats = {"year": "%Y", "quarter": "%b", "month": "%b", "week": day, "day": day, "date": day, "hours": "%H:%M"}
    if days <= _MONTHS_ONLY_FROM:
        formats |= {"year": day, "quarter": day, "month": day}
    count = max(1, min(5, days - 1)) if _has_dates_only(rows) else 5  # no ticks within a day
    axis = alt.Axis(grid=False, tickCount=count, format=formats, labelOverlap=True)
    return alt.X("t:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def _with_clock_times(rows: Rows, words: Words) -> Rows:
    return [row | {"t": words.chart_time(row["t"])} if isinstance(row["t"], str) else row for row in rows]


def _has_dates_only(rows: Rows) -> bool:
    return all(len(str(row["t"])) == len("2025-10-03") for row in rows)


def _time_tooltip(rows: Rows) -> alt.Tooltip:
    days = _has_dates_only(rows)
    unit = "utcyearmonthdate" if days else "utcyearmonthdatehoursminutes"
    return alt.Tooltip(f"{unit}(t):T", title=" ", format="%x" if days else "%x %H:%M")


def _y_axis(rows: Rows, columns: list[str]) -> alt.Axis:
    greatest = max((abs(row[c]) for row in rows for c in columns if row[c] is not None), default=0)
    return alt.Axis(format="~s" if greatest >= _SHORT_NUMBERS_FROM else ",.4~f", tickCount=4, domain=False, ticks=False)


def _measure_selector(measures: list[Document], words: Words) -> alt.Parameter:
    columns = [m["column"] for m in measures]
    names = [m["name"] for m in measures]
    if len(columns) == 1:
        return alt.param(name="measure", value=columns[0])
    bind = alt.binding_select(options=columns, labels=names, name=words("measure"))
    return alt.param(name="measure", value=columns[0], bind=bind)


def _measure_tooltips(measures: list[Document]) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{m['column']}:Q", title=m["name"], format=_NUMBER_FORMAT) for m in measures]


def _with_series_names(rows: Rows, words: Words) -> Rows:
    return [row | {"d": words("no_value") if row["d"] is None else row["d"] or '""'} for row in rows]


def _series_names(rows: Rows) -> list[str]:
    return sorted({row["d"] for row in rows})
