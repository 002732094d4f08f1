"""Three drawn pipelines, always the same: `make fuzz` draws others (tests/fuzz)."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.run import Fuzz

pytestmark = pytest.mark.usefixtures("spark")

OPEN = pytest.mark.xfail(
    strict=True,
    reason="open: verify does not find rows of a CSV file whose FLOAT key is nan or -inf; and Spark's generated code"
    " raises a NullPointerException in the MERGE of a model, which ends with 1",
)


@pytest.mark.timeout(600)  # a minute, where the machine has nothing else to do
@pytest.mark.parametrize("seed", ["a", pytest.param("b", marks=OPEN), "c"])
def test_a_drawn_pipeline_has_no_fault(tmp_path: Path, seed: str) -> None:
    fuzz = Fuzz(tmp_path / "work", tmp_path / "kept", tables=6, snapshots=2, shrink_seconds=0)

    result = fuzz.run_case(seed)

    assert [f"{fault.kind} {fault.name}: {fault.text}" for fault in result.faults] == []
    assert list(fuzz.found) == []
    assert any(status.startswith("ingest accepted") for status in result.statuses)
    assert any(status.startswith("silver full") for status in result.statuses)
