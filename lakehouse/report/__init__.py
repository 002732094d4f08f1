"""Writes one HTML page that shows the lake of a pipeline. The entry point is `report`.

    collect the contents as plain values, from the lake      gather.py: lineage.py, cubes.py, changed_rows.py
    render them as a page in one language                    page.py: charts.py, sheets.py, flow.py, words.py, texts.py

The page needs no other file and no network: it can be opened, mailed and printed.
In a notebook the module itself is called, and the page is shown below the cell: `lakehouse.report("conf/loyalty")`.
"""

from __future__ import annotations

import html
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.errors import ConfigError
from lakehouse.storage import file_io

if TYPE_CHECKING:
    from lakehouse.runner.context import Run

_REQUIRED_PACKAGES = ("altair", "babel", "jinja2", "vl_convert")
_INLINE_HEIGHT = 800  # pixels


@dataclass(frozen=True)
class Page:
    """A report as a page, which a notebook shows.

    Attributes:
        pipeline: The name of the pipeline.
        html: The page, as one HTML document.
        counts: The numbers of tables, models and cubes in it.
    """

    pipeline: str
    html: str
    counts: dict[str, int]

    def save(self, file: str | Path) -> Path:
        """Write the page to a file. An existing one is replaced atomically.

        Args:
            file: The file; folders that do not exist are created.

        Raises:
            ConfigError: The file cannot be written.
        """
        path = Path(file)
        _require_writable(path)
        file_io.write_atomically(path, self.html.encode())
        return path

    def __repr__(self) -> str:
        """Return a short text: the page has some megabytes."""
        return f"<report of {self.pipeline}: {', '.join(f'{n} {name}' for name, n in self.counts.items())}>"

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own, so that its styles and scripts and those of the notebook stay apart.

        The frame may run the page's scripts and nothing else: it has no access to the notebook, and the page's own
        Content-Security-Policy lets it load and send nothing.
        """
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" title="lakehouse report"'
            f' style="width: 100%; height: {_INLINE_HEIGHT}px; border: 1px solid #ccc"></iframe>'
        )


def report(run: Run, out: str | Path | None = None, language: Literal["en", "pt"] = "en") -> dict[str, Any]:
    """Write the report.

    Args:
        run: A run that is open; its selection limits the tables and models.
        out: The file; by default `artifacts/<pipeline>-report.html` in the working directory. An existing file is
            replaced atomically.
        language: The language of the page: English or Portuguese.

    Returns:
        The pipeline, the file, its size in bytes, and the numbers of tables, models and cubes in it.

    Raises:
        ConfigError: The packages of the extra `report` are not installed, or the file cannot be written.
    """
    _require_packages()
    file = Path(out or Path("artifacts", f"{run.pipeline.name}-report.html"))
    _require_writable(file)  # before anything is read
    page = build_page(run, language)
    page.save(file)
    return {"pipeline": page.pipeline, "file": str(file), "bytes": len(page.html.encode()), **page.counts}


def build_page(run: Run, language: Literal["en", "pt"] = "en") -> Page:
    """Return the report as a page; nothing is written.

    Args:
        run: A run that is open; its selection limits the tables and models.
        language: The language of the page: English or Portuguese.

    Raises:
        ConfigError: The packages of the extra `report` are not installed.
    """
    _require_packages()
    from lakehouse.report.gather import gather
    from lakehouse.report.page import render

    document = gather(run)
    numbers = {
        "tables": len(document["status"]["tables"]),
        "models": len(document["models"]),
        "cubes": len(document["cubes"]),
    }
    return Page(run.pipeline.name, render(document, language), numbers)


def write_diff_page(run: Run, document: dict[str, Any], out: str | Path) -> None:
    """Write the document of `diff` as a page on which changed cells are marked. Personal columns are masked.

    Args:
        run: The command that made the document.
        document: The document of `lakehouse diff --json`.
        out: The file. An existing one is replaced atomically.

    Raises:
        ConfigError: The packages of the extra `report` are not installed, or the file cannot be written.
    """
    from lakehouse.report.diff_page import render
    from lakehouse.report.lineage import personal_predicate, relation_columns

    columns = relation_columns(run.pipeline, run.plans)
    named = {f"bronze.{name}": name for name in run.pipeline.tables} | {model: model for model in run.plans}
    personal = {name: personal_predicate(columns, relation) for relation, name in named.items()}
    file_io.write_atomically(Path(out), render(document, personal).encode())


def require_diff_page(out: str | Path) -> None:
    """Raise if a page of `diff` could not be written, before anything is compared.

    Args:
        out: The file.

    Raises:
        ConfigError: The packages of the extra `report` are not installed, or the file cannot be written.
    """
    _require_packages("jinja2")
    _require_writable(Path(out), "--html")


def _require_packages(*names: str) -> None:
    if missing := [name for name in names or _REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"a report needs packages that are not installed: {', '.join(missing)}",
            expected="the packages of the extra `report`",
            next_step="pip install 'lakehouse[report]'",
        )


def _require_writable(file: Path, option: str = "--out") -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder")
    except OSError as error:
        raise ConfigError(
            f"the page cannot be written: {error.strerror or error}",
            expected=f"{option}: a file in a folder that can be written to",
            where=str(file),
        ) from error


class _CallableModule(ModuleType):
    """This module. `lakehouse.report` is its name, so a notebook has to be able to call it."""

    def __call__(
        self, pipeline: str | Path, *names: str, language: Literal["en", "pt"] = "en", verbose: bool = False
    ) -> Page:
        """Return the report of a pipeline, which a notebook shows. Nothing is written.

        Args:
            pipeline: A folder with pipeline.yml, or that file.
            *names: Tables and models; none: all of them.
            language: The language of the page: English or Portuguese.
            verbose: Whether Spark's own output is shown.

        Raises:
            ConfigError: The pipeline is not valid, a name is unknown, or packages are not installed.
        """
        from lakehouse.runner.context import open_run

        return build_page(open_run(pipeline, names, verbose=verbose), language)


sys.modules[__name__].__class__ = _CallableModule
