"""Checks the jars of Spark's packages against `jars.sha256`, which has the SHA-256 of each; one process downloads them.

Ivy, with which Spark downloads packages, compares them only with a checksum from the same server. The list is made by
`make lock-jars`: `python -m lakehouse.spark.jars` starts a Spark for each of the package's lists of packages.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lakehouse.errors import ConfigError
from lakehouse.storage import private_dirs
from lakehouse.storage.spark_conf import read_spark_conf
from lakehouse.text import counted

# No path: the package may be in a zip, as `spark-submit --py-files` takes it.
LIST = resources.files("lakehouse") / "spark" / "jars.sha256"
_PACKAGES = "spark.jars.packages"
_CONFIGURATIONS = ("spark-defaults.conf", "spark-s3.conf")


def local_jars(spark_jars: str) -> list[Path]:
    """Return the jars on this machine of a session's setting `spark.jars`."""
    urls = [urlsplit(url) for url in spark_jars.split(",") if url]
    return [Path(unquote(url.path)) for url in urls if url.scheme in ("", "file")]


def check_jars(spark_jars: str, packages: str) -> None:
    """Check the jars of a session. Those of a session that has them on its class path were checked by an earlier one.

    Args:
        spark_jars: The session's setting `spark.jars`.
        packages: Its setting `spark.jars.packages`. If it is the package's own, the folder of the downloaded jars may
            have no others than those of the list. The user's own packages and jars are not checked.

    Raises:
        ConfigError: A jar has another content than the list says, or is not on it.
    """
    jars = [jar for jar in local_jars(spark_jars) if jar.is_file()]
    downloaded = {jar.parent for jar in jars if jar.name in known_hashes()} if packages in _own_packages() else set()
    wrong = [
        jar
        for jar in jars
        if (jar.name in known_hashes() or jar.parent in downloaded) and known_hashes().get(jar.name) != hash_file(jar)
    ]
    if wrong:
        raise ConfigError(
            f"{counted(len(wrong), 'jar')} of Spark's packages with another content than this version was made with:"
            f" {', '.join(jar.name for jar in wrong[:5])}",
            expected=f"the SHA-256 of {LIST}",
            where=str(wrong[0].parent),
            next_step="find out where they come from (the Maven repositories of spark.jars.ivySettings and"
            " spark.jars.repositories), delete them there and in the folders `cache` and `jars` of Ivy, and run again",
        )


@contextmanager
def downloaded_by_one(settings: Mapping[str, str]) -> Iterator[None]:
    """Let one process at a time start Spark inside, until the packages of its settings have been downloaded once.

    Ivy writes into the same files whoever downloads: of two processes that do so at once, both fail.

    Args:
        settings: The settings with which Spark starts.
    """
    packages = settings.get(_PACKAGES)
    with ExitStack() as stack:
        try:
            file = private_dirs.cache_folder("packages") / "downloaded"
            downloaded = stack.enter_context(private_dirs.open_private(file, os.O_RDWR | os.O_CREAT))
            is_missing = packages is not None and packages not in downloaded.read().splitlines()
            if is_missing:
                fcntl.flock(downloaded, fcntl.LOCK_EX)
                is_missing = packages not in downloaded.read().splitlines()  # what was added while this process waited
            if not is_missing:
                fcntl.flock(downloaded, fcntl.LOCK_UN)
        except (ConfigError, OSError):  # no cache folder, or one without locks: nothing is known of other processes
            is_missing = False
        yield
        if is_missing:
            print(packages, file=downloaded)


def list_digest() -> str:
    """Return a hash of the list, which changes with it."""
    return hashlib.sha256(LIST.read_bytes()).hexdigest()


@cache
def known_hashes() -> dict[str, str]:
    """Return the SHA-256 of the known jars, by file name."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@cache
def _own_packages() -> frozenset[str]:
    return frozenset(read_spark_conf(name)[_PACKAGES] for name in _CONFIGURATIONS)


def _resolved_jars(configuration: str) -> Iterable[Path]:
    """Return the jars that Spark downloads for the packages of a configuration: by a Spark that this process starts."""
    from pyspark.sql import SparkSession

    settings = read_spark_conf(configuration)
    builder = SparkSession.builder.master("local[1]")
    for name in (_PACKAGES, "spark.jars.excludes"):
        builder = builder.config(name, settings[name])
    with tempfile.TemporaryDirectory() as folder:  # another cache than the user's, so that everything is downloaded
        spark = builder.config("spark.jars.ivy", folder).config("spark.ui.enabled", "false").getOrCreate()
        yield from local_jars(spark.conf.get("spark.jars", "") or "")
        spark.stop()


def _lines(jars: Iterable[Path]) -> Iterator[str]:
    return (f"{hash_file(jar)}  {jar.name}" for jar in jars)


def main(argv: list[str]) -> None:
    """Write the list or, with the name of a configuration, print the lines of its jars."""
    if argv:
        print("\n".join(_lines(_resolved_jars(argv[0]))))
        return
    lines: set[str] = set()
    for configuration in _CONFIGURATIONS:  # a process each, because packages are resolved when a JVM starts
        command = [sys.executable, "-m", "lakehouse.spark.jars", configuration]
        lines |= {*subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()}
    text = "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.split()[1]))
    Path(str(LIST)).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
