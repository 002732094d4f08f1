"""Generates snapshots of a loyalty system with the schema of Kaggle's `teocalvo/teomewhy-loyalty-system`.

    python samples/generate.py samples/loyalty --describe

A snapshot is a folder of four complete CSV files, without any information about the changes since the previous one.
Every snapshot after the first is computed from the previous one as a stream (`next_transactions`), so that memory grows
with the number of clients only. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import random
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _csv import Writer

# The first column is the key. The spelling (idCliente here, IdCliente there) is that of the real files.
HEADERS = {
    "clientes": ("idCliente;flEmail;flTwitch;flYouTube;flBlueSky;flInstagram;qtdePontos;DtCriacao;DtAtualizacao"),
    "produtos": "IdProduto;DescNomeProduto;DescDescricaoProduto;DescCategoriaProduto",
    "transacoes": "IdTransacao;IdCliente;DtCriacao;QtdePontos;DescSistemaOrigem",
    "transacao_produto": "idTransacaoProduto;IdTransacao;IdProduto;QtdeProduto;vlProduto",
}

CHAT_PRODUCT = "1"
PRODUCTS = (  # id, name, category, points, weight; the catalogue is invented, like all data
    ("1", "Mensagem no chat", "chat", 1, 550),
    ("2", "Presença na live", "presença", 50, 250),
    ("3", "Sequência de presenças", "presença", 100, 60),
    ("4", "Devolução: troca por prêmio", "troca", 1000, 5),
    ("5", "Resgate do pônei", "pônei", 500, 20),
    ("6", "Troca por prêmio", "troca", -1000, 20),
    ("7", "Item: Couraça de bronze (300)", "rpg", -300, 15),
    ("8", "Item: Túnica de linho (500)", "rpg", -500, 10),
    ("9", "Item: Lança de caça (220)", "rpg", -220, 15),
    ("10", "Item: Pingente de âmbar (280)", "rpg", -280, 10),
    ("11", "Item: Chapéu de palha (150)", "rpg", -150, 25),
)
# Courses are sold under a slug that has no row in produtos: slug, points, weight.
COURSES = (("estatistica-2024", 1000, 8), ("estatistica-2025", 1000, 8), ("carreira", 1000, 4))
POINTS = {id_: points for id_, *_, points, _ in (*PRODUCTS, *COURSES)}
PRODUCT_IDS = tuple(POINTS)
PRODUCT_WEIGHTS = tuple(weight for *_, weight in (*PRODUCTS, *COURSES))

FIRST_SNAPSHOT = datetime(2025, 10, 3, 17, 5, 52)
SECOND_SNAPSHOT = datetime(2025, 10, 4, 9, 56, 45)
LATER_INTERVAL = timedelta(hours=6)
MIGRATION_DAY = datetime(2024, 2, 1)  # many clients were created on the day of a migration
HISTORY_LENGTH = timedelta(days=75)  # churn looks back 56 days


@dataclass(slots=True)
class Client:
    id: str
    flags: list[str]
    points: int
    created: str
    updated: str

    def mark_updated(self, when: str) -> None:
        self.updated = max(self.updated, when)


@dataclass(slots=True)
class Line:
    id: str
    product: str
    quantity: int
    value: int


@dataclass(slots=True)
class Transaction:
    id: str
    client: str
    created: str
    points: int
    origin: str
    lines: list[Line]


def snapshot_times(count: int) -> list[datetime]:
    return [FIRST_SNAPSHOT, *(SECOND_SNAPSHOT + i * LATER_INTERVAL for i in range(count - 1))][:count]


def new_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def timestamp_text(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="milliseconds")


def moment_between(rng: random.Random, start: datetime, end: datetime) -> datetime:
    return start + rng.random() * (end - start)


def live_stream_moment(rng: random.Random, start: datetime, end: datetime) -> datetime:
    """Return a time of a live stream in UTC: 12h to 17h, or around midnight, when São Paulo is a day behind."""
    moment = moment_between(rng, start, end)
    hours = rng.uniform(12, 17) if rng.random() < 0.85 else rng.uniform(22, 27)
    live = datetime(moment.year, moment.month, moment.day) + timedelta(hours=hours)
    return live if start <= live <= end else moment


def new_client(rng: random.Random, created: datetime) -> Client:
    flags = [str(int(rng.random() < share)) for share in (0.05, 0.6, 0, 0, 0)]
    return Client(new_id(rng), flags, 0, timestamp_text(created), timestamp_text(created))


def new_lines(rng: random.Random, balance: int) -> list[Line]:
    """Return one line, rarely two or three. A client without enough points gets a chat line instead."""
    count = 1 + (rng.random() < 0.05) + (rng.random() < 0.01)
    lines = [
        Line(new_id(rng), product, 1 + (rng.random() < 0.02), POINTS[product])
        for product in rng.choices(PRODUCT_IDS, PRODUCT_WEIGHTS, k=count)
    ]
    return lines if balance + total_points(lines) >= 0 else [Line(new_id(rng), CHAT_PRODUCT, 1, POINTS[CHAT_PRODUCT])]


def total_points(lines: Iterable[Line]) -> int:
    return sum(line.quantity * line.value for line in lines)


def new_transaction(rng: random.Random, client: Client, created: datetime) -> Transaction:
    lines = new_lines(rng, client.points)
    origin = "twitch" if lines[0].product.isdigit() else "cursos"
    transaction = Transaction(new_id(rng), client.id, timestamp_text(created), total_points(lines), origin, lines)
    client.points += transaction.points
    client.mark_updated(transaction.created)
    return transaction


def incomplete_transaction(rng: random.Random, client: Client, created: datetime) -> Transaction:
    """Return a transaction whose line was not written yet when the snapshot was taken."""
    transaction = Transaction(new_id(rng), client.id, timestamp_text(created), POINTS[CHAT_PRODUCT], "twitch", [])
    client.points += transaction.points
    client.mark_updated(transaction.created)
    return transaction


def first_clients(rng: random.Random, count: int, taken_at: datetime) -> list[Client]:
    return [
        new_client(rng, MIGRATION_DAY if rng.random() < 0.4 else moment_between(rng, MIGRATION_DAY, taken_at))
        for _ in range(count)
    ]


def active_period(rng: random.Random, client: Client, taken_at: datetime) -> tuple[datetime, datetime]:
    """Return the period in which a client is active: some start later, some leave early, which shows in churn."""
    start = max(datetime.fromisoformat(client.created), taken_at - HISTORY_LENGTH)
    if rng.random() < 0.4:
        start = moment_between(rng, start, taken_at)
    end = moment_between(rng, start, taken_at) if rng.random() < 0.4 else taken_at
    return start, end


def first_transactions(
    rng: random.Random, clients: list[Client], count: int, taken_at: datetime
) -> Iterator[Transaction]:
    """Yield `count` transactions over the history; the last one is incomplete."""
    spans = [active_period(rng, client, taken_at) for client in clients]
    for _ in range(count - 1):
        chosen = int(len(clients) * rng.random() ** 2)  # the first clients are far more active
        yield new_transaction(rng, clients[chosen], live_stream_moment(rng, *spans[chosen]))
    yield incomplete_transaction(rng, clients[0], taken_at - timedelta(seconds=1))


def next_clients(rng: random.Random, clients: list[Client], since: datetime, taken_at: datetime) -> list[Client]:
    """Erase a few clients, add an e-mail to a few, and add new ones. Points start again at zero."""
    few = max(2, len(clients) // 100)
    erased = set(rng.sample(range(len(clients)), few))
    changed = [client for i, client in enumerate(clients) if i not in erased]
    for client in changed:
        client.points = 0
    for client in rng.sample(changed, few):
        client.flags[0] = "1"
        client.mark_updated(timestamp_text(moment_between(rng, since, taken_at)))
    return changed + [new_client(rng, moment_between(rng, since, taken_at)) for _ in range(2 * few)]


def next_transaction(rng: random.Random, transaction: Transaction) -> Transaction | None:
    """Return the transaction in the next snapshot: mostly unchanged; None if it is deleted."""
    luck, lines = rng.random(), transaction.lines
    if not lines:  # incomplete in the previous snapshot: its line has arrived
        lines.append(Line(new_id(rng), CHAT_PRODUCT, 1, transaction.points))
    elif luck < 0.005:
        return None
    elif luck < 0.1 and len(lines) > 1:
        lines.pop()
    elif luck < 0.015:
        lines[0].value += 10
    transaction.points = total_points(lines)  # a transaction has no column with an update time
    return transaction


def next_transactions(
    rng: random.Random,
    before: Iterable[Transaction],
    clients: list[Client],
    since: datetime,
    taken_at: datetime,
) -> Iterator[Transaction]:
    """Yield the previous transactions, without deleted ones and those of erased clients; then new ones."""
    by_id = {client.id: client for client in clients}
    count = 0
    for transaction in before:
        count += 1
        client, points = by_id.get(transaction.client), transaction.points
        if client is None:
            continue
        after = next_transaction(rng, transaction)
        if after is None or after.points != points:
            client.mark_updated(timestamp_text(moment_between(rng, since, taken_at)))
        if after is not None:
            client.points += after.points
            yield after
    for _ in range(max(5, count // 40)):
        client = rng.choice(clients)
        start = max(since, datetime.fromisoformat(client.created))
        yield new_transaction(rng, client, live_stream_moment(rng, start, taken_at))
    yield incomplete_transaction(rng, clients[0], taken_at - timedelta(seconds=1))


def read_table(folder: Path, table: str) -> Iterator[list[str]]:
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter=";", quoting=csv.QUOTE_NONE)
        next(rows)
        yield from rows


def read_clients(folder: Path) -> list[Client]:
    return [
        Client(id_, flags, int(points), created, updated)
        for id_, *flags, points, created, updated in read_table(folder, "clientes")
    ]


def read_transactions(folder: Path) -> Iterator[Transaction]:
    """Read both files in parallel: `write_snapshot` writes the lines in the order of the transactions."""
    lines_by_transaction = groupby(read_table(folder, "transacao_produto"), key=lambda line: line[1])
    owner, group = next(lines_by_transaction, (None, iter(())))
    for id_, client, created, points, origin in read_table(folder, "transacoes"):
        lines = []
        if owner == id_:
            lines = [Line(line, product, int(qty), int(value)) for line, _, product, qty, value in group]
            owner, group = next(lines_by_transaction, (None, iter(())))
        yield Transaction(id_, client, created, int(points), origin, lines)


@contextmanager
def table_writer(folder: Path, table: str) -> Iterator[Writer]:
    with (folder / f"{table}.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(f"{HEADERS[table]}\n")
        yield csv.writer(file, delimiter=";", quoting=csv.QUOTE_NONE, lineterminator="\n")


def write_snapshot(folder: Path, clients: list[Client], transactions: Iterable[Transaction]) -> None:
    """Write the four tables; clientes last, because its points are known after the transactions."""
    folder.mkdir(parents=True, exist_ok=True)
    with table_writer(folder, "produtos") as produtos:
        produtos.writerows((id_, name, "", category) for id_, name, category, *_ in PRODUCTS)
    with (
        table_writer(folder, "transacoes") as transacoes,
        table_writer(folder, "transacao_produto") as transacao_produto,
    ):
        for t in transactions:
            transacoes.writerow((t.id, t.client, t.created, t.points, t.origin))
            transacao_produto.writerows((line.id, t.id, line.product, line.quantity, line.value) for line in t.lines)
    with table_writer(folder, "clientes") as clientes:
        clientes.writerows((c.id, *c.flags, c.points, c.created, c.updated) for c in clients)


def generate(out: Path, seed: int, clients: int, transactions: int, snapshots: int) -> list[Path]:
    """Write the snapshots, the earliest first, and return their folders."""
    rng = random.Random(seed)
    times = snapshot_times(snapshots)
    folders = [out / f"{taken_at:%Y%m%d_%H%M%S}" for taken_at in times]
    people = first_clients(rng, clients, times[0])
    write_snapshot(folders[0], people, first_transactions(rng, people, transactions, times[0]))
    for (before, since), (folder, taken_at) in pairwise(zip(folders, times, strict=True)):
        people = next_clients(rng, read_clients(before), since, taken_at)
        rows = next_transactions(rng, read_transactions(before), people, since, taken_at)
        write_snapshot(folder, people, rows)
    return folders


def change_counts(before: Path, after: Path) -> Iterator[str]:
    """Yield the rows of a Markdown table of the changes between two snapshots, found by comparing them."""
    for table in HEADERS:
        old, new = ({row[0]: row for row in read_table(folder, table)} for folder in (before, after))
        inserted, deleted = len(new.keys() - old.keys()), len(old.keys() - new.keys())
        updated = sum(old[key] != new[key] for key in old.keys() & new.keys())
        yield f"| {table} | {len(old)} | {inserted} | {updated} | {deleted} | {len(new)} |"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the snapshots, which are a folder each")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clients", type=int, default=150, help="in the first snapshot (default: %(default)s)")
    parser.add_argument("--transactions", type=int, default=800, help="in the first snapshot (default: %(default)s)")
    parser.add_argument("--snapshots", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--describe", action="store_true", help="print what changed between the snapshots")
    args = parser.parse_args(argv)
    if args.clients < 10 or args.transactions < 1 or args.snapshots < 1:
        parser.error("at least 10 clients, 1 transaction and 1 snapshot are needed")
    folders = generate(args.out, args.seed, args.clients, args.transactions, args.snapshots)
    if args.describe:
        for before, after in pairwise(folders):
            print(f"| {before.name} → {after.name} | rows | I | U | D | rows |\n|---|---|---|---|---|---|")
            print("\n".join(change_counts(before, after)))


if __name__ == "__main__":
    main()
