"""Writes a pipeline of one table, for tests that need any valid one. Imports no Spark."""

from __future__ import annotations

import json
from pathlib import Path


def write_pipeline(folder: Path, **parts: object) -> Path:
    """Write a pipeline whose lake and source are beside it, and return its folder.

    Args:
        folder: The folder of the pipeline.
        parts: Further parts of the configuration, or others in place of these.
    """
    table = {"file": "items.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}
    document = {
        "name": "shop",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder / "source")},
        "tables": {"items": table},
    }
    (folder / "pipeline.json").write_text(json.dumps(document | parts), encoding="utf-8")
    return folder
