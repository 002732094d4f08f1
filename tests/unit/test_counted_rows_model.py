"""The model of tables without a key obeys the law itself: else what is compared with it proves nothing."""

from __future__ import annotations

import random
from collections import Counter

from reference_model import Content, apply_counts, count_changes


def random_rows(rng: random.Random) -> list[Content]:
    return [(rng.choice([None, "", "x"]), rng.choice([None, 0, 1])) for _ in range(rng.randint(0, 12))]


def test_the_counts_applied_are_the_snapshot() -> None:
    for draw in range(3000):
        rng = random.Random(draw)
        previous = Counter(random_rows(rng))
        snapshot: list[Content | None] = [*random_rows(rng), *[None] * rng.choice([0, 0, 1, 2])]
        wanted = Counter(row for row in snapshot if row is not None)
        found = count_changes(previous, snapshot)
        counts = found.counts

        assert apply_counts(previous, found) == wanted
        assert count_changes(wanted, snapshot).changes == []
        accounted = sum(counts[name] for name in ("inserted", "updated", "unchanged", "quarantined", "duplicates"))
        assert counts["rows_read"] == accounted == len(snapshot)
        # Rows without a bad one are never held; with one, only if no copy is gone.
        assert found.is_held == (None in snapshot and bool(previous - wanted))
