"""Runs the loyalty pipeline of this repository on a lake of a test, and checks its tables."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import loyalty_oracle
import polars as pl
import pytest
from helpers import LakeFiles, Result, lakehouse, nonzero_counts

REPOSITORY = Path(__file__).parents[2]
PIPELINE = REPOSITORY / "conf" / "loyalty"
SAMPLES = REPOSITORY / "samples" / "loyalty"
SECOND, THIRD = "20251004_095645", "20251004_180000"
TABLES = tuple(loyalty_oracle.KEYS)

# The expected silver tables as DuckDB computes them from the files, in the column order of the models.
SILVER = {
    "clientes": """idCliente AS id_cliente, flEmail = '1' AS fl_email, flTwitch = '1' AS fl_twitch,
        flYouTube = '1' AS fl_youtube, flBlueSky = '1' AS fl_bluesky, flInstagram = '1' AS fl_instagram,
        qtdePontos::BIGINT AS qtde_pontos, DtCriacao::TIMESTAMP AS dt_criacao,
        DtAtualizacao::TIMESTAMP AS dt_atualizacao""",
    "produtos": """IdProduto AS id_produto, DescNomeProduto AS desc_produto,
        DescDescricaoProduto AS desc_descricao_produto, DescCategoriaProduto AS desc_categoria_produto""",
    "transacoes": """IdTransacao AS id_transacao, IdCliente AS id_cliente, DtCriacao::TIMESTAMP AS dt_criacao,
        (DtCriacao::TIMESTAMP - INTERVAL 3 HOURS)::DATE AS dt_transacao, QtdePontos::BIGINT AS qtde_pontos,
        DescSistemaOrigem AS desc_sistema_origem""",
    "transacao_produto": """idTransacaoProduto AS id_transacao_produto, IdTransacao AS id_transacao,
        IdProduto AS id_produto, QtdeProduto::INT AS qtde_produto, vlProduto::BIGINT AS vl_produto""",
}


@dataclass
class Loyalty(LakeFiles):
    """The loyalty pipeline on a lake and a source of a test.

    `last_run` is the result of its last run, `work` what Spark executed in it, if a test counts that.
    """

    source: Path
    last_run: Result | None = None
    pipeline: Path = PIPELINE
    work: dict[str, int] = field(default_factory=dict)

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return lakehouse(verb, str(self.pipeline), *arguments)

    @property
    def environment(self) -> dict[str, str]:
        return {"LAKE_ROOT": str(self.lake.parent), "LOYALTY_SOURCE": str(self.source)}

    def take_snapshot(self, snapshot: Path) -> Loyalty:
        """Copy a snapshot into the source, and run the pipeline."""
        shutil.copytree(snapshot, self.source / snapshot.name)
        self.last_run = self("run")
        assert self.last_run.code == 0, self.last_run.stderr
        return self

    def copy(self, folder: Path) -> Loyalty:
        shutil.copytree(self.lake, folder / "loyalty")
        shutil.copytree(self.source, folder / "source")
        return Loyalty(folder / "loyalty", folder / "source", self.last_run)

    def gold(self, model: str, columns: tuple[str, ...]) -> list[loyalty_oracle.Row]:
        return loyalty_oracle.sort_rows(pl.read_delta(str(self.lake / "gold" / model)).select(columns).rows())

    def silver(self, model: str) -> list[loyalty_oracle.Row]:
        rows = pl.read_delta(str(self.lake / "silver" / model))
        times = [name for name, kind in rows.schema.items() if kind == pl.Datetime("us", "UTC")]
        return loyalty_oracle.sort_rows(rows.with_columns(pl.col(times).dt.replace_time_zone(None)).rows())


def expected_silver(snapshot: Path, model: str) -> list[loyalty_oracle.Row]:
    file = f"read_csv('{snapshot}/{model}.csv', delim = ';', header = true, all_varchar = true, quote = '')"
    return loyalty_oracle.sort_rows(duckdb.sql(f"SELECT {SILVER[model]} FROM {file}").fetchall())


def assert_gold(loyalty: Loyalty, snapshot: Path) -> None:
    assert loyalty.gold("resumo_diario", loyalty_oracle.RESUMO_DIARIO) == loyalty_oracle.resumo_diario(snapshot)
    assert loyalty.gold("resumo_28_dias", loyalty_oracle.RESUMO_28_DIAS) == loyalty_oracle.resumo_28_dias(snapshot)
    assert loyalty.gold("churn", loyalty_oracle.CHURN) == loyalty_oracle.churn(snapshot)
    assert loyalty.gold("ciclo_de_vida", loyalty_oracle.CICLO_DE_VIDA) == loyalty_oracle.ciclo_de_vida(snapshot)
    assert loyalty.gold("grupos_de_valor", loyalty_oracle.GRUPOS_DE_VALOR) == loyalty_oracle.grupos_de_valor(snapshot)


def assert_silver(loyalty: Loyalty, snapshot: Path) -> None:
    for model in SILVER:
        assert loyalty.silver(model) == expected_silver(snapshot, model), model


def assert_changes(loyalty: Loyalty, previous: Path, current: Path) -> None:
    """Assert that the last change set of each table has exactly the keys that differ, and the ledger their counts."""
    for table, expected in loyalty_oracle.changes(previous, current).items():
        entry = loyalty.ledger(table)[-1]
        if (previous / f"{table}.csv").read_bytes() == (current / f"{table}.csv").read_bytes():
            assert (entry["status"], entry["sequence"], nonzero_counts(entry)) == ("unchanged", None, {})
            continue
        keys: dict[str, set[str]] = {"I": set(), "U": set(), "D": set()}
        for row in loyalty.change_set(entry):
            keys[row["_cdc_operation"]].add(row[loyalty_oracle.KEYS[table]])
        assert keys == {"I": expected.inserted, "U": expected.updated, "D": expected.deleted}, table
        assert (entry["status"], entry["kind"]) == ("accepted", "cdc")
        rows = len((current / f"{table}.csv").read_text(encoding="utf-8").splitlines()) - 1
        numbers = {"rows_read": rows, "unchanged": rows - len(keys["I"]) - len(keys["U"])}
        numbers |= {"inserted": len(keys["I"]), "updated": len(keys["U"]), "deleted": len(keys["D"])}
        assert nonzero_counts(entry) == {name: number for name, number in numbers.items() if number}, table
