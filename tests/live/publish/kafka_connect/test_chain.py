"""PostgreSQL -> Debezium -> Kafka -> S3, with the files of deploy/connect: nothing is lost or duplicated.

Each test ends with the check of `verify`: the latest rows of the objects on S3 are those of PostgreSQL. The store fails
now and then all the time (see chain.py).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import local_kafka
import psycopg
import pytest
from chain import IPCA, PRE, Chain, publish_rows, running, wait_for
from servers import postgres, s3

from lakehouse.cli import main
from lakehouse.errors import ExitCode

FIRST = date(2024, 1, 30)
BATCHES, ROWS = 30, 20  # of a load that is disturbed


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with running(Chain(tmp_path_factory.mktemp("chain"))) as chain:
        assert main(["connect", "apply", str(chain.folder)]) == ExitCode.OK
        yield chain


def quote(day: date, kind: str, buy: str | None = "10.10", **more: Any) -> dict[str, Any]:
    numbers = {"qtde_registros": 3, "venda_manha_media": Decimal("10.220"), "pu_base_manha_media": Decimal("491.69")}
    return {"data_base": day, "tipo": kind, "compra_manha_media": Decimal(buy) if buy else None, **numbers, **more}


def command(chain: Chain, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["connect", *arguments, str(chain.folder), "--json"])
    return code, json.loads(capsys.readouterr().out)


# Day by day


def test_three_micro_batches_of_new_revised_and_withdrawn_quotes_are_on_s3_as_in_the_database(chain: Chain) -> None:
    days = [FIRST + timedelta(n) for n in range(4)]  # into the next month
    url, every = chain.database.url, (IPCA, PRE)
    for table in every:
        publish_rows(url, table, [quote(day, kind) for day in days for kind in ("COM JUROS", "SEM JUROS")])
    assert chain.s3_differences() == []
    for table in every:
        revised = [quote(days[0], "SEM JUROS", "10.1234567890123456789"), quote(days[2], "COM JUROS", None)]
        publish_rows(url, table, [*revised, quote(days[3] + timedelta(1), "COM JUROS")], [(days[1], "SEM JUROS")])
    assert chain.s3_differences() == []
    for table in every:
        back = [quote(days[1], "SEM JUROS", "-0.05")]
        publish_rows(url, table, back, [(days[3], "COM JUROS"), (days[3], "SEM JUROS")])
    began = time.monotonic()
    assert chain.s3_differences() == []
    print(f"from commit to S3: {time.monotonic() - began:.1f} s, with a rotation of 1 s")

    lines = chain.lines(IPCA)
    assert Counter(json.loads(line)["__op"] for line in lines) == {"c": 10, "u": 2, "d": 3}
    assert lines[8].startswith(
        '{"data_base":"2024-01-30","tipo":"SEM JUROS","qtde_registros":3,"compra_manha_media":"10.1234567890123456789",'
        '"venda_manha_media":"10.220","pu_compra_manha_media":null,"pu_venda_manha_media":null,'
        '"pu_base_manha_media":"491.69","percentual_diferenca_compra_venda":null,"__deleted":"false","__op":"u",'
    )
    withdrawn = next(json.loads(line) for line in lines if '"__op":"d"' in line)
    assert withdrawn["__deleted"] == "true" and withdrawn["tipo"] == "SEM JUROS"
    assert withdrawn["data_base"] and withdrawn["pu_base_manha_media"] is None, "a delete has the key only"
    folders = {f"postgres-{table}/year=2024/month=0{month}" for table in every for month in (1, 2)}
    assert {key.rpartition("/")[0] for key in chain.object_keys()} == folders
    assert f"postgres-{IPCA}/year=2024/month=01/postgres-{IPCA}+0+{0:020d}.json" in chain.object_keys(IPCA)


def test_a_second_apply_changes_nothing_and_status_shows_the_connectors(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = command(chain, capsys, "apply")
    assert (code, [each["change"] for each in found["connectors"]]) == (ExitCode.OK, ["unchanged", "unchanged"])
    code, found = command(chain, capsys, "status")
    shown = [(each["name"], each["state"], each["tasks"], each["error"]) for each in found["connectors"]]
    assert shown == [("postgres-gold", "RUNNING", ["RUNNING"], ""), ("s3-gold", "RUNNING", ["RUNNING"], "")]


def test_rejected_files_exit_2_and_failed_connectors_exit_5_until_corrected(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.write_pipeline(**{"flush.size": "0"})
    code, document = command(chain, capsys, "apply")
    assert code == ExitCode.USAGE
    assert "flush.size: Invalid value 0" in document["error"]["found"]
    chain.write_pipeline(**{"value.converter": "org.apache.kafka.connect.json.JsonConverter"})
    code, document = command(chain, capsys, "apply")
    assert (code, "value.converter has to be" in document["error"]["found"]) == (ExitCode.USAGE, True)

    chain.write_pipeline(**{"consumer.override.bootstrap.servers": "elsewhere:9092"})
    code, document = command(chain, capsys, "apply")
    assert (code, "consumer.override.bootstrap.servers" in document["error"]["found"]) == (ExitCode.USAGE, True)

    chain.write_pipeline(**{"s3.bucket": "not-there"})
    assert command(chain, capsys, "apply")[0] == ExitCode.OK
    publish_rows(chain.database.url, PRE, [quote(FIRST, "LATE")])
    wait_for(lambda: command(chain, capsys, "status")[0] == ExitCode.REFUSED)
    code, found = command(chain, capsys, "status")
    assert "s3:PutObject of not-there/topics/postgres-dadostesouropre_gold/year=2024" in found["connectors"][1]["error"]
    assert "failed with status 404" in found["connectors"][1]["error"]

    chain.write_pipeline()
    assert command(chain, capsys, "apply")[0] == ExitCode.OK
    assert chain.s3_differences() == []


# Faults


def start_load(chain: Chain, kind: str) -> threading.Thread:
    """Start to load micro-batches of one month each in the background, with retries while the database is down."""

    def load() -> None:
        for batch in range(BATCHES):
            day = date(2020 + batch // 12, batch % 12 + 1, 1)
            rows = [quote(day + timedelta(n), kind, qtde_registros=batch) for n in range(ROWS)]
            while True:
                try:
                    publish_rows(chain.database.url, IPCA, rows)
                    break
                except psycopg.OperationalError:
                    time.sleep(0.2)
            time.sleep(0.05)

    thread = threading.Thread(target=load)
    thread.start()
    return thread


def has_each_row_once(chain: Chain, kind: str) -> bool:
    """Return whether each row of a load is in the topic exactly once: as many lines as there were changes."""
    found = [count for (_, tipo, _), count in chain.change_counts(IPCA).items() if tipo == kind]
    return found == [1] * (BATCHES * ROWS)


def test_connect_killed_during_a_load_loses_and_duplicates_nothing(chain: Chain) -> None:
    load = start_load(chain, "CONNECT")
    time.sleep(1)
    chain.connect.kill()
    assert load.is_alive(), "it must be killed during the load"
    load.join()
    chain.connect = chain.start_part("connect", chain.worker(int(chain.connect.address.rpartition(":")[2])))
    assert chain.s3_differences(90) == []
    assert has_each_row_once(chain, "CONNECT")


def test_a_store_that_was_down_receives_everything_afterwards(chain: Chain) -> None:
    load = start_load(chain, "STORE")
    time.sleep(0.5)
    chain.faults.is_down = True
    load.join()
    time.sleep(6)
    assert chain.s3_differences(0) != []
    chain.faults.is_down = False
    assert chain.s3_differences() == []
    assert has_each_row_once(chain, "STORE")


def test_a_restarted_broker_has_lost_nothing(chain: Chain) -> None:
    load = start_load(chain, "BROKER")
    time.sleep(0.5)
    port = int(chain.broker.address.rpartition(":")[2])
    chain.broker.kill()
    chain.broker = chain.start_part("broker", local_kafka.broker(chain.folder, port))
    load.join()
    assert chain.s3_differences(120) == []
    assert has_each_row_once(chain, "BROKER")


def test_a_database_restarted_during_a_load_is_read_again(chain: Chain) -> None:
    load = start_load(chain, "DATABASE")
    time.sleep(0.5)
    chain.part_stacks["database"].close()
    time.sleep(1)
    chain.database = chain.start_part("database", postgres.running_server(chain.database_home, chain.database.port))
    load.join()
    assert chain.s3_differences(120) == []
    assert has_each_row_once(chain, "DATABASE")


# Twenty years at once


def test_a_first_load_of_twenty_years_is_one_object_per_month_and_topic(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.faults.every = {}  # this test measures the time
    chain.write_pipeline(**{"rotate.interval.ms": "10000"})
    assert command(chain, capsys, "apply")[0] == ExitCode.OK
    before, began = set(chain.object_keys()), time.monotonic()
    for table in (IPCA, PRE):
        chain.database.execute(
            f"INSERT INTO {table} (data_base, tipo, qtde_registros, compra_manha_media) "
            "SELECT d, t, 1, 0.01 * (d - date '1999-12-31') "
            "FROM (SELECT date '2000-01-01' + n FROM generate_series(0, 7304) AS n) AS days (d), "
            "unnest(ARRAY['A', 'B']) AS kinds (t) WHERE extract(isodow FROM d) < 6 ORDER BY md5(t || d)"
        )
    wait_for(lambda: len(set(chain.object_keys()) - before) >= 480, 120)
    seconds = time.monotonic() - began
    assert chain.s3_differences() == []
    added = len(set(chain.object_keys()) - before)
    print(f"2 topics x 5,218 days x 2 kinds: {added} objects, {seconds:.0f} s with a rotation of 10 s")
    assert added <= 490


def test_no_secret_is_in_the_servers_logs(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    files = [*chain.folder.glob("*.log"), *chain.folder.glob("*.json"), *chain.folder.glob("*.properties")]
    assert len(files) > 4
    secrets = ("canary-of-the-cdc", s3.CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
    assert [str(file) for file in files for secret in secrets if secret in file.read_text(errors="replace")] == []
    assert not any(secret in str(command(chain, capsys, "status")) for secret in secrets)


def test_the_local_script_starts_and_stops_both_servers(tmp_path: Path) -> None:
    port = local_kafka.free_port()
    script = [sys.executable, local_kafka.__file__, "--folder", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        addresses = dict(line.split(maxsplit=1) for line in (process.stdout.readline() for _ in range(2)))
        assert addresses["Connect:"].strip() == f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(60) == 0
    for address in (addresses["Kafka:"].strip(), f"127.0.0.1:{port}"):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) != 0, address
