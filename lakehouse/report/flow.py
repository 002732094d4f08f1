"""Computes the positions of the flow chart: a column per stage, a card per table or model, a line per input.

These are pure functions of the flow's document.
"""

from __future__ import annotations

from typing import Any

from lakehouse.config.layers import MODEL_LAYERS

Document = dict[str, Any]

_CARD: Document = {"rows": None, "is_stored": False, "snapshot_time": None, "reads": []}
_STORED_CARD = _CARD | {"is_stored": True}
_WIDTH, _STAGE_GAP, _CARD_HEIGHT, _CARD_GAP = 1000.0, 44.0, 68, 14


def layout(flow: Document) -> Document:
    """Return the cards and lines of the flow chart.

    Args:
        flow: The key `flow` of the report's document.

    Returns:
        `stages`, each with its cards; `lines`, as SVG paths; `height` in pixels. Horizontal positions and widths are
        thousandths of the chart's width.
    """
    cards = _cards_by_stage(flow)
    width = (_WIDTH - (len(cards) - 1) * _STAGE_GAP) / len(cards)
    left = {stage: round(n * (width + _STAGE_GAP), 2) for n, stage in enumerate(cards)}
    placed = {
        f"{stage}.{card['name']}": card | {"left": left[stage], "top": n * (_CARD_HEIGHT + _CARD_GAP)}
        for stage, stage_cards in cards.items()
        for n, card in enumerate(stage_cards)
    }
    return {
        "stages": [
            {"name": stage, "left": left[stage], "cards": [placed[f"{stage}.{c['name']}"] for c in stage_cards]}
            for stage, stage_cards in cards.items()
        ],
        "lines": [
            _svg_line(placed[source], card, width)
            for card in placed.values()
            for source in card["reads"]
            if source in placed
        ],
        "height": max(map(len, cards.values())) * (_CARD_HEIGHT + _CARD_GAP),
        "card": _CARD_HEIGHT,
        "width": width,
    }


def _cards_by_stage(flow: Document) -> dict[str, list[Document]]:
    """Return the cards by stage, in an order with few crossing lines; `publish` only if something was published."""
    tables = flow["tables"]
    cards = {
        "landing": [
            _CARD | {"name": t["table"], "outcome": t["extract"], "snapshot_time": t["snapshot_time"]} for t in tables
        ],
        "raw": [
            _CARD | {"name": t["table"], "outcome": t["ingest"], "reads": [f"landing.{t['table']}"]} for t in tables
        ],
        "bronze": [
            _STORED_CARD
            | {"name": t["table"], "outcome": t["bronze"], "rows": t["rows"], "reads": [f"raw.{t['table']}"]}
            for t in tables
        ],
    }
    positions = {f"bronze.{card['name']}": n for n, card in enumerate(cards["bronze"])}

    def order(card: Document) -> tuple[float, str]:  # the average position of the inputs, so that few lines cross
        inputs = [positions[r] for r in card["reads"] if r in positions]
        return (sum(inputs) / len(inputs) if inputs else len(positions), card["name"])

    for stage in MODEL_LAYERS:
        models = [
            _STORED_CARD | {"name": name, "outcome": model["outcome"], "rows": model["rows"], "reads": model["reads"]}
            for model in flow["models"]
            for layer, _, name in [model["model"].partition(".")]
            if layer == stage
        ]
        cards[stage] = sorted(models, key=order)
        positions |= {f"{stage}.{card['name']}": n for n, card in enumerate(cards[stage])}
    if flow["published"]:  # a published relation has a card with its name, which is also its input
        published = [
            _CARD | {"name": p["relation"], "outcome": p["outcome"], "reads": [p["relation"]]}
            for p in flow["published"]
        ]
        cards["publish"] = sorted(published, key=order)
    return cards


def _svg_line(start: Document, end: Document, width: float) -> str:
    """Return the SVG path from the right edge of a card to the left edge of another.

    Between two cards of one column the line goes around their left edges.
    """
    y1, y2 = start["top"] + _CARD_HEIGHT / 2, end["top"] + _CARD_HEIGHT / 2
    x1, x2 = start["left"] + width, end["left"]
    if start["left"] == end["left"]:
        return f"M {x2:.1f} {y1:.1f} C {x2 - 30:.1f} {y1:.1f} {x2 - 30:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    half = _STAGE_GAP / 2
    return f"M {x1:.1f} {y1:.1f} C {x1 + half:.1f} {y1:.1f} {x2 - half:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
