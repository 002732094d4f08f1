"""notebooks/tutorial.ipynb has the steps of docs/tutorial.md, and is what `make docs` would write."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = REPOSITORY / "notebooks" / "tutorial.ipynb"
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorial_notebook", REPOSITORY / "docs" / "tutorial_notebook.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(kind: str) -> list[str]:
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_what_make_docs_would_write() -> None:
    assert NOTEBOOK.read_text(encoding="utf-8") == load_generator().notebook(), "make docs"


def test_the_notebook_has_every_command_and_result_of_the_page() -> None:
    page = re.sub(r"<!-- not run: .*? -->\n```sh\n.*?```\n", "", TUTORIAL.read_text(encoding="utf-8"), flags=re.DOTALL)
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    around_programs = ("python <<", "END")
    typed = [line for block in blocks for line in block.splitlines() if line and not line.startswith(around_programs)]
    run = [
        line for cell in cells("code")[1:] for line in cell.splitlines() if line and not line.startswith(("%%", "END"))
    ]

    assert len(typed) > 50
    assert run == typed
    shown = "\n".join(cells("markdown"))
    for result in [*re.findall(r"```text\n.*?```", page, re.DOTALL), *re.findall(r"^\|.*\|$", page, re.MULTILINE)]:
        assert result in shown


def test_links_of_the_notebook_lead_to_files_that_exist() -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", "\n".join(cells("markdown")))

    assert len(targets) > 8
    assert [target for target in targets if not (NOTEBOOK.parent / target).exists()] == []
