"""Prints the result of `lakehouse doctor`: a line for each check, with its remedy below."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from lakehouse.cli.console import indent, print_json, stdout

if TYPE_CHECKING:
    from lakehouse.doctor import Examination

_COLOURS = {"ok": "", "warning": "yellow", "wrong": "red"}


def examination(result: Examination, as_json: bool) -> None:
    """Print the checks, what was repaired, and how many checks found something.

    Args:
        result: The result.
        as_json: Whether to print one document.
    """
    if as_json:
        print_json(result.document())
        return
    out = stdout()
    width = max(len(finding.check) for finding in result.findings)
    for finding in result.findings:
        what = f"{finding.of}: " if finding.of else ""
        line = f"{finding.result:<8} {finding.check:<{width}}  {what}{finding.found}"
        out.print(Text(line, style=_COLOURS[finding.result]), soft_wrap=True)
        if finding.next_step:
            out.print(indent(f"next: {finding.next_step}"), soft_wrap=True)
    for text in result.repaired:
        out.print(f"repaired {text}", soft_wrap=True)
    counts = Counter(finding.result for finding in result.findings)
    shown = ", ".join(f"{counts[name]} {name}" for name in _COLOURS if counts[name])
    out.print(f"{shown}; exit code {int(result.exit_code)}")
    if any(finding.repair for finding in result.findings):
        out.print(f"next: lakehouse doctor {result.pipeline} --fix", soft_wrap=True)
