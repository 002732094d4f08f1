"""Finds what keeps a pipeline from running, with the remedy (`lakehouse doctor`). The entry point is `examine`.

1. `machine.py`: Java, Python, packages, jars.
2. `settings.py`: pipeline.yml, its variables, the source, the published databases.
3. `place.py`: access to the lake, its lock, the files below `_state`.
4. `tables.py`: the logs and files of its Delta tables, and what models still have to read.
5. `evidence.py`: the ledger, the change sets that it names, the landed snapshots, the position of bronze.
6. `examination.py`: all of them, and with `--fix` the repairs that lose nothing.

No check starts a JVM, and none needs another: what cannot be read is reported, and the others go on.
"""

from __future__ import annotations

from lakehouse.doctor.examination import Examination, examine
from lakehouse.doctor.finding import OK, WARNING, WRONG, Finding

__all__ = ["OK", "WARNING", "WRONG", "Examination", "Finding", "examine"]
