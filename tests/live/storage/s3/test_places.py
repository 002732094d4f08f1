"""Landing, files and the lease on S3, without Spark: a write is complete or absent, and one run locks a lake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
from servers import faults, s3

from lakehouse.config import Table
from lakehouse.errors import ConfigError, ExitCode, InfrastructureError, LakeBusy, LakehouseError
from lakehouse.storage import file_io, landing, lock, s3_lease
from lakehouse.storage.paths import Lake
from lakehouse.storage.prepare_files import readable_snapshot
from lakehouse.storage.s3 import S3Path, WriteConflict, spark_settings

TIME = datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc)
LATER = datetime(2025, 10, 4, tzinfo=timezone.utc)
NUMBERS = "".join(f"{n}\n" for n in range(1_500_000)).encode()  # two parts of an upload
assert len(NUMBERS) > 10 << 20

HOLDER = """
import sys
from lakehouse.storage.paths import Lake
from lakehouse.storage.lock import lock_lake
with lock_lake(Lake(sys.argv[1]), "run-7", "ingest") as lake_lock:
    lake_lock.record_jvm(int(sys.argv[2]) if len(sys.argv) > 2 else None)
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["moto", "s3proxy"])
def server(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def lake(moto: str, new_bucket: Callable[[str], str], aws: Callable[[str], None]) -> Lake:
    aws(moto)
    return Lake(f"s3a://{new_bucket(moto)}/shop")


def write_files(folder: Path, **contents: bytes) -> list[Path]:
    for name, content in contents.items():
        (folder / f"{name}.csv").write_bytes(content)
    return [folder / f"{name}.csv" for name in contents]


def objects(url: str, lake: Lake) -> set[str]:
    listed = s3.client(url).list_objects_v2(Bucket=lake.root.split("/")[2]).get("Contents", [])
    return {one["Key"].removeprefix("shop/") for one in listed}


# --- landing ----------------------------------------------------------------------------------------------------


def test_a_snapshot_lands_completely_despite_every_fault(
    server: str, new_bucket: Callable[[str], str], aws: Callable[[str], None], tmp_path: Path
) -> None:
    injected = faults.Faults({faults.SLOW_DOWN: 17, faults.RESET: 11, faults.LOST: 4, faults.CUT: 3})
    with faults.proxy(server, injected) as url:
        aws(url)
        lake = Lake(f"s3a://{new_bucket(server)}/shop")
        landed = landing.land_snapshot(lake, "items", TIME, write_files(tmp_path, items=NUMBERS, more=b'id\n"1"\n'))

        assert landing.list_snapshots(lake, "items") == [landed]
        assert landed.files[0] == landing.inspect_file(tmp_path / "items.csv")
        names = [f"{landed.folder.name}/{name}" for name in ("_manifest.json", "items.csv", "more.csv")]
        assert {n: s for n, s in file_io.file_sizes(lake.landing_path("items")).items() if n != names[0]} == {
            names[1]: len(NUMBERS),
            names[2]: 7,
        }
        assert [path.read_bytes() for path in landed.paths] == [NUMBERS, b'id\n"1"\n']
        with landed.paths[0].open(encoding="utf-8") as lines:
            assert sum(1 for _ in lines) == 1_500_000
    assert set(injected.fault_counts) == {faults.SLOW_DOWN, faults.RESET, faults.LOST, faults.CUT}, (
        injected.fault_counts
    )


def test_files_of_a_killed_run_are_no_snapshot_and_the_next_run_deletes_them(
    lake: Lake, moto: str, tmp_path: Path
) -> None:
    older = landing.land_snapshot(lake, "items", TIME, write_files(tmp_path, items=b"id\n1\n"))
    unfinished = lake.landing_path("items") / "20251005_000000" / "items.csv"
    file_io.write_atomically(unfinished, b"id")
    bucket, client = lake.root.split("/")[2], s3.client(moto)
    client.create_multipart_upload(Bucket=bucket, Key="shop/landing/items/20251005_000000/large.csv")

    assert landing.list_snapshots(lake, "items") == [older]
    assert landing.newest_snapshot(lake, "items") == older

    newer = landing.land_snapshot(lake, "items", LATER, write_files(tmp_path, items=b"id\n2\n"))
    assert landing.list_snapshots(lake, "items") == [older, newer]
    assert not [key for key in objects(moto, lake) if "20251005" in key]
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_reading_ends_if_the_object_is_replaced(lake: Lake, moto: str) -> None:
    file = lake.path("landing", "items.csv")
    file_io.write_atomically(file, NUMBERS)
    injected = faults.Faults({faults.CUT: 1})
    with faults.proxy(moto, injected) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises((WriteConflict, LakehouseError)), file.open("rb") as reading:
            reading.read(1000)
            patch.setenv("AWS_ENDPOINT_URL", moto)
            file_io.write_atomically(file, NUMBERS[::-1])
            reading.read()


def test_an_object_is_read_from_any_position_despite_truncated_responses(lake: Lake, moto: str) -> None:
    file = lake.path("raw", "numbers")
    file_io.write_atomically(file, NUMBERS)
    injected = faults.Faults({faults.CUT: 2})
    with faults.proxy(moto, injected) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        with file.open("rb") as reading:
            assert (reading.seek(-9, os.SEEK_END), reading.read()) == (len(NUMBERS) - 9, NUMBERS[-9:])
            assert (reading.seek(7_000_000), reading.read(2_000_000)) == (7_000_000, NUMBERS[7_000_000:9_000_000])
            assert (reading.seek(0), reading.read()) == (0, NUMBERS)
    assert injected.fault_counts[faults.CUT] > 1


def test_a_missing_object_is_reported_as_missing_despite_truncated_responses(lake: Lake, moto: str) -> None:
    """A 404 has a body too, and half of it is not readable."""
    file = lake.path("raw", "nothing")
    injected = faults.Faults({faults.CUT: 2})
    with faults.proxy(moto, injected) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                file.read_bytes()
            with pytest.raises(FileNotFoundError):
                S3Path.from_url(str(file)).read_object()
        assert injected.fault_counts[faults.CUT] > 1
        injected.every[faults.CUT] = 1
        with pytest.raises(InfrastructureError, match="was truncated"):
            S3Path.from_url(str(file)).read_object()


def test_a_landed_file_is_rewritten_completely_or_not_at_all(lake: Lake, moto: str, tmp_path: Path) -> None:
    snapshot = landing.land_snapshot(lake, "items", TIME, write_files(tmp_path, items=NUMBERS, more=b"id\n1\n"))
    before, file = objects(moto, lake), snapshot.folder / "items.csv"

    def remove_first_line(old: Path, new: Path) -> None:
        new.write_bytes(old.read_bytes().partition(b"\n")[2])

    def fail_after_writing(old: Path, new: Path) -> None:
        remove_first_line(old, new)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        landing.rewrite_file(lake, snapshot, "items.csv", fail_after_writing)
    assert landing.list_snapshots(lake, "items") == [snapshot]
    assert file.read_bytes() == NUMBERS

    injected = faults.Faults({faults.LOST: 3, faults.CUT: 2})
    with faults.proxy(moto, injected) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        landing.rewrite_file(lake, snapshot, "items.csv", remove_first_line)
    assert {faults.LOST, faults.CUT} <= set(injected.fault_counts)
    (after,) = landing.list_snapshots(lake, "items")
    assert file.read_bytes() == NUMBERS.partition(b"\n")[2]
    assert after.file_hashes == snapshot.file_hashes
    assert [each.as_received for each in after.files] == [False, True]
    assert objects(moto, lake) == before
    assert not list(lake.local_path("plain").iterdir()), "no temporary file stays on this machine"


def test_prepared_files_are_on_s3_only_while_they_are_read(lake: Lake, moto: str, tmp_path: Path) -> None:
    import gzip

    mixed = b'id\n"1"\r\n'
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(mixed))
    sources = [*write_files(tmp_path, a=b"id\n1\n", b=mixed, d=b'id\n"1"\n'), tmp_path / "c.csv.gz"]
    landed = landing.land_snapshot(lake, "items", TIME, sources)
    before = objects(moto, lake)
    table = Table.model_validate({"file": "*", "format": "csv", "schema": "id STRING", "keys": ["id"]})
    with readable_snapshot(lake, table, landed) as files:
        assert [f.name for f in files.files] == ["a.csv", "b.csv", "d.csv", "c.csv.gz/c.csv"]
        content = [b"id\n1\n", b'id\n"1"\n', b'id\n"1"\n', b'id\n"1"\n']
        assert [path.read_bytes() for path in files.paths] == content
        names = [str(path) for path in files.paths]
        assert names[0] == f"{landed.folder}/a.csv"
        assert names[2] == f"{landed.folder}/d.csv"
        on_s3 = [S3Path.from_url(path).read_bytes() for path in names]  # by their names alone, as executors do
        assert on_s3 == content
    assert objects(moto, lake) == before


def test_temporary_folders_of_killed_processes_are_deleted_after_a_day(lake: Lake, moto: str) -> None:
    file_io.write_atomically(lake.state_path("plain", "20200101_000000_killed", "a.csv"), b"id\n")
    file_io.write_atomically(lake.state_path("plain", "20990101_000000_now", "a.csv"), b"id\n")
    with file_io.shared_temp_dir(lake.state_path("plain"), lake.local_path("plain")):
        assert objects(moto, lake) == {"_state/plain/20990101_000000_now/a.csv"}


# --- refused requests --------------------------------------------------------------------------------------------


def test_a_403_names_the_action_the_key_and_the_permission_and_is_not_retried(
    moto: str, lake: Lake, aws: Callable[[str], None], tmp_path: Path
) -> None:
    requests = []

    def refuse(method: str, path: str) -> bool:
        requests.append(method) if method == "PUT" else None
        return method == "PUT"

    with faults.proxy(moto, faults.Faults({}, refuse)) as url:
        aws(url)
        with pytest.raises(ConfigError) as refused:
            landing.land_snapshot(lake, "items", TIME, write_files(tmp_path, items=b"id\n1\n"))
    assert refused.value.exit_code == ExitCode.USAGE
    assert f"PutObject of {lake.root}/landing/items/20251003_170552/items.csv" in refused.value.found
    bucket = lake.root.split("/")[2]
    key = "shop/landing/items/20251003_170552/items.csv"
    assert refused.value.expected == f"s3:PutObject on arn:aws:s3:::{bucket}/{key}"
    assert len(requests) == 1


def test_missing_credentials_and_a_missing_bucket_are_reported(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as no_bucket, lock.lock_lake(Lake("s3a://nobodys-bucket/x"), "run-1", "run"):
        pass
    assert "NoSuchBucket" in no_bucket.value.found
    assert "s3a://nobodys-bucket/x" in no_bucket.value.found

    for name in s3.CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError) as no_credentials, lock.lock_lake(lake, "run-1", "run"):
        pass
    assert "Unable to locate credentials" in no_credentials.value.found
    assert "AWS_PROFILE" in no_credentials.value.expected


def test_unknown_keys_are_reported_without_the_secret(
    s3proxy: str, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws(s3proxy)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(ConfigError) as refused:
        list(S3Path.from_url("s3a://any/x").iterdir())
    assert "SignatureDoesNotMatch" in refused.value.found
    assert "not-the-secret" not in str(refused.value)


# --- the lease --------------------------------------------------------------------------------------------------


@contextmanager
def lock_in_another_process(lake: Lake, *jvm: int) -> Iterator[subprocess.Popen[str]]:
    """Lock the lake in another process, until its input ends, or it is killed, or it kills itself."""
    command = [sys.executable, "-c", HOLDER, lake.root, *map(str, jvm)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def wait_for_end(process: subprocess.Popen[str]) -> str:
    """Return the stderr of a process that ends by itself; its input stays open."""
    assert process.stderr
    process.wait(timeout=10)
    return process.stderr.read()


def lock_and_release(lake: Lake) -> None:
    with lock.lock_lake(lake, "run-8", "bronze"):
        pass


def test_a_second_run_is_refused_at_once_and_names_the_first(lake: Lake) -> None:
    with lock_in_another_process(lake) as process:
        began = time.monotonic()
        with pytest.raises(LakeBusy) as refused:
            lock_and_release(lake)
        assert time.monotonic() - began < 3
        assert refused.value.exit_code == ExitCode.BUSY
        for part in (f"process {process.pid}", "ingest", "run-7", lake.root):
            assert part in refused.value.found
        process.communicate("")
        assert process.returncode == 0
    lock_and_release(lake)
    lock_and_release(lake)


def test_a_lease_is_renewed_and_that_of_a_killed_run_ends_by_itself(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(s3_lease.LEASE_SECONDS_VARIABLE, "3")
    with lock_in_another_process(lake) as process:
        time.sleep(5)
        with pytest.raises(LakeBusy):
            lock_and_release(lake)
        process.kill()
        process.wait()
        killed = time.monotonic()
        with pytest.raises(LakeBusy) as refused:
            lock_and_release(lake)
        assert "its lease ends within" in refused.value.next_step
        while True:
            try:
                lock_and_release(lake)
            except LakeBusy:
                assert time.monotonic() - killed < 8
                time.sleep(0.2)
            else:
                break
        assert time.monotonic() - killed > 1.5


def test_a_driver_that_cannot_renew_kills_itself_and_its_jvm_before_its_lease_ends(
    lake: Lake, moto: str, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(s3_lease.LEASE_SECONDS_VARIABLE, "3")
    injected = faults.Faults({})
    with faults.proxy(moto, injected) as url, subprocess.Popen(["sleep", "60"]) as jvm:
        aws(url)
        with lock_in_another_process(lake, jvm.pid) as process:
            aws(moto)
            injected.is_down = True
            output = wait_for_end(process)
            assert process.returncode == ExitCode.INFRASTRUCTURE, output
            assert "could not be renewed in time" in output
            assert jvm.wait(timeout=5) == -signal.SIGKILL
            with pytest.raises(LakeBusy):  # for other runs the lease has not ended yet
                lock_and_release(lake)


def test_a_driver_whose_lease_was_taken_over_kills_itself(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(s3_lease.LEASE_SECONDS_VARIABLE, "3")
    with lock_in_another_process(lake) as process:
        file_io.write_atomically(lake.state_path("lock", "99999999"), b"{}")
        output = wait_for_end(process)
    assert process.returncode == ExitCode.BUSY, output
    assert "was taken over" in output


def test_only_one_of_many_runs_gets_an_ended_lease(
    server: str, new_bucket: Callable[[str], str], aws: Callable[[str], None]
) -> None:
    aws(server)
    lake = Lake(f"s3a://{new_bucket(server)}/shop")
    lock_and_release(lake)
    for _ in range(5):
        assert sum(lock_concurrently(lake, 6)) == 1


def lock_concurrently(lake: Lake, threads: int) -> list[bool]:
    """Return for each thread whether it got the lake; none releases it before all have tried."""
    all_ready, all_tried = threading.Barrier(threads), threading.Barrier(threads)

    def attempt(_: int) -> bool:
        all_ready.wait()
        try:
            with lock.lock_lake(lake, "run-8", "bronze"):
                all_tried.wait(30)
        except LakeBusy:
            all_tried.wait(30)
            return False
        return True

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(attempt, range(threads)))


def test_a_lease_is_acquired_although_the_response_is_lost(lake: Lake, moto: str, aws: Callable[[str], None]) -> None:
    injected = faults.Faults({faults.LOST: 1})
    with faults.proxy(moto, injected) as url:
        aws(url)
        with pytest.raises((LakeBusy, InfrastructureError)):  # every response is lost: it gives up
            lock_and_release(lake)
    lake = Lake(f"{lake.root}/other")
    injected = faults.Faults({faults.LOST: 2})
    with faults.proxy(moto, injected) as url:
        aws(url)
        for _ in range(2):
            lock_and_release(lake)
    assert injected.fault_counts[faults.LOST] >= 2


@pytest.mark.parametrize("seconds", ["0", "2", "never", "1e9", "nan"])
def test_unusable_lease_seconds_are_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    monkeypatch.setenv(s3_lease.LEASE_SECONDS_VARIABLE, seconds)
    with pytest.raises(ConfigError, match=s3_lease.LEASE_SECONDS_VARIABLE):
        lock_and_release(lake)


@pytest.mark.parametrize("content", [b"", b"{", b'"text"', b'{"seconds": 0}'])
def test_unreadable_content_of_an_old_lease_blocks_no_run(
    lake: Lake, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_lease, "_DEFAULT_SECONDS", -1.0)  # the assumed length of an unreadable lease
    monkeypatch.setenv(s3_lease.LEASE_SECONDS_VARIABLE, "60")
    file_io.write_atomically(lake.state_path("lock", "00000041"), content)
    with lock.lock_lake(lake, "run-8", "bronze"):
        assert file_io.list_names(lake.state_path("lock")) == ["00000042"]
        holder = json.loads(lake.state_path("lock", "00000042").read_text())
        assert (holder["pid"], holder["run_id"], holder["doing"]) == (os.getpid(), "run-8", "bronze")


# --- the settings of Spark -----------------------------------------------------------------------------------------


def test_objects_are_encrypted_with_the_configured_key(
    lake: Lake, moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_S3_KMS_KEY", "alias/lake")
    landing.land_snapshot(lake, "items", TIME, write_files(tmp_path, items=b"id\n1\n"))
    client, bucket = s3.client(moto), lake.root.split("/")[2]
    for key in objects(moto, lake):
        head = client.head_object(Bucket=bucket, Key=f"shop/{key}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/lake"), key
    settings = spark_settings()
    assert settings["spark.hadoop.fs.s3a.encryption.algorithm"] == "SSE-KMS"
    assert settings["spark.hadoop.fs.s3a.encryption.key"] == "alias/lake"


def test_spark_settings_have_the_endpoint_and_no_credentials(
    moto: str, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws(moto)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    settings = spark_settings()
    assert settings["spark.hadoop.fs.s3a.endpoint"] == moto
    assert settings["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"
    assert settings["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert not [value for value in settings.values() if s3.CREDENTIALS["AWS_SECRET_ACCESS_KEY"] in value]

    monkeypatch.delenv("AWS_ENDPOINT_URL")
    settings = spark_settings()
    assert settings["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"
    assert "spark.hadoop.fs.s3a.endpoint" not in settings


def test_the_s3_packages_include_those_of_a_lake_on_a_disk() -> None:
    """spark-submit uses the last of two lists, not both."""
    folder = Path(__file__).parents[4] / "lakehouse" / "spark"
    lists = [(folder / name).read_text(encoding="utf-8") for name in ("spark-defaults.conf", "spark-s3.conf")]
    for setting in ("packages", "excludes"):
        disk, on_s3 = (set(re.findall(rf"spark\.jars\.{setting}\s+(\S+)", text)[0].split(",")) for text in lists)
        assert disk < on_s3
