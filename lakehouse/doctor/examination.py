"""Examines a pipeline, its machine and its lake, and repairs what is safe. The entry point is `examine`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from lakehouse import logs
from lakehouse.config import Pipeline
from lakehouse.doctor import evidence, machine, place, settings, tables
from lakehouse.doctor.finding import OK, WARNING, WRONG, Finding, Subject
from lakehouse.error_mapping import to_lakehouse_error
from lakehouse.errors import LakehouseError, worst_exit_code
from lakehouse.runner import up_to_date
from lakehouse.runner.context import Run, name_pipeline, new_run_id
from lakehouse.storage import lock
from lakehouse.storage.paths import Lake

Check = Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Examination:
    """The result of `lakehouse doctor`.

    Attributes:
        pipeline: The argument PIPELINE.
        findings: The result of each check, after the repairs.
        repaired: What was repaired.
    """

    pipeline: str
    findings: tuple[Finding, ...]
    repaired: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The worst code of what is wrong; 0 if nothing is."""
        return worst_exit_code(finding.code for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Return the document of `lakehouse doctor --json`."""
        counts = {each: sum(f.result == each for f in self.findings) for each in (OK, WARNING, WRONG)}
        checks = [finding.document() for finding in self.findings]
        return {
            "pipeline": self.pipeline,
            "checks": checks,
            "repaired": list(self.repaired),
            **counts,
            "exit_code": int(self.exit_code),
        }


def examine(argument: str, fix: bool = False) -> Examination:
    """Check everything that a run needs, without Spark.

    1. Check this machine: Java, Python, packages, jars.
    2. Read pipeline.yml. If it has errors, go on with the lake that it names, if that can be found.
    3. Check variables, source and published databases.
    4. Check the lake: access, lock, state, tables, ledger, change sets, landed snapshots.
    5. With `fix`: lock the lake, check it, do the safe repairs, and check it again.

    Args:
        argument: A folder with pipeline.yml, or that file.
        fix: Whether to do the repairs that lose nothing.

    Raises:
        LakeBusy: With `fix`: a run has locked the lake.
    """
    pipeline, configuration = settings.load(argument)
    if pipeline:
        logs.register_secrets(pipeline)
    findings = [*_run(machine.check_java, machine.check_python, machine.check_packages, machine.check_jars)]
    findings += [*configuration, *_run(lambda: settings.check_variables(argument))]
    lake = Run(pipeline).lake if pipeline else settings.find_lake(argument)
    if lake is None:
        findings.append(Subject("lake").ok("not checked: pipeline.yml does not name it"))
        return _examination(argument, findings)
    if pipeline:
        opened = pipeline
        findings += _run(lambda: settings.check_source(opened, lake), lambda: settings.check_publish(opened))
    repaired: list[str] = []
    in_lake = [*_examine_lake(lake, pipeline)]
    if fix and any(finding.repair for finding in in_lake):
        with ExitStack() as stack:
            run_id = new_run_id(datetime.now(timezone.utc))
            stack.enter_context(lock.lock_lake(lake, run_id, "doctor --fix"))
            repaired = [*_repair(finding for finding in in_lake if finding.check == "lock")]
            repaired += _repair([*_examine_lake(lake, pipeline, False)])
            up_to_date.remove_mark(lake)
        in_lake = [*_examine_lake(lake, pipeline)]
    return _examination(argument, [*findings, *in_lake], repaired)


def _repair(findings: Iterable[Finding]) -> Iterator[str]:
    """Do the repairs, and yield what each did; what cannot be repaired stays as it is."""
    for finding in findings:
        if finding.repair:
            try:
                yield finding.repair()
            except (OSError, LakehouseError) as error:
                yield f"nothing of {finding.check} {finding.of}: {error}"


def _examination(argument: str, findings: Iterable[Finding], repaired: Iterable[str] = ()) -> Examination:
    """Return the result without secrets, with the pipeline in the commands to type."""

    def shown(text: str) -> str:
        return logs.redact(name_pipeline(text, argument))

    shown_findings = [replace(f, found=shown(f.found), next_step=shown(f.next_step)) for f in findings]
    return Examination(argument, tuple(shown_findings), tuple(map(shown, repaired)))


def _examine_lake(lake: Lake, pipeline: Pipeline | None, with_lock: bool = True) -> Iterator[Finding]:
    """Yield the findings about a lake; without access to it, no others.

    Args:
        lake: The lake.
        pipeline: The pipeline, if it can be read.
        with_lock: Whether to look at the lock, which this command may have itself.
    """
    is_private = pipeline is not None and pipeline.access == "owner"
    access = [*_run(lambda: place.check_access(lake, is_private))]
    yield from access
    if any(finding.result == WRONG for finding in access):
        return
    if with_lock:
        yield from _run(lambda: place.check_lock(lake))
    declared = pipeline.tables if pipeline else ()
    yield from _run(
        lambda: place.check_state(lake),
        lambda: tables.check_tables(lake),
        lambda: evidence.check_evidence(lake, declared),
    )


def _run(*checks: Check) -> Iterator[Finding]:
    """Yield the findings of some checks; an error of one is a finding, and the others go on."""
    for check in checks:
        try:
            yield from list(check())
        except LakehouseError as error:
            yield Subject("check").failed(error)
        except Exception as raised:  # what is damaged may fail in ways that nobody has seen
            yield Subject("check").failed(to_lakehouse_error(raised))
