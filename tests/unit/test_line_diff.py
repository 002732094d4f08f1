"""Lines that only one of two files has: by DuckDB, and by counting them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.snapshot import line_diff
from lakehouse.snapshot.line_diff import Differing, differing

HEADER = "id,text"
LINES = st.lists(st.sampled_from([f"{n},{text}" for n in range(12) for text in ("a", "é", " b ", "\t", "c\x1fd")]))


def compared(
    folder: Path, before: str | bytes, after: str | bytes, restless: list[str] | None = None, header: str = HEADER
) -> Differing | None:
    paths = [folder / "before.csv", folder / "after.csv"]
    for path, text in zip(paths, (before, after), strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    kept = None
    if restless is not None:
        kept = folder / "restless.parquet"
        rows = ", ".join(f"('{line}')" for line in restless) or "(NULL)"
        duckdb.execute(f"COPY (SELECT * FROM (VALUES {rows}) AS t(line) WHERE line IS NOT NULL) TO '{kept}'")
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return differing(paths[:1], paths[1:], header, kept, work)


def lines(path: Path) -> list[str]:
    return sorted(line for (line,) in duckdb.execute(f"FROM read_parquet('{path}')").fetchall())


def text(rows: list[str], end: str = "\n", header: str = HEADER) -> str:
    return end.join([header, *rows]) + end


@settings(max_examples=150, deadline=None)
@given(
    before=LINES.map(lambda rows: sorted(set(rows))),
    after=LINES,
    unsettled=st.integers(0, 3),
    end=st.sampled_from(["\n", "\r\n"]),
    step=st.sampled_from([1 << 20, 4]),
)
def test_what_is_new_and_what_is_gone_is_what_counting_finds(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str], unsettled: int, end: str, step: int
) -> None:
    folder, restless = tmp_path_factory.mktemp("lines"), before[:unsettled]
    settled = [line for line in before if line not in restless]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(line_diff, "_STEP", step)
        found = compared(folder, text(before, end), text(after, end), restless or None)
    new, gone = Counter(after), sorted({*settled} - {*after})
    if found is None:
        assert any(new[line] > 1 for line in settled)
        return
    assert lines(found.gone) == sorted([*gone, *restless])
    assert (found.removed, found.restless) == (len(gone), len(restless))
    assert found.kept in (None, len(settled) - len(gone))
    # A line that is twice in the part that was looked at is told of; one that was not looked at has its key in bronze.
    left = new - Counter(settled)
    assert lines(found.new) == sorted(left.elements())
    assert found.added == left.total()


def test_files_that_grew_are_not_read_again(tmp_path: Path) -> None:
    rows = [f"{n},x" for n in range(100)]
    found = compared(tmp_path, text(rows), text([*rows, "100,new"]))
    assert found is not None
    assert found.kept is None
    assert (lines(found.new), lines(found.gone)) == (["100,new"], [])


def test_blank_lines_and_headers_are_nobodys(tmp_path: Path) -> None:
    found = compared(tmp_path, "\ufeff" + text(["1,a", "", " \t", "2,b"]), text(["2,b", "1,a", "   "]))
    assert found is not None
    assert (found.added, found.removed, found.kept) == (0, 0, 2)
    alone = compared(tmp_path, text(["2,b", "1,a"], header="3,c"), text(["1,a", "3,d"], header="2,b"), header="")
    assert alone is not None
    assert (lines(alone.new), lines(alone.gone)) == (["3,d"], ["3,c"])


@pytest.mark.parametrize(
    "after",
    [
        text(["3,c", "2,b", "1,a", "2,b", "0,x"]),  # one of the old lines stands there twice
        text(["2,b", HEADER, "1,a", "3,c"]),  # the header, as a row
        text(["2,b", "1,a"], end="\r\n") + "3,x\n",  # two kinds of line end
        text(["2,b", "1,\ra", "3,x"]),
        text(["2,b", "1,a", "3,x\x01"]),  # the sign that is to stand in no line
        text(["2,b", "1,a", "3," + "x" * (17 << 20)]),  # longer than lines may be
    ],
    ids=["doubled", "header", "mixed", "carriage return", "separator", "long"],
)
def test_what_cannot_be_told_line_by_line_is_not_told(tmp_path: Path, after: str) -> None:
    assert compared(tmp_path, text(["1,a", "2,b", "3,c"]), after) is None
