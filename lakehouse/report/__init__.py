"""Writes one HTML file that shows the lake of a pipeline. The entry point is `report`.

    collect the contents as plain values, from the lake      gather.py: lineage.py, cubes.py with shape.py
    render them as a page in one language                    page.py: charts.py, sheets.py, flow.py, words.py, texts.py

The file needs no other file and no network: it can be opened, mailed and printed.
From a notebook: `lakehouse.report.report(open_run("conf/loyalty"))`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.errors import ConfigError
from lakehouse.storage import file_io

if TYPE_CHECKING:
    from lakehouse.runner.context import Run

_REQUIRED_PACKAGES = ("altair", "babel", "jinja2", "vl_convert")


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
    if missing := [name for name in _REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"a report needs packages that are not installed: {', '.join(missing)}",
            expected="the packages of the extra `report`",
            next_step="pip install 'lakehouse[report]'",
        )
    file = Path(out or Path("artifacts", f"{run.pipeline.name}-report.html"))
    try:  # before anything is read
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder")
    except OSError as error:
        raise ConfigError(
            f"the report cannot be written: {error.strerror or error}",
            expected="--out: a file in a folder that can be written to",
            where=str(file),
        ) from error
    from lakehouse.report.gather import gather
    from lakehouse.report.page import render

    document = gather(run)
    page = render(document, language).encode()
    file_io.write_atomically(file, page)
    return {
        "pipeline": run.pipeline.name,
        "file": str(file),
        "bytes": len(page),
        "tables": len(document["status"]["tables"]),
        "models": len(document["models"]),
        "cubes": len(document["cubes"]),
    }
