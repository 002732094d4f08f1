"""Counts the texts of a column by shape, and holds the decisions about columns and tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lakehouse.propose import shapes
from lakehouse.propose.load import LoadedTable
from lakehouse.propose.names import to_snake_case
from lakehouse.propose.shapes import DateForm
from lakehouse.propose.words import NULL_WORDS, is_id_name

MAX_OUTLIERS = 0.05
"""The largest share of a column's values that may not be of its type; their rows go to quarantine."""

MIN_VALUES_FOR_OUTLIERS = 20
"""With fewer values, each of them must be of the type."""

_SAMPLE_ROWS = 10_000
# What numbers, dates and times are made of; quotes are doubled for SQL.
_LIKELY = r"[+-]?[.,]?[0-9]([0-9.,:/ +''\x{2019}\x{00A0}\x{202F}TZeE-]|AM|PM|am|pm|UTC|GMT)*"
_WITH_SIGN = r"[+-]?(R\$|[A-Z]{0,3}[$\x{20AC}\x{00A3}]) ?[+-]?[0-9][0-9., ]*|[+-]?[0-9][0-9., ]*(%|\x{20AC})"
_MAX_SHAPES = 3_000
_MAX_SHAPE_LENGTH = 60


@dataclass
class ColumnType:
    """The type of one column, and the doubts about it.

    Attributes:
        name: The name in the files.
        type: The Spark type.
        forms: For DATE and TIMESTAMP: how the values are written.
        outliers: How many values are not of the type.
        nulls: How many rows have no value.
        counts_seconds: Whether the values count seconds since 1970.
        notes: The doubts, and why.
    """

    name: str
    type: str = "STRING"
    forms: tuple[DateForm, ...] = ()
    outliers: int = 0
    nulls: int = 0
    counts_seconds: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass
class TableTypes:
    """The types of a table's columns, with the options by which they are read.

    Attributes:
        columns: The columns, in the order of the files.
        options: Reader options that differ from the defaults.
        day_first: Whether 01/02/2025 is the first of February.
        zone: The time zone in which days begin at the instants of the files; "" if there is no evidence.
        notes: The doubts about the table, and why.
    """

    columns: list[ColumnType] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    day_first: bool = True
    zone: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Texts:
    """The texts of one column by shape.

    Attributes:
        name: The name in the files.
        total: How many texts there are, blanks and null words not counted.
        shapes: How often each shape occurs.
        has_leading_zero: Whether an integer begins with 0, or a number with several zeros.
        null_words: How often each null word occurs.
        padded: How many texts have white space around them.
        likely: The share of a sample that looks like numbers or dates.
        has_signs: Whether most texts are numbers with a currency or a percent sign.
        is_text: Whether most texts are neither numbers nor dates, so that shapes were not counted.
        nulls: How many rows have no text.
        is_written_as_number: JSON: whether no value is in quotes, so that the source itself calls it a number.
    """

    name: str
    total: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    has_leading_zero: bool = False
    null_words: Counter[str] = field(default_factory=Counter)
    padded: int = 0
    likely: float = 1.0
    has_signs: bool = False
    is_text: bool = False
    nulls: int = 0
    is_written_as_number: bool = False

    @property
    def words(self) -> set[str]:
        """The words of the column's name."""
        return set(to_snake_case(self.name).split("_"))

    @property
    def is_id(self) -> bool:
        """Whether the name is that of an identifier, whose digits are no number."""
        return is_id_name(self.name) and not self.is_written_as_number

    def share(self, count: int) -> float:
        """Return a share of the texts."""
        return count / self.total if self.total else 0.0

    def allows(self, outliers: int) -> bool:
        """Return whether so many outliers are few enough to go to quarantine."""
        return not outliers or (self.total >= MIN_VALUES_FOR_OUTLIERS and self.share(outliers) <= MAX_OUTLIERS)


def read_texts(table: LoadedTable, name: str) -> Texts:
    """Count the shapes of a column; of text, only the null words.

    Args:
        table: The rows, as text.
        name: The column's name in the files.
    """
    texts, column = Texts(name, is_written_as_number=name in table.is_number - table.is_quoted), table.column(name)
    blank, total = table.one(
        f"SELECT count(*) FILTER ({column} IS NULL OR trim({column}) = ''), count(*) FROM source_rows"
    )
    texts.nulls, texts.total = blank, total - blank
    if texts.total:
        sample = f"(SELECT {column} AS v FROM source_rows WHERE trim({column}) <> '' LIMIT {_SAMPLE_ROWS})"
        words = ", ".join("'" + word.replace("'", "''") + "'" for word in sorted(NULL_WORDS | {"true", "false"}))
        texts.likely, texts.has_signs = table.one(
            f"SELECT avg(((regexp_full_match(trim(v), '{_LIKELY}') AND length(v) <= {_MAX_SHAPE_LENGTH})"
            f" OR lower(trim(v)) IN ({words}))::INT), avg(regexp_full_match(trim(v), '{_WITH_SIGN}')::INT) > 0.5"
            f" FROM {sample}"
        )
        texts.is_text = texts.likely < 1 - 2 * MAX_OUTLIERS
        _count_shapes(table, texts, column, words)
    return texts


def _count_shapes(table: LoadedTable, texts: Texts, column: str, words: str) -> None:
    only_words = f"AND lower(trim({column})) IN ({words})" if texts.is_text else ""
    query = f"""
        SELECT left(translate(trim({column}), '0123456789', '9999999999'), {_MAX_SHAPE_LENGTH}) AS shape, count(*),
            bool_or(regexp_matches(trim({column}), '^[+-]?0[0-9]')), count(*) FILTER (trim({column}) <> {column})
        FROM source_rows WHERE trim({column}) <> '' {only_words} GROUP BY shape ORDER BY 2 DESC LIMIT {_MAX_SHAPES}"""
    for shape, count, leading_zero, padded in table.duck.execute(query).fetchall():
        if shape.lower() in NULL_WORDS:
            texts.null_words[shape] += count
            texts.total -= count
        elif not texts.is_text:
            texts.shapes[shape] += count
            texts.has_leading_zero = texts.has_leading_zero or (leading_zero and shapes.date_form(shape) is None)
            texts.padded += padded
    if len(texts.shapes) >= _MAX_SHAPES:
        texts.is_text = True
