"""The loyalty pipeline with its lake on S3, through all faults of a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import loyalty_oracle
import polars as pl
import pytest
from helpers import LakeFiles, Result, lakehouse, nonzero_counts
from s3_project import download_prefix
from servers import faults, s3

pytestmark = [pytest.mark.usefixtures("spark"), pytest.mark.timeout(600)]  # hundreds of requests, most of them twice

REPOSITORY = Path(__file__).parents[4]
PIPELINE = REPOSITORY / "conf" / "loyalty"
FIRST, SECOND = (REPOSITORY / "samples" / "loyalty" / name for name in ("20251003_170552", "20251004_095645"))
EVERY = {faults.SLOW_DOWN: 90, faults.RESET: 120, faults.LOST: 25, faults.CUT: 10, faults.CUT_LIST: 130}


@dataclass
class Loyalty(LakeFiles):
    """The pipeline of this repository; `lake` is a copy of the bucket, made by `download`."""

    source: Path
    bucket: str
    url: str
    server: str
    faults: faults.Faults
    runs: list[Result] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        variables = {"LAKE_ROOT": f"s3a://{self.bucket}", "LOYALTY_SOURCE": str(self.source)}
        return s3.CREDENTIALS | variables | {"AWS_ENDPOINT_URL": self.url}

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return lakehouse(verb, str(PIPELINE), *arguments)

    def run_with(self, snapshot: Path) -> None:
        shutil.copytree(snapshot, self.source / snapshot.name)
        self.runs.append(self("run"))
        assert self.runs[-1].code == 0, self.runs[-1].document

    def download(self) -> Loyalty:
        shutil.rmtree(self.lake, ignore_errors=True)
        download_prefix(self.server, self.bucket, "loyalty/", self.lake)
        return self


@pytest.fixture(scope="module")
def loyalty(
    moto: str,
    new_bucket: Callable[[str], str],
    known_to_spark: Callable[[str, str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Loyalty]:
    """Run both snapshots through every layer, each in its own run and through all faults."""
    folder, bucket, injected = tmp_path_factory.mktemp("loyalty"), new_bucket(moto), faults.Faults(EVERY)
    (folder / "source").mkdir()
    with faults.proxy(moto, injected) as url:
        known_to_spark(bucket, url)
        project = Loyalty(folder / "lake", folder / "source", bucket, url, moto, injected)
        project.run_with(FIRST)
        project.run_with(SECOND)
        yield project.download()


def test_no_row_is_lost_or_duplicated_despite_network_faults(loyalty: Loyalty) -> None:
    occurred = loyalty.faults.fault_counts
    assert min(occurred[kind] for kind in EVERY) >= 3, occurred
    for model, columns, expected in (
        ("resumo_diario", loyalty_oracle.RESUMO_DIARIO, loyalty_oracle.resumo_diario(SECOND)),
        ("churn", loyalty_oracle.CHURN, loyalty_oracle.churn(SECOND)),
    ):
        rows = pl.read_delta(str(loyalty.lake / "gold" / model)).select(columns).rows()
        assert loyalty_oracle.sort_rows(rows) == expected
    for table, changes in loyalty_oracle.changes(FIRST, SECOND).items():
        first, second = loyalty.ledger(table)
        assert (first["status"], first["sequence"]) == ("accepted", 1)
        if second["status"] == "unchanged":
            assert (FIRST / f"{table}.csv").read_bytes() == (SECOND / f"{table}.csv").read_bytes()
            continue
        found: dict[str, set[str]] = {"I": set(), "U": set(), "D": set()}
        for row in loyalty.change_set(second):
            found[row["_cdc_operation"]].add(row[loyalty_oracle.KEYS[table]])
        assert found == {"I": changes.inserted, "U": changes.updated, "D": changes.deleted}, table
        assert sum(map(len, found.values())) == sum(
            nonzero_counts(second).get(n, 0) for n in ("inserted", "updated", "deleted")
        )


def test_verify_passes_despite_the_same_faults(loyalty: Loyalty) -> None:
    before = loyalty.faults.fault_counts.copy()
    verified = loyalty("verify")
    assert [check for check in verified.document["checks"] if check["result"] != "holds"] == []
    assert verified.code == 0
    occurred = loyalty.faults.fault_counts - before
    assert {faults.CUT, faults.CUT_LIST, faults.SLOW_DOWN, faults.RESET} <= set(occurred), occurred
