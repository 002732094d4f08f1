"""Numbers as text: a locale's separators, and decimals to their last digit, with no double on the way."""

from __future__ import annotations

import re

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.locales import find_separators

_NON_FINITE = r"(?i)^[+-]?(inf|infinity|nan)\z"


def normalize_separators(text: Column, locale: str) -> Column:
    """A number with a locale's separators as one with a point alone; empty, which is no number, where they stand wrong.

    In pt-BR `1.23,4` is no number, and `12.34` and `0.500` are none: who wrote them did not write by that locale.
    """
    found = find_separators(locale)
    assert found, locale
    group, sign = f"[{re.escape(found.groups)}]", re.escape(found.decimal)
    well_formed = rf"^[+-]?([1-9]\d{{0,2}}({group}\d{{3}})+|\d*)({sign}\d*)?([eE][+-]?\d+)?\z"
    bare = F.translate(text, found.decimal + found.groups, ".")  # signs without a counterpart are taken out
    return F.when(text.rlike(well_formed), bare).when(text.rlike(_NON_FINITE), text).when(text.isNotNull(), "")


def parse_decimal(text: Column, data_type: T.DecimalType) -> Column:
    """Digits beyond the scale make a value that does not fit; zeros beyond it do not."""
    plain = text.rlike(rf"^[+-]?(?=\.?\d)\d*(\.\d{{0,{data_type.scale}}}0*)?\z")
    scientific = r"^[+-]?(?=\.?\d)(\d*)\.?(\d*)[eE]([+-]?\d{1,3})\z"
    whole, fraction, exponent = (F.regexp_extract(text, scientific, n) for n in (1, 2, 3))
    digits = F.concat(whole, fraction)
    significant = F.length(F.rtrim(digits, F.lit("0")))
    places = F.length(fraction) - (F.length(digits) - significant) - exponent.try_cast("int")
    fits = (significant == 0) | (places <= data_type.scale)
    return F.when(plain | (text.rlike(scientific) & fits), text.try_cast(data_type))
