"""The columns of inputs from which a column is computed, down to bronze."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse import config
from lakehouse.errors import ConfigError
from lakehouse.inspect.why import bearing_columns
from lakehouse.models.sql.pipeline_plans import plan_pipeline
from lakehouse.report.lineage import relation_columns

PIPELINE = config.load(Path(__file__).parents[4] / "conf" / "loyalty")
PLANS = plan_pipeline(PIPELINE)
COLUMNS = relation_columns(PIPELINE, PLANS)


def bearing(relation: str, column: str) -> dict[str, list[str] | None]:
    found = bearing_columns(relation, column, COLUMNS, PLANS)
    return {name: None if columns is None else sorted(columns) for name, columns in found.items()}


def test_a_value_comes_from_columns_of_inputs() -> None:
    assert bearing("gold.grupos_de_valor", "Valor") == {
        "gold.grupos_de_valor": ["valor"],
        "silver.transacoes": ["qtde_pontos"],
        "bronze.transacoes": ["qtdepontos"],
    }
    assert bearing("bronze.clientes", "flEmail") == {"bronze.clientes": ["flemail"]}


def test_a_count_comes_from_rows_and_none_of_their_columns() -> None:
    tesouro = config.load(Path(__file__).parents[4] / "conf" / "tesouro")
    plans = plan_pipeline(tesouro)
    found = bearing_columns("gold.spread_compra_venda", "qtde_titulos", relation_columns(tesouro, plans), plans)
    assert found == {
        "gold.spread_compra_venda": {"qtde_titulos"},
        "silver.precos_silver": frozenset(),
        "silver.precos_versoes_silver": frozenset(),
        "bronze.precotaxatesourodireto": frozenset(),
    }


def test_an_unknown_column_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match='did you mean "perdidos"'):
        bearing("gold.churn", "perdido")
