"""Whatever the values of a column are: the type that `init` proposes holds each of them, to the last digit."""

from __future__ import annotations

import re
import tempfile
from decimal import Decimal, localcontext
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.config.locales import LOCALES
from lakehouse.propose import init_pipeline

DIGITS = st.text("0123456789", min_size=1, max_size=22)
NUMBER = st.one_of(
    DIGITS,
    st.integers(-9999, 9999).map(str),
    st.decimals(-99999, 99999, places=2).map(str),
    st.tuples(st.sampled_from(["", "-", "+"]), DIGITS, st.sampled_from([".", ","]), DIGITS).map("".join),
    st.tuples(st.integers(1, 999), st.sampled_from([".", ","]), st.integers(100, 999)).map(
        lambda p: f"{p[0]}{p[1]}{p[2]}"
    ),
    st.tuples(st.integers(1, 99), st.sampled_from("eE"), st.integers(-30, 30)).map(lambda p: f"{p[0]}{p[1]}{p[2]}"),
)


def as_number(text: str, locale: str) -> Decimal | None:
    """Return the value of a number as the product reads it in a locale."""
    if locale:
        decimal, groups = LOCALES[locale]
        grouped = rf"[1-9]\d{{0,2}}([{re.escape(groups)}]\d{{3}})+"
        if not re.fullmatch(rf"[+-]?({grouped}|\d*)({re.escape(decimal)}\d*)?([eE][+-]?\d+)?", text):
            return None
        text = text.translate({ord(sign): None for sign in groups} | {ord(decimal): "."})
    return Decimal(text) if re.fullmatch(r"[+-]?(?=\.?\d)\d*\.?\d*([eE][+-]?\d{1,3})?", text) else None


@settings(max_examples=30)
@given(st.lists(NUMBER, min_size=1, max_size=6))
def test_a_number_type_holds_every_value(values: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = "".join(f'k{n};"{value}"\n' for n, value in enumerate(values))
        Path(folder, "t.csv").write_text(f"id;v\n{rows}", encoding="utf-8")
        (table,) = init_pipeline(Path(folder), Path(folder, "p"))["tables"]
    kind, locale = table["columns"][1]["type"], table["options"].get("locale", "")
    if kind in ("STRING", "DATE", "TIMESTAMP"):
        return
    numbers = [as_number(value, locale) for value in values]

    assert None not in numbers, (kind, locale)
    assert not any(re.match(r"\+|-?0[0-9]", value) for value in values), kind
    known = [number for number in numbers if number is not None]
    if kind in ("INT", "BIGINT"):
        assert all(number == int(number) and abs(number) < 2 ** (31 if kind == "INT" else 63) for number in known)
    elif kind == "DOUBLE":
        assert all(Decimal(repr(float(number))) == number for number in known)
    else:
        precision, scale = map(int, re.findall(r"\d+", kind))
        with localcontext() as context:
            context.prec = 100
            assert all(number.scaleb(scale) % 1 == 0 for number in known), kind
        assert all(abs(number) < Decimal(10) ** (precision - scale) for number in known), kind
