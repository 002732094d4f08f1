"""A drawn pipeline, always the same: `make fuzz` draws others (tests/fuzz)."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.run import Fuzz

pytestmark = pytest.mark.usefixtures("spark")


@pytest.mark.timeout(600)  # a minute, where the machine has nothing else to do
def test_a_drawn_pipeline_has_no_fault(tmp_path: Path) -> None:
    fuzz = Fuzz(tmp_path / "work", tmp_path / "kept", tables=4, snapshots=2, shrink_seconds=0)

    result = fuzz.run_case("a")

    assert [f"{fault.kind} {fault.name}: {fault.text}" for fault in result.faults] == []
    assert list(fuzz.found) == []
    assert any(status.startswith("ingest accepted") for status in result.statuses)
    assert any(status.startswith("silver full") for status in result.statuses)
