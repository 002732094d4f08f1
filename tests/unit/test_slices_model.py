"""The law of slices, on the model: however slices are grouped into snapshots, bronze ends as whole snapshots give it.

The product is compared with the same model in tests/systems/test_slices.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from reference_model import Columns, Content, Key, Record, State, apply_changes, diff

WHOLE = Columns(("uf", "a"))
SLICED = Columns(("uf", "a"), slice_by=("uf",))
UFS = ("SP", "RJ", "MG", "BA")
KEYS: tuple[Key, ...] = tuple((n,) for n in range(8))


def tables(rng: random.Random) -> Iterator[State]:
    """Yield the whole table from time to time; a key may go, come back and move to another slice."""
    rows: State = {}
    for _ in range(rng.randint(1, 6)):
        for key in rng.sample(KEYS, rng.randint(0, 5)):
            if rng.random() < 0.3:
                rows.pop(key, None)
            else:
                rows[key] = (rng.choice(UFS), rng.randint(0, 2))
        yield dict(rows)


def of_slices(rows: State, ufs: set[str]) -> list[Record]:
    return [Record(key, content) for key, content in rows.items() if content[0] in ufs]


def grouped(rng: random.Random) -> list[set[str]]:
    """Return all slices in groups by chance, in an order by chance; some of them come twice."""
    ufs = rng.sample(UFS, len(UFS))
    cuts = sorted(rng.sample(range(1, len(ufs)), rng.randint(0, len(ufs) - 1)))
    parts = [set(ufs[a:b]) for a, b in zip([0, *cuts], [*cuts, len(ufs)], strict=True)]
    return [*parts, *rng.sample(parts, rng.randint(0, len(parts)))]


@pytest.mark.parametrize("seed", range(20))
def test_any_order_and_grouping_of_slices_ends_as_the_whole_snapshots(seed: int) -> None:
    for draw in range(100):
        rng = random.Random(f"{seed} {draw}")
        whole: State = {}
        sliced: State = {}
        for rows in tables(rng):
            whole = apply_changes(whole, diff(whole, of_slices(rows, set(UFS)), WHOLE).changes)
            for ufs in grouped(rng):
                names: list[Content] = [(uf,) for uf in ufs]  # of files, so that an empty slice is in the snapshot
                sliced = apply_changes(sliced, diff(sliced, of_slices(rows, ufs), SLICED, names).changes)
            assert sliced == whole == rows


@pytest.mark.parametrize("seed", range(20))
def test_slices_of_different_times_leave_each_slice_at_its_newest(seed: int) -> None:
    """If no key moves, a slice has the rows of the newest snapshot that contained it, and no other snapshot matters."""
    for draw in range(100):
        rng = random.Random(f"{seed} {draw}")
        state: State = {}
        newest: dict[str, State] = {uf: {} for uf in UFS}
        for _ in range(rng.randint(1, 10)):
            ufs = set(rng.sample(UFS, rng.randint(1, 3)))
            rows: State = {(uf, n): (uf, rng.randint(0, 2)) for uf in ufs for n in range(4) if rng.random() < 0.6}
            state = apply_changes(state, diff(state, of_slices(rows, ufs), SLICED, [(uf,) for uf in ufs]).changes)
            for uf in ufs:
                newest[uf] = {key: content for key, content in rows.items() if content[0] == uf}
        assert state == {key: content for rows in newest.values() for key, content in rows.items()}


def test_a_null_slice_protects_its_key_and_is_quarantined() -> None:
    state: State = {(1,): ("SP", 1), (2,): ("SP", 2)}
    found = diff(state, [Record((1,), (None, 9)), Record((3,), ("SP", 3))], SLICED)
    assert [(change.operation, change.key) for change in found.changes] == [("I", (3,)), ("D", (2,))]
    assert found.counts["quarantined"] == 1
