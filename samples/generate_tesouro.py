"""Generates snapshots of the Brazilian treasury's bond prices (Tesouro Direto) as CSV and as JSON.

    python samples/generate_tesouro.py samples/tesouro

A snapshot is a folder with the full history: `precotaxatesourodireto.csv` has all eight families as the treasury
publishes them; the JSON files of two groups (`dadostesouroipca*`, `dadostesouropre*`) have the defects of files written
by applications. Each snapshot adds days, and revises, withdraws and restores past quotes; each has some impossible
quotes, which the next one corrects. No price is real.

`generate` also returns the truth: the quotes that a snapshot represents, in whatever form it writes them. The same
arguments give the same bytes. The full history, some 45,000 quotes in the two groups: `--days 5300`.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
LAST_DAY = date(2025, 12, 19)  # of the first snapshot
CENT, RATE_STEP = Decimal("0.01"), Decimal("0.0001")


class Key(NamedTuple):
    family: str
    maturity: date
    day: date


@dataclass(frozen=True)
class Quote:
    """A bond's morning quote; None if the bond is not on sale (or not bought back) on that day."""

    buy_rate: Decimal | None
    sell_rate: Decimal | None
    buy_price: Decimal | None
    sell_price: Decimal | None
    base_price: Decimal | None


@dataclass(frozen=True)
class Family:
    """Bonds that mature on one day of the year, every so many years, and are sold for `life` years before.

    `rate`, `step`, `margin`: percent per year, its smallest daily change, and the cost of selling back.
    """

    name: str
    nature: str
    matures: tuple[int, int]
    every: int
    life: int
    face: int
    rate: str
    step: str
    margin: str
    on_sale: bool = True


FAMILIES = (
    Family("Tesouro Selic", "spread", (3, 1), 3, 6, 17000, "0.01", "0.01", "0.01"),
    Family("Tesouro Prefixado", "nominal", (1, 1), 1, 5, 1000, "12.70", "0.01", "0.12"),
    Family("Tesouro Prefixado com Juros Semestrais", "nominal", (1, 1), 2, 10, 1000, "13.10", "0.01", "0.12"),
    Family("Tesouro IPCA+", "real", (5, 15), 5, 15, 4300, "7.20", "0.01", "0.12"),
    Family("Tesouro IPCA+ com Juros Semestrais", "real", (8, 15), 10, 30, 4300, "6.90", "0.01", "0.12"),
    Family("Tesouro IGPM+ com Juros Semestrais", "real", (1, 1), 10, 30, 9000, "6.10", "0.01", "0.12", False),
    Family("Tesouro Renda+ Aposentadoria Extra", "real", (12, 15), 5, 40, 1500, "6.80", "0.01", "0.12"),
    Family("Tesouro Educa+", "real", (12, 15), 1, 5, 3000, "6.95", "0.01", "0.12"),
)
# By the name of a group's files: its family, and the spellings of its label.
GROUPS = {
    "dadostesouroipca": ("Tesouro IPCA+", ("IPCA", "ipca ", " Ipca", "IPCA+")),
    "dadostesouropre": ("Tesouro Prefixado", ("PRE-FIXADOS", "pre-fixado ", "Prefixado", "PRÉ-FIXADOS")),
}
CSV_HEADER = (
    "Tipo Titulo;Data Vencimento;Data Base;Taxa Compra Manha;Taxa Venda Manha;"
    "PU Compra Manha;PU Venda Manha;PU Base Manha"
)
PRICE_FIELDS = ("CompraManha", "VendaManha", "PUCompraManha", "PUVendaManha", "PUBaseManha")


@dataclass
class Snapshot:
    """A written snapshot, and its true contents.

    Attributes:
        quotes: The true quotes. A quote that only an unreadable row contains keeps its previous value.
        impossible: The quotes that can be read but cannot be real.
        rejected: By table, the number of rows that must be rejected.
        traps: The intended defects, and the number of each.
    """

    folder: Path
    taken_at: datetime
    quotes: dict[Key, Quote]
    impossible: set[Key] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)
    traps: Counter[str] = field(default_factory=Counter)

    def group(self, table: str) -> dict[Key, Quote]:
        """The quotes of a group's files."""
        return {key: quote for key, quote in self.quotes.items() if key.family == GROUPS[table][0]}


# --- the market -------------------------------------------------------------------------------------------------


def quote_days(last: date, count: int) -> list[date]:
    """Return `count` weekdays up to `last`, the earliest first."""
    days: list[date] = []
    while len(days) < count:
        if last.weekday() < 5:
            days.append(last)
        last -= timedelta(days=1)
    return days[::-1]


def weekdays_after(day: date, count: int) -> list[date]:
    days: list[date] = []
    while len(days) < count:
        day += timedelta(days=1)
        if day.weekday() < 5:
            days.append(day)
    return days


def quote_history(seed: int, days: list[date]) -> Iterator[tuple[Key, Quote]]:
    """Yield the quotes of every bond; its rate is a random walk over the days."""
    for family in FAMILIES:
        for year in range(2005 + family.every, 2090, family.every):
            maturity = date(year, *family.matures)
            issued = maturity.replace(year=year - family.life)
            rng = random.Random(f"{seed} {family.name} {maturity}")
            rate, step = Decimal(family.rate), Decimal(family.step)
            for day in days:
                rate += step * rng.randint(-4, 4)
                if issued <= day < maturity:
                    flat = family.nature == "real" and rng.random() < 0.02  # a real rate of zero
                    yield (
                        Key(family.name, maturity, day),
                        quote_of_rate(family, maturity, day, Decimal(0) if flat else rate),
                    )


def quote_of_rate(family: Family, maturity: date, day: date, rate: Decimal) -> Quote:
    """Return the quote of a rate. Simple interest is enough: a higher rate must give a lower price."""
    years = Decimal((maturity - day).days) / 365
    sell_rate = rate + Decimal(family.margin)
    buy_price, sell_price = ((family.face / (1 + r * years / 100)).quantize(CENT) for r in (rate, sell_rate))
    if family.on_sale and maturity - day > timedelta(days=60):
        return Quote(rate.quantize(RATE_STEP), sell_rate.quantize(RATE_STEP), buy_price, sell_price, sell_price)
    return Quote(None, sell_rate.quantize(RATE_STEP), None, sell_price, sell_price)


def revise_quote(quote: Quote) -> Quote:
    """Return a revised quote, in which every existing value changes."""
    up, down = Decimal("0.03"), Decimal("-1.11")
    moves = (up, up, down, down, down)
    values = [None if v is None else v + move for v, move in zip(vars(quote).values(), moves, strict=True)]
    return Quote(*values)


def next_quotes(
    rng: random.Random, quotes: dict[Key, Quote], withdrawn: dict[Key, Quote], snapshot: Snapshot
) -> dict[Key, Quote]:
    """Return the quotes of the next snapshot without its new days: some revised, some withdrawn, some restored."""
    after = dict(quotes)
    for key in [*withdrawn][: len(withdrawn) // 2]:
        after[key] = withdrawn.pop(key)
        snapshot.traps["restored"] += 1
    for family in FAMILIES:
        keys = sorted(key for key in quotes if key.family == family.name)
        chosen = rng.sample(keys, min(len(keys), max(3, len(keys) // 200)))
        for key in chosen[1:]:
            after[key] = revise_quote(quotes[key])
            snapshot.traps["revised"] += 1
        for key in chosen[:1]:
            withdrawn[key] = after.pop(key)
            snapshot.traps["withdrawn"] += 1
    return after


# The ways in which a quote is made impossible.
IMPOSSIBLE: dict[str, Callable[[Key, Quote], tuple[Key, Quote]]] = {
    "no base price": lambda key, quote: (key, replace(quote, base_price=None)),
    "a price below zero": lambda key, quote: (key, replace(quote, sell_price=-quote.sell_price)),
    "a rate without its comma": lambda key, quote: (key, replace(quote, buy_rate=100 * quote.buy_rate)),
    "a rate without its price": lambda key, quote: (key, replace(quote, buy_price=None)),
    "after its maturity": lambda key, quote: (key._replace(maturity=key.day - timedelta(days=1)), quote),
    "before there were any": lambda key, quote: (key._replace(day=date(2002, 1, 7)), quote),
}


def add_impossible_quotes(snapshot: Snapshot, seed: int) -> None:
    """Make some quotes of each group impossible, or add such quotes. The true market is not changed."""
    rng = random.Random(f"absurd {seed} {snapshot.folder.name}")
    for table in GROUPS:
        usual = sorted(key for key, quote in snapshot.group(table).items() if quote.buy_rate and quote.buy_rate > 2)
        for (kind, spoil), key in zip(IMPOSSIBLE.items(), rng.sample(usual, len(IMPOSSIBLE)), strict=True):
            wrong, quote = spoil(key, snapshot.quotes[key])
            snapshot.quotes[wrong] = quote
            snapshot.impossible.add(wrong)
            snapshot.traps[f"impossible: {kind}"] += 1


# --- CSV, as the treasury writes it -----------------------------------------------------------------------------


def portuguese_number(value: Decimal | None, rng: random.Random, grouped: bool) -> str:
    """Return 7,29 or 2.374,37; a missing value is blank or zero."""
    if value is None:
        return rng.choice(["", "0", "0,00"])
    text = f"{value:,.2f}" if value == value.quantize(CENT) else f"{value:,f}"
    text = text if grouped else text.replace(",", "")
    return text.translate(str.maketrans(",.", ".,"))


def csv_line(key: Key, quote: Quote, seed: int) -> str:
    rng = random.Random(f"csv {seed} {key}")
    grouped = rng.random() < 0.5
    days = [f"{day:%d/%m/%Y}" for day in (key.maturity, key.day)]
    return ";".join([key.family, *days, *(portuguese_number(v, rng, grouped) for v in vars(quote).values())])


def write_csv(snapshot: Snapshot, seed: int, bad: Key | None) -> None:
    """Write the CSV file in random order, with rows that must be rejected."""
    table = "precotaxatesourodireto"
    lines = [csv_line(key, quote, seed) for key, quote in snapshot.quotes.items() if key != bad]
    lines += lines[:1]
    snapshot.traps["csv: equal rows"] += 1
    if bad:
        lines.append(csv_line(bad, snapshot.quotes[bad], seed).rpartition(";")[0] + ";n/d")
        snapshot.rejected[table] += 1
        snapshot.traps["csv: text in a known quote"] += 1
    else:
        lines.append("Tesouro Selic;31/02/2027;19/12/2025;0,01;0,02;17.000,00;16.990,00;16.990,00")
        snapshot.rejected[table] += 1
        snapshot.traps["csv: no date"] += 1
    random.Random(f"{seed} {snapshot.folder.name}").shuffle(lines)
    (snapshot.folder / f"{table}.csv").write_text("\n".join([CSV_HEADER, *lines, ""]), encoding="utf-8", newline="")


# --- JSON, as an application writes it --------------------------------------------------------------------------


def epoch_milliseconds(day: date, zone: ZoneInfo | timezone) -> str:
    return str(round(datetime.combine(day, time(), zone).timestamp() * 1000))


DAY_FORMATS: tuple[Callable[[date], str], ...] = (
    lambda day: epoch_milliseconds(day, timezone.utc),
    lambda day: epoch_milliseconds(day, SAO_PAULO),
    lambda day: f'"{day:%d/%m/%Y}"',
    lambda day: f'"{day:%Y-%m-%d}"',
)
NUMBER_FORMATS: tuple[Callable[[Decimal], str], ...] = (
    lambda value: f"{value.normalize():f}",
    lambda value: f'"{value.normalize():f}"',
    lambda value: f"{value:f}",
    lambda value: f"{value:.6E}",
)


@dataclass(frozen=True)
class JsonRowWriter:
    """Writes a row as JSON: each value in one of its possible spellings."""

    rng: random.Random
    label: str

    def row(self, key: Key, values: Iterable[str], written_at: datetime) -> str:
        maturity, day = (self.rng.choice(DAY_FORMATS)(each) for each in (key.maturity, key.day))
        stamp = self.rng.choice([epoch_milliseconds, None])
        at = str(round(written_at.timestamp() * 1000)) if stamp else f'"{written_at:%Y-%m-%dT%H:%M:%SZ}"'
        parts = {**dict(zip(PRICE_FIELDS, values, strict=True)), "Data_Vencimento": maturity, "Data_Base": day}
        parts |= {"Tipo": json.dumps(self.label, ensure_ascii=False), "dt_update": at}
        return "{" + ", ".join(f'"{name}": {value}' for name, value in parts.items()) + "}"

    def numbers(self, quote: Quote) -> list[str]:
        return [
            self.rng.choice(["0", "0.0", '"0"']) if value is None else self.rng.choice(NUMBER_FORMATS)(value)
            for value in vars(quote).values()
        ]


def json_rows(table: str, key: Key, quote: Quote, seed: int, at: datetime, traps: Counter[str]) -> list[str]:
    """Return the row of a quote, the same for the same seed, and further rows of the same bond and day."""
    rng = random.Random(f"{table} {seed} {key}")
    label, other = rng.sample(GROUPS[table][1], 2)
    writer = JsonRowWriter(rng, label)
    rows = [writer.row(key, writer.numbers(quote), at)]
    luck, before, old = rng.random(), at - timedelta(hours=1), revise_quote(revise_quote(quote))
    if luck < 0.03:
        rows.append(rows[0])
        traps["json: equal rows"] += 1
    elif luck < 0.06:
        rows.append(writer.row(key, writer.numbers(old), before))
        traps["json: an older row"] += 1
    elif luck < 0.09:
        rows.append(replace(writer, label=other).row(key, writer.numbers(old), before))
        traps["json: an older row under another label"] += 1
    elif luck < 0.12:
        hollow = [rng.choice(["null", number]) for number in writer.numbers(old)]
        rows.append(replace(writer, label=other).row(key, ["null", *hollow[1:]], at + timedelta(hours=1)))
        traps["json: a newer row with nulls, under another label"] += 1
    return rows


def unreadable_rows(table: str, at: datetime, is_first: bool) -> list[str]:
    """Return rows of bonds that do not exist, which must be rejected.

    Only the first snapshot has rows whose key cannot be read: such a row could be any row, so that a later snapshot
    that also withdraws quotes would be held.
    """
    label, stamp = GROUPS[table][1][0], f"{at:%Y-%m-%dT%H:%M:%SZ}"

    def row(values: str, maturity: str = '"01/01/2099"', day: str = '"2025-12-19"') -> str:
        named = ", ".join(f'"{n}": {v}' for n, v in zip(PRICE_FIELDS, values.split(), strict=True))
        days = f'"Data_Vencimento": {maturity}, "Data_Base": {day}'
        return f'{{{named}, {days}, "Tipo": "{label}", "dt_update": "{stamp}"}}'

    rows = [
        row('7.29 7.41 "n/d" 2348.76 2348.76'),
        row("7.29 7.41 491.69000000000005 491.69 491.69", maturity='"02/01/2099"'),
        row("1e9 7.41 491.69 491.69 491.69", maturity='"03/01/2099"'),
    ]
    if is_first:
        rows.append(row("7.29 7.41 491.69 491.69 491.69", day='"31/02/2025"'))
        rows.append(row("7.29 7.41 491.69 491.69 491.69", maturity="null"))
        rows.append(row("7.29 7.41 491.69 491.69 491.69", maturity="1420070400001"))
    return rows


def write_json(snapshot: Snapshot, table: str, seed: int, bad: Key | None, is_first: bool) -> None:
    """Write the IPCA group as JSON lines in two files, and the other group as an array."""
    at, rows = snapshot.taken_at, unreadable_rows(table, snapshot.taken_at, is_first)
    snapshot.rejected[table] += len(rows)
    for key, quote in snapshot.group(table).items():
        written = json_rows(table, key, quote, seed, at, snapshot.traps)
        if key == bad:
            written = [f'{row.rpartition(", ")[0]}, "dt_update": "ontem"}}' for row in written]
            snapshot.rejected[table] += len(written)
            snapshot.traps["json: text in a known quote"] += 1
        rows += written
    random.Random(f"{seed} {table} {snapshot.folder.name}").shuffle(rows)
    if table == "dadostesouropre":
        files = {f"{table}.json": "[\n" + ",\n".join(rows) + "\n]\n"}
    else:
        half = len(rows) // 2
        files = {f"{table}_{n}.json": "\n".join([*part, ""]) for n, part in enumerate((rows[:half], rows[half:]), 1)}
    for name, text in files.items():
        (snapshot.folder / name).write_text(text, encoding="utf-8", newline="")


# --- snapshots --------------------------------------------------------------------------------------------------


def generate(out: Path, seed: int = 1, days: int = 10, snapshots: int = 2, new_days: int = 1) -> list[Snapshot]:
    """Write the snapshots, the earliest first; each is taken on the last of its days.

    Args:
        out: The folder for the snapshots.
        seed: The seed of all random values.
        days: The number of quote days of the first snapshot.
        snapshots: The number of snapshots.
        new_days: The number of quote days that each further snapshot adds.
    """
    first = quote_days(LAST_DAY, days)
    later = weekdays_after(LAST_DAY, new_days * (snapshots - 1))
    market = dict(quote_history(seed, [*first, *later]))
    rng, withdrawn, written = random.Random(seed), dict[Key, Quote](), list[Snapshot]()
    quotes: dict[Key, Quote] = {}
    for number in range(snapshots):
        new = later[(number - 1) * new_days : number * new_days] if number else first
        taken_at = datetime.combine(new[-1], time(13), timezone.utc)
        snapshot = Snapshot(out / f"{taken_at:%Y%m%d_%H%M%S}", taken_at, {})
        quotes = next_quotes(rng, quotes, withdrawn, snapshot) if number else quotes
        quotes |= {key: quote for key, quote in market.items() if key.day in set(new)}
        snapshot.quotes = dict(quotes)
        add_impossible_quotes(snapshot, seed)
        write_snapshot(snapshot, seed, written[-1] if written else None)
        written.append(snapshot)
    return written


def write_snapshot(snapshot: Snapshot, seed: int, before: Snapshot | None) -> None:
    snapshot.folder.mkdir(parents=True, exist_ok=True)
    # One known quote of each file cannot be read; the next snapshot corrects it.
    same = [key for key, quote in snapshot.quotes.items() if before and before.quotes.get(key) == quote]
    bad = random.Random(f"{seed} {snapshot.folder.name}").sample(same, len(same))
    families = {table: family for table, (family, _) in GROUPS.items()}
    for table, family in families.items():
        write_json(snapshot, table, seed, next((k for k in bad if k.family == family), None), before is None)
    write_csv(snapshot, seed, next(iter(bad), None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=10, help="number of quote days in the first snapshot")
    parser.add_argument("--snapshots", type=int, default=2)
    parser.add_argument("--new-days", type=int, default=1, help="number of quote days that each further snapshot adds")
    options = parser.parse_args()
    for snapshot in generate(**vars(options)):
        rejected = ", ".join(f"{table} {count}" for table, count in sorted(snapshot.rejected.items()))
        print(f"{snapshot.folder}: {len(snapshot.quotes)} quotes; rows to be rejected: {rejected}")


if __name__ == "__main__":
    main()
