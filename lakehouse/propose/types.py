"""Chooses the type of each column from all of its values: a type that holds every value without loss, or STRING.

1. The texts of a column are grouped by shape (`texts.py`), and null words and outliers are counted.
2. The table gets one locale (`numbers.py`) and one order of day and month (`dates.py`), by which most columns can be
   read.
3. Each column gets a type, which DuckDB proves on every value.
"""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.propose import dates, numbers
from lakehouse.propose.load import LoadedTable
from lakehouse.propose.nested import spark_type as nested_type
from lakehouse.propose.shapes import DateForm
from lakehouse.propose.texts import (
    MAX_OUTLIERS,
    MIN_VALUES_FOR_OUTLIERS,
    ColumnType,
    TableTypes,
    Texts,
    read_texts,
)


def choose_types(table: LoadedTable, is_csv: bool) -> TableTypes:
    """Return the types of the columns of CSV or JSON.

    Args:
        table: The rows, as text.
        is_csv: Whether white space and null words can be handled by reader options.
    """
    chosen = TableTypes()
    texts = [read_texts(table, name) for name in table.columns if name not in table.nested]
    if is_csv:
        _trim(texts, chosen)
    else:  # in JSON, white space is a part of the text
        for each in texts:
            each.is_text = each.is_text or not each.allows(each.padded)
    by_name = {each.name: each for each in texts}
    dated = {each.name: forms for each in texts if (forms := dates.date_forms(each))}
    numeric = [each for each in texts if each.name not in dated]
    numbers.choose_locale(table, numeric, chosen)
    dates.choose_day_order(table, dated, chosen)
    for name in table.columns:
        column = ColumnType(name)
        if name in table.nested:
            is_mixed = name in table.is_quoted | table.is_number
            column.type = "STRING" if is_mixed else nested_type(table.nested[name])
            if column.type == "STRING":
                column.notes.append("STRING with JSON, since its values have no common structure")
        else:
            column.nulls = by_name[name].nulls
            _choose_type(table, by_name[name], dated.get(name, ()), chosen, column)
        chosen.columns.append(column)
    if is_csv:
        _choose_null_value(by_name, chosen)
    _note_outliers(by_name, chosen)
    dates.set_patterns(chosen)
    return chosen


def _trim(texts: Iterable[Texts], chosen: TableTypes) -> None:
    """Set the options that trim fields if numbers or dates have white space around them."""
    padded = [each for each in texts if each.padded and not each.is_text and any("9" in shape for shape in each.shapes)]
    if padded:
        chosen.options |= {"ignoreLeadingWhiteSpace": "true", "ignoreTrailingWhiteSpace": "true"}
        chosen.notes.append("white space: fields are trimmed, since numbers or dates have spaces around them")


def _choose_type(
    table: LoadedTable, texts: Texts, forms: tuple[DateForm, ...], chosen: TableTypes, column: ColumnType
) -> None:
    """Set the type of a column of text."""
    if not texts.total:
        column.notes.append("STRING, since it has no value yet")
    elif texts.has_signs:
        column.notes.append("STRING, since its numbers have a sign such as R$ or %, which a silver model can remove")
    elif texts.is_text:
        if texts.likely > 0.5 and not texts.is_id:
            column.notes.append(f"STRING, since only about {texts.likely:.0%} of its values look like numbers or dates")
    elif {shape.lower() for shape in texts.shapes} <= {"true", "false"}:
        column.type = "BOOLEAN"
    elif forms:
        dates.choose_date_type(table, forms, texts, chosen, column)
    elif dates.choose_instant(table, texts, chosen, column):
        return
    elif not texts.is_id:  # the digits of an identifier are no number
        numbers.choose_number(table, texts, chosen, column)


def _choose_null_value(by_name: dict[str, Texts], chosen: TableTypes) -> None:
    """Set `nullValue` if one word stands for null in all typed columns and no column of text has it."""
    typed = {column.name for column in chosen.columns if column.type != "STRING"}
    words = {word for name in typed if name in by_name for word in by_name[name].null_words}
    in_text = {
        word for name, texts in by_name.items() if name not in typed and texts.null_words for word in texts.null_words
    }
    if len(words) == 1 and not words & in_text:
        (word,) = words
        chosen.options["nullValue"] = word
        chosen.notes.append(f"nulls: {word} is read as null")
        for name in typed & by_name.keys():
            by_name[name].nulls += sum(by_name[name].null_words.values())
            by_name[name].null_words.clear()


def _note_outliers(by_name: dict[str, Texts], chosen: TableTypes) -> None:
    """Note the null words that remain: text in a STRING, and otherwise outliers; too many make the column a STRING."""
    for column in chosen.columns:
        texts = by_name.get(column.name)
        if texts is None:
            continue
        count, words = sum(texts.null_words.values()), ", ".join(sorted(texts.null_words))
        everything = texts.total + count
        if count and column.type != "STRING":
            outliers = column.outliers + count
            if everything < MIN_VALUES_FOR_OUTLIERS or outliers > MAX_OUTLIERS * everything:
                column.notes = [
                    f"STRING, since {count:,} of {everything:,} values are {words}; the others fit {column.type}"
                ]
                column.type, column.outliers, column.forms = "STRING", 0, ()
            else:
                column.outliers = outliers
        elif count:
            column.notes.append(f"the text {words} is not read as null ({count:,} values)")
        if column.outliers:
            column.notes.append(
                f"{column.outliers:,} of {everything:,} values are not {column.type}; their rows go to quarantine until"
                " they are corrected (STRING would take them)"
            )
