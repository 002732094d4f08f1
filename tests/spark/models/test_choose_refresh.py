"""The choice between no refresh, an incremental and a full refresh, with its reason. No JVM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lakehouse.config.tuning import Tuning
from lakehouse.models.choose_refresh import RefreshChoice, choose_refresh
from lakehouse.models.model import Model, RefreshContext
from lakehouse.models.sql.plan import plan_model
from lakehouse.storage.delta_log import Commit, TableVersion
from lakehouse.storage.paths import Lake

MEGABYTE = 1_000_000
GROUPED = "SELECT s.shop AS shop, COUNT(*) AS n FROM silver.sales AS s GROUP BY s.shop"
ROW_WISE = "SELECT s.id AS id FROM silver.sales AS s"
FULL = "SELECT s.id AS id FROM silver.sales AS s ORDER BY s.id LIMIT 3"


def table_version(version: int, *commits: Commit, table_id: str = "a", size: int = 10 * MEGABYTE) -> TableVersion:
    return TableVersion(table_id, version, size, commits)


SALES = table_version(7, *[Commit(version, "MERGE", {}) for version in range(7, -1, -1)])


def context(sql: str = GROUPED, sales: TableVersion = SALES, recorded: dict[str, Any] | None = None) -> RefreshContext:
    """A refresh of a model whose table was refreshed from version 5 of silver.sales.

    `recorded` replaces parts of the recorded state.
    """
    plan = plan_model("gold.m", sql, () if sql == GROUPED else ("id",), "gold/m.sql")
    model = Model(plan, {"silver.sales": ("id",)}, {"as_of": None})
    state = {"sql": plan.sql_hash, "arguments": {}, "inputs": {"silver.sales": {"id": "a", "version": 5}}} | (
        recorded or {}
    )
    target = table_version(1, Commit(1, "MERGE", state), Commit(0, "WRITE", state))
    return RefreshContext(None, Lake("/lake"), model, {"silver.sales": sales}, target)  # type: ignore[arg-type]


def test_without_a_table_the_refresh_is_full() -> None:
    assert choose_refresh(replace(context(), target_version=None), False) == RefreshChoice(
        "full", "first refresh", is_state_outdated=True
    )


def test_rows_of_another_writer_lead_to_a_full_refresh() -> None:
    by_hand = table_version(2, Commit(2, "DELETE", {}))

    choice = choose_refresh(replace(context(), target_version=by_hand), False)

    assert (choice.kind, choice.reason) == ("full", "another writer changed its rows")


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        ({"sql": "other"}, "its SQL, keys or expectations changed"),
        ({"arguments": {"as_of": "2025-01-01"}}, "its parameters changed"),
        ({"inputs": {"silver.sales": {"id": "b", "version": 5}}}, "silver.sales was replaced"),
        ({"inputs": {"silver.sales": {"id": "a", "version": 8}}}, "silver.sales was replaced"),
        ({"inputs": {}}, "silver.sales was replaced"),
    ],
)
def test_a_recorded_state_that_does_not_fit_leads_to_a_full_refresh(recorded: dict[str, Any], reason: str) -> None:
    assert choose_refresh(context(recorded=recorded), False) == RefreshChoice("full", reason, is_state_outdated=True)


def test_a_requested_full_refresh_is_full_although_the_state_fits() -> None:
    assert choose_refresh(context(), True) == RefreshChoice("full", "requested")


@pytest.mark.parametrize("operation", ["OPTIMIZE", "SET TBLPROPERTIES"])
def test_without_changed_rows_there_is_no_refresh(operation: str) -> None:
    maintained = table_version(7, Commit(7, operation, {}), Commit(6, operation, {}), Commit(5, "MERGE", {}))

    assert choose_refresh(context(sales=maintained), False) == RefreshChoice("none")


def test_a_history_that_ends_too_early_counts_as_a_change() -> None:
    limited = table_version(7, Commit(7, "OPTIMIZE", {}))  # Spark returned one commit only

    assert choose_refresh(context(sales=limited), False).kind == "incremental"


def test_a_commit_that_is_missing_in_the_log_of_an_input_leads_to_a_full_refresh() -> None:
    with_gap = table_version(8, Commit(8, "OPTIMIZE", {}), Commit(6, "OPTIMIZE", {}))

    choice = choose_refresh(context(sales=with_gap), False)

    assert (choice.kind, choice.reason) == ("full", "the changes of silver.sales can no longer be read")


def test_changed_rows_lead_to_an_incremental_refresh() -> None:
    assert choose_refresh(context(), False) == RefreshChoice("incremental")


def test_sql_that_is_not_supported_leads_to_a_full_refresh_that_names_the_clause() -> None:
    choice = choose_refresh(context(FULL), False)

    assert choice.kind == "full"
    assert "LIMIT" in choice.reason


@pytest.mark.parametrize(
    ("sql", "size", "kind"),
    [
        (GROUPED, MEGABYTE, "full"),
        (GROUPED, 2 * MEGABYTE, "incremental"),
        (ROW_WISE, MEGABYTE, "incremental"),  # it reads only the changes of its input
    ],
)
def test_small_inputs_lead_to_a_full_refresh_unless_the_model_is_row_wise(sql: str, size: int, kind: str) -> None:
    small = context(sql, replace(SALES, size=size))
    model = replace(small.model, tuning=Tuning(full_refresh_below_bytes=2 * MEGABYTE))

    choice = choose_refresh(replace(small, model=model), False)

    assert choice.kind == kind
    assert ("1.0 MB" in choice.reason) is (kind == "full")
