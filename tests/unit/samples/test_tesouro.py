"""Tests that the samples of conf/tesouro contain what their generator reports."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from generate_tesouro import FAMILIES, GROUPS, generate

SAMPLES = Path(__file__).parents[3] / "samples" / "tesouro"


def test_the_generator_reproduces_the_bundled_samples(tmp_path: Path) -> None:
    for snapshot in generate(tmp_path):
        bundled = SAMPLES / snapshot.folder.name
        assert {f.name: f.read_bytes() for f in bundled.iterdir()} == {
            f.name: f.read_bytes() for f in snapshot.folder.iterdir()
        }


def test_csv_and_json_have_the_full_history_and_each_group_is_a_family_of_the_csv(tmp_path: Path) -> None:
    *_, last = generate(tmp_path, seed=2, days=30, snapshots=3, new_days=2)

    with (last.folder / "precotaxatesourodireto.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert {row["Tipo Titulo"] for row in rows} == {family.name for family in FAMILIES}
    assert len({row["Data Base"] for row in rows}) == len({key.day for key in last.quotes}) == 35, "one impossible day"
    assert len(rows) == len(last.quotes) + 1, "one row is duplicated"
    lines = [line for n in (1, 2) for line in (last.folder / f"dadostesouroipca_{n}.json").read_text().splitlines()]
    assert len(lines) >= len(last.group("dadostesouroipca")) + last.rejected["dadostesouroipca"] - 1
    assert all(json.loads(line)["Tipo"] in GROUPS["dadostesouroipca"][1] for line in lines)
    assert len(json.loads((last.folder / "dadostesouropre.json").read_text())) > len(last.group("dadostesouropre"))
