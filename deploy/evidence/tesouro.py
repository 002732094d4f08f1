"""Runs the DAG `tesouro` twice, with PostgreSQL, a Kafka broker, a Connect worker and an S3 store behind it.

The first snapshot is published, and read by Debezium; the second one arrives as changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import streams
from dags import running_airflow
from pages import REPOSITORY, anonymize, markdown_table, model_sql_page, row_counts, versions_line
from servers import postgres, s3, stream

from lakehouse.config import Pipeline, load

SAMPLES = REPOSITORY / "samples/tesouro"
PIPELINE = REPOSITORY / "conf/tesouro"
_TIMEOUT = 600.0  # seconds for a verb of the command line


def make_pages(folder: Path, picture: Path) -> dict[str, str]:
    """Return the pages by their names."""
    first, second = sorted(SAMPLES.iterdir())
    shutil.copytree(first, folder / "source" / first.name)
    shutil.copytree(second, folder / second.name)
    places = {"LAKE_ROOT": str(folder / "lake"), "TESOURO_SOURCE": str(folder / "source")}
    with stream.running_servers(folder) as servers:
        environ = places | servers.environment()
        pipeline = load(PIPELINE, environ)
        with running_airflow("tesouro", folder, "a first snapshot", **environ) as dag:
            dag.wait_for_runs()
            stream.create_publication(servers.database)
            applied = run_verb("connect", "apply", environ=environ)
            (folder / second.name).rename(folder / "source" / second.name)
            dag.trigger("a second one")
            dag.wait_for_runs()
            dag.take_picture(picture)
            runs, tasks = dag.summary(), dag.log()
        verified = run_verb("verify", environ=environ)  # it waits for S3; in Airflow the next run would interfere
        pages = {"README.md": summary_page(servers, runs, verified), "log.md": log_page(tasks)}
        pages["rows.md"] = rows_page(servers.database, folder / "lake/tesouro", pipeline)
        pages["sql.md"] = model_sql_page(PIPELINE)
        pages["kafka.md"] = streams.kafka_page(servers.kafka, servers.connect, applied)
        pages["s3.md"] = streams.objects_page(s3.client(servers.s3), stream.BUCKET, pipeline.connect.topics)
        return anonymize(pages, address_names(servers) | {str(folder): "/srv"}, stream.SECRETS)


def address_names(servers: stream.Servers) -> dict[str, str]:
    """Return a replacement for each server address: its name in deploy/compose."""
    urls = {servers.connect.address: "connect:8083", servers.s3: "s3:9000"}
    own = {url.removeprefix("http://"): name for url, name in urls.items()}
    return own | {servers.kafka: "kafka:9092", f"127.0.0.1:{servers.database.port}": "postgres:5432"}


def run_verb(*verb: str, environ: Mapping[str, str]) -> str:
    """Run a verb of the command line, which has to succeed; return its output."""
    program = "import sys; from lakehouse.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *verb, "conf/tesouro"]
    own = os.environ | environ | {"COLUMNS": "160"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=own, capture_output=True, text=True, check=False, timeout=_TIMEOUT
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(verb)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return f"```\n$ lakehouse {' '.join(verb)} conf/tesouro\n{done.stdout.rstrip()}\n```"


# --- the pages --------------------------------------------------------------------------------------------------


def summary_page(servers: stream.Servers, runs: str, verified: str) -> str:
    ((database,),) = servers.database.execute("SHOW server_version")
    parts = [
        "# Tesouro Direto: observed results",
        versions_line(f"PostgreSQL {database}", *streams.connect_versions(servers.connect)),
        "[rows in each layer, and in PostgreSQL](rows.md) · [the models' SQL](sql.md) ·"
        " [topics and connectors](kafka.md) · [objects on S3](s3.md) · [output of the tasks](log.md)",
        "All servers are real and ran on one machine without Docker. The DAG, the pipeline, the connectors and the"
        " samples are those of this repository.",
        "![Airflow's grid](airflow.png)\n\nThe DAG `tesouro` in Airflow after its runs.",
        runs,
        "## Checks at the end",
        "I6: PostgreSQL is equal to gold, and the lines on S3, folded by key, are equal to PostgreSQL.",
        verified,
    ]
    return "\n\n".join(parts)


def log_page(tasks: str) -> str:
    about = (
        "From their logs in Airflow, without the lines of Airflow and of Spark's packages. The log of Debezium and the"
        " sink is on the page about [topics and connectors](kafka.md)."
    )
    return f"# Output of the tasks\n\n{about}\n\n{tasks}"


def rows_page(database: postgres.Server, lake: Path, pipeline: Pipeline) -> str:
    followed = pipeline.publish.tables.items()
    counts = [(name, source, *database.execute(f"SELECT count(*) FROM {name}")[0]) for source, name in followed]
    record = database.execute("SELECT table_name, source, version FROM lakehouse_publish ORDER BY 1")
    parts = [
        "# Rows in each layer",
        row_counts(lake),
        "## PostgreSQL",
        markdown_table(("table", "follows", "rows"), counts),
        "The table `lakehouse_publish` in PostgreSQL: for each table, the version of the Delta table that it is equal"
        " to.",
        markdown_table(("table", "follows", "version"), record),
    ]
    for name in pipeline.connect.topics.values():
        newest = f"SELECT * FROM {name} ORDER BY data_base DESC, tipo LIMIT 5"
        parts += [f"## {name}", psql(database, rf"\d {name}"), psql(database, newest)]
    return "\n\n".join(parts)


def psql(database: postgres.Server, words: str) -> str:
    command = [postgres.program_folder() / "psql", "--no-psqlrc", database.url, "--command", words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return f"```\n{database.database}=> {words}\n{done.stdout.rstrip()}\n```"
