"""Builds the common parts of the pages of docs/evidence, and removes the names of the machine from them."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import polars as pl

from lakehouse.config import load
from lakehouse.models.sql import pipeline_plans

REPOSITORY = Path(__file__).resolve().parents[2]
AIRFLOW_LOCK = REPOSITORY / "deploy/airflow/requirements.lock"


def versions_line(*others: str) -> str:
    """Return a line with the date and the versions.

    Args:
        others: Further versions beside those of Spark, Delta and Airflow: "PostgreSQL 16.4".
    """
    versions = [f"{name} {version(name)}" for name in ("pyspark", "delta-spark")]
    (airflow,) = re.findall(r"^apache-airflow==(\S+)", AIRFLOW_LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    all_versions = ", ".join([*versions, f"apache-airflow {airflow}", *others])
    return f"Written by `make evidence` on {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC; {all_versions}."


def row_counts(lake: Path) -> str:
    """Return a table with the number of rows of every table and model."""
    counted = []
    for layer in ("bronze", "silver", "gold", "quarantine"):
        for folder in sorted((lake / layer).glob("*")):
            counted.append((layer, folder.name, pl.scan_delta(str(folder)).select(pl.len()).collect().item()))
    return markdown_table(("layer", "table", "rows"), counted)


def model_sql_page(pipeline: Path) -> str:
    """Return the page with the SQL of silver and gold."""
    about = "The SELECT statements of silver and gold; `lakehouse explain` shows how they are kept up to date, and why."
    parts = [f"# The models' SQL\n\n{about}"]
    for name, plan in pipeline_plans.plan_pipeline(load(pipeline)).items():
        layer, _, short = name.partition(".")
        sql = (pipeline / layer / f"{short}.sql").read_text(encoding="utf-8").strip()
        parts.append(f"## {name}: {plan.strategy}\n\n{plan.reason}\n\n```sql\n{sql}\n```")
    return "\n\n".join(parts)


def markdown_table(head: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    rows = [list(map(str, head))]
    rows += [["---"] * len(rows[0]), *([str(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def anonymize(pages: Mapping[str, str], names: Mapping[str, str], secrets: Iterable[str] = ()) -> dict[str, str]:
    """Replace the folders and addresses of this machine in the pages.

    Args:
        pages: The text of each page by its name.
        names: The replacement of each text.
        secrets: Texts that no page may contain.

    Raises:
        SystemExit: A page still contains the machine's names or a secret.
    """
    forbidden = [re.escape(name) for name in (str(Path.home()), tempfile.gettempdir(), socket.gethostname(), *secrets)]
    replacements = {**names, f"{REPOSITORY}/": "", str(REPOSITORY): "."}
    anonymous = {}
    for page, text in pages.items():
        anonymous[page] = "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n")) + "\n"
        for name in sorted(replacements, key=len, reverse=True):
            anonymous[page] = anonymous[page].replace(name, replacements[name])
        anonymous[page] = re.sub(r"(127\.0\.0\.1|localhost):\d+", "localhost:PORT", anonymous[page])
        for pattern in forbidden:
            if line := re.search(rf"^.*(?<!\w){pattern}(?!\w).*$", anonymous[page], re.MULTILINE):
                raise SystemExit(
                    f"{page} was not written, because it contains a name of this machine or a secret: {line[0]}"
                )
    return anonymous
