"""Runs a small pipeline many times in one process, each time on a snapshot with a few changes.

python -m peers.many_runs RUNS EACH FOLDER      prints one JSON document: a list with an item for EACH runs
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import statistics
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

TABLES = ("raw/ledger", "bronze/items", "silver/items", "gold/notes")
FIRST_ROWS, NEW_ROWS, CHANGED_ROWS, NOTES = 50, 5, 3, "xyz"


def write_pipeline(folder: Path) -> None:
    """Write a pipeline of one table, with a silver model and a cube."""
    document = {
        "name": "runs",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder / "source")},
        "tables": {
            "items": {"file": "items.csv", "format": "csv", "schema": "id INT, qty INT, note STRING", "keys": ["id"]}
        },
        "silver": {"items": {"keys": ["id"]}},
        "gold": {"notes": {}},
    }
    models = {
        "silver/items": "SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i WHERE i.qty > 0",
        "gold/notes": "SELECT i.note AS note, SUM(i.qty) AS qty, COUNT(*) AS n FROM silver.items AS i GROUP BY i.note",
    }
    for name, sql in models.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / f"{name}.sql").write_text(sql, encoding="utf-8")
    (folder / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")


def measure(runs: int, each: int, folder: Path) -> list[dict[str, Any]]:
    """Return, for each of these numbers of runs, the median seconds, the files of the tables, and the compactions."""
    from lakehouse.cli import main

    os.environ["LAKEHOUSE_ENGINE"] = "off"
    write_pipeline(folder)
    random_, at = random.Random(1), datetime(2025, 1, 1)
    rows = [(random_.randrange(12), random_.choice(NOTES)) for _ in range(FIRST_ROWS)]
    found, seconds, compactions = list[dict[str, Any]](), list[float](), 0
    for number in range(1, runs + 1):
        rows += [(random_.randrange(12), random_.choice(NOTES)) for _ in range(NEW_ROWS)]
        for key in random_.sample(range(len(rows)), CHANGED_ROWS):
            rows[key] = random_.randrange(12), random_.choice(NOTES)
        at += timedelta(minutes=10)
        target = folder / "source" / f"{at:%Y%m%d_%H%M%S}"
        target.mkdir(parents=True)
        lines = [f"{key},{qty},{note}" for key, (qty, note) in enumerate(rows)]
        (target / "items.csv").write_text("\n".join(["id,qty,note", *lines]) + "\n", encoding="utf-8")

        began, out = time.monotonic(), io.StringIO()
        with contextlib.redirect_stdout(out):
            if code := main(["run", str(folder), "--json"]):
                raise SystemExit(code)
        seconds.append(time.monotonic() - began)
        compactions += sum(o["status"] == "compacted" for o in json.loads(out.getvalue())["outcomes"])
        if number % each == 0:
            files = {name: len(DeltaTable(folder / "lake" / name).file_uris()) for name in TABLES}
            median = statistics.median(seconds[-each:])
            found.append({"runs": number, "seconds": median, "files": files, "compactions": compactions})
    return found


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        run_count, of_line, place = sys.argv[1:]
        document = measure(int(run_count), int(of_line), Path(place))
    print(json.dumps(document))
