"""Decides how the dates and times of a table are read: their type, the order of day and month, patterns, time zone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from lakehouse.propose import shapes
from lakehouse.propose.load import LoadedTable
from lakehouse.propose.shapes import DateForm
from lakehouse.propose.texts import MAX_OUTLIERS, ColumnType, TableTypes, Texts
from lakehouse.propose.words import DATE_WORDS, NULL_WORDS, TIME_WORDS

_MAX_INSTANTS = 50_000
_EPOCH_MS = (946_684_800_000, 4_102_444_800_000)  # the years 2000 to 2099
# Zones by how often their midnights are written as instants; the first that fits the values is proposed.
_ZONES = (
    *("America/Sao_Paulo", "America/New_York", "Europe/Lisbon", "Europe/London", "Europe/Paris", "Asia/Kolkata"),
    *("Asia/Tokyo", "Asia/Shanghai", "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Bogota"),
    *("America/Argentina/Buenos_Aires", "America/Mexico_City", "Australia/Sydney", "Europe/Athens", "Europe/Moscow"),
)


def date_forms(texts: Texts) -> tuple[DateForm, ...]:
    """Return how the values of a column are written if they are dates or times, except for a few."""
    if texts.is_text or not texts.total:
        return ()
    forms = Counter[DateForm]()
    for shape, count in texts.shapes.items():
        if form := shapes.date_form(shape):
            forms[form] += count
    instants = texts.shapes["9" * 13]
    if not forms or not texts.allows(texts.total - sum(forms.values()) - instants):
        return ()
    return tuple(forms)


def choose_day_order(table: LoadedTable, dated: dict[str, tuple[DateForm, ...]], chosen: TableTypes) -> None:
    """Decide whether the day or the month comes first, by the parts above 12; columns that contradict stay text."""
    votes: dict[str, tuple[int, int]] = {}
    for name, forms in dated.items():
        if any(form.order == "xy" for form in forms):
            column = table.column(name)
            parts = [f"try_cast(regexp_extract(trim({column}), '^(\\d+)[-/.](\\d+)[-/.]', {n}) AS INT)" for n in (1, 2)]
            votes[name] = table.one(
                f"SELECT {', '.join(f'count(*) FILTER ({part} BETWEEN 13 AND 31)' for part in parts)} FROM source_rows"
                f" WHERE regexp_matches(trim({column}), '^\\d{{1,2}}[-/.]')"
            )
    if not votes:
        return
    day_first, month_first = (sum(vote[n] > vote[1 - n] for vote in votes.values()) for n in (0, 1))
    if not day_first and not month_first:
        chosen.day_first = chosen.options.get("locale") != "en-US"
        pattern = "dd/MM" if chosen.day_first else "MM/dd"
        chosen.notes.append(
            f"dates: no day above 12 shows whether day or month comes first in {', '.join(votes)}; {pattern} is assumed"
        )
        return
    chosen.day_first = day_first >= month_first
    unclear = [name for name, vote in votes.items() if not any(vote)]
    if unclear:
        chosen.notes.append(
            f"dates: no day above 12 in {', '.join(unclear)}; day and month are read as in the other columns"
        )
    for name, vote in votes.items():
        if vote[chosen.day_first] > vote[not chosen.day_first]:
            dated[name] = ()
            chosen.notes.append(
                f"dates: {name} has day and month in the other order than other columns; it stays STRING"
            )


def choose_date_type(
    table: LoadedTable, forms: tuple[DateForm, ...], texts: Texts, chosen: TableTypes, column: ColumnType
) -> None:
    """Set DATE or TIMESTAMP, if the values are dates except for a few."""
    text = f"trim({table.column(column.name)})"
    normal = f"regexp_replace({text}, ' ?(Z|UTC|GMT)$', '+00:00')"
    formats = ", ".join(f"'{shapes.strptime_formats(form, chosen.day_first)}'" for form in forms)
    valid = f"try_strptime(regexp_replace({normal}, ' ([+-]\\d{{2}})', '\\1'), [{formats}]) IS NOT NULL"
    is_timed = any(form.has_time for form in forms)
    instants = texts.shapes["9" * 13]
    if instants and not is_timed:
        midnights = _zone_of_midnights(table, column.name)
        is_timed = midnights is None
        if midnights:
            chosen.zone = midnights[0] or chosen.zone
            column.outliers = midnights[1]
    words = ", ".join("'" + word.replace("'", "''") + "'" for word in sorted(NULL_WORDS))
    (invalid,) = table.one(
        f"SELECT count(*) FROM source_rows WHERE {text} <> '' AND NOT coalesce({valid}, false)"
        f" AND NOT regexp_full_match({text}, '\\d{{13}}') AND lower({text}) NOT IN ({words})"
    )
    if any(form.half for form in forms) and "locale" in chosen.options:
        column.notes.append("STRING, since AM and PM are read by the locale of the numbers")
        return
    too_exact = sum(n for shape, n in texts.shapes.items() if (f := shapes.date_form(shape)) and f.fraction > 6)
    if too_exact or not texts.allows(invalid):
        reason = "times have more than six digits after the second" if too_exact else f"{invalid:,} values are no dates"
        column.notes.append(f"STRING, since {reason}")
        return
    column.type, column.forms = "TIMESTAMP" if is_timed else "DATE", forms
    column.outliers += invalid
    if any(form.year_digits == 2 for form in forms):
        column.notes.append("years have two digits, which are read as 2000 to 2099")


def _zone_of_midnights(table: LoadedTable, name: str) -> tuple[str, int] | None:
    """Return the zone in which a day begins at the instants of a column, "" for UTC, and how many are outliers.

    None if most instants are no midnights, so that a DATE would lose their time.
    """
    column = f"trim({table.column(name)})"
    counts = {
        datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=value): count
        for value, count in table.duck.execute(
            f"SELECT {column}::BIGINT, count(*) FROM source_rows WHERE regexp_full_match({column}, '\\d{{13}}')"
            f" GROUP BY 1 LIMIT {_MAX_INSTANTS}"
        ).fetchall()
    }
    total = sum(counts.values())
    others = {instant: count for instant, count in counts.items() if f"{instant:%H%M%S%f}".strip("0")}
    if not others:
        return "", 0
    misses = {
        zone: sum(n for instant, n in others.items() if f"{instant.astimezone(ZoneInfo(zone)):%H%M%S%f}".strip("0"))
        for zone in _ZONES
    }
    best = min(misses, key=lambda zone: misses[zone])
    if misses[best] == sum(others.values()):
        best = ""
    missed = misses[best] if best else sum(others.values())
    return (best, missed) if missed <= MAX_OUTLIERS * total else None


def set_patterns(chosen: TableTypes) -> None:
    """Set `dateFormat` and `timestampFormat` if some column of the type needs a pattern.

    A table has one pattern for each type. A column that it cannot include becomes a STRING, or a BIGINT if it counts
    seconds.
    """
    for kind, option in (("DATE", "dateFormat"), ("TIMESTAMP", "timestampFormat")):
        columns = [column for column in chosen.columns if column.type == kind]
        seconds = [column for column in columns if column.counts_seconds]
        if seconds and len(seconds) == len(columns):
            chosen.options[option] = "epoch_s"
            continue
        for column in seconds:
            column.type = "BIGINT"
            column.notes = ["BIGINT, although it may count seconds since 1970: other columns are times in another form"]
        columns = [column for column in columns if not column.counts_seconds]
        if all(form.is_iso for column in columns for form in column.forms):
            continue
        families = _families(column for column in columns)
        if any(not shapes.has_pattern(forms) for forms in families.values()):
            for column in columns:
                if not all(shapes.has_pattern(forms) for forms in _families([column]).values()) or len(columns) > 1:
                    column.type, column.outliers = "STRING", 0
                    column.notes.append("STRING, since no pattern reads its times and those of the other columns")
            families = _families(column for column in columns if column.type == kind)
        # Without separators first: the others cannot read the beginning of such a day by mistake.
        groups = [families[key] for key in sorted(families, key=lambda family: family[1] != "")]
        patterns = [shapes.spark_pattern(group, chosen.day_first) for group in groups]
        if patterns:
            chosen.options[option] = patterns[0] if len(patterns) == 1 else "".join(f"[{p}]" for p in patterns)


def _families(columns: Iterable[ColumnType]) -> dict[tuple[str, str, int], list[DateForm]]:
    """Return the forms of columns, grouped so that one pattern can read each group."""
    families: dict[tuple[str, str, int], list[DateForm]] = {}
    for column in columns:
        for form in column.forms:
            families.setdefault(form.family, []).append(form)
    return families


def choose_instant(table: LoadedTable, texts: Texts, chosen: TableTypes, column: ColumnType) -> bool:
    """Set DATE or TIMESTAMP for integers that are days (20250131) or count from 1970; return whether they may be."""
    text = f"trim({table.column(column.name)})"
    shape, count = next(iter(texts.shapes.most_common(1)), ("", 0))
    if not texts.allows(texts.total - count) or texts.is_id:
        return False
    numbers = f"FROM source_rows WHERE regexp_full_match({text}, '\\d{{{len(shape)}}}')"
    if shape == "9" * 8 and texts.words & DATE_WORDS:
        (valid,) = table.one(
            f"SELECT count(*) {numbers} AND try_strptime({text}, '%Y%m%d') BETWEEN '1900-01-01' AND '2200-01-01'"
        )
        if texts.allows(texts.total - valid):
            column.type, column.outliers, column.forms = "DATE", texts.total - valid, (shapes.compact_date_form(),)
        return column.type == "DATE"
    if shape not in ("9" * 13, "9" * 10):
        return False
    unit = 1 if len(shape) == 13 else 1000
    low, high = table.one(f"SELECT min({text}::BIGINT) * {unit}, max({text}::BIGINT) * {unit} {numbers}")
    if not _EPOCH_MS[0] <= low <= high <= _EPOCH_MS[1]:
        return False
    if not texts.words & DATE_WORDS:
        column.notes.append(f"could be times that count {'milliseconds' if unit == 1 else 'seconds'} since 1970")
        return False
    column.type, column.outliers = "TIMESTAMP", texts.total - count
    if unit == 1000:
        column.counts_seconds = True
        column.notes.append("read as seconds since 1970, because of its name and its values")
    elif not texts.words & TIME_WORDS and (midnights := _zone_of_midnights(table, column.name)):
        column.type = "DATE"
        chosen.zone = midnights[0] or chosen.zone
        column.outliers += midnights[1]
    return True
