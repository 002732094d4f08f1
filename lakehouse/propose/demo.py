"""Writes a small example to play with: two snapshots of a shop, with inserts, updates, a delete and a bad row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lakehouse.errors import ConfigError
from lakehouse.propose.page import scalar
from lakehouse.propose.write import pipeline_file, pipeline_name, write_pipeline

_CUSTOMERS = """id,name,city,since
c1,Ana,Recife,2024-02-01
c2,Bruno,Olinda,2024-02-03
c3,Carla,Recife,2024-03-12
c4,Davi,Natal,2024-05-20
c5,Elisa,Olinda,2024-07-01
"""
_CUSTOMERS_LATER = """id,name,city,since
c1,Ana,Natal,2024-02-01
c2,Bruno,Olinda,2024-02-03
c3,Carla,Recife,2024-03-12
c5,Elisa,Olinda,2024-07-01
c6,Fabio,Recife,2025-01-02
"""
_ORDERS = """id,customer,day,amount
o1,c1,2025-01-01,10.50
o2,c2,2025-01-01,99.90
o3,c3,2025-01-01,5.00
o4,c1,2025-01-01,20.00
"""
_ORDERS_LATER = """id,customer,day,amount
o1,c1,2025-01-01,10.50
o2,c2,2025-01-01,89.90
o3,c3,2025-01-01,5.00
o4,c1,2025-01-01,20.00
o5,c6,2025-01-02,7.25
o6,c5,2025-01-02,twelve
"""
_SNAPSHOTS = {
    "20250101_180000": {"customers.csv": _CUSTOMERS, "orders.csv": _ORDERS},
    "20250102_180000": {"customers.csv": _CUSTOMERS_LATER, "orders.csv": _ORDERS_LATER},
}
_MODELS = {
    "silver/customers.sql": "SELECT t.id, t.name, t.city, t.since\nFROM bronze.customers AS t\n",
    "silver/orders.sql": "SELECT t.id, t.customer, t.day, t.amount\nFROM bronze.orders AS t\n",
    "gold/sales_by_city.sql": """SELECT
    c.city,
    COUNT(*) AS orders,
    SUM(o.amount) AS amount
FROM silver.orders AS o
JOIN silver.customers AS c ON o.customer = c.id
GROUP BY c.city
""",
}
_PIPELINE = """\
# A shop that publishes all its customers and orders every evening. Nothing in the files states what changed.
# From the first snapshot to the second: customer c1 moves, c4 is gone, c6 is new; order o2 is corrected, o5 is new,
# and the amount of o6 is not a number, so that its row waits in quarantine.
name: {name}
lake: {lake}

source:
  type: files
  path: {source} # one folder per snapshot, named by its time in UTC

tables:
  customers:
    file: customers.csv
    format: csv
    schema: id STRING, name STRING, city STRING, since DATE
    keys: [id]

  orders:
    file: orders.csv
    format: csv
    schema: id STRING, customer STRING, day DATE, amount DECIMAL(18,2)
    keys: [id]

silver:
  customers:
    keys: [id]
  orders:
    keys: [id]
    expect:
      positive_amount: {{check: "amount > 0", on_fail: warn}}

gold: # keys: the model's GROUP BY
  sales_by_city: {{}}
"""


def write_demo(folder: Path) -> dict[str, Any]:
    """Write the example, and return its place and the next command.

    Args:
        folder: The folder to write; it must be new or empty.

    Raises:
        ConfigError: The folder has files already, or cannot be written.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not empty", expected="a new or an empty folder")
    source = folder / "source"
    name, lake = pipeline_name(folder), scalar(str(folder / "lake"))
    text = _PIPELINE.format(name=name, lake=lake, source=scalar(str(source)))
    write_pipeline(folder, text, _MODELS)
    for snapshot, files in _SNAPSHOTS.items():
        for name, content in files.items():
            (source / snapshot).mkdir(parents=True, exist_ok=True)
            (source / snapshot / name).write_text(content, encoding="utf-8")
    return {
        "pipeline": str(pipeline_file(folder)),
        "source": str(source),
        "snapshots": list(_SNAPSHOTS),
        "next": f"lakehouse run {folder}",
    }
