"""Compares the tesouro pipeline after three snapshots with the expected tables, computed with Python's Decimal."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tesouro_oracle
from generate_tesouro import GROUPS, Snapshot, generate
from helpers import LakeFiles, Result, copy_pipeline, lakehouse
from pyspark.sql import SparkSession

pytestmark = [pytest.mark.usefixtures("spark"), pytest.mark.timeout(900)]  # three full runs before the first test

PIPELINE = Path(__file__).parents[2] / "conf" / "tesouro"
CSV = "precotaxatesourodireto"
MODELS = {
    **dict.fromkeys(["silver.dadostesouroipca_silver", "silver.dadostesouropre_silver"], "grouped"),
    **dict.fromkeys(["silver.precos_versoes_silver", "silver.precos_silver"], "grouped"),
    **dict.fromkeys(["gold.dadostesouroipca_gold", "gold.dadostesouropre_gold"], "grouped"),
    **dict.fromkeys(["gold.curva_por_prazo", "gold.spread_compra_venda"], "grouped"),
    **dict.fromkeys(["gold.variacao_diaria", "gold.cotacoes_revisadas"], "windowed"),
}


@dataclass
class Tesouro(LakeFiles):
    """The tesouro pipeline on a lake of the test, and the snapshots that it has ingested."""

    source: Path
    snapshots: list[Snapshot] = field(default_factory=list)
    runs: list[Result] = field(default_factory=list)
    gold: list[dict[str, list[tesouro_oracle.Row]]] = field(default_factory=list)

    @cached_property
    def pipeline(self) -> Path:
        """The pipeline with incremental refreshes, although models this small are cheaper to refresh in full."""
        return copy_pipeline(PIPELINE, self.lake.parent / "pipeline", full_refresh_below_bytes=0)

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LAKE_ROOT", str(self.lake.parent))
            patch.setenv("TESOURO_SOURCE", str(self.source))
            return lakehouse(verb, str(self.pipeline), *arguments)

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """Move a snapshot into the source, run, and store the contents of gold."""
        snapshot.folder.rename(self.source / snapshot.folder.name)
        done = self("run")
        assert done.code == 0, done.stderr
        self.snapshots.append(snapshot)
        self.runs.append(done)
        self.gold.append({group: self.table(f"gold/{group}_gold", tesouro_oracle.GROUP_GOLD) for group in GROUPS})

    def table(self, name: str, columns: tuple[str, ...]) -> list[tesouro_oracle.Row]:
        return tesouro_oracle.sort_rows(pl.read_delta(str(self.lake / name)).select(columns).rows())


@pytest.fixture(scope="module")
def tesouro(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Tesouro:
    folder = tmp_path_factory.mktemp("tesouro")
    (folder / "source").mkdir()
    made = Tesouro(folder / "tesouro", folder / "source")
    for snapshot in generate(folder / "made", seed=1, days=12, snapshots=3):
        made.take_snapshot(snapshot)
    return made


@pytest.mark.parametrize("group", GROUPS)
def test_gold_is_the_mean_of_the_quotes_after_every_snapshot(tesouro: Tesouro, group: str) -> None:
    for number, snapshot in enumerate(tesouro.snapshots):
        assert tesouro.gold[number][group] == tesouro_oracle.group_gold(group, snapshot.group(group)), number
    if group == "dadostesouroipca":
        assert any(quote.buy_rate == 0 for quote in snapshot.group(group).values()), "a rate without a percentage"
    days = {day for day, *_ in tesouro.gold[-1][group]}
    assert len(days) == 14, "a row for each quoted day, and no other"


@pytest.mark.parametrize("group", GROUPS)
def test_each_bond_and_day_is_one_row_of_silver_in_any_spelling(tesouro: Tesouro, group: str) -> None:
    last = tesouro.snapshots[-1]
    assert tesouro.table(f"silver/{group}_silver", tesouro_oracle.GROUP_SILVER) == tesouro_oracle.group_silver(
        group, last.group(group)
    )
    labels = {row["Tipo"] for row in tesouro.rows(f"bronze/{group}")}
    assert labels == set(GROUPS[group][1]), "bronze has the original spellings"
    traps = {name for name in last.traps if name.startswith("json")}
    assert traps == {
        "json: equal rows",
        "json: an older row",
        "json: an older row under another label",
        "json: a newer row with nulls, under another label",
        "json: text in a known quote",
    }


def test_silver_and_every_cube_over_the_treasurys_file_are_correct(tesouro: Tesouro) -> None:
    quotes = tesouro.snapshots[-1].quotes
    assert tesouro.table("silver/precos_silver", tesouro_oracle.SILVER) == tesouro_oracle.silver(quotes)
    assert tesouro.table("gold/curva_por_prazo", tesouro_oracle.CURVE) == tesouro_oracle.curve(quotes)
    assert tesouro.table("gold/spread_compra_venda", tesouro_oracle.SPREAD) == tesouro_oracle.spread(quotes)
    assert tesouro.table("gold/variacao_diaria", tesouro_oracle.MOVES) == tesouro_oracle.daily_moves(quotes)
    rates = [(q.buy_rate, q.buy_price) for q in quotes.values()]
    assert any(rate is not None and rate < 0 for rate, _ in rates), "a spread over Selic may be negative"
    assert any(rate == 0 and price for rate, price in rates), "a rate of zero is a rate if there is a price"
    assert any(rate is None for rate, _ in rates), "and no rate if there is no price"


def test_revised_and_withdrawn_quotes_are_listed_with_their_old_values(tesouro: Tesouro) -> None:
    revised = tesouro.table("gold/cotacoes_revisadas", tesouro_oracle.REVISED)

    assert revised == tesouro_oracle.revisions(tesouro.snapshots)
    kinds = Counter(row[tesouro_oracle.REVISED.index("situacao")] for row in revised)
    assert kinds["REVISADA"] > 10 and kinds["RETIRADA"] > 10
    assert tesouro.snapshots[-1].traps["restored"] > 0


def test_unreadable_rows_are_quarantined_with_a_reason_and_known_quotes_stay(tesouro: Tesouro) -> None:
    for table in (*GROUPS, CSV):
        entries = tesouro.ledger(table)
        assert [entry["status"] for entry in entries] == ["accepted"] * 3
        assert [e["quarantined"] for e in entries] == [s.rejected[table] for s in tesouro.snapshots], table
    rows = tesouro("quarantine", "dadostesouroipca").document["rows"]
    reasons = {row["reason"] for row in rows}
    assert "PUCompraManha: not a DECIMAL(18,2)" in reasons, "a text, and digits that would have to be rounded"
    assert "CompraManha: not a DECIMAL(9,4)" in reasons, "a number that is too large for a rate"
    resolved = {row["reason"] for row in tesouro.rows("quarantine/dadostesouroipca") if row["resolved"]}
    assert {"Data_Base: not a DATE", "Data_Vencimento: null in a key", "Data_Vencimento: not a DATE"} <= resolved


@pytest.mark.parametrize("model", [*(f"{group}_silver" for group in GROUPS), "precos_silver"])
def test_an_impossible_quote_is_quarantined_with_a_reason_and_returns_once_corrected(
    tesouro: Tesouro, model: str
) -> None:
    group = model.removesuffix("_silver")
    quotes = [s.group(group) if group in GROUPS else s.quotes for s in tesouro.snapshots]
    wrong = [{k for k, quote in those.items() if tesouro_oracle.is_impossible(k, quote)} for those in quotes]
    for snapshot, those, found in zip(tesouro.snapshots, quotes, wrong, strict=True):
        assert found == snapshot.impossible & set(those), "the generator and this test agree"

    rows = tesouro("quarantine", f"silver.{model}").document["rows"]
    assert {(row["data_vencimento"], row["data_base"]) for row in map(quarantined, rows)} == {
        (str(key.maturity), str(key.day)) for key in wrong[-1]
    }
    groups = 1 if group in GROUPS else len(GROUPS)
    assert Counter(row["rule"] for row in rows) == {
        "dia_possivel": 2 * groups,
        **dict.fromkeys(["com_preco_base", "precos_positivos", "taxas_possiveis", "taxa_com_preco"], groups),
    }
    assert {row["reason"] for row in rows if row["rule"] == "com_preco_base"} == {"expected pu_base_manha IS NOT NULL"}
    resolved = [row for row in tesouro.rows(f"quarantine/{model}") if row["resolved"]]
    assert len(resolved) == sum(map(len, wrong[:-1])), "corrected or deleted"


def quarantined(row: dict[str, Any]) -> dict[str, Any]:
    """Return the model's row that is stored in a row of the quarantine."""
    found: dict[str, Any] = json.loads(row["row"])
    return found


def test_a_rewritten_file_does_not_change_its_quotes(tesouro: Tesouro) -> None:
    """Every row of every file has another dt_update; only quotes that are new or revised are changes."""
    for group in GROUPS:
        before, after = (s.group(group) for s in tesouro.snapshots[-2:])
        same = sum(after.get(key) == quote for key, quote in before.items())
        last = tesouro.ledger(group)[-1]
        assert last["unchanged"] >= same - last["quarantined"] > 20
        assert last["inserted"] + last["updated"] < last["unchanged"]


def test_every_model_is_refreshed_incrementally(tesouro: Tesouro) -> None:
    for done in tesouro.runs[1:]:
        found = done.statuses("silver") | done.statuses("gold")
        assert found == MODELS
    for model, strategy in MODELS.items():
        assert tesouro("explain", model).document["strategy"] == strategy


def test_money_and_rates_are_decimal_and_days_are_dates(tesouro: Tesouro) -> None:
    for table in tesouro.versions():
        if table.startswith(("bronze/", "silver/", "gold/")):
            kinds: dict[str, Any] = dict(pl.read_delta(str(tesouro.lake / table)).schema)
            assert not any(kind.is_float() for kind in kinds.values()), table
            for name, kind in kinds.items():
                if name.lower().startswith(("data_", "primeiro_", "ultimo_")):
                    assert kind == pl.Date, (table, name)
                if name.startswith(("pu_", "PU", "taxa_", "compra_", "venda_", "spread_", "variacao_", "percentual_")):
                    assert isinstance(kind, pl.Decimal), (table, name)


def test_verify_passes_and_another_run_writes_nothing(tesouro: Tesouro) -> None:
    checks = tesouro("verify")
    assert checks.code == 0, [c for c in checks.document["checks"] if c["result"] != "holds"]
    versions = tesouro.versions()
    (tesouro.lake / "_state" / "clean.json").unlink()
    assert tesouro("run").code == 0
    assert tesouro.versions() == versions


def test_the_same_arguments_give_the_same_bytes(tesouro: Tesouro, tmp_path: Path) -> None:
    (again,) = generate(tmp_path / "again", seed=1, days=12, snapshots=1)
    first = tesouro.source / again.folder.name
    assert {f.name: f.read_bytes() for f in first.iterdir()} == {f.name: f.read_bytes() for f in again.folder.iterdir()}
