"""Decides how the numbers of a table are read: the locale of the table, and types that hold all digits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation, Overflow

from lakehouse.propose import shapes
from lakehouse.propose.load import LoadedTable
from lakehouse.propose.nested import decimal_type
from lakehouse.propose.shapes import FAMILIES
from lakehouse.propose.texts import ColumnType, TableTypes, Texts
from lakehouse.propose.words import is_id_name

_INT_DIGITS, _BIGINT_DIGITS = 4, 18  # another type later means to rebuild the table: INT only for small values
_MAX_SCALE = 18
_MAX_DOUBLE_EXPONENT = 300
_TOO_MANY_DIGITS = 1_000_000  # of a number whose exponent alone has more digits than a DECIMAL
_CODE_DIGITS = 10  # integers that all have so many digits are codes: barcodes, accounts, phone numbers
_THREE_DIGITS = re.compile(r"[+-]?9{1,3}(\.999)+")
_SEPARATED = re.compile(r"9[.,'\u2019\s]9|[.,]9")


def choose_locale(table: LoadedTable, texts: Sequence[Texts], chosen: TableTypes) -> None:
    """Set the locale by which most columns are numbers."""
    candidates = [each for each in texts if each.total and not each.is_text and not each.is_id]
    readable = {tag: [each for each in candidates if _is_number(each, tag)] for tag in FAMILIES}
    separated = [e for e in candidates if any(_SEPARATED.search(shape) for shape in e.shapes)]
    prefers_comma = table.options.get("sep") in (";", r"\t", "|")
    order = ["", "pt-BR", "en-US", "fr-FR", "de-CH"] if prefers_comma else ["", "en-US", "pt-BR", "fr-FR", "de-CH"]
    best = max(order, key=lambda tag: (len(readable[tag]), -order.index(tag)))
    if not best and not readable[""]:
        return
    if best:
        chosen.options["locale"] = best
    as_good = [tag for tag in order if tag != best and len(readable[tag]) == len(readable[best])]
    if best and separated and any(tag in as_good for tag in ("pt-BR", "en-US")):
        chosen.notes.append(
            f"numbers: {_names(separated)} can be read with a decimal comma (pt-BR) and with a decimal point (en-US);"
            f" {best} is assumed"
        )
    elif best in ("pt-BR", "fr-FR", "de-CH"):
        same = {"pt-BR": "de, es and it write", "fr-FR": "pl, ru and sv write", "de-CH": "de-LI writes"}[best]
        chosen.notes.append(f"locale: {best} stands for its separators, which {same} too")
    elif not best:
        doubtful = [each for each in separated if not each.is_written_as_number]
        in_threes = [e for e in doubtful if all(_THREE_DIGITS.fullmatch(shape) for shape in e.shapes if "." in shape)]
        if in_threes:
            chosen.notes.append(
                f"numbers: all of {_names(in_threes)} have three digits after the point, which is read as the decimal"
                " sign; if it separates thousands, set locale: pt-BR"
            )
    for each in separated:
        other = [tag for tag in order if each in readable[tag]]
        if other and best not in other:
            chosen.notes.append(
                f"numbers: {each.name} is written with other separators than other columns; it stays STRING"
            )


def _names(texts: Iterable[Texts]) -> str:
    return ", ".join(each.name for each in texts)


def _is_number(texts: Texts, tag: str) -> bool:
    """Return whether the texts of a column are numbers of a locale, except for a few."""
    fitting = _count_numbers(texts, tag)
    return fitting > 0 and texts.allows(texts.total - fitting)


def choose_number(table: LoadedTable, texts: Texts, chosen: TableTypes, column: ColumnType) -> None:
    """Set an integer or DECIMAL type that holds all digits, or DOUBLE for values that no DECIMAL holds."""
    tag = chosen.options.get("locale", "")
    if not _is_number(texts, tag):
        _note_mixed(texts, tag, column)
        return
    if FAMILIES[tag].groups and (wrong := _wrong_groups(table, column.name, tag)):
        column.notes.append(
            f"STRING, since {wrong:,} values such as 0{FAMILIES[tag].groups[0]}500 have a misplaced separator"
        )
        return
    pattern = shapes.number_pattern(tag)
    numbers = {shape: count for shape, count in texts.shapes.items() if pattern.fullmatch(shape)}
    outliers = texts.total - sum(numbers.values())
    digits = [shapes.count_digits(shape, tag) for shape in numbers]
    whole = max(each.whole for each in digits)
    integers = all(shapes.is_integer(shape) for shape in numbers)
    if texts.has_leading_zero:
        column.notes.append("STRING, since some values begin with zeros, which a number would lose")
    elif any(shape.startswith("+") for shape in numbers):
        column.notes.append("STRING, since some values begin with +, which a number would lose")
    elif integers and whole > _BIGINT_DIGITS:
        column.notes.append(f"STRING, since values have up to {whole} digits, too many for BIGINT")
    elif (
        integers and len(numbers) == 1 and whole >= _CODE_DIGITS and texts.total > 1 and not texts.is_written_as_number
    ):
        column.notes.insert(
            0, f"STRING, since all values have {whole} digits, as codes have; if they are amounts: BIGINT"
        )
    elif all(each.fraction == 0 for each in digits):
        column.type = "INT" if whole <= _INT_DIGITS and not is_id_name(column.name) else "BIGINT"
        column.outliers = outliers
    else:
        _choose_fraction(table, digits, whole, column)
        column.outliers = outliers if column.type != "STRING" else 0


def _wrong_groups(table: LoadedTable, name: str, tag: str) -> int:
    """Return how many values have a zero before a group separator, which no locale writes."""
    groups = re.escape(FAMILIES[tag].groups).replace("'", "''")
    (count,) = table.one(
        f"SELECT count(*) FROM source_rows WHERE regexp_matches(trim({table.column(name)}), '^[+-]?0+[{groups}]')"
    )
    return int(count)


def _choose_fraction(table: LoadedTable, digits: Sequence[shapes.Digits], whole: int, column: ColumnType) -> None:
    scale = max((each.fraction for each in digits if each.fraction is not None), default=0)
    if any(each.fraction is None for each in digits):
        whole, scale = _exact_digits(table, column.name, whole, scale)
    if scale <= _MAX_SCALE and (decimal := decimal_type(whole, scale)):
        column.type = decimal
        usual = sorted(each.fraction or 0 for each in digits)[len(digits) // 2]
        if scale > 10 and scale > usual + 6:
            column.notes.append(
                f"{decimal}, since some values have {scale} digits after the point, as calculated ones have; with"
                " fewer, their rows go to quarantine"
            )
        return
    if (
        whole <= _MAX_DOUBLE_EXPONENT
        and scale <= _MAX_DOUBLE_EXPONENT
        and _significant_digits(table, column.name) <= 15
    ):
        column.type = "DOUBLE"
        column.notes.append("DOUBLE, since values have more digits than a DECIMAL holds; sums of it are not exact")
    else:
        column.notes.append("STRING, since values have more digits than a DECIMAL or a DOUBLE holds")


def _significant_digits(table: LoadedTable, name: str) -> int:
    """Return the most digits of a value, zeros at both ends not counted: a DOUBLE keeps 15 of them."""
    digits = f"regexp_replace(regexp_extract({table.column(name)}, '^[^eE]*'), '[^0-9]', '', 'g')"
    (most,) = table.one(f"SELECT max(length(regexp_replace({digits}, '^0+|0+$', '', 'g'))) FROM source_rows")
    return int(most)


def _exact_digits(table: LoadedTable, name: str, whole: int, scale: int) -> tuple[int, int]:
    """Return the digits before and after the point that values with an exponent need."""
    column = table.column(name)
    values = table.duck.execute(
        f"SELECT DISTINCT trim({column}) FROM source_rows"
        f" WHERE regexp_matches({column}, '[0-9.][eE][+-]?[0-9]') LIMIT 50000"
    ).fetchall()
    for (text,) in values:
        try:
            number = Decimal(text.replace(",", ".")).normalize()
        except InvalidOperation:
            continue
        except Overflow:
            return _TOO_MANY_DIGITS, scale
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int):
            whole, scale = max(whole, number.adjusted() + 1), max(scale, -exponent)
    return whole, scale


def _note_mixed(texts: Texts, tag: str, column: ColumnType) -> None:
    """Explain why a column with some numbers is text; its numbers may be of a locale that the table does not have."""
    dates = sum(count for shape, count in texts.shapes.items() if shapes.date_form(shape))
    by_locale = {each: _count_numbers(texts, each) for each in (tag, *FAMILIES)}
    best = max(by_locale, key=lambda each: by_locale[each])
    numbers = by_locale[best] + dates
    if numbers <= texts.total / 2:
        return
    others, verb = texts.total - numbers, "is" if texts.total - numbers == 1 else "are"
    hint = f"; the numbers are of the locale {best}" if by_locale[best] > by_locale[tag] else ""
    column.notes.append(f"STRING, since {others:,} of {texts.total:,} values {verb} neither a number nor a date{hint}")


def _count_numbers(texts: Texts, tag: str) -> int:
    pattern = shapes.number_pattern(tag)
    return sum(count for shape, count in texts.shapes.items() if pattern.fullmatch(shape))
