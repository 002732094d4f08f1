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


def lock_files(target: str, tmp_path: Path) -> list[str]:
    """Return the lock files that a target installs in a fresh clone, each once."""
    return list(dict.fromkeys(re.findall(r"--require-hashes -r (\S+)", commands(tmp_path, target))))


@pytest.mark.parametrize("target", ["install", "demo", "demo-tesouro"])
def test_the_demo_installs_no_development_tools(tmp_path: Path, target: str) -> None:
    assert lock_files(target, tmp_path) == ["locks/build.lock", "locks/report.lock"]


@pytest.mark.parametrize("target", ["test-fast", "lint", "bench"])
def test_development_and_benchmarks_add_their_tools(tmp_path: Path, target: str) -> None:
    assert lock_files(target, tmp_path) == ["locks/build.lock", "locks/report.lock", "requirements.lock"]


@pytest.mark.parametrize(
    ("uv", "used"),
    [("exit 0", ["uv"] * 3), ("exit 1", ["uv", "pip", "pip", "pip"]), (None, ["pip"] * 3)],
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
    text = commands(tmp_path, "demo").replace("\\\n", "")
    recipe = next(line for line in text.splitlines() if "command -v uv" in line)
    subprocess.run(["/bin/sh", "-c", recipe], check=True, env={"PATH": str(tmp_path)})

    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == used
    assert all(" install " in call for call in calls)
    assert [call.partition(" --require-hashes -r ")[2] for call in calls[-3:-1]] == [
        "locks/build.lock",
        "locks/report.lock",
    ]
    assert calls[-1].endswith("--no-build-isolation --no-deps -e .")


LOCKS = [
    REPOSITORY / "requirements.lock",
    REPOSITORY / "deploy/airflow/requirements.lock",
    *sorted((REPOSITORY / "locks").iterdir()),
]


def locked(lock: Path) -> dict[str, str]:
    """Return the hashes of each requirement of a lock file."""
    text = re.sub(r"^ *#.*\n", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", "")
    requirements = (line.partition("--hash=") for line in text.splitlines())
    return {requirement.partition(";")[0].strip(): hashes for requirement, _, hashes in requirements}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(REPOSITORY)))
def test_a_lock_file_has_one_version_and_the_hashes_of_every_package_and_names_no_registry(lock: Path) -> None:
    packages = locked(lock)

    assert packages
    assert [package for package in packages if not re.fullmatch(r"[a-z0-9.-]+(\[\w,]+\])?==[\w.]+", package)] == []
    assert [
        p
        for p, hashes in packages.items()
        if not re.fullmatch(r"sha256:[0-9a-f]{64}( +--hash=sha256:[0-9a-f]{64})*", hashes.strip())
    ] == []
    assert "://" not in lock.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "lock", [lock for lock in LOCKS if lock.parent.name == "locks" and lock.stem != "build"], ids=lambda lock: lock.stem
)
def test_the_lock_file_of_an_extra_has_the_versions_that_the_tests_have(lock: Path) -> None:
    assert locked(lock).items() <= locked(LOCKS[0]).items()


def test_every_installation_that_is_deployed_or_documented_checks_hashes() -> None:
    """Only tools that are no part of what runs (uv, pip-audit, Jupyter's server) come in their newest version."""
    pages = [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "deploy").rglob("*Dockerfile"),
        REPOSITORY / "Makefile",
    ]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").replace("\\\n", "").splitlines()]
    installs = [found for line in lines for found in re.findall(r"bin/pip\"? install(.*?)(?:&&|#|$)", line)]
    free = [i.strip() for i in installs if "--require-hashes" not in i and "--no-deps" not in i]

    assert len(installs) > 10
    assert sorted(set(free)) == sorted({"-q uv", "-q pip-audit", "jupyterlab"})


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
