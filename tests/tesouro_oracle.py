"""Computes the expected tables of the tesouro pipeline with Python's Decimal from the quotes of its samples.

Nothing here is shared with the project except the generator's account of the true quotes: no Spark, no model file, no
parsing of the written files. Rows are sorted by `sort_rows`, in the order of the columns named here. Impossible quotes
(`is_impossible`) are in none of the tables, except in the old values of revised quotes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from itertools import pairwise
from typing import Any

from generate_tesouro import FAMILIES, Key, Quote, Snapshot

Row = tuple[Any, ...]
Quotes = Mapping[Key, Quote]

LABELS = {"dadostesouroipca": "IPCA", "dadostesouropre": "PRE-FIXADOS"}
NATURES = {family.name: family.nature for family in FAMILIES}
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)

GROUP_SILVER = (
    *("tipo", "data_vencimento", "data_base", "natureza_taxa"),
    *("compra_manha", "venda_manha", "pu_compra_manha", "pu_venda_manha", "pu_base_manha"),
)
GROUP_GOLD = (
    *("data_base", "tipo", "qtde_registros", "compra_manha_media", "venda_manha_media"),
    *("pu_compra_manha_media", "pu_venda_manha_media", "pu_base_manha_media", "percentual_diferenca_compra_venda"),
)
PRICES = ("taxa_compra_manha", "taxa_venda_manha", "pu_compra_manha", "pu_venda_manha", "pu_base_manha")
SILVER = ("tipo_titulo", "data_vencimento", "data_base", "natureza_taxa", *PRICES)
CURVE = (
    *("data_base", "tipo_titulo", "faixa_prazo", "natureza_taxa", "qtde_titulos", "primeiro_vencimento"),
    *("ultimo_vencimento", "taxa_compra_minima", "taxa_compra_media", "taxa_compra_maxima", "taxa_venda_media"),
)
SPREAD = (
    *("data_base", "tipo_titulo", "natureza_taxa", "qtde_titulos", "spread_taxa_pontos_base_media"),
    *("spread_taxa_pontos_base_maximo", "spread_pu_media", "spread_pu_maximo", "spread_pu_percentual_media"),
)
MOVES = (
    *("tipo_titulo", "data_vencimento", "data_base", "natureza_taxa", "data_base_anterior", "pu_base_manha"),
    *("variacao_pu_base", "variacao_pu_base_percentual", "taxa_compra_manha", "variacao_taxa_pontos_base"),
)
REVISED = (
    *("tipo_titulo", "data_vencimento", "data_base", "publicada_em", "substituida_em", "situacao"),
    *("taxa_compra_manha", "taxa_compra_revisada", "pu_compra_manha", "pu_compra_revisado"),
    *("pu_base_manha", "pu_base_revisado"),
)


def is_impossible(key: Key, quote: Quote) -> bool:
    """Return whether a quote cannot be real. A bond that is not on sale has no rate; a rate can be zero or negative."""
    prices = (quote.buy_price, quote.sell_price, quote.base_price)
    sides = ((quote.buy_rate, quote.buy_price), (quote.sell_rate, quote.sell_price))
    return (
        quote.base_price is None
        or any(price is not None and price <= 0 for price in prices)
        or any(rate is not None and abs(rate) > 100 for rate, _ in sides)
        or any((rate is None) != (price is None) for rate, price in sides)
        or not date(2004, 12, 31) <= key.day <= key.maturity
    )


def possible_quotes(quotes: Quotes) -> Quotes:
    return {key: quote for key, quote in quotes.items() if not is_impossible(key, quote)}


def group_silver(table: str, quotes: Quotes) -> list[Row]:
    label, possible = LABELS[table], possible_quotes(quotes)
    return sort_rows(
        (label, key.maturity, key.day, NATURES[key.family], *vars(q).values()) for key, q in possible.items()
    )


def group_gold(table: str, quotes: Quotes) -> list[Row]:
    rows = []
    for day, those in _group_by(possible_quotes(quotes), lambda key: key.day).items():
        shares = [_divide(100 * (q.sell_rate - q.buy_rate), q.buy_rate, 14) for q in those.values() if q.buy_rate]
        columns = zip(*(vars(q).values() for q in those.values()), strict=True)
        means = [mean(values, 8 if n < 2 else 6) for n, values in enumerate(columns)]
        rows.append((day, LABELS[table], len(those), *means, round_to(mean(shares, 18), 6)))
    return sort_rows(rows)


def silver(quotes: Quotes) -> list[Row]:
    return sort_rows(
        (*key_columns(key), NATURES[key.family], *vars(q).values()) for key, q in possible_quotes(quotes).items()
    )


def curve(quotes: Quotes) -> list[Row]:
    rows = []
    for (day, family, bucket), those in _group_by(
        possible_quotes(quotes), lambda k: (k.day, k.family, maturity_bucket(k))
    ).items():
        buys = [q.buy_rate for q in those.values() if q.buy_rate is not None]
        maturities = [key.maturity for key in those]
        bonds = (len(those), min(maturities), max(maturities))
        rates = (min(buys, default=None), mean(buys, 8), max(buys, default=None))
        sells = mean([q.sell_rate for q in those.values()], 8)
        rows.append((day, family, bucket, NATURES[family], *bonds, *rates, sells))
    return sort_rows(rows)


def maturity_bucket(key: Key) -> str:
    for years, name in ((1, "00-01"), (3, "01-03"), (5, "03-05"), (10, "05-10")):
        if key.maturity < key.day.replace(year=key.day.year + years):
            return name
    return "10-99"


def spread(quotes: Quotes) -> list[Row]:
    both = {k: q for k, q in possible_quotes(quotes).items() if q.buy_price is not None and q.sell_price is not None}
    rows = []
    for (day, family), those in _group_by(both, lambda key: (key.day, key.family)).items():
        points = [100 * (q.sell_rate - q.buy_rate) for q in those.values()]
        money = [q.buy_price - q.sell_price for q in those.values()]
        shares = [_divide(100 * (q.buy_price - q.sell_price), q.buy_price, 10) for q in those.values()]
        means = (mean(points, 8), max(points), mean(money, 6), max(money), round_to(mean(shares, 14), 6))
        rows.append((day, family, NATURES[family], len(those), *means))
    return sort_rows(rows)


def daily_moves(quotes: Quotes) -> list[Row]:
    rows: list[Row] = []
    for (family, maturity), those in _group_by(possible_quotes(quotes), lambda key: (key.family, key.maturity)).items():
        days = sorted(those.items(), key=lambda item: item[0].day)
        for before, (key, quote) in pairwise([None, *days]):
            last, was = before or (None, None)
            moved = None if was is None else quote.base_price - was.base_price
            share = None if was is None else _divide(100 * moved, was.base_price, 6)
            rates = (quote.buy_rate, was and was.buy_rate)
            points = None if None in rates else 100 * (rates[0] - rates[1])
            move = (last and last.day, quote.base_price, moved, share, quote.buy_rate, points)
            rows.append((family, maturity, key.day, NATURES[family], *move))
    return sort_rows(rows)


def revisions(snapshots: list[Snapshot]) -> list[Row]:
    """Return the quotes that the next snapshot revised or withdrew, with their period and the new values."""
    rows: list[Row] = []
    since: dict[Key, datetime] = {}
    for before, after in pairwise(snapshots):
        for key, quote in before.quotes.items():
            since.setdefault(key, before.taken_at)
            now = after.quotes.get(key)
            if now == quote:
                continue
            new = now or Quote(None, None, None, None, None)
            pairs = [(getattr(quote, name), getattr(new, name)) for name in ("buy_rate", "buy_price", "base_price")]
            span = (since.pop(key), after.taken_at, "REVISADA" if now else "RETIRADA")
            rows.append((*key_columns(key), *span, *(value for pair in pairs for value in pair)))
            if now:
                since[key] = after.taken_at
    return sort_rows(rows)


def key_columns(key: Key) -> tuple[str, date, date]:
    return key.family, key.maturity, key.day


def mean(values: Iterable[Decimal | None], digits: int) -> Decimal | None:
    there = [value for value in values if value is not None]
    return _divide(sum(there), Decimal(len(there)), digits) if there else None


def round_to(value: Decimal | None, digits: int) -> Decimal | None:
    return value if value is None else value.quantize(Decimal(1).scaleb(-digits), context=_EXACT)


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: [(v is not None, str(v)) for v in row])


def _divide(part: Any, whole: Any, digits: int) -> Decimal | None:
    return round_to(_EXACT.divide(part, whole), digits)


def _group_by(quotes: Quotes, what: Any) -> dict[Any, dict[Key, Quote]]:
    groups: dict[Any, dict[Key, Quote]] = defaultdict(dict)
    for key, quote in quotes.items():
        groups[what(key)][key] = quote
    return groups
