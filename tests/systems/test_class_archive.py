"""A real JVM writes an archive of classes, uses it, and ignores it if it is damaged.

The archive holds what the start of a session loads; the small pipeline of a real build would take a minute more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.spark.class_archive import SWITCH

BUILD = """
import sys
from lakehouse.spark import build_class_archive
build_class_archive._use = lambda spark, folder: None
sys.exit(build_class_archive.main([]))
"""
# Prints the archives that the JVM has mapped.
SESSION = """
import sys
from pathlib import Path
from lakehouse.spark.session import get_session, jvm_pid
from lakehouse.storage.paths import Lake
spark = get_session(Lake(sys.argv[1]), "session")
assert spark.range(3).count() == 3
mapped = [line.split()[-1] for line in Path(f"/proc/{jvm_pid(spark)}/maps").read_text().splitlines()]
print(*{Path(file).name for file in mapped if file.endswith(".jsa")})
"""


def run(program: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    names = ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR", SWITCH)
    environment = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment | {"XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(900)  # a JVM takes long to write an archive on a loaded machine
def test_a_session_uses_the_archive_and_ignores_and_removes_a_damaged_one(tmp_path: Path) -> None:
    cache, lake = tmp_path / "cache", tmp_path / "lake"
    built = run(BUILD, cache)
    assert built.returncode == 0, built.stderr
    (archive,) = (cache / "lakehouse" / "class-archives").glob("*.jsa")
    assert archive.stat().st_mode & 0o077 == 0

    used = run(SESSION, cache, str(lake))
    assert archive.name in used.stdout.split(), used.stderr
    assert len(used.stdout.splitlines()) == 1  # the JVM prints nothing
    assert used.stderr == ""

    size = archive.stat().st_size
    archive.chmod(0o600)
    with archive.open("r+b") as file:  # the same size and a valid header, but nothing in it
        file.seek(1 << 20)
        file.write(bytes(size - (2 << 20)))
    damaged = run(SESSION, cache, str(lake))
    assert damaged.returncode == 0, damaged.stderr
    assert archive.name not in damaged.stdout
    assert "Unable to use shared archive" in (lake / "_state" / "logs" / "spark.log").read_text()
    assert not archive.exists()
