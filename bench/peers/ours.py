"""Runs the stages of this project on a lake of one table, with v1 in bronze and v2 landed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from lakehouse.runner import context, stages
from peers.data import SCHEMA

TABLE = "rows"
FIRST, SECOND, THIRD = "20260101_000000", "20260102_000000", "20260103_000000"


def prepare_lake(folder: Path, csv: Path) -> Path:
    """Create a pipeline and its lake with v1 in bronze; return the folder of the pipeline."""
    pipeline = _write_pipeline(folder)
    land_snapshot(pipeline, csv, FIRST)
    run_stage(pipeline, "ingest")
    run_stage(pipeline, "bronze")
    return pipeline


def copy_lake(pipeline: Path, folder: Path) -> Path:
    """Copy a lake with its pipeline."""
    return _write_pipeline(copy_files(pipeline, folder))


def copy_files(pipeline: Path, folder: Path) -> Path:
    """Copy the files of a lake. Data files are hard-linked, because none is changed in place."""
    folder.mkdir(parents=True)
    subprocess.run(["cp", "-al", pipeline / "lake", folder / "lake"], check=True)
    return folder


def land_snapshot(pipeline: Path, csv: Path, stamp: str) -> None:
    _link(csv, pipeline / "source" / stamp, "rows.csv")
    run_stage(pipeline, "extract")


def land_file(pipeline: Path, file: Path, stamp: str) -> None:
    """Land a snapshot of one file under its own name."""
    _link(file, pipeline / "source" / stamp, file.name)
    run_stage(pipeline, "extract")


def _link(file: Path, folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    os.link(file, folder / name)


def run_stage(pipeline: Path, stage: str) -> None:
    """Run one stage, and raise unless it did its work."""
    report = stages.run_stages(context.open_run(pipeline), (stage,))
    done = {o.status for o in report.outcomes}
    if report.code or done not in ({"landed"}, {"accepted"}, {"applied"}):
        raise RuntimeError(f"{stage}: {report.outcomes}")


def change_set_path(pipeline: Path) -> Path:
    """Return the change set of the second ingest."""
    (path,) = (pipeline / "lake/raw/cdc").glob("*.parquet")
    return path


def bronze_path(pipeline: Path) -> Path:
    return pipeline / "lake/bronze" / TABLE


def _write_pipeline(folder: Path) -> Path:
    table = {"file": "rows.csv", "format": "csv", "options": {"sep": ";"}, "schema": SCHEMA, "keys": ["id"]}
    source = {"type": "files", "path": str(folder / "source")}
    document = {"name": "bench", "lake": str(folder / "lake"), "source": source, "tables": {TABLE: table}}
    (folder / "source").mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")
    return folder
