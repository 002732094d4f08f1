"""`lakehouse doctor` on a lake on S3: access by a probe object, the lease, and tables, without Spark."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import table
from servers import s3

from lakehouse.doctor import place, tables
from lakehouse.storage import lock, s3_lease
from lakehouse.storage.paths import Lake


@pytest.fixture
def lake(moto: str, new_bucket: Callable[[str], str], aws: Callable[[str], None]) -> Lake:
    aws(moto)
    return Lake(f"s3a://{new_bucket(moto)}/shop")


def test_a_bucket_is_probed_and_nothing_is_left_in_it(moto: str, lake: Lake) -> None:
    (finding,) = place.check_access(lake, True)
    assert (finding.result, finding.of) == ("ok", lake.root)
    assert "Contents" not in s3.client(moto).list_objects_v2(Bucket=lake.root.split("/")[2])


def test_a_bucket_that_does_not_exist_is_wrong(lake: Lake) -> None:
    (finding,) = place.check_access(Lake("s3a://no-such-bucket-here/shop"), True)
    assert finding.result == "wrong"
    assert finding.code in (2, 3)


def test_a_lease_is_named_while_it_is_valid_and_when_it_has_ended(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock.lock_lake(lake, "run-7", "ingest"):
        (finding,) = place.check_lock(lake)
        assert finding.result == "ok"
        assert "a run has locked the lake: process" in finding.found
        assert "(ingest, run run-7" in finding.found
        with monkeypatch.context() as patch:
            patch.setattr(s3_lease, "_lease_length", lambda seconds: -5.0 if seconds else 0.0)
            (finding,) = place.check_lock(lake)
        assert "its lease has ended" in finding.found
    assert [finding.found for finding in place.check_lock(lake)] == ["nobody has locked the lake"]


def test_lost_objects_of_a_table_are_found(moto: str, lake: Lake) -> None:
    bucket = lake.root.split("/")[2]
    options = {"AWS_ENDPOINT_URL": moto, "AWS_ALLOW_HTTP": "true", **s3.CREDENTIALS}
    address = f"s3://{bucket}/shop/bronze/items"
    for _ in range(2):
        write_deltalake(address, table({"id": ["a"]}), mode="append", storage_options=options)
    assert [finding.result for finding in tables.check_tables(lake)] == ["ok"]
    lost = DeltaTable(address, storage_options=options).file_uris()[0].rpartition("/")[2]
    s3.client(moto).delete_object(Bucket=bucket, Key=f"shop/bronze/items/{lost}")
    (finding,) = tables.check_tables(lake)
    assert (finding.result, int(finding.code)) == ("wrong", 5)
    assert finding.repair
    finding.repair()
    assert [finding.result for finding in tables.check_tables(lake)] == ["ok"]
