"""Tests docs/guide/python.md: its examples run, and its signatures are those of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from guide import Example, parse_sections
from pyspark.sql import SparkSession

import lakehouse

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "python.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_of_the_page_run(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = [section for section in parse_sections(TEXT) if section.is_example]
    Example(section, tmp_path, spark).check()


EARLIER_NAME = "as_of"  # of a function and of a parameter; still accepted


@pytest.mark.parametrize("name", sorted({*lakehouse.__all__} - {EARLIER_NAME}))
def test_the_signature_of_each_function_is_on_the_page(name: str) -> None:
    shown = dict(re.findall(r"^\| `lakehouse\.(\w+)\((.*?)\)`", TEXT, re.MULTILINE))

    signature = inspect.signature(getattr(lakehouse, name)).parameters.values()
    parameters = [parameter for parameter in signature if parameter.name != EARLIER_NAME]
    assert ", ".join(str(p.replace(annotation=p.empty)) for p in parameters).replace("'", '"') == shown[name]
