"""Where the flow's cards and lines stand: a column a stage, a card a table or model, a line from what is read. Pure."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

STAGES = ("landing", "raw", "bronze", "silver", "gold")
_WIDTH, _GAP, _CARD, _BETWEEN = 1000.0, 44.0, 68, 14
_COLUMN = (_WIDTH - (len(STAGES) - 1) * _GAP) / len(STAGES)


def layout(flow: Document) -> Document:
    """Cards and lines.

    Returns:
        `stages`, each with its cards; `lines`, as SVG paths; `height` in pixels. Across, a thousand is the whole width.
    """
    cards = {stage: _tables(flow["tables"], stage) for stage in STAGES[:3]}
    places = {f"bronze.{card['name']}": n for n, card in enumerate(cards["bronze"])}
    for stage in STAGES[3:]:
        own = [m for m in flow["models"] if m["model"].startswith(f"{stage}.")]
        cards[stage] = sorted((_model(m) for m in own), key=lambda card: _weight(card, places))
        places |= {f"{stage}.{card['name']}": n for n, card in enumerate(cards[stage])}
    placed = {
        f"{stage}.{card['name']}": card | {"left": _left(stage), "top": n * (_CARD + _BETWEEN)}
        for stage in STAGES
        for n, card in enumerate(cards[stage])
    }
    return {
        "stages": [
            {"name": stage, "left": _left(stage), "cards": [placed[f"{stage}.{c['name']}"] for c in cards[stage]]}
            for stage in STAGES
        ],
        "lines": [_line(placed[a], placed[b]) for b in placed for a in placed[b]["reads"] if a in placed],
        "height": max((len(each) for each in cards.values()), default=0) * (_CARD + _BETWEEN),
        "card": _CARD,
        "width": _COLUMN,
    }


def _tables(tables: list[Document], stage: str) -> list[Document]:
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


def _model(model: Document) -> Document:
    return {
        "name": model["model"].partition(".")[2],
        "outcome": model["outcome"],
        "rows": model["rows"],
        "is_stored": True,
        "snapshot_time": None,
        "reads": model["reads"],
    }


def _weight(card: Document, places: dict[str, int]) -> tuple[float, str]:
    """Where a card's inputs stand on average, so that lines cross little."""
    inputs = [places[r] for r in card["reads"] if r in places]
    return (sum(inputs) / len(inputs) if inputs else len(places), card["name"])


def _left(stage: str) -> float:
    return round(STAGES.index(stage) * (_COLUMN + _GAP), 2)


def _line(start: Document, end: Document) -> str:
    """From the right of one card to the left of another; beside each other in one column, around their left."""
    y1, y2 = start["top"] + _CARD / 2, end["top"] + _CARD / 2
    x1, x2 = start["left"] + _COLUMN, end["left"]
    if start["left"] == end["left"]:
        return f"M {x2:.1f} {y1:.1f} C {x2 - 30:.1f} {y1:.1f} {x2 - 30:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    half = _GAP / 2
    return f"M {x1:.1f} {y1:.1f} C {x1 + half:.1f} {y1:.1f} {x2 - half:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
