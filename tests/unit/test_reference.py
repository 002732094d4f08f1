"""docs/reference: the generated pages are those of the code, and the other pages name every code and status."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from lakehouse.errors import ExitCode

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", REFERENCE / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()


@pytest.mark.parametrize("name", GENERATOR.PAGES)
def test_a_generated_page_is_what_make_docs_would_write(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == GENERATOR.PAGES[name](), "make docs"


def test_every_key_and_command_has_a_meaning() -> None:
    for name in GENERATOR.PAGES:
        rows = re.findall(r"^\| `.*\|$", (REFERENCE / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert len(rows) > 60
        assert [row for row in rows if row.endswith("|  |")] == []


def test_the_page_of_exit_codes_lists_every_code() -> None:
    listed = re.findall(r"^\| (\d) \|", (REFERENCE / "exit-codes.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert [int(code) for code in listed] == sorted(ExitCode)
