"""The thresholds of a run: their defaults, their bounds, and that the guide lists each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_pipeline import write_pipeline

from lakehouse.config import load
from lakehouse.config.tuning import Tuning
from lakehouse.errors import ConfigError

GUIDE = Path(__file__).parents[3] / "docs/guide/tuning.md"


def test_the_guide_lists_every_threshold_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)

    assert {name: float(default) for name, default in rows} == Tuning().model_dump()


def test_a_threshold_is_set_in_the_pipeline_and_the_others_keep_their_defaults(tmp_path: Path) -> None:
    tuning = load(write_pipeline(tmp_path, tuning={"local_rows": 7})).tuning

    assert tuning == Tuning(local_rows=7)
    assert tuning.full_refresh_share == Tuning().full_refresh_share


@pytest.mark.parametrize(
    ("key", "value"), [("local_rows", -1), ("full_refresh_share", 1.5), ("fast_path_from_bytes", "many"), ("rows", 1)]
)
def test_a_threshold_that_is_unknown_or_out_of_bounds_is_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        load(write_pipeline(tmp_path, tuning={key: value}))
