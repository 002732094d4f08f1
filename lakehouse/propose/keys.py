"""Finds the key of a table: columns without nulls that are proved unique in every snapshot, and stable between them.

A candidate is tried on some rows first, and proved on all rows only if it holds there. Names decide the order: the
table's own id, other ids, days and codes, other text, numbers. Amounts are never keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise

from lakehouse.propose import shapes
from lakehouse.propose.load import LoadedTable
from lakehouse.propose.names import to_snake_case
from lakehouse.propose.shapes import DateForm
from lakehouse.propose.texts import MAX_OUTLIERS
from lakehouse.propose.words import PART_WORDS, ROW_NUMBER_NAMES, UPDATE_WORDS, is_id_name, is_own_id_name
from lakehouse.text import counted

MIN_STABLE = 0.5
"""The share of a snapshot's keys that the next one must have at least."""

MAX_COLUMNS = 3
_MAX_CANDIDATES = 14  # columns that composite keys are made of
_SAMPLE_ROWS = 50_000
_MIN_ROWS = 20  # with fewer, a column that is no id is unique by chance
_MAX_PROOFS = 40
_MAX_VERSIONS = 0.2  # the share of rows that may be older versions of another one, if a time orders them
_OWN_ID, _ID, _PART, _TEXT, _TIME = range(5)


@dataclass(frozen=True)
class KeyColumn:
    """A column that may be part of a key.

    Attributes:
        name: The name in the files.
        sql: The value as the product compares it, or NULL if it has none or cannot be read.
        rank: How likely it identifies rows, the most likely first.
    """

    name: str
    sql: str
    rank: int


@dataclass
class Key:
    """A key, with the proof of it.

    Attributes:
        columns: The names in the files; empty if there is no key.
        is_proved: Whether it has no nulls and is unique in every snapshot.
        stable: The smallest share of a snapshot's keys that the next one has; None with one snapshot.
        updated_at: The column that says which of several rows with one key is the newest; "" if none is needed.
        notes: The doubts, or why there is no key.
    """

    columns: tuple[str, ...] = ()
    is_proved: bool = False
    stable: float | None = None
    updated_at: str = ""
    notes: list[str] = field(default_factory=list)


class _Rows:
    """The rows of a table, with their counts, and a sample of different ones in the table `sample_rows`."""

    def __init__(self, table: LoadedTable) -> None:
        self.table, self.counts = table, table.row_counts()
        # Equal rows are one row to the product.
        self._everything = ", ".join(f"c{n}" for n in range(len(table.columns)))
        table.duck.execute(
            f"CREATE TABLE sample_rows AS SELECT DISTINCT snapshot, {self._everything}"
            f" FROM (SELECT * FROM source_rows LIMIT {_SAMPLE_ROWS})"
        )

    @cached_property
    def different(self) -> dict[int, int]:
        """The number of different rows of each snapshot."""
        query = (
            f"SELECT snapshot, count(*) FROM (SELECT DISTINCT snapshot, {self._everything} FROM source_rows) GROUP BY 1"
        )
        return dict(self.table.duck.execute(query).fetchall())

    def share_of_keys(self, columns: Sequence[KeyColumn]) -> float:
        """Return the number of keys in the sample, as a share of its rows."""
        (keys, rows) = self.table.one(
            f"SELECT (SELECT count(*) FROM (SELECT DISTINCT snapshot, {_tuple_sql(columns)} FROM sample_rows)),"
            " count(*) FROM sample_rows"
        )
        return keys / rows if rows else 0.0

    def create_different(self) -> None:
        """Write the different rows of all snapshots to the table `different_rows`."""
        self.table.duck.execute(
            "CREATE TABLE IF NOT EXISTS different_rows AS"
            f" SELECT DISTINCT snapshot, {self._everything} FROM source_rows"
        )


def key_sql(column: str, spark_type: str, forms: Sequence[DateForm], day_first: bool, is_text: bool) -> str:
    """Return the SQL of a value as the product compares it: 1 equals 01 as a number, and days equal in any form.

    Args:
        column: The column of `source_rows`.
        spark_type: Its type.
        forms: For dates: how they are written.
        day_first: Whether the day comes before the month.
        is_text: Whether the column is text in DuckDB.
    """
    if not is_text or spark_type == "STRING":
        return column
    text = f"trim({column})"
    if spark_type in ("INT", "BIGINT"):
        return f"try_cast(regexp_replace({text}, '[^0-9+-]', '', 'g') AS BIGINT)"
    if spark_type in ("DATE", "TIMESTAMP"):
        normal = f"regexp_replace(regexp_replace({text}, ' ?(Z|UTC|GMT)$', '+00:00'), ' ([+-]\\d{{2}})', '\\1')"
        formats = ", ".join(f"'{shapes.strptime_formats(form, day_first)}'" for form in forms) or "'%Y%m%d'"
        # Twelve hours later, a midnight of any zone is on its day in UTC.
        shift = " + 43200000" if spark_type == "DATE" else ""
        instant = (
            f"epoch_ms(try_cast(CASE WHEN regexp_full_match({text}, '\\d{{13}}') THEN {text} END AS BIGINT){shift})"
        )
        value = f"coalesce(try_strptime({normal}, [{formats}])::TIMESTAMP, {instant})"
        return f"{value}::DATE" if spark_type == "DATE" else value
    return column


def find_key(
    table: LoadedTable,
    columns: Sequence[KeyColumn],
    updated_at: Sequence[KeyColumn],
    preferred: Sequence[str] = (),
) -> Key:
    """Return the key of a table.

    Args:
        table: The rows.
        columns: The columns that may be part of a key.
        updated_at: Columns with the time of a row's last change, which order rows of one key.
        preferred: A key to try first, from an existing configuration.
    """
    rows = _Rows(table)
    if not any(rows.counts.values()):
        return Key(notes=["it has no rows"])
    ordered = _order(columns)
    best_unstable: Key | None = None
    proofs = 0
    wanted = tuple(column for column in columns if column.name in preferred)
    is_whole = bool(wanted) and len(wanted) == len(preferred) and not any(_nulls(table, column) for column in wanted)
    for candidate in [*([wanted] if is_whole else []), *_candidates(rows, ordered)]:
        if proofs >= _MAX_PROOFS:
            break
        if rows.share_of_keys(candidate) < 1:
            continue
        proofs += 1
        if not _is_unique(rows, candidate):
            continue
        stable = _stability(table, candidate)
        key = Key(tuple(c.name for c in candidate), is_proved=True, stable=stable)
        if stable is None or stable >= MIN_STABLE:
            own_id = [column for column in candidate if column.rank == _OWN_ID]
            if own_id and len(candidate) > 1 and (of_id := _nearly_key(rows, own_id, updated_at)) and of_id.updated_at:
                return of_id  # with its values, older versions of a row would be rows of their own
            _add_doubts(key, candidate, rows)
            return key
        best_unstable = best_unstable or key
    nearly = _nearly_key(rows, ordered, updated_at)
    if nearly:
        return nearly
    if best_unstable:
        share = f"{best_unstable.stable:.0%}"
        return Key(
            notes=[
                f"{', '.join(best_unstable.columns)} is unique in every snapshot, but only {share} of its values are"
                " in the next one: every row would be deleted and inserted"
            ]
        )
    return Key(notes=[_why_no_key(rows, ordered)])


def rank_column(table_name: str, column: str, spark_type: str, position: int) -> int | None:
    """Return how likely a column identifies rows, the most likely first; None if it never does.

    >>> rank_column("clientes", "idCliente", "STRING", 3), rank_column("clientes", "saldo", "DECIMAL(18,2)", 1)
    (0, None)

    Args:
        table_name: The table's name.
        column: The column's name in the files.
        spark_type: Its type.
        position: Its position, from 0.
    """
    if spark_type.startswith(("DOUBLE", "FLOAT", "BOOLEAN", "BINARY", "ARRAY", "STRUCT")):
        return None
    if spark_type.startswith("DECIMAL") and not spark_type.endswith(",0)"):
        return None
    name = to_snake_case(column)
    words = set(name.split("_"))
    if name in ROW_NUMBER_NAMES:
        return _TIME
    if is_own_id_name(table_name, column):
        return _OWN_ID
    if is_id_name(column):
        return _ID
    is_whole = spark_type in ("INT", "BIGINT") or spark_type.startswith("DECIMAL")
    if spark_type == "DATE" or words & PART_WORDS or (position == 0 and (spark_type == "STRING" or is_whole)):
        return _PART
    if spark_type.startswith("TIMESTAMP"):
        return None if words & UPDATE_WORDS else _TIME  # a time that moves with each update keeps no row
    if spark_type == "STRING" or position == 0:
        return _TEXT
    return None  # a count or an amount


def _order(columns: Sequence[KeyColumn]) -> list[KeyColumn]:
    return sorted(columns, key=lambda column: column.rank)  # stable: by position within a rank


def _candidates(rows: _Rows, columns: Sequence[KeyColumn]) -> Iterator[tuple[KeyColumn, ...]]:
    """Yield sets of columns without nulls: the most likely first, then the fewest columns."""
    usable = [column for column in columns if not _nulls(rows.table, column)]
    sets = [candidate for n in range(1, MAX_COLUMNS + 1) for candidate in combinations(usable[:_MAX_CANDIDATES], n)]
    sets += [(column,) for column in usable[_MAX_CANDIDATES:]]
    sets = [candidate for candidate in sets if _is_meaningful(rows, candidate)]
    position = {column.name: n for n, column in enumerate(usable)}
    yield from sorted(
        sets,
        key=lambda cs: (max(c.rank for c in cs), len(cs), sum(c.rank for c in cs), [position[c.name] for c in cs]),
    )


def _is_meaningful(rows: _Rows, columns: Sequence[KeyColumn]) -> bool:
    """Return whether a unique set of columns would say something: chance and all columns together are unique too."""
    ranks = {column.rank for column in columns}
    if len(rows.table.columns) == 1:
        return True
    if max(ranks) > _ID and len(columns) == len(rows.table.columns):
        return False
    if max(ranks) < _TEXT or (max(ranks) == _TIME and _ID in ranks and not ranks & {_OWN_ID, _TEXT}):
        return True
    return (len(columns) > 1 or max(ranks) < _TIME) and sum(rows.counts.values()) >= _MIN_ROWS


def _nulls(table: LoadedTable, column: KeyColumn) -> int:
    (count,) = table.one(f"SELECT count(*) FROM source_rows WHERE {column.sql} IS NULL")
    return int(count)


def _tuple_sql(columns: Sequence[KeyColumn]) -> str:
    return ", ".join(f"{column.sql} AS k{n}" for n, column in enumerate(columns))


def _is_unique(rows: _Rows, columns: Sequence[KeyColumn]) -> bool:
    """Return whether each snapshot has as many keys as different rows."""
    query = (
        f"SELECT snapshot, count(*) FROM (SELECT DISTINCT snapshot, {_tuple_sql(columns)} FROM source_rows) GROUP BY 1"
    )
    found = dict(rows.table.duck.execute(query).fetchall())
    counts = rows.counts.items()
    # Equal rows are looked for only if there are fewer keys than rows.
    return all(
        found.get(snapshot, 0) == count or found.get(snapshot, 0) == rows.different.get(snapshot, 0)
        for snapshot, count in counts
    )


def _stability(table: LoadedTable, columns: Sequence[KeyColumn]) -> float | None:
    """Return the smallest share of a snapshot's keys that the next one has."""
    shares = []
    filled = [snapshot for snapshot, count in table.row_counts().items() if count]
    for before, after in pairwise(filled):
        sides = [
            f"(SELECT DISTINCT {_tuple_sql(columns)} FROM source_rows WHERE snapshot = {n})" for n in (before, after)
        ]
        using = ", ".join(f"k{n}" for n in range(len(columns)))
        (common,) = table.one(f"SELECT count(*) FROM {sides[0]} AS a JOIN {sides[1]} AS b USING ({using})")
        (total,) = table.one(f"SELECT count(*) FROM {sides[0]}")
        shares.append(common / total if total else 1.0)
    return min(shares, default=None)


def _add_doubts(key: Key, columns: Sequence[KeyColumn], rows: _Rows) -> None:
    """Note the doubts about a key."""
    total, keys = sum(rows.counts.values()), _key_count(rows.table, columns)
    if copies := total - keys:
        key.notes.append(f"keys: rows that are equal to another one in all columns count as one row ({copies:,})")
    if max(column.rank for column in columns) > _ID:
        key.notes.append("keys: chosen because it is unique, not because of its name; is it meant to be?")
    if key.stable is not None and key.stable < 0.9:
        key.notes.append(
            f"keys: only {key.stable:.0%} of a snapshot's keys are in the next one; another key is better if so many"
            " rows do not come and go"
        )
    if any(to_snake_case(column.name) in ROW_NUMBER_NAMES for column in columns):
        key.notes.append("keys: its name is that of a row number, which changes when a row is inserted before it")


def _nearly_key(rows: _Rows, columns: Sequence[KeyColumn], updated_at: Sequence[KeyColumn]) -> Key | None:
    """Return a key of ids and days that few rows contradict: by a null, or by an older version of a row."""
    table, total = rows.table, sum(rows.counts.values())
    allowed, times = MAX_OUTLIERS * total, {column.name for column in updated_at}
    likely = [c for c in columns if c.name not in times and c.rank <= _TEXT and _nulls(table, c) <= allowed]
    likely = likely[:_MAX_CANDIDATES]
    sets = [candidate for n in range(1, MAX_COLUMNS + 1) for candidate in combinations(likely, n)]
    sets.sort(key=lambda cs: (max(c.rank for c in cs), len(cs), sum(c.rank for c in cs)))
    if total < 1 / MAX_OUTLIERS:
        return None
    best: tuple[tuple[int, int], Key] | None = None
    likely_sets = [candidate for candidate in sets if rows.share_of_keys(candidate) >= 1 - 1.5 * _MAX_VERSIONS]
    if likely_sets:
        rows.create_different()
    for number, candidate in enumerate(likely_sets[:_MAX_PROOFS]):
        for order in [None, *updated_at]:
            conflicts, versions, nulls = _contradictions(table, candidate, order)
            score = (nulls + versions, number)
            if conflicts or nulls > allowed or versions > _MAX_VERSIONS * total or (best and best[0] <= score):
                continue
            if (stable := _stability_of(table, candidate)) < MIN_STABLE:
                continue
            key = Key(tuple(c.name for c in candidate), False, stable if len(rows.counts) > 1 else None)
            key.updated_at = order.name if order and versions else ""
            if nulls:
                key.notes.append(
                    f"keys: {nulls:,} of {counted(total, 'row')} have no value in a key column and go to quarantine"
                )
            if versions:
                key.notes.append(
                    f"keys: {counted(versions, 'row has', 'rows have')} the key of another one; the newest by"
                    f" {key.updated_at} is kept"
                )
            key.notes.append("keys: not proved, since these rows contradict it; is it the right key?")
            best = score, key
    return best[1] if best else None


def _stability_of(table: LoadedTable, columns: Sequence[KeyColumn]) -> float:
    stable = _stability(table, columns)
    return 1.0 if stable is None else stable


def _contradictions(table: LoadedTable, columns: Sequence[KeyColumn], order: KeyColumn | None) -> tuple[int, int, int]:
    """Return the keys with two different rows (of one time, if there is an order), further versions, and null keys."""
    keys = ", ".join(f"k{n}" for n in range(len(columns)))
    has_key = " AND ".join(f"k{n} IS NOT NULL" for n in range(len(columns)))
    time = f"{order.sql} AS t" if order else "0 AS t"
    rows = f"(SELECT snapshot, {_tuple_sql(columns)}, {time} FROM different_rows)"
    (nulls,) = table.one(f"SELECT count(*) FROM {rows} WHERE NOT ({has_key})")
    (conflicts,) = table.one(
        f"SELECT count(*) FROM (SELECT 1 FROM {rows} WHERE {has_key} GROUP BY snapshot, t, {keys} HAVING count(*) > 1)"
    )
    (versions,) = table.one(
        f"SELECT coalesce(sum(n - 1), 0) FROM"
        f" (SELECT count(*) AS n FROM {rows} WHERE {has_key} GROUP BY snapshot, {keys})"
    )
    return int(conflicts), int(versions), int(nulls)


def _key_count(table: LoadedTable, columns: Sequence[KeyColumn]) -> int:
    (count,) = table.one(f"SELECT count(*) FROM (SELECT DISTINCT snapshot, {_tuple_sql(columns)} FROM source_rows)")
    return int(count)


def _why_no_key(rows: _Rows, columns: Sequence[KeyColumn]) -> str:
    """Return why no key was found, with the best candidate's figures."""
    if not columns:
        return "no column can be a key: amounts, flags and nested values identify no row"
    table, best = rows.table, columns[0]
    nulls = _nulls(table, best)
    (different,) = table.one(
        f"SELECT count(*) FROM"
        f" (SELECT DISTINCT snapshot, {_tuple_sql([best])} FROM source_rows WHERE {best.sql} IS NOT NULL)"
    )
    total = sum(rows.different.values())
    if different == total and not nulls:
        return (
            f"{best.name} is unique in every snapshot, but {total:,} rows are too few to show that it is no coincidence"
        )
    return (
        f"no one to three columns are unique in every snapshot: {best.name}, for example, has"
        f" {counted(different, 'value')} in {counted(total, 'row')}" + (f", and none in {nulls:,}" if nulls else "")
    )
