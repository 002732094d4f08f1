"""`lakehouse diff NAME --from TIME --to TIME` shows the net change of a table or model between two times."""

from __future__ import annotations

import csv
import io
import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from helpers import ITEMS, Project, Row

pytestmark = pytest.mark.usefixtures("spark")

STAMPS = [f"2025010{day}_000000" for day in range(1, 6)]
BETWEEN = "2025-01-03T12:00:00Z"
Content = dict[str, tuple[int, str]]


def contents(seed: int) -> list[Content]:
    """Return the rows of each snapshot by key: some change, and change back."""
    drawn = random.Random(seed)
    keys, found = "abcdefgh", list[Content]()
    for _ in STAMPS:
        chosen = drawn.sample(keys, drawn.randint(4, 8))
        found.append({key: (drawn.randint(1, 2), drawn.choice("xy")) for key in sorted(chosen)})
    return found


def as_csv(content: Content) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("id", "qty", "note"), *((k, *v) for k, v in content.items())])
    return out.getvalue()


def net(before: Content, after: Content) -> dict[str, int]:
    """Return the counts of the difference of two contents."""
    both = before.keys() & after.keys()
    updated = sum(before[k] != after[k] for k in both)
    return {
        "rows_read": len(after),
        "inserted": len(after.keys() - before.keys()),
        "updated": updated,
        "deleted": len(before.keys() - after.keys()),
        "unchanged": len(both) - updated,
        "quarantined": 0,
        "duplicates": 0,
    }


def diff(shop: Project, *arguments: str) -> Row:
    done = shop("diff", *arguments)
    assert done.code == 0, done.document
    (table,) = done.document["tables"]
    return dict(table)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Five snapshots, and models over them; the last one was not taken yet."""
    tables: dict[str, dict[str, Any]] = {
        "items": ITEMS | {"guard": {"max_deleted": 1}},
        "history": ITEMS | {"file": "history.csv", "scd": 2, "guard": {"max_deleted": 1}},
    }
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "silver.items": (
            "SELECT t.id AS id, t.qty AS qty, t.note AS note FROM bronze.items AS t",
            {"keys": ["id"], "expect": {"few": {"check": "qty < 3", "on_fail": "drop"}}},
        ),
        "gold.notes": ("SELECT t.note AS note, SUM(t.qty) AS qty FROM silver.items AS t GROUP BY t.note", {}),
        "gold.windows": ("SELECT t.id AS id, COUNT(*) AS versions FROM bronze.history AS t GROUP BY t.id", {}),
    }
    project = Project(tmp_path_factory.mktemp("between"), tables, models)
    for stamp, content in zip(STAMPS[:4], contents(1), strict=False):
        project.snapshot(stamp, items=as_csv(content), history=as_csv(content))
    assert project.run().code == 0
    return project


def test_a_table_is_compared_with_itself_at_any_two_times(shop: Project) -> None:
    found = contents(1)[:4]
    times = ["20241231_000000", *STAMPS[:4], "20250201_000000"]
    at = [{}, *found, found[-1]]
    for (start, before), (end, after) in itertools.combinations(list(zip(times, at, strict=True)), 2):
        for name in ("items", "history"):
            table = diff(shop, name, "--from", start, "--to", end, "--samples", "99")
            assert (table["from"], table["to"], table["verdict"]) == (start, end, "compared")
            assert table["counts"] == net(before, after), (name, start, end)
            assert table["rows_before"] == len(before)
            shown = table["samples"]
            assert {row["id"]: (row["qty"], row["note"]) for row in shown["inserted"]} == {
                key: value for key, value in after.items() if key not in before
            }
            assert {row["id"]: (row["qty"], row["note"]) for row in shown["deleted"]} == {
                key: value for key, value in before.items() if key not in after
            }
            for update in shown["updated"]:
                key = update["key"]["id"]
                sides = zip(("qty", "note"), before[key], after[key], strict=True)
                assert update["changed"] == {c: {"before": b, "after": a} for c, b, a in sides if b != a}


def test_times_between_snapshots_and_full_names_are_allowed(shop: Project) -> None:
    found = contents(1)
    table = diff(shop, "bronze.items", "--from", "2025-01-01", "--to", BETWEEN)
    assert table["counts"] == net(found[0], found[2])
    assert table["columns"] == {
        column: count
        for n, column in enumerate(("qty", "note"))
        if (count := sum(found[0][k][n] != found[2][k][n] for k in found[0].keys() & found[2].keys()))
    }


def test_models_are_computed_at_both_times(shop: Project) -> None:
    found = contents(1)
    names = ("silver.items", "gold.notes", "gold.windows")
    done = shop("diff", *names, "--from", STAMPS[1], "--to", STAMPS[3])
    assert done.code == 0, done.document
    silver, notes, windows = done.document["tables"]
    assert silver["counts"] == net(found[1], found[3])
    sums = [{n: sum(q for q, note in found[at].values() if note == n) for n in "xy"} for at in (1, 3)]
    assert {row["key"]["note"]: row["changed"]["qty"] for row in notes["samples"]["updated"]} == {
        n: {"before": sums[0][n], "after": sums[1][n]} for n in "xy" if sums[0][n] != sums[1][n]
    }
    # A history has at a time the windows that were there at that time.
    versions = {row["key"]["id"]: tuple(row["changed"]["versions"].values()) for row in windows["samples"]["updated"]}
    assert all(before < after for before, after in versions.values()) and versions


def test_a_landed_snapshot_that_was_not_taken_is_compared_by_its_file(shop: Project, tmp_path: Path) -> None:
    copy, found = shop.copy(tmp_path / "copy"), contents(1)
    copy.snapshot(STAMPS[4], items=as_csv(found[4]), history=as_csv(found[4]))
    assert copy("extract").code == 0
    table = diff(copy, "items", "--from", STAMPS[0], "--to", STAMPS[4])
    assert table["verdict"] == "accepted"
    assert table["counts"] == net(found[0], found[4])


def test_a_page_is_written_on_which_changed_cells_are_marked(shop: Project, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    done = shop("diff", "items", "--from", STAMPS[0], "--to", STAMPS[1], "--html", str(page))
    assert (done.code, done.document["html"]) == (0, str(page))
    updates = done.document["tables"][0]["samples"]["updated"]
    cells = [f"<del>{c['before']}</del> <ins>{c['after']}</ins>" for u in updates for c in u["changed"].values()]
    assert cells and all(cell in page.read_text(encoding="utf-8") for cell in cells)
    refused = shop("diff", "items", "--html", str(tmp_path))
    assert (refused.code, "--html" in refused.error["expected"]) == (2, True)


def test_models_need_both_times(shop: Project) -> None:
    refused = shop("diff", "silver.items", "--from", STAMPS[0])
    assert refused.code == 2
    assert "--from TIME and --to TIME" in refused.error["expected"]
    assert shop("diff", "silver.items", "--from", STAMPS[1], "--to", STAMPS[0]).code == 2
