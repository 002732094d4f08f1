"""`forget` removes whatever is below `_state` and may have rows, also what a later version puts there."""

from __future__ import annotations

from pathlib import Path

from lakehouse.forget import forget
from lakehouse.storage.paths import Lake


def test_only_what_has_no_rows_stays_below_state(tmp_path: Path) -> None:
    kept = ["lock", "clean.json", "ready.json", "expired.json", "bronze/items/checkpoint/offsets/0", "runs/1.json"]
    removed = ["replay/items/bronze/part-0.parquet", "rebuild/items/part-0.parquet", "plain/x/a.csv", "new/rows.csv"]
    for name in [*kept, *removed, "logs/spark.log"]:
        file = tmp_path / "_state" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("Ana")

    forget._remove_temp_copies(Lake(str(tmp_path)))

    left = {str(f.relative_to(tmp_path / "_state")): f.read_text() for f in tmp_path.rglob("*") if f.is_file()}
    assert left == {**dict.fromkeys(kept, "Ana"), "logs/spark.log": ""}
