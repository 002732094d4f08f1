"""What the pages of docs/evidence have in common: tables, rows of a lake, SQL of a pipeline; and what none may say."""

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
    """When, and with which versions.

    Args:
        others: versions beside those of Spark, Delta and Airflow: "PostgreSQL 16.4".
    """
    versions = [f"{name} {version(name)}" for name in ("pyspark", "delta-spark")]
    (airflow,) = re.findall(r"^apache-airflow==(\S+)", AIRFLOW_LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    told = ", ".join([*versions, f"apache-airflow {airflow}", *others])
    return f"Written by `make evidence` on {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC; {told}."


def row_counts(lake: Path) -> str:
    """How many rows every table and model has."""
    counted = []
    for layer in ("bronze", "silver", "gold", "quarantine"):
        for place in sorted((lake / layer).glob("*")):
            counted.append((layer, place.name, pl.scan_delta(str(place)).select(pl.len()).collect().item()))
    return markdown_table(("layer", "table", "rows"), counted)


def model_sql_page(pipeline: Path) -> str:
    """The SQL of silver and gold."""
    parts = ["# The models' SQL\n\nWhat keeps silver and gold up to date; `lakehouse explain` says how and why."]
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
    """The pages without what is this machine's: its folders and addresses have other names.

    Args:
        names: by what is found, what stands for it.

    Raises:
        SystemExit: a page names the machine, or a secret, still.
    """
    own = [re.escape(name) for name in (str(Path.home()), tempfile.gettempdir(), socket.gethostname(), *secrets)]
    others = {**names, f"{REPOSITORY}/": "", str(REPOSITORY): "."}
    found = {}
    for page, text in pages.items():
        found[page] = "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n")) + "\n"
        for name in sorted(others, key=len, reverse=True):
            found[page] = found[page].replace(name, others[name])
        found[page] = re.sub(r"(127\.0\.0\.1|localhost):\d+", "localhost:PORT", found[page])
        for pattern in own:
            if told := re.search(rf"^.*(?<!\w){pattern}(?!\w).*$", found[page], re.MULTILINE):
                raise SystemExit(f"{page} was not written, for it names this machine or a secret: {told[0]}")
    return found
