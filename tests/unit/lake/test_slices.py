"""The slices of a snapshot, as the ledger records them and as people read them."""

from __future__ import annotations

import random

import pytest

from lakehouse.errors import DataRefused
from lakehouse.lake import slices
from lakehouse.lake.slices import Slices


def test_equal_slices_have_one_text_and_come_back_from_it() -> None:
    values = [("SP", "2025-01-01"), ("RJ", ""), ('"', "é\n")]
    random.Random(1).shuffle(values)
    found = Slices.of(["uf", "dia"], [*values, values[0]], "")
    assert found.to_json() == '[{"uf":"\\"","dia":"é\\n"},{"uf":"RJ","dia":""},{"uf":"SP","dia":"2025-01-01"}]'
    assert Slices.from_json(found.to_json()) == found
    assert Slices.from_json("[]").values == frozenset()


def test_people_read_how_many_there_are_and_the_first_ones() -> None:
    assert Slices.of(["uf"], [], "").describe() == "0 slices"
    assert Slices.of(["uf", "n"], [("SP", 1)], "").describe() == "1 slice: SP/1"
    many = Slices.of(["n"], [(f"{n:04}",) for n in range(2000)], "")
    assert many.describe() == "2,000 slices: 0000, 0001, 0002, 0003, 0004 and 1,995 more"


def test_too_many_to_record_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MAX_SLICES", 2)
    with pytest.raises(DataRefused, match="the snapshot has 3 slices, by n"):
        Slices.of(["n"], [(1,), (2,), (3,)], "folder")
