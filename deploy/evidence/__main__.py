"""`make evidence`: both systems under a real Airflow, each in two runs, and what they showed, in docs/evidence/.

    loyalty/   snapshots to cubes; one snapshot is held             loyalty.py
    tesouro/   messy JSON to PostgreSQL, to Kafka, to objects on S3  tesouro.py
      README.md    when, with which versions, what became of each task, Airflow's grid
      rows.md      rows in each layer's tables
      sql.md       the models' SQL, and how each is kept up to date
      log.md       what the tasks said
      kafka.md     (tesouro) topics and connectors
      s3.md        (tesouro) objects and lines

Every server runs on this machine, on a free port, and ends with this. What is written names no machine and no folder of
it. `python deploy/evidence tesouro` writes one of them anew.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(REPOSITORY / "tests"), str(REPOSITORY / "deploy/connect")]

import loyalty  # noqa: E402 - tests is no package that is installed
import tesouro  # noqa: E402

SYSTEMS = {"loyalty": loyalty.shown, "tesouro": tesouro.shown}


def main(names: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers end with this, whatever ends it
    for name in names or SYSTEMS:
        to = REPOSITORY / "docs/evidence" / name
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="evidence-") as folder:
            pages = SYSTEMS[name](Path(folder), to / "airflow.png")
        for page, text in pages.items():
            (to / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
