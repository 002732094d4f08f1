"""What a source has and was not taken stays reported: changed folders, folders with other names, folders for files."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Project

from lakehouse.cli import main

pytestmark = pytest.mark.usefixtures("spark")

LINES = ["id,qty,note", *(f"{n},{n},x" for n in range(10)), ""]
FIRST, SECOND = "20250101_000000", "20250102_000000"


def test_a_folder_that_changed_after_it_was_taken_stays_reported_until_it_is_taken_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Project(tmp_path)
    shop.snapshot(FIRST, items="\n".join(LINES[:3]) + "\n")
    shop.snapshot(SECOND, items="\n".join(LINES[:9]) + "\n")  # it is still being copied
    assert shop.run().code == 0
    shop.snapshot(SECOND, items="\n".join(LINES))
    command = f"lakehouse approve {shop.pipeline} items {SECOND}"

    for _ in range(3):  # from the second on, nothing is new
        done = shop.run()
        assert done.code == 0
        assert command in done.outcome("extract", "items")["note"]
        (table,) = shop("status").document["tables"]
        (changed,) = table["changed_in_source"]
        assert changed["snapshot_time"] == "2025-01-02T00:00:00Z"
        assert changed["next_step"].startswith(command) and table["note"] is None
        assert command in str(shop("status").document["attention"])
    assert done.document["nothing_new"]
    assert main(["run", str(shop.pipeline)]) == 0
    assert command in capsys.readouterr().err, "somebody who reads text sees it too"
    assert shop("report", "--out", str(tmp_path / "r.html")).code == 0
    attention = (
        (tmp_path / "r.html").read_text(encoding="utf-8").partition('class="attention"')[2].partition("</ul>")[0]
    )
    assert command in attention

    assert main(command.split()[1:]) == 0
    assert shop.run().code == 0
    assert [row["id"] for row in shop.rows("bronze/items")] == [str(n) for n in range(10)]
    assert [(e["sequence"], e["status"], e["inserted"]) for e in shop.ledger()][-1] == (3, "accepted", 2)
    (table,) = shop("status").document["tables"]
    assert (table["changed_in_source"], table["note"]) == ([], None)
    assert shop.run().document["nothing_new"]
    assert shop("verify").code == 0


def test_a_folder_that_is_not_ready_waits_and_status_and_the_report_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"type": "files", "path": str(tmp_path / "source"), "ready": {"file": "_SUCCESS"}}
    shop = Project(tmp_path, source_settings=source)
    shop.snapshot(FIRST, items="id,qty,note\n1,1,x\n")
    shop.snapshot(SECOND, items="id,qty,note\n1,2,x\n")
    message = f"{FIRST} is not ready: no _SUCCESS; 1 later one waits"

    for is_first in (True, False):
        done = shop.run()
        assert (done.code, done.outcome("extract", "items")["note"]) == (0, message)
        assert done.document["nothing_new"] is not is_first
    status = shop("status")
    assert (status.code, status.document["not_ready"]["message"]) == (0, message)
    assert main(["status", str(shop.pipeline)]) == 0
    assert message in " ".join(capsys.readouterr().out.split())
    assert shop("report", "--out", str(tmp_path / "r.html")).code == 0
    assert message in (tmp_path / "r.html").read_text(encoding="utf-8")

    (shop.source / FIRST / "_SUCCESS").touch()
    done = shop.run()
    assert done.outcome("extract", "items")["note"] == f"{SECOND} is not ready: no _SUCCESS"
    assert [row["qty"] for row in shop.rows("bronze/items")] == [1]
    (shop.source / SECOND / "_SUCCESS").touch()
    assert shop.run().code == 0
    assert [row["qty"] for row in shop.rows("bronze/items")] == [2]
    assert shop("status").document["not_ready"] is None
    assert shop.run().document["nothing_new"]


def test_approving_a_held_snapshot_whose_folder_was_mended_takes_the_mended_bytes(tmp_path: Path) -> None:
    shop = Project(tmp_path)
    shop.snapshot(FIRST, items="\n".join(LINES))
    shop.snapshot(SECOND, items="\n".join(LINES[:2]) + "\n")  # truncated
    assert shop.run().code == 4
    shop.snapshot(SECOND, items="\n".join(LINES).replace("9,9,x", "9,10,x"))
    assert f"approve {shop.pipeline} items {SECOND}" in str(shop("status").document["attention"])

    assert shop("approve", "items", SECOND).code == 0
    assert shop.run().code == 0
    assert [(row["id"], row["qty"]) for row in shop.rows("bronze/items")][-1] == ("9", 10)
    assert len(shop.rows("bronze/items")) == 10


def test_a_folder_that_changed_before_a_decision_is_taken_again_and_decided_about_in_order(tmp_path: Path) -> None:
    shop = Project(tmp_path)
    shop.snapshot(FIRST, items="\n".join(LINES))
    shop.snapshot(SECOND, items="\n".join(LINES[:2]) + "\n")  # truncated
    assert shop("extract").code == 0
    shop.snapshot(SECOND, items="\n".join(LINES).replace("9,9,x", "9,10,x"))
    (changed,) = shop("status").document["tables"][0]["changed_in_source"]
    command = f"lakehouse approve {shop.pipeline} items {SECOND}"
    assert changed["next_step"].startswith(command)

    assert main(command.split()[1:]) == 0
    assert [(e["sequence"], e["status"], e["updated"]) for e in shop.ledger()] == [
        (1, "accepted", 0),
        (2, "accepted", 1),
    ]
    assert shop("status").document["tables"][0]["changed_in_source"] == []


def test_what_is_no_snapshot_is_reported_by_each_run_and_diff(tmp_path: Path) -> None:
    shop = Project(tmp_path)
    shop.snapshot("novembro", items="id,qty,note\n1,1,x\n")
    refused = shop.run()
    assert (refused.code, shop.lake.joinpath("landing").exists()) == (2, False)
    assert "novembro" in refused.error["found"]

    shop.snapshot(FIRST, items="id,qty,note\n1,1,x\n")
    for _ in range(3):
        assert "novembro" in shop.run().outcome("extract", "items")["note"]
    shop.snapshot(SECOND, items="id,qty,note\n1,2,x\n")
    (table,) = shop("diff").document["tables"]
    assert "novembro" in table["note"]

    folder = shop.snapshot("20250103_000000") / "items.csv"
    folder.mkdir()
    (folder / "part-0.csv").write_text("id,qty,note\n1,3,x\n")
    done = shop.run()
    assert done.code == 5
    note = done.document["outcomes"][2]["note"]
    assert 'items.csv is a folder with part-0.csv; write `file: "items.csv/*.csv"`' in note
