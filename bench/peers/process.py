"""Runs a program of the bench in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent.parent


def run_program(command: list[str]) -> None:
    """Run another program; end the bench if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} failed:\n{done.stderr}")


def run_module(module: str, *arguments: object, environment: Mapping[str, str] = os.environ) -> Any:
    """Run a module of the bench; return the JSON document in the last line of its output."""
    places = [str(BENCH), str(BENCH.parent), environment.get("PYTHONPATH", "")]
    env = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=BENCH.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[2:4])} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
