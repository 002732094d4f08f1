"""Parses numbers with a locale's separators, and decimals exactly, without a conversion to double."""

from __future__ import annotations

import re

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.locales import find_separators

_NON_FINITE = r"(?i)^[+-]?(inf|infinity|nan)\z"

LEADING_ZERO = r"^[+-]?0[0-9]"  # of 007, which a number type does not keep, and not of 0.5


def has_numbers(data_type: T.DataType) -> bool:
    """Return whether a declared type has integers or decimals, as identifiers of digits are often declared."""
    return isinstance(data_type, T.IntegralType | T.DecimalType)


def normalize_separators(text: Column, locale: str) -> Column:
    """Rewrite numbers with a locale's separators to a decimal point alone.

    The result is "", which is not a number, if the separators are not at their places. In pt-BR neither `1.23,4` nor
    `12.34` nor `0.500` is a number: they were not written by that locale.

    Args:
        text: A column of strings.
        locale: One of `LOCALES`.
    """
    separators = find_separators(locale)
    assert separators, locale
    group, sign = f"[{re.escape(separators.groups)}]", re.escape(separators.decimal)
    well_formed = rf"^[+-]?([1-9]\d{{0,2}}({group}\d{{3}})+|\d*)({sign}\d*)?([eE][+-]?\d+)?\z"
    # `translate` removes the characters that have no counterpart: the group separators.
    with_point = F.translate(text, separators.decimal + separators.groups, ".")
    return F.when(text.rlike(well_formed), with_point).when(text.rlike(_NON_FINITE), text).when(text.isNotNull(), "")


def parse_decimal(text: Column, data_type: T.DecimalType) -> Column:
    """Parse decimals exactly: null if digits other than zero are beyond the scale.

    Args:
        text: A column of strings, with a decimal point.
        data_type: The declared type.
    """
    plain = text.rlike(rf"^[+-]?(?=\.?\d)\d*(\.\d{{0,{data_type.scale}}}0*)?\z")
    scientific = r"^[+-]?(?=\.?\d)(\d*)\.?(\d*)[eE]([+-]?\d{1,3})\z"
    whole, fraction, exponent = (F.regexp_extract(text, scientific, n) for n in (1, 2, 3))
    digits = F.concat(whole, fraction)
    significant = F.length(F.rtrim(digits, F.lit("0")))
    places = F.length(fraction) - (F.length(digits) - significant) - exponent.try_cast("int")
    fits = (significant == 0) | (places <= data_type.scale)
    return F.when(plain | (text.rlike(scientific) & fits), text.try_cast(data_type))
