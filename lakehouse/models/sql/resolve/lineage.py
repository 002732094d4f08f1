"""Follows the columns of models to the columns of bronze that their values come from. Needs no lake."""

from __future__ import annotations

from collections.abc import Mapping

from lakehouse.models.sql.resolve.pipeline import ResolvedModel
from lakehouse.models.sql.resolve.relation import Origin


def lineage(resolved: Mapping[str, ResolvedModel]) -> dict[str, dict[str, tuple[Origin, ...]]]:
    """Return, for each model and column, the columns of bronze that its value comes from.

    Only values are followed: the columns of a filter, a join or a GROUP BY decide which rows exist.

    Args:
        resolved: All models of a pipeline, each after those that it reads, as `resolve_pipeline` returns them.
    """
    found: dict[str, dict[str, tuple[Origin, ...]]] = {}
    for model, one in resolved.items():
        found[model] = {
            column.name: tuple(dict.fromkeys(source for origin in column.origins for source in _sources(origin, found)))
            for column in one.result.columns
            if column.name
        }
    return found


def _sources(origin: Origin, found: Mapping[str, Mapping[str, tuple[Origin, ...]]]) -> tuple[Origin, ...]:
    relation, column = origin
    return found[relation].get(column, ()) if relation in found else (origin,)
