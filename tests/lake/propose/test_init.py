"""A pipeline that `lakehouse init` proposes for odd files is valid, and runs without quarantine."""

from __future__ import annotations

import json
import zipfile
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import LakeFiles, lakehouse, nonzero_counts

FIRST, SECOND = "2025-01-01", "20250102_060000"
UTC = timezone.utc


def write_snapshot(folder: Path, last: int, stamp: str) -> None:
    """Write the files of a snapshot: rows 1 to `last` of each table; in the second one, the first row has changed."""
    folder.mkdir(parents=True)
    price = "1.234,50" if stamp == FIRST else "1.234,75"
    vendas = ["Código;Preço (R$);Dia;Criado em;Qtde"]
    for n in range(1, last + 1):
        vendas.append(f"00{n};{price if n == 1 else f'{n},5'};{n + 9}/12/2024;{n:02}/12/2024 10:0{n};{n}")
    (folder / f"vendas_{stamp}.csv").write_bytes("\r\n".join(vendas).encode("latin-1") + b"\r\n")

    eventos = [
        {
            "id": f"e{n}",
            "valor": 1.10 if stamp == FIRST or n > 1 else 1.25,
            "dt_base": 1734825600000 + 86_400_000 * n if n % 2 else f"{21 + n}/12/2024",
            "quando": f"2024-12-{n:02}T10:00:00.5Z",
            "tags": ["a", "b"][:n],
            "quem": {"nome": "Zé", "idade": n},
        }
        for n in range(1, last + 1)
    ]
    (folder / "eventos.json").write_text(json.dumps(eventos, ensure_ascii=False, indent=1), encoding="utf-8")

    estoque = {
        "loja": [f"l{n % 2}" for n in range(1, last + 1)],
        "item": [f"i{n}" for n in range(1, last + 1)],
        "peso": [Decimal("1.500") + (stamp != FIRST) if n == 1 else Decimal("2.000") for n in range(1, last + 1)],
        "visto": [datetime(2024, 12, n, 10, tzinfo=UTC) for n in range(1, last + 1)],
    }
    pq.write_table(pa.table(estoque), folder / "estoque.parquet")

    logs = [f"h{n}\t2024-12-{n:02} 10:00:0{n}\t{n}{' ' if stamp == FIRST else '0'}" for n in range(1, last + 1)]
    with zipfile.ZipFile(folder / "logs.tsv.zip", "w") as archive:
        archive.writestr("logs.tsv", "host\tat\tn\n" + "\n".join(logs) + "\n")

    (folder / "frases.csv").write_text(
        "id,frase\n" + "".join(f'{n},"linha 1\nlinha ""2"", {stamp if n == 1 else n}"\n' for n in range(1, last + 1)),
        encoding="utf-8-sig",
    )


@pytest.mark.usefixtures("spark")
def test_a_proposed_pipeline_takes_two_snapshots_without_quarantine(tmp_path: Path) -> None:
    source, pipeline = tmp_path / "source", tmp_path / "pipeline"
    write_snapshot(source / FIRST, 5, FIRST)
    write_snapshot(source / SECOND, 6, SECOND)

    proposed = lakehouse("init", str(source), str(pipeline))
    assert proposed.code == 0
    assert [t["table"] for t in proposed.document["tables"] if not t["written"]] == []
    text = (pipeline / "pipeline.yml").read_text(encoding="utf-8")
    (pipeline / "pipeline.yml").write_text(text.replace("${LAKE_ROOT:-lake}", str(tmp_path / "lake")), encoding="utf-8")
    assert lakehouse("validate", str(pipeline)).code == 0
    result = lakehouse("run", str(pipeline))

    assert result.code == 0, result.document
    files = LakeFiles(tmp_path / "lake" / "pipeline")
    for table in ("estoque", "eventos", "frases", "logs", "vendas"):
        first, second = map(nonzero_counts, files.ledger(table))
        assert files.statuses(table) == ["accepted", "accepted"]
        updated = 5 if table == "logs" else 1
        assert first == {"rows_read": 5, "inserted": 5}, table
        assert second == {"rows_read": 6, "inserted": 1, "updated": updated} | (
            {"unchanged": 5 - updated} if updated < 5 else {}
        ), table
        assert len(files.rows(f"silver/{table}")) == 6
    assert files.rows("bronze/vendas")[0] == {
        "codigo": "001",
        "preco_r": Decimal("1234.75"),
        "Dia": date(2024, 12, 10),
        "criado_em": datetime(2024, 12, 1, 10, 1, tzinfo=UTC),
        "Qtde": 1,
    }
    evento: dict[str, Any] = files.rows("bronze/eventos")[0]
    assert evento == {
        "id": "e1",
        "valor": Decimal("1.25"),
        "dt_base": date(2024, 12, 23),
        "quando": datetime(2024, 12, 1, 10, 0, 0, 500_000, tzinfo=UTC),
        "tags": ["a"],
        "quem": {"nome": "Zé", "idade": 1},
    }


@pytest.mark.usefixtures("spark")
def test_the_demo_runs_and_has_every_kind_of_change(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert lakehouse("init", "--demo", str(folder)).code == 0

    assert lakehouse("run", str(folder)).code == 0

    files = LakeFiles(folder / "lake")
    counts = {table: files.ledger(table)[1] for table in ("customers", "orders")}
    assert [counts["customers"][name] for name in ("inserted", "updated", "deleted", "quarantined")] == [1, 1, 1, 0]
    assert [counts["orders"][name] for name in ("inserted", "updated", "deleted", "quarantined")] == [1, 1, 0, 1]
    assert [(row["city"], row["orders"]) for row in files.rows("gold/sales_by_city")] == [
        ("Natal", 2),
        ("Olinda", 1),
        ("Recife", 2),
    ]
