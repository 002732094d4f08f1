"""Draws and runs cases until the time is over: `make fuzz SEED=1 MINUTES=60`; or runs a kept one: `CASE=folder`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from fuzz.run import Fuzz, replay, start_session


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed", default=str(int(time.time())), help="the seed of the first case; the next ones follow from it"
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tables", type=int, default=12, help="tables of a case")
    parser.add_argument("--snapshots", type=int, default=3)
    parser.add_argument(
        "--shrink-seconds", type=float, default=120, help="how long to leave things out of a case that fails"
    )
    parser.add_argument("--keep", type=Path, default=Path("artifacts/fuzz"), help="where cases that fail are kept")
    parser.add_argument("--verbose", action="store_true", help="print what runs refuse with exit code 2")
    parser.add_argument("--case", type=Path, help="run one case that was kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        spark = start_session(Path(folder))
        try:
            return run_one(options.case) if options.case else run_many(options, Path(folder))
        finally:
            spark.stop()


def run_one(case: Path) -> int:
    faults = replay(case)
    print("\n\n".join(f"{fault.kind} {fault.name}: {fault.text}" for fault in faults) or "no fault")
    return int(bool(faults))


def run_many(options: argparse.Namespace, folder: Path) -> int:
    fuzz = Fuzz(folder, options.keep, options.tables, options.snapshots, options.shrink_seconds, options.verbose)
    end, number = time.monotonic() + 60 * options.minutes, 0
    while time.monotonic() < end:
        seed = f"{options.seed}.{number}" if number else options.seed
        try:
            fuzz.run_case(seed)
        except Exception:  # such as of a JVM that has ended
            print(f"case {seed} has ended the fuzz; again: make fuzz SEED={seed} MINUTES=1", flush=True)
            raise
        number += 1
    print(fuzz.summary())
    return int(bool(fuzz.found))


if __name__ == "__main__":
    sys.exit(main())
