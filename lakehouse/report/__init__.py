"""`lakehouse report`: one HTML file that shows a pipeline's lake, to be opened, mailed or printed by itself.

    gather     what is to be told, as plain values, from the lake     gather.py, lineage.py, shape.py, cubes.py
    render     those values as a page, in one language               page.py, charts.py, sheets.py, flow.py, words.py

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
    """Write the page.

    Args:
        out: the file; `artifacts/<pipeline>-report.html` in the working directory unless given. One that is there is
            replaced, whole.

    Returns:
        The pipeline, the file, its size in bytes, and the tables, models and cubes in it.

    Raises:
        ConfigError: the packages of the extra `report` are not there, or the file cannot be written.
    """
    if missing := [name for name in _REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"a report needs {', '.join(missing)}, and Python cannot find that",
            expected="the packages of the extra `report`",
            next_step="pip install 'lakehouse[report]'",
        )
    file = Path(out or Path("artifacts", f"{run.pipeline.name}-report.html"))
    _check_writable(file)
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


def _check_writable(file: Path) -> None:
    """Before anything is read: raises ConfigError where no file can be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder")
    except OSError as error:
        raise ConfigError(
            f"the report cannot be written: {error.strerror or error}",
            expected="--out: a file in a folder that may be written to",
            where=str(file),
        ) from error
