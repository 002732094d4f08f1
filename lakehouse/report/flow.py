"""Where the flow's cards and lines stand: a column a stage, a card a table or model, a line from what is read. Pure."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

STAGES = ("landing", "raw", "bronze", "silver", "gold")
PUBLISH = "publish"
_WIDTH, _STAGE_GAP, _CARD_HEIGHT, _CARD_GAP = 1000.0, 44.0, 68, 14


def layout(flow: Document) -> Document:
    """Cards and lines.

    Returns:
        `stages`, each with its cards; `lines`, as SVG paths; `height` in pixels. Across, a thousand is the whole width.
    """
    cards = _cards_by_stage(flow)
    width = (_WIDTH - (len(cards) - 1) * _STAGE_GAP) / len(cards)
    left = {stage: round(n * (width + _STAGE_GAP), 2) for n, stage in enumerate(cards)}
    placed = {
        f"{stage}.{card['name']}": card | {"left": left[stage], "top": n * (_CARD_HEIGHT + _CARD_GAP)}
        for stage, own in cards.items()
        for n, card in enumerate(own)
    }
    return {
        "stages": [
            {"name": stage, "left": left[stage], "cards": [placed[f"{stage}.{c['name']}"] for c in own]}
            for stage, own in cards.items()
        ],
        "lines": [_svg_line(placed[a], placed[b], width) for b in placed for a in placed[b]["reads"] if a in placed],
        "height": max(map(len, cards.values())) * (_CARD_HEIGHT + _CARD_GAP),
        "card": _CARD_HEIGHT,
        "width": width,
    }


def _cards_by_stage(flow: Document) -> dict[str, list[Document]]:
    """By stage, in an order in which lines cross little; the last stage only where something is published."""
    cards = {stage: _table_cards(flow["tables"], stage) for stage in STAGES[:3]}
    places = {f"bronze.{card['name']}": n for n, card in enumerate(cards["bronze"])}
    for stage in STAGES[3:]:
        own = [m for m in flow["models"] if m["model"].startswith(f"{stage}.")]
        cards[stage] = sorted((_model_card(m) for m in own), key=lambda card: _order_of_card(card, places))
        places |= {f"{stage}.{card['name']}": n for n, card in enumerate(cards[stage])}
    if flow["published"]:
        cards[PUBLISH] = sorted(map(_publish_card, flow["published"]), key=lambda card: _order_of_card(card, places))
    return cards


def _table_cards(tables: list[Document], stage: str) -> list[Document]:
    before = {"landing": None, "raw": "landing", "bronze": "raw"}[stage]
    outcome = {"landing": "extract", "raw": "ingest", "bronze": "bronze"}[stage]
    return [
        {
            "name": table["table"],
            "outcome": table[outcome],
            "rows": table["rows"] if stage == "bronze" else None,
            "is_stored": stage == "bronze",
            "snapshot_time": table["snapshot_time"] if stage == "landing" else None,
            "reads": [f"{before}.{table['table']}"] if before else [],
        }
        for table in tables
    ]


def _model_card(model: Document) -> Document:
    return {
        "name": model["model"].partition(".")[2],
        "outcome": model["outcome"],
        "rows": model["rows"],
        "is_stored": True,
        "snapshot_time": None,
        "reads": model["reads"],
    }


def _publish_card(published: Document) -> Document:
    """Under the name of what is published, which is also what it reads."""
    relation = published["relation"]
    return {
        "name": relation,
        "outcome": published["outcome"],
        "rows": None,
        "is_stored": False,
        "snapshot_time": None,
        "reads": [relation],
    }


def _order_of_card(card: Document, positions: dict[str, int]) -> tuple[float, str]:
    """Where a card's inputs stand on average, so that lines cross little."""
    inputs = [positions[r] for r in card["reads"] if r in positions]
    return (sum(inputs) / len(inputs) if inputs else len(positions), card["name"])


def _svg_line(start: Document, end: Document, width: float) -> str:
    """From the right of one card to the left of another; beside each other in one column, around their left."""
    y1, y2 = start["top"] + _CARD_HEIGHT / 2, end["top"] + _CARD_HEIGHT / 2
    x1, x2 = start["left"] + width, end["left"]
    if start["left"] == end["left"]:
        return f"M {x2:.1f} {y1:.1f} C {x2 - 30:.1f} {y1:.1f} {x2 - 30:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    half = _STAGE_GAP / 2
    return f"M {x1:.1f} {y1:.1f} C {x1 + half:.1f} {y1:.1f} {x2 - half:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
