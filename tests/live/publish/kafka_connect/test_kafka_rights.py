"""With an authorizer in Kafka the rights of kafka-acls.sh are enough, and with less the message names what is missing.

The worker logs in as a user of its own, and everything that no rule allows is refused. A right is taken away while the
connectors run; they are restarted, fail, and run again after `lakehouse connect apply` once they have it back. Here are
also Debezium's first start without its rights in PostgreSQL, and `lakehouse connect compact`.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from typing import Any

import local_kafka
import pytest
from chain import IPCA, PRE, Chain, publish_rows, running, wait_for

from lakehouse.config import load
from lakehouse.errors import DataRefused, ExitCode
from lakehouse.publish.kafka_connect import connectors
from lakehouse.publish.kafka_connect.compact import compact

ADMIN, USER = "canary-of-the-admin", "canary-of-the-worker"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def client_settings(user: str, password: str) -> dict[str, str]:
    login = f'{LOGIN} username="{user}" password="{password}";'
    return {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.jaas.config": login}


BROKER = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": (
        f'{LOGIN} username="admin" password="{ADMIN}" user_admin="{ADMIN}" user_connect="{USER}";'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin;User:ANONYMOUS",  # the second: the controller, whose listener has no login
}


class SecuredChain(Chain):
    """The servers, with a broker that refuses everything that no rule allows."""

    def start_broker(self) -> None:
        self.broker = self.start_part("broker", local_kafka.broker(self.folder, more=BROKER))
        admin = self.folder / "admin.properties"
        admin.write_text("".join(f"{k}={v}\n" for k, v in client_settings("admin", ADMIN).items()))
        program = local_kafka.java_command("org.apache.kafka.tools.AclCommand")
        self.acl_command = [*program, "--bootstrap-server", self.broker.address, "--command-config", str(admin)]
        script = [str(local_kafka.HERE / "kafka-acls.sh"), "User:connect"]
        environment = os.environ | {"KAFKA_ACLS": " ".join(self.acl_command)}
        subprocess.run(script, check=True, capture_output=True, timeout=120, env=environment)

    def worker(self, port: int | None = None) -> Any:
        login = client_settings("connect", USER)
        more = {
            f"{part}{name}": value for part in ("", "producer.", "consumer.", "admin.") for name, value in login.items()
        }
        return local_kafka.worker(self.folder, self.broker.address, self.worker_environment(), port, more)

    def change_right(self, action: str, operation: str, *resource: str) -> None:
        """Take a right of the worker's user (`--remove`), or give it back (`--add`)."""
        force = ["--force"] if action == "--remove" else []
        rule = ["--allow-principal", "User:connect", "--operation", operation, *resource]
        subprocess.run([*self.acl_command, action, *force, *rule], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredChain]:
    """The servers, with connectors that have not been registered."""
    with running(SecuredChain(tmp_path_factory.mktemp("chain"))) as chain:
        yield chain


@pytest.fixture(scope="module")
def connected(chain: SecuredChain) -> SecuredChain:
    """The same, with connectors that run."""
    assert connectors.apply(load(chain.folder))["exit_code"] == ExitCode.OK
    return chain


def failure(chain: SecuredChain, connector: str) -> str:
    """Return the error of a connector that has failed; empty if it has not."""
    (state,) = [each for each in connectors.status(load(chain.folder))["connectors"] if each["name"] == connector]
    return str(state["error"]) if "FAILED" in (state["state"], *state["tasks"]) else ""


def restart(chain: SecuredChain, connector: str) -> None:
    url = f"{chain.connect.address}/connectors/{connector}/restart?includeTasks=true"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30).close()


def test_debezium_does_not_start_for_the_first_time_without_its_rights_in_postgres(chain: SecuredChain) -> None:
    """It names what is missing, and starts when it has it. The role's name is not known here, so nothing is checked."""
    chain.database.execute("ALTER ROLE lakehouse_cdc NOREPLICATION")
    with pytest.raises(DataRefused, match="Only roles with the REPLICATION attribute may start"):
        connectors.apply(load(chain.folder))

    chain.database.execute("ALTER ROLE lakehouse_cdc REPLICATION", "DROP PUBLICATION lakehouse_gold")
    with pytest.raises(DataRefused, match="Publication autocreation is disabled, please create one"):
        connectors.apply(load(chain.folder))

    chain.prepare_database()


def test_the_rights_of_the_script_are_enough(connected: SecuredChain) -> None:
    for table in (IPCA, PRE):
        publish_rows(connected.database.url, table, [{"data_base": date(2024, 1, 1), "tipo": "X", "qtde_registros": 1}])

    assert connected.s3_differences() == []


def test_a_right_that_is_revoked_while_debezium_runs_is_named(connected: SecuredChain) -> None:
    """The role is not known here; it is the one that reads the slot."""

    def rights() -> str:
        states = connectors.status(load(connected.folder))["connectors"]
        return str(next(each["rights"] for each in states if each["name"] == "postgres-gold"))

    assert rights() == ""
    connected.database.execute(f"REVOKE SELECT ON {IPCA} FROM lakehouse_cdc")
    grant = f"GRANT SELECT ON public.{IPCA} TO lakehouse_cdc"
    assert rights() == f"lakehouse_cdc lacks SELECT on public.{IPCA}: {grant}"
    connected.database.execute(grant)
    assert rights() == ""


@pytest.mark.parametrize(
    ("connector", "operation", "resource", "missing"),
    [
        ("s3-gold", "Read", ["--group", "connect-s3-gold"], "Not authorized to access group: connect-s3-gold"),
        (
            "s3-gold",
            "Read",
            ["--topic", "postgres-", "--resource-pattern-type", "prefixed"],
            "Not authorized to access topics: [postgres-",
        ),
        (
            "postgres-gold",
            "Write",
            ["--transactional-id", "lakehouse-connect-postgres-gold-0"],
            "Transactional Id authorization failed",
        ),
    ],
)
def test_with_less_the_message_names_what_is_missing(
    connected: SecuredChain, connector: str, operation: str, resource: list[str], missing: str
) -> None:
    connected.change_right("--remove", operation, *resource)
    restart(connected, connector)
    day = date(2024, 2, 1 + int(time.time()) % 28)
    publish_rows(connected.database.url, IPCA, [{"data_base": day, "tipo": connector, "qtde_registros": 1}])

    assert missing in wait_for(lambda: failure(connected, connector))

    connected.change_right("--add", operation, *resource)
    assert connectors.apply(load(connected.folder))["exit_code"] == ExitCode.OK
    assert connected.s3_differences() == []


def test_compacted_objects_have_nothing_of_a_deleted_row(connected: SecuredChain) -> None:
    day, old = date(2023, 5, 1), {"tipo": "canary-of-a-row", "qtde_registros": 1}
    publish_rows(connected.database.url, IPCA, [old | {"data_base": day}])
    assert connected.s3_differences() == []
    publish_rows(connected.database.url, IPCA, [], [(day, "canary-of-a-row")])
    assert connected.s3_differences() == []
    assert "canary-of-a-row" in "".join(connected.lines(IPCA))

    done = compact(load(connected.folder))

    assert "canary-of-a-row" not in "".join(connected.lines(IPCA))
    assert sum(topic["removed_lines"] for topic in done["topics"]) >= 2
    assert connected.s3_differences() == []


def test_no_login_is_in_a_log(connected: SecuredChain) -> None:
    logs = [connected.folder / name for name in ("broker.log", "worker.log")]
    assert [log.name for log in logs for word in (ADMIN, USER) if word in log.read_text(errors="replace")] == []
