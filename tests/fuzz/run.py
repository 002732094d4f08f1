"""Runs drawn cases one after the other in one session, shortens those that fail, and keeps them."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz.case import Case
from fuzz.check import Fault, Result, check_project, find_refused
from fuzz.draw import draw_case
from fuzz.shrink import shrink


def start_session(folder: Path) -> Any:
    """Start the session in which all commands of this process run; its log is in a folder."""
    from lakehouse.spark.session import SMALL_DATA_BYTES, get_session
    from lakehouse.storage.paths import Lake

    return get_session(Lake(str(folder / "session")), "fuzz", data_bytes=SMALL_DATA_BYTES)


def replay(folder: Path) -> list[Fault]:
    """Run a case that was kept, beside it."""
    case = folder.parent / f"{folder.name}-replay"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(folder, case)
    for file in (case / "pipeline/pipeline.json", *(case / "pipelines").iterdir()):
        document = json.loads(file.read_text(encoding="utf-8"))
        document["lake"], document["source"]["path"] = (
            str((case / "lake").absolute()),
            str((case / "source").absolute()),
        )
        file.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return check_project(case.absolute()).faults


class Fuzz:
    """Runs cases and collects what they find.

    Args:
        work: A folder for lakes; what a case leaves is removed.
        keep: The folder for cases that fail.
        tables: The tables of a case.
        snapshots: The snapshots of a case.
        shrink_seconds: How long a case that fails is shortened.
        is_verbose: Whether to print what runs refuse with exit code 2.
    """

    def __init__(
        self, work: Path, keep: Path, tables: int, snapshots: int, shrink_seconds: float, is_verbose: bool = False
    ) -> None:
        self.work, self.keep, self.tables, self.snapshots = work, keep, tables, snapshots
        self.shrink_seconds, self.is_verbose = shrink_seconds, is_verbose
        self.found: dict[str, Fault] = {}
        self._folders = 0
        self.cases, self.statuses, self.refusals = 0, Counter[str](), Counter[str]()

    def run_case(self, seed: str) -> Result:
        started = time.monotonic()
        case, refused = self.accepted(draw_case(seed, self.tables, self.snapshots))
        result = self.check(case)
        self.cases += 1
        self.statuses.update(result.statuses)
        seconds = time.monotonic() - started
        print(
            f"case {seed}: {len(case.tables)} tables, {len(case.models)} models, {refused} refused by validate,"
            f" {seconds:.0f} s, {len(result.faults)} faults",
            flush=True,
        )
        if self.is_verbose:
            print("\n".join(f"    {text[:300]}" for text in dict.fromkeys(result.refused_by_run)), flush=True)
        for fault in result.faults:
            self.report(case, fault)
        return result

    def accepted(self, case: Case) -> tuple[Case, int]:
        """Return the case without what `validate` refuses, and how much that is."""
        refused = 0
        for _ in range(12):
            folder = self._folder()
            case.write(folder)
            code, document = find_refused(folder / "pipeline")
            if code == 0:
                return case, refused
            error = document["error"]
            if code != 2:
                self.report(case, Fault(f"exit {code}", "", f"validate: {error}", error.get("where", "")))
                break
            text = f"{error['found']} {error['where']}"
            named = [n for n in case.names() if _is_named(n, text)]
            if not named:
                self.report(case, Fault("refused", "", f"validate names no table or model: {error}"))
                break
            refused += len(named)
            self.refusals.update(line[:90] for line in error["found"].splitlines())
            case = case.without(named)
        return case, refused

    def check(self, case: Case, with_verify: bool = True) -> Result:
        folder = self._folder()
        case.write(folder)
        return check_project(folder, case.row_counts(), with_verify)

    def report(self, case: Case, fault: Fault) -> None:
        """Print a fault; shorten and keep its case if it is the first of its kind."""
        if fault.signature in self.found:
            return
        self.found[fault.signature] = fault
        print(
            f"FOUND in case {case.seed}: {fault.kind} {fault.name} {fault.place}\n    {fault.text[:1200]}", flush=True
        )

        def fails(smaller: Case) -> bool:
            try:
                result = self.check(smaller, with_verify=fault.kind.startswith("verify"))
            except Exception:
                return False
            return any(f.signature == fault.signature for f in result.faults)

        if self.shrink_seconds and fault.kind != "refused":
            case = shrink(case, fault.name, fails, self.shrink_seconds)
        folder = self.keep / f"{case.seed}-{len(self.found)}"
        shutil.rmtree(folder, ignore_errors=True)
        case.write(folder.absolute())
        (folder / "fault.txt").write_text(f"{fault.kind} {fault.name} {fault.place}\n{fault.text}\n", encoding="utf-8")
        print(f"    kept: make fuzz CASE={folder}", flush=True)

    def summary(self) -> str:
        statuses = ", ".join(f"{status} {count}" for status, count in sorted(self.statuses.items()))
        return f"{self.cases} cases, {len(self.found)} different faults\noutcomes: {statuses}"

    def _folder(self) -> Path:
        """Return a new folder, and remove the one before: Delta caches tables by their path."""
        shutil.rmtree(self.work / f"project-{self._folders}", ignore_errors=True)
        self._folders += 1
        folder = self.work / f"project-{self._folders}"
        folder.mkdir(parents=True)
        return folder


def _is_named(name: str, text: str) -> bool:
    layer, _, short = name.partition(".")
    path = f"tables.{short}" if layer == "bronze" else name
    return any(
        part in text for part in (f"{path}.", f"{path} ", f"{path}:", f"{layer}/{short}.sql", f"{path}\n", f"{path}'")
    )
