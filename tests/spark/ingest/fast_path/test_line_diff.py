"""Tests the lines that only one of two files has: differences by DuckDB, and by counting."""

from __future__ import annotations

import mmap
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.ingest.fast_path import common_lines, line_diff
from lakehouse.ingest.fast_path.line_diff import LineDifferences, diff_lines, may_contain_keys

HEADER = "id,text"
LONG_OR_SHORT = ["", "a", "b", "cc", "dd d", "f" + "e" * 40, "g" + "e" * 40, "e" * 17]
LINES = st.lists(st.sampled_from([f"{n},{text}" for n in range(12) for text in ("a", "é", " b ", "\t", "c\x1fd")]))


def diff_files(
    folder: Path, before: str | bytes, after: str | bytes, faulty: list[str] | None = None, header: str = HEADER
) -> LineDifferences | None:
    paths = [folder / "before.csv", folder / "after.csv"]
    for path, text in zip(paths, (before, after), strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    faulty_file = None
    if faulty is not None:
        faulty_file = folder / "faulty.parquet"
        rows = ", ".join(f"('{line}')" for line in faulty) or "(NULL)"
        duckdb.execute(f"COPY (SELECT * FROM (VALUES {rows}) AS t(line) WHERE line IS NOT NULL) TO '{faulty_file}'")
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return diff_lines(paths[:1], paths[1:], header, faulty_file, work)


def lines(path: Path) -> list[str]:
    return sorted(pq.ParquetFile(path).read()["line"].to_pylist())


def text(rows: list[str], end: str = "\n", header: str = HEADER) -> str:
    return end.join([header, *rows]) + end


@settings(max_examples=150, deadline=None)
@given(
    before=LINES.map(lambda rows: sorted(set(rows))),
    after=LINES,
    unsettled=st.integers(0, 3),
    end=st.sampled_from(["\n", "\r\n"]),
    small_chunks=st.booleans(),
)
def test_added_and_removed_lines_are_those_that_counting_finds(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[str],
    after: list[str],
    unsettled: int,
    end: str,
    small_chunks: bool,
) -> None:
    folder, faulty = tmp_path_factory.mktemp("lines"), before[:unsettled]
    settled = [line for line in before if line not in faulty]
    with pytest.MonkeyPatch.context() as patched:
        if small_chunks:
            use_small_chunks(patched)
        differences = diff_files(folder, text(before, end), text(after, end), faulty or None)
    new, gone = Counter(after), sorted({*settled} - {*after})
    if differences is None:
        assert any(new[line] > 1 for line in settled)
        return
    assert lines(differences.removed_file) == sorted([*gone, *faulty])
    assert (differences.removed_count, differences.faulty_count) == (len(gone), len(faulty))
    assert differences.common_count in (None, len(settled) - len(gone))
    # A line that occurs twice in the compared part gives no result; for one that was skipped, bronze has the key.
    left = new - Counter(settled)
    assert lines(differences.added_file) == sorted(left.elements())
    assert differences.added_count == left.total()


def use_small_chunks(patched: pytest.MonkeyPatch) -> None:
    """Compare a few bytes at once, so that small files take the same paths as large ones."""
    for name, value in {"_FIRST_CHUNK": 2, "_MAX_CHUNK": 8, "_SEARCH_WINDOWS": (6, 24)}.items():
        patched.setattr(common_lines, name, value)


@settings(max_examples=300, deadline=None)
@given(
    before=st.lists(st.sampled_from(LONG_OR_SHORT)),
    after=st.lists(st.sampled_from(LONG_OR_SHORT)),
    ends=st.tuples(st.booleans(), st.booleans()),
    small_chunks=st.booleans(),
)
def test_common_lines_are_removed_in_pairs(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[str],
    after: list[str],
    ends: tuple[bool, bool],
    small_chunks: bool,
) -> None:
    folder = tmp_path_factory.mktemp("alike")
    sides = []
    for name, rows, ended in zip(("one", "other"), (before, after), ends, strict=True):
        sides.append([*(f"{row}\n".encode() for row in ["head", *rows]), b"" if ended else b"last"])
        (folder / name).write_bytes(b"".join(sides[-1]))
    with pytest.MonkeyPatch.context() as patched:
        if small_chunks:
            use_small_chunks(patched)
        left = common_lines.remove_common_lines(folder / "one", folder / "other", folder)
    if left is None:
        return
    one, other = (Counter(path.read_bytes().splitlines(keepends=True)) for path in left)
    was, now = (Counter(filter(None, side)) for side in sides)
    assert was - one == now - other
    assert one <= was
    assert other <= now


@pytest.mark.parametrize("max_match", [common_lines._MAX_MATCH, mmap.PAGESIZE, 4 * mmap.PAGESIZE])
def test_only_the_lines_between_common_sections_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_match: int
) -> None:
    monkeypatch.setattr(common_lines, "_MAX_MATCH", max_match)
    rows = [f"{n},{'x' * (n % 40)}" for n in range(5_000)]
    now = [f"{row}!" if n % 500 == 7 else row for n, row in enumerate(rows) if n % 700 != 3]
    now.insert(2_000, "new,row")
    for name, text_ in (("before", text(rows)), ("after", text(now))):
        (tmp_path / f"{name}.csv").write_text(text_, encoding="utf-8")
    left = common_lines.remove_common_lines(tmp_path / "before.csv", tmp_path / "after.csv", tmp_path)
    assert left is not None
    gone, new = (path.read_text(encoding="utf-8").splitlines() for path in left)
    assert gone == [row for n, row in enumerate(rows) if n % 500 == 7 or n % 700 == 3]
    assert set(new) == {*now} - {*rows}


@pytest.mark.parametrize("changed", ["order", "everything", "much"])
def test_files_with_few_common_lines_are_given_up_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr(common_lines, "_SEARCH_WINDOWS", (1 << 10, 1 << 12))
    rows = [f"{n},{'x' * (n % 40)}" for n in range(50_000)]
    now = {
        "order": rows[1:100] + sorted(rows[100:], key=lambda row: row[::-1]),
        "everything": [row.replace("x", "y") + "z" for row in rows],
        "much": [row + "z" * (n % 3 == 0) for n, row in enumerate(rows)],
    }
    paths = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for path, lines_ in zip(paths, (rows, now[changed]), strict=True):
        path.write_text(text(lines_), encoding="utf-8")
    assert common_lines.remove_common_lines(*paths, tmp_path) is None
    assert (tmp_path / "after").stat().st_size < 0.6 * paths[1].stat().st_size


@pytest.mark.parametrize("more", ["", "same\n" * 5, "x" * 3_000 + "\n"])
def test_a_common_section_may_end_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    monkeypatch.setattr(common_lines, "_MAX_MATCH", mmap.PAGESIZE)
    rows = "".join(f"{n:07}\n" for n in range(2 * mmap.PAGESIZE // 8))
    paths = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for path, text_ in zip(paths, (rows + more, rows + more + "new\n"), strict=True):
        path.write_text(text_, encoding="utf-8")
    for first, second in (paths, paths[::-1]):
        left = common_lines.remove_common_lines(first, second, tmp_path)
        assert left is not None
        gone, new = (Counter(path.read_bytes().splitlines()) for path in left)
        assert (new - gone, gone - new) in ((Counter([b"new"]), Counter()), (Counter(), Counter([b"new"])))
        assert max(path.stat().st_size for path in left) < 20_000


def test_the_common_beginning_of_files_is_not_counted(tmp_path: Path) -> None:
    rows = [f"{n},x" for n in range(100)]
    differences = diff_files(tmp_path, text(rows), text([*rows, "100,new"]))
    assert differences is not None
    assert differences.common_count is None
    assert (lines(differences.added_file), lines(differences.removed_file)) == (["100,new"], [])


def test_blank_lines_and_headers_are_no_differences(tmp_path: Path) -> None:
    differences = diff_files(tmp_path, "\ufeff" + text(["1,a", "", " \t", "2,b"]), text(["2,b", "1,a", "   "]))
    assert differences is not None
    assert (differences.added_count, differences.removed_count, differences.common_count) == (0, 0, 2)
    alone = diff_files(tmp_path, text(["2,b", "1,a"], header="3,c"), text(["1,a", "3,d"], header="2,b"), header="")
    assert alone is not None
    assert (lines(alone.added_file), lines(alone.removed_file)) == (["3,d"], ["3,c"])


@pytest.mark.parametrize(
    "after",
    [
        text(["2,b", HEADER, "1,a", "3,c"]),  # the header, as a row
        text(["2,b", "1,a"], end="\r\n") + "3,x\n",  # two kinds of line end
        text(["2,b", "1,\ra", "3,x"]),
        text(["2,b", "1,a", "3,x\x01"]),  # the separator, which no line may have
        text(["2,b", "1,a", "3," + "x" * (17 << 20)]),  # longer than lines may be
    ],
    ids=["header", "mixed", "carriage return", "separator", "long"],
)
def test_files_that_cannot_be_compared_by_lines_give_no_result(tmp_path: Path, after: str) -> None:
    assert diff_files(tmp_path, text(["1,a", "2,b", "3,c"]), after) is None


def test_an_old_line_that_occurs_twice_gives_no_result_unless_it_was_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it was skipped with a common section, `FastPath.has_overlooked_rows` finds its key in bronze."""
    before, after = text(["1,a", "2,b", "3,c"]), text(["3,c", "2,b", "1,a", "2,b", "0,x"])
    differences = diff_files(tmp_path, before, after)
    assert differences is not None
    assert lines(differences.added_file) == ["0,x", "2,b"]
    monkeypatch.setattr(line_diff, "remove_common_lines", lambda *_: None)
    assert diff_files(tmp_path, before, after) is None


def test_a_path_with_pattern_characters_means_only_its_file(tmp_path: Path) -> None:
    """DuckDB took `x[1]` for `x1`, and `part=2` for a column."""
    folder, other = tmp_path / "part=2" / "x[1]*?", tmp_path / "part=2" / "x1ab"
    for place, part in ((folder, "1"), (other, "3")):
        place.mkdir(parents=True)
        pq.write_table(pa.table({"part": [part]}), place / "part.parquet")
        (place / "before.csv").write_text(text([f"{part},other"]), encoding="utf-8")
    differences = diff_files(folder, "0,a\n" + text(["1,a"]), text(["2,b", "1,a"]), faulty=["1,a"], header="")
    assert differences is not None
    assert (lines(differences.added_file), lines(differences.removed_file)) == (["1,a", "2,b"], ["0,a", "1,a"])
    files = [f"{folder.as_uri()}/part.parquet"]
    assert [may_contain_keys(files, pa.table({"part": [part]})) for part in ("1", "2", "3")] == [True, False, False]


def test_a_key_that_no_file_has_is_new(tmp_path: Path) -> None:
    folder = tmp_path / "a b%c"
    folder.mkdir()
    rows = pa.table({"Key one": ["a", "b"], "n": pa.array([1, 2], pa.int32()), "other": [1.5, 2.5]})
    pq.write_table(rows, folder / "part.parquet")
    files = [folder.as_uri() + "/part.parquet"]

    def keys(*of: tuple[str | None, int]) -> pa.Table:
        texts, numbers = zip(*of, strict=True)
        return pa.table({"Key one": pa.array(texts, pa.string()), "n": pa.array(numbers, pa.int32())})

    assert not may_contain_keys(files, keys(("a", 2), ("c", 1)))
    assert may_contain_keys(files, keys(("c", 1), ("b", 2)))
    assert not may_contain_keys(files, rows.slice(0, 0))
    assert not may_contain_keys([], keys(("a", 1)))
    # What DuckDB cannot compare, Spark has to check.
    assert may_contain_keys(files, pa.table({"other": [9.5]}))
    assert may_contain_keys(files, pa.table({"gone": ["a"]}))
    assert may_contain_keys([f"{files[0]}.lost"], keys(("c", 1)))
