"""Builds a made-up result of `lakehouse.report.gather`, for tests of the page that need no lake.

Names and values are those of a hostile source; the page has to show them unchanged.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

Document = dict[str, Any]

SCRIPT = "</script><script>window.pwned = 1</script>"
IMAGE = '<img src=x onerror="window.pwned = 1">'
QUOTED = """a"b'c` & <b>"""
TEMPLATE = "{{ 7 * 7 }} {% raw %} ${window.pwned = 1}"
HOSTILE = (SCRIPT, IMAGE, QUOTED, TEMPLATE)
DAYS = [(date(2025, 9, 1) + timedelta(days=n)).isoformat() for n in range(30)]


def report_document(**changed: Any) -> Document:
    """Return the document of a lake with two tables, a model of each layer, and a cube over time by product."""
    return {
        "pipeline": SCRIPT,
        "folder": "conf/shop",
        "lake": f"/lakes/{IMAGE}",
        "version": "0.1",
        "made": "2025-10-04T12:00:00+00:00",
        "time_zone": "UTC",
        "data_age": [_data_age("clientes"), _data_age(IMAGE, is_old=True)],
        "changed_rows": {"max_rows": 10, "max_snapshots": 3, "tables": [_changed_rows()]},
        "status": {
            "tables": [_table_status("clientes"), _table_status(IMAGE, held="2025-10-04T09:56:45Z", note=SCRIPT)],
            "models": [
                {"model": "silver.clientes", "waiting": []},
                {"model": "gold.cubo", "waiting": ["silver.clientes"]},
            ],
        },
        "runs": [_run_record(5, ["ingest x: held"], "20251004T100000-aa"), _run_record(0, [], "20251003T100000-bb")],
        "flow": _flow(),
        "entries": {"of": 900, "shown": [_entry("clientes", n) for n in range(12)] + [_entry(IMAGE, 1, reason=SCRIPT)]},
        "changes": {"clientes": [_entry("clientes", n) for n in range(12)], IMAGE: [_entry(IMAGE, 1)], "produtos": []},
        "quality": {
            "tables": [
                {"table": "clientes", "snapshot_time": "2025-10-04T09:56:45Z", "rows_read": 100, "quarantined": 3}
            ],
            "expectations": [{"model": "silver.clientes", "name": "n", "check": "a < '<b>'", "on_fail": "warn"}],
            "results": [
                {"model": "silver.clientes", "rule": IMAGE, "status": "failed", "rows_failed": None, "found": SCRIPT},
                {"model": "silver.clientes", "rule": "n", "status": "ok", "rows_failed": 3, "found": ""},
            ],
        },
        "quarantine": [
            {
                "table": "clientes",
                "stage": "ingest",
                "rule": "type",
                "column": IMAGE,
                "waiting": 3,
                "resolved": 1,
                "since": 2,
            }
        ],
        "models": [
            {
                "model": "silver.clientes",
                "strategy": "row-wise",
                "reason": "r",
                "keys": ["id"],
                "inputs": ["bronze.clientes"],
            },
            {
                "model": "gold.cubo",
                "strategy": "grouped",
                "reason": IMAGE,
                "keys": ["dia", "produto"],
                "inputs": ["silver.clientes"],
            },
        ],
        "lineage": _lineage(),
        "cubes": [_cube()],
        **changed,
    }


def empty_document() -> Document:
    """Return the document of an empty lake."""
    nothing: Document = {name: [] for name in ("runs", "quarantine", "models", "lineage", "cubes")}
    status = {"tables": [_table_status("clientes", snapshot_time=None, age_seconds=None, newest=None)], "models": []}
    flow = {"ended": None, "nothing_since": 0, "published": [], "tables": [], "models": []}
    quality = {"tables": [], "expectations": [], "results": []}
    entries = {"of": 0, "shown": list[Document]()}
    nothing["data_age"] = [_data_age("clientes", time=None, seconds=None)]
    nothing["changed_rows"] = {"max_rows": 10, "max_snapshots": 3, "tables": []}
    return report_document(
        **nothing, status=status, flow=flow, quality=quality, entries=entries, changes={"clientes": []}
    )


def _table_status(table: str, **changed: Any) -> Document:
    return {
        "table": table,
        "snapshot_time": "2025-10-04T09:56:45Z",
        "age_seconds": 7400,
        "sequence": 2,
        "newest": "held" if changed.get("held") else "accepted",
        "held": None,
        "last_success": "2025-10-04T11:00:00+00:00",
        "overdue_seconds": 0,
        "missing": None,
        "missing_since": None,
        "drift": None,
        "note": None,
        "changed_in_source": [],
        **changed,
    }


def _data_age(table: str, **changed: Any) -> Document:
    return {"table": table, "time": "2025-10-04T09:56:45Z", "seconds": 7400, "is_old": False, **changed}


def _changed_rows() -> Document:
    """Return the changed rows of two snapshots: one with hostile values, one that cannot be read."""
    rows = [
        {"change": "inserted", "key": {"id": SCRIPT}, "before": None, "after": {IMAGE: QUOTED, "n": 1, "x": None}},
        {"change": "updated", "key": {"id": "1"}, "before": {"n": 3, "x": ""}, "after": {"n": 4, "x": TEMPLATE}},
        {"change": "updated", "key": {"id": "2"}, "before": None, "after": {"at": "2025-10-03T17:05:52Z"}},
        {"change": "deleted", "key": {"id": "9"}, "before": {"email": "***", "x": "y" * 500}, "after": None},
    ]
    counts = {"inserted": 1, "updated": 34, "deleted": 1}
    common = {"snapshot_time": "2025-10-04T09:56:45Z", "counts": counts}
    return {
        "table": IMAGE,
        "masked": ["email", SCRIPT],
        "kinds": {"id": "text", "n": "number", "at": "time"},
        "snapshots": [common | {"sequence": 3, "rows": rows}, common | {"sequence": 2, "rows": None}],
    }


def _run_record(code: int, failed: list[str], run_id: str) -> Document:
    times = {"started": "2025-10-04T10:00:00+00:00", "ended": "2025-10-04T10:01:00+00:00", "seconds": 61.5}
    return {"run_id": run_id, "doing": "run", **times, "exit_code": code, "nothing_new": False, "failed": failed}


def _flow() -> Document:
    done = {"status": "accepted", "counts": {"inserted": 4, "updated": 34, "deleted": 2}, "code": 0}
    table: Document = {
        "snapshot_time": "2025-10-04T09:56:45Z",
        "extract": done,
        "ingest": done,
        "bronze": done,
        "rows": 1523,
    }
    models = [
        ("silver.clientes", ["bronze.clientes"]),
        ("gold.cubo", ["silver.clientes"]),
        ("gold.outro", ["gold.cubo"]),
    ]
    return {
        "ended": "2025-10-04T10:01:00+00:00",
        "nothing_since": 3,
        "published": [{"relation": "gold.cubo", "outcome": done}],
        "tables": [{"table": name} | table for name in ("clientes", IMAGE)],
        "models": [{"model": m, "reads": reads, "outcome": done, "rows": 42} for m, reads in models],
    }


def _entry(table: str, number: int, reason: str | None = None) -> Document:
    counts = {"rows_read": 1500 + number, "unchanged": 1400, "quarantined": 0, "duplicates": 0}
    changes = {"inserted": number * 3, "updated": number * number % 17, "deleted": number % 5}
    kind = "cdc" if number else "full-load"
    time = f"2025-10-{number + 1:02}T09:56:45Z"
    return {
        **{"table": table, "sequence": number + 1, "status": "accepted", "kind": kind, "snapshot_time": time},
        **{"reason": reason, **counts, **changes},
    }


def _lineage() -> list[Document]:
    def column(name: str, text: str = "", *origins: list[str], personal: bool = False) -> Document:
        return {"name": name, "text": text, "origins": list(origins), "personal": personal}

    return [
        {"relation": "bronze.clientes", "columns": [column("id", personal=True), column(IMAGE), column("alone")]},
        {"relation": "silver.clientes", "columns": [column("valor", f"x + '{SCRIPT}'", ["bronze.clientes", IMAGE])]},
        {"relation": "gold.cubo", "columns": [column("total", "SUM(valor)", ["silver.clientes", "valor"])]},
    ]


def _cube() -> Document:
    kinds = [*HOSTILE, "pônei", "", None]
    measures = [{"column": "m0", "name": "total"}, {"column": "m1", "name": SCRIPT}]
    common = {"time": "dia", "measures": measures, "counted": []}
    series = [{"t": day, "m0": 1000 + n * 37, "m1": n / 7} for n, day in enumerate(DAYS)]
    by_kind = [
        {"t": t, "d": d, "m0": (n + 1) * (m + 2), "m1": n / 9} for n, t in enumerate(DAYS) for m, d in enumerate(kinds)
    ]
    by = common | {"by": [IMAGE], "kinds": 41, "newest": DAYS[-1]}
    rows = [
        [day, kind, (n * 7 + m * 3) % 23, f"{n * 5 - 30}.{m:02}"]
        for n, day in enumerate(DAYS)
        for m, kind in enumerate(kinds)
    ]
    names = (("dia", "time"), ("produto", "text"), ("total", "number"), ("taxa", "number"))
    return {
        **{"model": "gold.cubo", "about": f"A cube. {SCRIPT}", "rows": 1_234_567, "time": "dia"},
        **{
            "dimensions": ["produto"],
            "measures": ["total", "taxa"],
            "hidden": ["email"],
            "times_cut": 400,
            "uncharted": [],
        },
        "charts": [
            common | {"by": [], "adds": False, "series": series},
            by | {"adds": False, "series": by_kind, "bars": by_kind[-len(kinds) :]},
            by | {"adds": True, "series": by_kind[::2], "bars": []},
        ],
        "table": {"columns": [{"name": name, "kind": kind} for name, kind in names], "rows": rows},
        "explained": [_explained("gold.cubo", {"dia": DAYS[-1]}, [_explained("silver.vendas", {"id": IMAGE})])],
    }


def _explained(table: str, key: Document, inputs: list[Document] | None = None) -> Document:
    landed = {"snapshot_time": "2025-10-04T09:56:45Z", "file": f"lake/landing/{SCRIPT}", "line": 1234}
    nothing = dict.fromkeys(landed)
    return {
        **{"table": table, "key": key, "row": key | {"nome": SCRIPT, "valor": "1.50"}, "inputs": inputs or []},
        **(nothing if inputs else landed),
        **{"changed": None if inputs else {"nome": [None, SCRIPT]}, "more": {"silver.vendas": 12} if inputs else {}},
    }
