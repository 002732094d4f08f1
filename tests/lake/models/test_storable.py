"""Results that a table cannot have, and that only Spark can find: the first run refuses them before it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Project
from shop import FIRST, SNAPSHOTS

pytestmark = pytest.mark.usefixtures("spark")

SELECTED = {  # the expression, and a part of the message
    "um_mapa": ("from_json(i.note, 'map<string,string>')", "x, which is MAP"),
    "mapas": ("transform(array(1), v -> map(v, v))", "x, which contains MAP"),
    "intervalo": (
        "aggregate(array(1), make_dt_interval(0), (a, v) -> make_dt_interval(v))",
        "x, which is INTERVAL",
    ),
    "variante": ("variant_get(parse_json('{}'), '$.a', 'variant')", "x, which is VARIANT"),
    "vazio": ("array()", "x, which contains without a type (NULL)"),
    "campo": ("from_json(i.note, '`a b` INT')", "AS a_b"),
}


def test_a_result_that_a_table_cannot_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    models = {
        f"silver.{name}": (f"SELECT i.id AS id, {expression} AS x FROM bronze.items AS i", {"keys": ["id"]})
        for name, (expression, _) in SELECTED.items()
    }
    good = {"silver.items": ("SELECT i.id AS id, i.qty AS qty FROM bronze.items AS i", {"keys": ["id"]})}
    project = Project(tmp_path, models=models | good)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST])

    for _ in range(2):
        outcomes = {outcome["name"]: outcome for outcome in project.run().document["outcomes"]}
        assert {name: outcomes[f"silver.{name}"]["code"] for name in SELECTED} == dict.fromkeys(SELECTED, 2)
        assert outcomes["silver.items"]["code"] == 0
        for name, (_, message) in SELECTED.items():
            assert message in outcomes[f"silver.{name}"]["note"]
            assert not (tmp_path / "lake" / "silver" / name).exists()
    assert len(project.rows("silver/items")) == len(SNAPSHOTS[FIRST].splitlines()) - 1
