"""The Makefile installs what a target needs, and no more."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def commands(tmp_path: Path, target: str) -> str:
    """Return the commands that a target would run in a fresh clone."""
    command = ["make", "--dry-run", target, f"VENV={tmp_path}/.venv"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["demo", "demo-tesouro"])
def test_the_demo_installs_no_development_tools(tmp_path: Path, target: str) -> None:
    installed = re.findall(r"install .*'\.\[(.*)\]'", commands(tmp_path, target))

    assert set(installed) == {"report"}


@pytest.mark.parametrize("target", ["test-fast", "lint", "bench"])
def test_development_and_benchmarks_add_their_tools(tmp_path: Path, target: str) -> None:
    installed = re.findall(r"install .*'\.\[(.*)\]'", commands(tmp_path, target))

    assert list(dict.fromkeys(installed)) == ["report", "dev,bench"]


@pytest.mark.parametrize(
    ("uv", "used"),
    [("exit 0", ["uv"]), ("exit 1", ["uv", "pip"]), (None, ["pip"])],
    ids=["there", "failing", "missing"],
)
def test_uv_installs_if_it_is_there_and_pip_if_uv_is_missing_or_fails(
    tmp_path: Path, uv: str | None, used: list[str]
) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for program, end in ((tmp_path / ".venv/bin/pip", "exit 0"), (tmp_path / "uv", uv)):
        if end:
            program.write_text(f'#!/bin/sh\necho "{program.name} $@" >> {tmp_path}/calls\n{end}\n')
            program.chmod(0o700)
    recipe = next(line for line in commands(tmp_path, "demo").splitlines() if "command -v uv" in line)
    subprocess.run(["/bin/sh", "-c", recipe], check=True, env={"PATH": str(tmp_path)})

    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == used
    assert all("install" in call and "-c requirements.lock -e .[report]" in call for call in calls)


def test_the_demo_imports_only_what_the_package_depends_on() -> None:
    tree = ast.parse((REPOSITORY / "samples/demo.py").read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"lakehouse"}
    setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8").partition("install_requires=[")[2].partition("],")[0]

    assert [module for module in foreign if f'"{module}>=' not in setup] == []


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import subprocess\n\nsubprocess.run('rm x', shell=True)\n", "S602"),
        ("import tempfile\n\nopen(tempfile.mktemp())\n", "S306"),
        ("import yaml\n\nyaml.load('x', yaml.Loader)\n", "S506"),
        ("import ssl\n\nssl._create_unverified_context()\n", "S323"),
        ("import pickle\n\npickle.loads(b'')\n", "S301"),
    ],
)
def test_lint_refuses_code_that_is_not_safe(code: str, rule: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", "lakehouse/new.py", "-"]
    checked = subprocess.run(command, input=code, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert rule in checked.stdout
