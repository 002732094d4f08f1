"""Makes git repositories with commits at given times, for tests. Imports no Spark."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_DATE": "1999-01-01T00:00:00Z",
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(path: Path, *arguments: str, date: str = "2025-01-01T00:00:00Z", text: bytes | None = None) -> str:
    """Run git in a repository, with a committer's time, and return its output."""
    environment = os.environ | _ENVIRONMENT | {"GIT_COMMITTER_DATE": date}
    done = subprocess.run(["git", *arguments], cwd=path, env=environment, check=True, capture_output=True, input=text)
    return done.stdout.decode(errors="replace").strip()


def commit(path: Path, date: str, files: Mapping[str, bytes | None] | None = None) -> str:
    """Commit files at a time, None removes one; return the commit's id."""
    for name, content in (files or {}).items():
        if content is None:
            (path / name).unlink()
        else:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    git(path, "add", "-A")
    git(path, "commit", "-q", "--allow-empty", "-m", "x", date=date)
    return git(path, "rev-parse", "HEAD")
