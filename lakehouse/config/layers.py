"""Defines the layers of a pipeline's tables, in the order in which they are computed."""

from __future__ import annotations

MODEL_LAYERS = ("silver", "gold")  # computed by SQL
TABLE_LAYERS = ("bronze", *MODEL_LAYERS)  # what models may read, and what can be published
