"""Takes docs/report.png, the picture of the report in README, from a page that `lakehouse report` has written.

make demo
PYTHONPATH=tests .venv/bin/python docs/report_picture.py artifacts/loyalty-report.html
"""

from __future__ import annotations

import sys
from pathlib import Path

from servers.chromium import chromium

PICTURE = Path(__file__).with_name("report.png")
# The flow, and the first cube with a chart by day: the sections between them would make the picture too high. The
# address of the lake is a path of this machine.
SHORTEN = """
for (const id of ["freshness", "changes", "quality", "quarantine"]) document.getElementById(id).style.display = "none";
for (const each of document.querySelectorAll("header p, header div"))
  if (!each.children.length) each.textContent = each.textContent.replace(/from .*[/](lake[/])/, "from $1");
const cubes = document.getElementById("cubes");
const first = [...cubes.children].findIndex(each => each.innerText.startsWith("gold.resumo_28_dias"));
[...cubes.children].slice(1, first).forEach(each => { each.style.display = "none"; });
"""


def main(page: Path) -> None:
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1200, "height": 1410}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.wait_for_timeout(1_000)  # the charts are drawn
        tab.evaluate(SHORTEN)
        tab.wait_for_timeout(500)
        tab.screenshot(path=PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
