"""Measures the start of a local session with and without the archive of classes (docs/decisions/0021-class-archive.md).

Three ways, in turn: `off` (packages, no archive), `jars` (the jars of the packages on the class path, no archive) and
`archive`. Two programs: `floor`, a session that writes a Delta table of one row, and `cold`, the first run of
conf/loyalty. Wall time is that of the command; CPU is that of all its processes until the JVM has ended, too.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loyalty import COMMAND, FLOOR_PROGRAM, ROOT

BUILD = [sys.executable, "-m", "lakehouse.spark.build_class_archive"]
PR_SET_CHILD_SUBREAPER = 36  # the JVM outlives Python: this process waits for it, too


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return the wall time of a command, and the CPU of it and its descendants."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if process.wait():
        raise SystemExit(f"{command[-1]} failed")
    wall = time.monotonic() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def hide_archives(cache: Path) -> Callable[[], None]:
    """Take the archives away, with locks that keep a session from building others; return how to undo it."""
    folder, hidden = cache / "lakehouse" / "class-archives", cache / "hidden"
    folder.rename(hidden)
    folder.mkdir()
    for description in hidden.glob("*.json"):
        (folder / f"{description.stem}.lock").write_text("99")

    def undo() -> None:
        shutil.rmtree(folder)
        hidden.rename(folder)

    return undo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", nargs="+", default=["floor", "cold"])
    parser.add_argument("--ways", nargs="+", default=["off", "jars", "archive"])
    parser.add_argument("--cache", type=Path, help="the cache folder, whose archive is used again by the next call")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cache = options.cache.resolve() if options.cache else work / "cache"
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), "LOYALTY_SOURCE": str(work / "source")}
        generate = [sys.executable, str(ROOT / "samples" / "generate.py"), str(work / "all")]
        subprocess.run([*generate, "--transactions", "800", "--clients", "150"], check=True)
        snapshot = min(path for path in (work / "all").iterdir() if path.is_dir())
        shutil.copytree(snapshot, work / "source" / snapshot.name)
        wall, cpu = measure(BUILD, environment)
        (archive,) = (cache / "lakehouse" / "class-archives").glob("*.jsa")
        print(f"build: wall {wall:.1f} s, CPU {cpu:.1f} s, {archive.stat().st_size / 1e6:.0f} MB", flush=True)
        results: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for number in range(options.rounds):
            for program in options.programs:
                for way in options.ways:
                    lake = work / f"{program}-{way}-{number}"
                    command = {
                        "floor": [sys.executable, "-c", FLOOR_PROGRAM, str(lake)],
                        "cold": [*COMMAND, "run", "conf/loyalty"],
                    }[program]
                    env = environment | {"LAKE_ROOT": str(lake)}
                    env |= {"LAKEHOUSE_CLASS_ARCHIVE": "off"} if way == "off" else {}
                    undo = hide_archives(cache) if way == "jars" else None
                    results.setdefault((program, way), []).append(measure(command, env))
                    if undo:
                        undo()
        print(f"median of {options.rounds} (minimum to maximum), seconds")
        for (program, way), pairs in results.items():
            texts = [
                f"{name} {statistics.median(values):6.2f} ({min(values):.2f} to {max(values):.2f})"
                for name, values in zip(("wall", "CPU"), zip(*pairs, strict=True), strict=True)
            ]
            print(f"{program:<6} {way:<8} {'   '.join(texts)}")


if __name__ == "__main__":
    main()
