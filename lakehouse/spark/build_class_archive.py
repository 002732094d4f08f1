"""Builds the archive of classes for local sessions: `python -m lakehouse.spark.build_class_archive [--s3]`.

A local session starts this program in the background when it finds no archive (class_archive.py). By hand it is useful
for an image of a container. In order:

1. start a session that records the classes it loads
2. run a small pipeline in it, twice, so that it loads the classes of a run
3. end the session, at which the JVM writes the archive
4. let another JVM check the archive, and move it to its place
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark import SparkContext
from pyspark.sql import SparkSession

import lakehouse
from lakehouse.spark import class_archive, session
from lakehouse.spark.class_archive import Archive
from lakehouse.spark.java import find_java_home
from lakehouse.spark.launch import Launch
from lakehouse.storage.paths import Lake
from lakehouse.storage.spark_conf import read_spark_conf

_FREE_BYTES = 1 << 30
_END_SECONDS = 600  # for a JVM of the lowest priority to write the archive

_PIPELINE = """
name: class-archive
lake: FOLDER/lake
timezone: UTC
business_timezone: America/Sao_Paulo
source: {type: files, path: FOLDER/source}
tables:
  clients:
    file: clients.csv
    format: csv
    options: {sep: ";"}
    schema: id STRING, name STRING, points INT, changed TIMESTAMP
    keys: [id]
    guard: {max_deleted: 1.0}
  orders:
    file: orders.json
    format: json
    schema: id BIGINT, client STRING, price DECIMAL(18,2), day DATE
    keys: [id]
    guard: {max_deleted: 1.0}
silver:
  clients:
    keys: [id]
    expect:
      named: {check: "name IS NOT NULL", on_fail: quarantine}
gold:
  days: {}
"""
_MODELS = {
    "silver/clients.sql": "SELECT c.id AS id, c.name AS name, c.points AS points, c.changed AS changed,"
    " CAST(from_utc_timestamp(c.changed, :business_timezone) AS DATE) AS day FROM bronze.clients AS c",
    "gold/days.sql": "SELECT c.day AS day, COUNT(*) AS clients, SUM(c.points) AS points,"
    " COUNT(DISTINCT c.name) AS names FROM silver.clients AS c GROUP BY c.day",
}
_SNAPSHOTS = {
    "20250101_000000/clients.csv": "id;name;points;changed\na;Ana;1;2025-01-01 10:00:00\nb;Bia;2;2025-01-01 11:00:00\n"
    "c;;3;2025-01-01 11:00:00\nd;Davi;x;2025-01-01 11:00:00\n",
    "20250101_000000/orders.json": '{"id": 1, "client": "a", "price": 1.50, "day": "2025-01-01"}\n'
    '{"id": 2, "client": "b", "price": 2.50, "day": "2025-01-02"}\n',
    "20250102_000000/clients.csv": "id;name;points;changed\na;Ana;5;2025-01-02 10:00:00\ne;Eva;2;2025-01-02 11:00:00\n",
    "20250102_000000/orders.json": '{"id": 1, "client": "a", "price": 3.50, "day": "2025-01-01"}\n'
    '{"id": 3, "client": "e", "price": 2.50, "day": "2025-01-02"}\n',
}


def main(argv: list[str] | None = None) -> int:
    """Build an archive, if there is none; return whether there is one then, as an exit code."""
    parser = argparse.ArgumentParser(description="build the archive of classes for local sessions")
    parser.add_argument("--s3", action="store_true", help="for lakes on S3, whose sessions have more jars")
    parser.add_argument("--class-path", help=argparse.SUPPRESS)  # of a session that started this in the background
    parser.add_argument("--resolve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    settings = session.default_settings() | (read_spark_conf("spark-s3.conf") if options.s3 else {})
    if options.resolve:
        _resolve_packages(settings)
        return 0
    is_background = options.class_path is not None
    if is_background:
        _lower_priority()
    class_path = options.class_path or _find_class_path(settings, options.s3)
    archive = class_archive.find_archive(class_path.split(":")) if class_path else None
    if archive is None:
        print("no archive of classes can be made for this Java or this configuration of Spark", file=sys.stderr)
        return 1
    with archive.lock.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if is_background else 0))
        except BlockingIOError:  # another process builds it
            return 0
        if archive.exists():
            return 0
        if is_background:
            _log_to(archive.log)
        if is_background and not (archive.may_be_built() and class_archive.make_room(archive)):
            return 1
        if shutil.disk_usage(archive.folder).free < _FREE_BYTES:
            print(f"less than {_FREE_BYTES >> 30} GB of disk space is free", file=sys.stderr)
            return 1
        attempts = archive.attempts() + 1
        archive.lock.write_text(str(attempts), encoding="utf-8")  # if this process is killed, it counts as a failure
        build(archive, class_path)
        archive.lock.write_text("", encoding="utf-8")
    return 0


def build(archive: Archive, class_path: str) -> None:
    """Build an archive.

    Args:
        archive: The archive.
        class_path: The jars behind Spark's own.

    Raises:
        subprocess.SubprocessError: The JVM did not end, or the archive cannot be used.
    """
    partial = archive.file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    settings = session.local_settings(0) | {
        "spark.master": "local[2]",
        "spark.driver.memory": "1g",
    }
    for name in ("spark.jars.packages", "spark.jars.excludes"):
        settings.pop(name)
    settings["spark.driver.extraJavaOptions"] += f" {class_archive.RECORDING}{partial}"
    if "hadoop-aws" in class_path:
        settings |= _unreachable_s3()
    environment = {"SPARK_CONF_DIR": archive.parts["conf"], class_archive.CLASS_PATH: class_path}
    try:
        with tempfile.TemporaryDirectory() as folder:
            spark = session.start(Launch(settings, environment), Lake(folder), verbose=True)
            with _ended(spark):
                _use(spark, Path(folder))
        _check(partial, class_path, Path(archive.parts["conf"]))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.chmod(0o600)
        partial.replace(archive.file)
        archive.describe()
    finally:
        partial.unlink(missing_ok=True)


def _use(spark: SparkSession, folder: Path) -> None:
    """Run the pipeline for each of its snapshots, in the active session."""
    for name, text in ({"pipeline.yml": _PIPELINE} | _MODELS).items():
        _write(folder / name, text.replace("FOLDER", str(folder)))
    for snapshot in sorted({name.split("/")[0] for name in _SNAPSHOTS}):
        for name, text in _SNAPSHOTS.items():
            if name.startswith(snapshot):
                _write(folder / "source" / name, text)
        report = lakehouse.run(str(folder))
        print(*report.outcomes, sep="\n", file=sys.stderr)
    if spark.conf.get("spark.hadoop.fs.s3a.endpoint", None):
        try:
            spark.read.text("s3a://nothing/here").count()
        except Exception as error:  # there is no server; the client's classes are loaded by now
            print(error, file=sys.stderr)


def _unreachable_s3() -> dict[str, str]:
    """Return the settings of a client of S3 that finds no server, and gives up at once."""
    s3a = "spark.hadoop.fs.s3a"
    return read_spark_conf("spark-s3.conf") | {
        f"{s3a}.endpoint": "http://127.0.0.1:9",
        f"{s3a}.endpoint.region": "us-east-1",
        f"{s3a}.path.style.access": "true",
        f"{s3a}.connection.ssl.enabled": "false",
        f"{s3a}.access.key": "none",
        f"{s3a}.secret.key": "none",
        f"{s3a}.aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        f"{s3a}.attempts.maximum": "1",
        f"{s3a}.retry.limit": "0",
    }


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


@contextmanager
def _ended(spark: SparkSession) -> Iterator[None]:
    """End the session after the block, and wait for its JVM, which then writes the archive; kill it after an error."""
    process = SparkContext._gateway.proc  # type: ignore[union-attr]
    try:
        yield
        spark.stop()
        process.stdin.close()
        process.wait(_END_SECONDS)
    finally:
        process.kill()
        process.wait()


def _check(archive: Path, class_path: str, conf: Path) -> None:
    """Let a JVM read the whole archive; it fails if there is none, or if it is damaged."""
    java, jars = find_java_home(), session.spark_home() / "jars"
    options = [f"-XX:SharedArchiveFile={archive}", "-Xshare:on", "-XX:+UnlockDiagnosticVMOptions"]
    slf4j = [str(jar) for jar in jars.glob("slf4j-api-*.jar")]
    path = ":".join([f"{conf}/", *slf4j, f"{jars}/*", class_path])
    subprocess.run([f"{java}/bin/java", *options, "-XX:+VerifySharedSpaces", "-cp", path, "-version"], check=True)


def _find_class_path(settings: dict[str, str], s3: bool) -> str:
    """Return the jars of the packages, which are downloaded if need be; empty if they cannot be known."""
    launch = Launch(settings)
    if class_archive.CLASS_PATH not in class_archive.faster_launch(launch).environment:
        command = [sys.executable, "-m", "lakehouse.spark.build_class_archive", "--resolve", *(["--s3"] if s3 else [])]
        subprocess.run(command, check=True)
    return class_archive.faster_launch(launch).environment.get(class_archive.CLASS_PATH, "")


def _resolve_packages(settings: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        session.start(Launch(settings | session.LOCAL_SETTINGS), Lake(folder), verbose=True)


def _log_to(file: Path) -> None:
    """Write the output of this process, and of those that it starts, to a file."""
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _lower_priority() -> None:
    """Give all other processes priority for processor and disk."""
    os.nice(19)
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (OSError, AttributeError):  # not allowed, or not Linux
        return


if __name__ == "__main__":
    sys.exit(main())
