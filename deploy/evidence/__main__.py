"""Runs both systems under a real Airflow, twice each, and writes what was observed to docs/evidence/ (`make evidence`).

    loyalty/   snapshots to cubes; one snapshot is held             loyalty.py
    tesouro/   JSON to PostgreSQL, to Kafka, to objects on S3       tesouro.py
      README.md    date, versions, the state of each task, Airflow's grid
      rows.md      number of rows in the tables of each layer
      sql.md       the models' SQL, and how each is kept up to date
      log.md       the output of the tasks
      kafka.md     (tesouro) topics and connectors
      s3.md        (tesouro) objects and lines

Every server runs on this machine, on a free port, and ends with this program. The pages contain no names or folders of
the machine. `python deploy/evidence tesouro` writes only the pages of one system.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(REPOSITORY / "tests"), str(REPOSITORY / "deploy/connect")]

import loyalty  # noqa: E402 - needs the path above
import tesouro  # noqa: E402

SYSTEMS = {"loyalty": loyalty.make_pages, "tesouro": tesouro.make_pages}


def main(names: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    for name in names or SYSTEMS:
        target = REPOSITORY / "docs/evidence" / name
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="evidence-") as folder:
            pages = SYSTEMS[name](Path(folder), target / "airflow.png")
        for page, text in pages.items():
            (target / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
