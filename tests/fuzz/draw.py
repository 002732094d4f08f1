"""Draws a whole case: the pipeline's settings, tables with their snapshots, and models over them."""

from __future__ import annotations

import random
from typing import Any

from fuzz.case import Alter, Case
from fuzz.draw_models import Relation, draw_model, relation_of
from fuzz.draw_tables import draw_table

ZONES = (
    "UTC",
    "UTC",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Africa/Cairo",
    "Europe/London",
    "Pacific/Apia",
    "Asia/Kathmandu",
)
TUNINGS: tuple[dict[str, int], ...] = (
    *({},) * 4,
    {"small_table_bytes": 0, "driver_write_bytes": 0},  # Spark merges
    {"driver_compare_bytes": 0},  # Spark reads and compares
    {"full_refresh_below_bytes": 0, "full_refresh_share": 1},  # models by their changes
    # deletion vectors
    {"small_table_bytes": 0, "large_table_bytes": 0, "large_snapshot_bytes": 0, "full_refresh_below_bytes": 0},
    {"local_rows": 0, "full_refresh_below_bytes": 0},
)  # fmt: skip


def draw_case(seed: str, tables: int, snapshots: int) -> Case:
    """Return the case of a seed.

    Args:
        seed: Any text.
        tables: The number of tables; there are as many models of silver, and half as many of gold.
        snapshots: The number of snapshots.
    """
    rng = random.Random(seed)
    document: dict[str, Any] = {"timezone": rng.choice(ZONES), "pii_key": "a key of 32 bytes, only for fuzz!"}
    if rng.random() < 0.3:
        document["business_timezone"] = rng.choice(ZONES)
    if tuning := rng.choice(TUNINGS):
        document["tuning"] = tuning
    drawn = tuple(draw_table(rng, f"t{at}", snapshots) for at in range(tables))
    bronze, models, relations = [relation_of(table) for table in drawn], [], []
    for at in range(tables):
        model, relation = draw_model(rng, f"silver.s{at}", bronze if not relations or rng.random() < 0.8 else relations)
        models.append(model)
        relations.append(relation)
    for at in range(tables // 2):
        model, _ = draw_model(rng, f"gold.g{at}", relations)
        models.append(model)
    stamps = tuple(f"2025010{at + 1}_120000" for at in range(snapshots))
    alters = [_draw_alter(rng, [*bronze, *relations], snapshots) for _ in range(rng.choice([0, 0, 1, 2]))]
    return Case(seed, document, drawn, tuple(models), stamps, tuple(alters))


def _draw_alter(rng: random.Random, relations: list[Relation], snapshots: int) -> Alter:
    relation = rng.choice(relations)
    column = rng.choice(relation.columns)[0] if relation.columns else "id"
    kind, name, value = rng.choice(
        [
            ("property", "delta.appendOnly", "true"),
            ("property", "delta.enableChangeDataFeed", "false"),
            ("property", "delta.dataSkippingNumIndexedCols", "0"),
            ("property", "delta.checkpointInterval", "1"),
            ("property", "delta.logRetentionDuration", "interval 60 days"),
            ("property", "delta.deletedFileRetentionDuration", "interval 0 hours"),
            ("constraint", "c", f"{column} IS NOT NULL"),
            ("constraint", "c", f"length(cast({column} AS string)) < 9"),
        ]
    )
    return Alter(rng.randrange(snapshots), relation.name, kind, name, value)
