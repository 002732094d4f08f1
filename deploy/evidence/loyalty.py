"""Runs the DAG `loyalty` twice: on the first snapshot, and on the second with one table cut to its header.

That table's snapshot is held, and the others are processed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from dags import running_airflow
from pages import REPOSITORY, anonymize, model_sql_page, row_counts, versions_line

SAMPLES = REPOSITORY / "samples/loyalty"
CUT = "clientes.csv"


def make_pages(folder: Path, picture: Path) -> dict[str, str]:
    """Return the pages by their names."""
    source, lake = folder / "source", folder / "lake"
    first, second = sorted(SAMPLES.iterdir())
    shutil.copytree(first, source / first.name)
    environ = {"LAKE_ROOT": str(lake), "LOYALTY_SOURCE": str(source)}
    with running_airflow("loyalty", folder, "a first snapshot", **environ) as dag:
        dag.wait_for_runs()
        shutil.copytree(second, folder / second.name)
        header, _, _ = (folder / second.name / CUT).read_text(encoding="utf-8").partition("\n")
        (folder / second.name / CUT).write_text(f"{header}\n", encoding="utf-8")
        (folder / second.name).rename(source / second.name)
        dag.trigger(f"a second one, {CUT} cut to its header")
        dag.wait_for_runs()
        dag.take_picture(picture)
        about = "[rows in each layer](rows.md) · [the models' SQL](sql.md) · [output of the tasks](log.md)"
        grid = "![Airflow's grid](airflow.png)\n\nThe DAG `loyalty` in Airflow after both runs."
        pages = {
            "README.md": "\n\n".join(["# Loyalty: observed results", versions_line(), about, grid, dag.summary()]),
            "log.md": "# Output of the tasks\n\nFrom their logs in Airflow, without the lines of Airflow and of Spark's"
            f" packages.\n\n{dag.log()}",
            "rows.md": f"# Rows in each layer\n\n{row_counts(lake / 'loyalty')}",
            "sql.md": model_sql_page(REPOSITORY / "conf/loyalty"),
        }
    return anonymize(pages, {str(folder): "/srv"})
