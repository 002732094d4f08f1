"""Computes the expected gold tables of the loyalty pipeline from CSV snapshots with DuckDB.

Nothing here is shared with the project: no Spark, no model file, and each query is formulated in another way. A date is
a `datetime.date`, a count or a sum an `int`, a rate a `Decimal` with six places. Rows are sorted by `sort_rows`.

America/Sao_Paulo is a fixed -3 hours here: DuckDB's ICU extension would have to be downloaded, and Brazil has had no
daylight saving time since 2019 (the data starts in 2024).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb

Row = tuple[Any, ...]

RESUMO_DIARIO = (
    *("dt_transacao", "id_produto", "grouping_id", "produto", "transacoes", "clientes"),
    *("pontos", "pontos_positivos", "pontos_negativos"),
)
RESUMO_28_DIAS = ("dt_referencia", *RESUMO_DIARIO[1:], "transacoes_por_cliente")
CICLO_DE_VIDA = ("dt_referencia", "id_cliente", "ciclo", "dias_desde_a_ultima")
GRUPOS_DE_VALOR = ("dt_referencia", "id_cliente", "dias_ativos", "pontos_positivos", "frequencia", "valor")
CHURN = ("dt_referencia", "base", "perdidos", "taxa_churn")
KEYS = {
    "clientes": "idCliente",
    "produtos": "IdProduto",
    "transacoes": "IdTransacao",
    "transacao_produto": "idTransacaoProduto",
}


@dataclass(frozen=True)
class Changes:
    """The keys that differ between two snapshots of one table."""

    inserted: frozenset[str]
    updated: frozenset[str]
    deleted: frozenset[str]


def resumo_diario(snapshot: Path) -> list[Row]:
    """Return the rows of gold.resumo_diario with the columns RESUMO_DIARIO."""
    return sort_rows(
        _typed_views(snapshot)
        .execute("""
            WITH linha AS (
                SELECT dia, t.id, cliente, produto, nome, IF(l.id IS NULL, t.pontos, qtde * valor) AS pontos
                FROM transacao t
                LEFT JOIN linha l ON l.transacao = t.id
                LEFT JOIN produto p ON p.id = l.produto
            )
            SELECT dia, produto, 0, coalesce(any_value(nome), produto),
                count(DISTINCT id), count(DISTINCT cliente),
                sum(pontos), sum(greatest(pontos, 0)), sum(least(pontos, 0))
            FROM linha GROUP BY dia, produto
            UNION ALL
            SELECT dia, NULL, 1, NULL, count(*), count(DISTINCT cliente),
                sum(pontos), sum(greatest(pontos, 0)), sum(least(pontos, 0))
            FROM transacao GROUP BY dia
            UNION ALL
            SELECT NULL, NULL, 3, NULL, count(*), count(DISTINCT cliente),
                sum(pontos), sum(greatest(pontos, 0)), sum(least(pontos, 0))
            FROM transacao
        """)
        .fetchall()
    )


def churn(snapshot: Path) -> list[Row]:
    """Return the rows of gold.churn with the columns CHURN. The rate is rounded half up, as Spark rounds a decimal."""
    counts = (
        _typed_views(snapshot)
        .execute("""
            WITH dia AS (SELECT DISTINCT dia AS fim FROM transacao WHERE dia IS NOT NULL),
            base AS (
                SELECT DISTINCT fim, cliente FROM dia JOIN transacao ON dia BETWEEN fim - 55 AND fim - 28
                WHERE cliente IS NOT NULL
            ),
            visto AS (SELECT DISTINCT fim, cliente FROM dia JOIN transacao ON dia BETWEEN fim - 27 AND fim)
            SELECT dia.fim, count(base.cliente), count(base.cliente) - count(visto.cliente)
            FROM dia LEFT JOIN base USING (fim)
            LEFT JOIN visto ON visto.fim = base.fim AND visto.cliente = base.cliente
            GROUP BY dia.fim
        """)
        .fetchall()
    )
    return sort_rows((day, base, lost, _rate(lost, base)) for day, base, lost in counts)


def resumo_28_dias(snapshot: Path) -> list[Row]:
    """Return the rows of gold.resumo_28_dias with the columns RESUMO_28_DIAS; each window is summed separately."""
    counts = (
        _typed_views(snapshot)
        .execute("""
            WITH linha AS (
                SELECT dia, t.id, cliente, produto, nome, IF(l.id IS NULL, t.pontos, qtde * valor) AS pontos
                FROM transacao t
                LEFT JOIN linha l ON l.transacao = t.id
                LEFT JOIN produto p ON p.id = l.produto
            ),
            dia AS (SELECT DISTINCT dia AS fim FROM transacao)
            SELECT fim, produto, 0, coalesce(any_value(nome), produto),
                count(DISTINCT id), count(DISTINCT cliente),
                sum(pontos), sum(greatest(pontos, 0)), sum(least(pontos, 0))
            FROM dia JOIN linha ON fim - dia BETWEEN 0 AND 27 GROUP BY fim, produto
            UNION ALL
            SELECT fim, NULL, 1, NULL, count(*), count(DISTINCT cliente),
                sum(pontos), sum(greatest(pontos, 0)), sum(least(pontos, 0))
            FROM dia JOIN transacao ON fim - dia BETWEEN 0 AND 27 GROUP BY fim
        """)
        .fetchall()
    )
    return sort_rows((*row, _rate(row[4], row[5])) for row in counts)


def ciclo_de_vida(snapshot: Path) -> list[Row]:
    """Return the rows of gold.ciclo_de_vida with the columns CICLO_DE_VIDA, from the active days of each client."""
    days = _typed_views(snapshot).execute("SELECT DISTINCT cliente, dia FROM transacao").fetchall()
    active: dict[str, list[date]] = {}
    for client, day in sorted((c, d) for c, d in days if c is not None and d is not None):
        active.setdefault(client, []).append(day)
    rows = []
    for end in {day for _, day in days if day is not None}:
        for client, all_days in active.items():
            if seen := [day for day in all_days if day <= end]:
                rows.append((end, client, _lifecycle_state(seen, end), (end - seen[-1]).days))
    return sort_rows(rows)


def _lifecycle_state(seen: list[date], end: date) -> str:
    if (end - seen[0]).days <= 7:
        return "CURIOSO"
    since = (end - seen[-1]).days
    if since <= 7:
        gap = (seen[-1] - seen[-2]).days
        return "FIEL" if gap <= 14 else "RECONQUISTADO" if gap <= 27 else "REBORN"
    return "TURISTA" if since <= 14 else "DESENCANTADA" if since <= 28 else "ZUMBI"


def grupos_de_valor(snapshot: Path) -> list[Row]:
    """Return the rows of gold.grupos_de_valor with the columns GRUPOS_DE_VALOR."""
    sums = (
        _typed_views(snapshot)
        .execute("""
            SELECT fim, cliente, count(DISTINCT dia), sum(greatest(pontos, 0))
            FROM (SELECT DISTINCT dia AS fim FROM transacao) JOIN transacao ON fim - dia BETWEEN 0 AND 27
            WHERE cliente IS NOT NULL GROUP BY ALL
        """)
        .fetchall()
    )

    def band(value: int, cuts: tuple[int, int], names: tuple[str, str, str]) -> str:
        return names[sum(value >= cut for cut in cuts)]

    return sort_rows(
        (
            *(day, client, days, points),
            band(days, (5, 11), ("BAIXA", "MEDIA", "ALTA")),
            band(points, (750, 1500), ("BAIXO", "MEDIO", "ALTO")),
        )
        for day, client, days, points in sums
    )


def changes(previous: Path, current: Path) -> dict[str, Changes]:
    """Return the inserts, updates and deletes of each table; values are compared as the texts in the files."""
    return {table: _table_changes(previous, current, table, key) for table, key in KEYS.items()}


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """Sort rows column by column, NULLs first; rows of another engine are sorted with it before a comparison."""
    return sorted((tuple(row) for row in rows), key=lambda row: [(v is not None, v) for v in row])


def _rate(part: int, whole: int) -> Decimal | None:
    if whole == 0:
        return None
    return (Decimal(part) / whole).quantize(Decimal("0.000001"), ROUND_HALF_UP)


def _csv_source(snapshot: Path, table: str) -> str:
    path = str(snapshot / f"{table}.csv").replace("'", "''")
    return f"read_csv('{path}', delim = ';', header = true, all_varchar = true, quote = '', escape = '')"


def _typed_views(snapshot: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection with the views transacao, linha and produto over one snapshot."""
    db = duckdb.connect()
    db.execute(f"""
        CREATE VIEW transacao AS
        SELECT IdTransacao AS id, IdCliente AS cliente, QtdePontos::BIGINT AS pontos,
            (DtCriacao::TIMESTAMP - INTERVAL 3 HOURS)::DATE AS dia
        FROM {_csv_source(snapshot, "transacoes")};
        CREATE VIEW linha AS
        SELECT idTransacaoProduto AS id, IdTransacao AS transacao, IdProduto AS produto,
            QtdeProduto::BIGINT AS qtde, vlProduto::BIGINT AS valor
        FROM {_csv_source(snapshot, "transacao_produto")};
        CREATE VIEW produto AS
        SELECT IdProduto AS id, DescNomeProduto AS nome
        FROM {_csv_source(snapshot, "produtos")};
    """)
    return db


def _table_changes(previous: Path, current: Path, table: str, key: str) -> Changes:
    db = duckdb.connect()
    before, after = _csv_source(previous, table), _csv_source(current, table)

    def keys(query: str) -> frozenset[str]:
        return frozenset(value for (value,) in db.execute(query).fetchall())

    old, new = keys(f"SELECT {key} FROM {before}"), keys(f"SELECT {key} FROM {after}")
    differing = keys(f"SELECT {key} FROM (FROM {after} EXCEPT FROM {before})")
    return Changes(inserted=new - old, updated=differing & old, deleted=old - new)
