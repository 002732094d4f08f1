"""The examples in the docstrings of all modules, some of which import Spark. No JVM."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import lakehouse

PACKAGE = Path(lakehouse.__file__).parent


def modules_with_examples() -> list[str]:
    files = [file.relative_to(PACKAGE.parent) for file in PACKAGE.rglob("*.py") if ">>> " in file.read_text()]
    return sorted(".".join(file.with_suffix("").parts) for file in files)


@pytest.mark.parametrize("module", modules_with_examples())
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))

    assert result.attempted > 0
    assert result.failed == 0
