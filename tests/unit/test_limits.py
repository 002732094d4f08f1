"""No archive, name, header or document of a source, and no configuration, takes more than its time and memory.

What makes a reader slow is a short text that comes again and again, so the texts here are drawn as such.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakehouse.config import load
from lakehouse.error_mapping import first_line, without_values
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.logs import redact
from lakehouse.propose.dialect import UnusableFile, detect_dialect
from lakehouse.propose.names import to_snake_case
from lakehouse.propose.proposal import propose_tables
from lakehouse.propose.sources import read_folder
from lakehouse.storage import archives, landing
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.text import visible_lines

SECONDS, BYTES = 8.0, 100 << 20  # of the processor and of Python; what is measured is a tenth of it
DRAWS = os.environ.get("LAKEHOUSE_DRAWS")  # set by make fuzz; else always the same inputs
drawn = settings(
    max_examples=int(DRAWS or 10),
    deadline=None,
    derandomize=DRAWS is None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

PARTS = [
    "a",
    "A1",
    "0",
    "9",
    ",",
    ";",
    "\t",
    "|",
    "'",
    '"',
    "\\",
    " ",
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\x1b[",
    "\u202e",
    "é",
    "=",
]
PARTS += [
    ",'x",
    ",'",
    '""',
    '\\"',
    "a=b&",
    "://",
    "@",
    "1.",
    "1,",
    "-",
    "1-",
    ".csv",
    "_",
    "{",
    "}",
    "[",
    "]",
    '{"a":',
    '"a":1,',
]
PARTS += [
    "[1,",
    "1e9",
    ": ",
    "- ",
    "? ",
    "*a ",
    "&a ",
    "<<: *a\n",
    "a: ",
    "!!int ",
    "${A:-",
    "secret=",
    "/",
    "../",
    "%",
]


@contextmanager
def within_limits() -> Iterator[None]:
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        seconds, memory = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < SECONDS
    assert memory < BYTES


def repeated(most: int) -> st.SearchStrategy[str]:
    """Return texts in which one or two parts come again and again, between other parts."""
    parts = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("".join)
    count = st.sampled_from([1, 30, most // 100, most // 3, most])
    pieces = st.tuples(parts, count).map(lambda piece: (piece[0] * piece[1])[:most])
    return st.lists(st.one_of(pieces, parts), min_size=1, max_size=4).map("".join)


def zip_directory(name: str, entries: int, comment: bytes) -> bytes:
    """Return a zip that has only a directory, whose entries have one name."""
    filename = name.encode(errors="surrogatepass")[:0xFFFF]
    numbers = (20, 3, 20, *[0] * 8, len(filename), 0, len(comment), 0, 0, 0, 0)
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *numbers) + filename + comment
    entries = max(1, min(entries, (64 << 20) // len(entry)))
    count = min(entries, 0xFFFF)
    return entry * entries + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, entries * len(entry), 0, 0)


def nested_zip(depth: int, content: bytes) -> bytes:
    for _ in range(depth):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.zip" if content[:2] == b"PK" else "a.csv", content)
        content = packed.getvalue()
    return content


ARCHIVES = st.one_of(
    st.builds(
        zip_directory,
        repeated(60_000),
        st.sampled_from([1, 100, 30_000, 300_000]),
        st.sampled_from([b"", b"x" * 200, b"x" * 60_000]),
    ),
    st.builds(nested_zip, st.integers(1, 3), repeated(100_000).map(str.encode)),
    st.builds(lambda text, times: gzip.compress(text.encode() * times), repeated(100_000), st.sampled_from([1, 100])),
)


@given(ARCHIVES, st.data())
@drawn
def test_any_archive_is_unpacked_or_refused(packed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(packed)
    for at in data.draw(st.lists(st.integers(0, len(packed) - 1), max_size=3)):
        damaged[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as root:
        file, folder = Path(root, "items.zip" if packed[:2] == b"PK" else "items.csv.gz"), Path(root, "out")
        file.write_bytes(damaged)
        landed = landing.inspect_file(file)
        folder.mkdir()
        with within_limits(), suppress(DataRefused):
            for _ in archives.unpack(file, landed, folder):
                pass
        source = Path(root, "source")
        source.mkdir()
        file.rename(source / file.name)
        with within_limits(), suppress(ConfigError):
            read_folder(source)


@given(st.lists(repeated(250), min_size=1, max_size=5))
@drawn
def test_any_names_of_files_are_proposed_or_passed_over(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            with suppress(OSError, ValueError):  # a name that no file system has
                Path(root, os.fsencode(name.replace("/", "_"))[:240].decode(errors="ignore") + ".csv").write_text(
                    "id\n1\n"
                )
        with within_limits(), suppress(ConfigError):
            propose_tables(Path(root))


@given(repeated(100_000))
@example(",'x" * 100_000)
@example("password=" * 30_000)
@drawn
def test_any_header_is_read_shown_and_named(text: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        file = Path(root, "items.csv")
        file.write_bytes(text.encode(errors="replace"))
        with within_limits():
            with suppress(UnusableFile):
                detect_dialect([file])
            with suppress(DataRefused):
                Dialect.from_options({"sep": ";"}).read_header(file)
            error = ConfigError(f"no column id in {text}")
            redact(visible_lines(error.found))
            redact(text)
            without_values(text)
            without_values(first_line(error))
            to_snake_case(text[:2_000], "column")


@given(repeated(100_000))
@example('{"a":' * 900 + "1" + "}" * 900)
@example("[" * 100_000)
@example('{"id": 1e999999999}')
@example(json.dumps({f"c{n}": 1 for n in range(20_000)}))
@drawn
def test_any_json_is_proposed_or_has_its_reason(text: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root, "items.json").write_bytes(text.encode(errors="replace"))
        with within_limits():
            propose_tables(Path(root))


@given(repeated(20_000))
@example(",".join(f"c{n}" for n in range(20_000)))
@drawn
def test_any_csv_is_proposed_or_has_its_reason(text: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root, "items.csv").write_bytes(text.encode(errors="replace"))
        with within_limits():
            propose_tables(Path(root))


@given(repeated(20_000))
@drawn
def test_any_yaml_is_a_pipeline_or_an_error_of_the_configuration(text: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root, "pipeline.yml").write_bytes(text.encode(errors="replace"))
        with within_limits(), suppress(ConfigError):
            load(Path(root), {"A": "x"})


def test_a_zip_with_too_many_names_is_passed_over_by_init(tmp_path: Path) -> None:
    (tmp_path / "items.zip").write_bytes(zip_directory("a.csv", 300_000, b""))

    with within_limits(), pytest.raises(ConfigError) as error:
        read_folder(tmp_path)

    assert "contains more than 10,000 files" in error.value.where
