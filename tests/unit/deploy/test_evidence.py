"""Tests that pages of docs/evidence never contain the machine's names or a secret."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

Anonymize = Callable[..., dict[str, str]]


@pytest.fixture
def anonymize(monkeypatch: pytest.MonkeyPatch) -> Anonymize:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "deploy/evidence"))
    from pages import anonymize

    return anonymize


def test_folders_and_addresses_are_replaced(anonymize: Anonymize) -> None:
    names = {"127.0.0.1:5001": "postgres:5432", "/tmp/evidence-1": "/srv", "http://127.0.0.1:5002": "http://s3:9000"}
    here = Path(__file__).parents[3]
    text = f"{here}/jobs/gold.py: /tmp/evidence-1/lake at 127.0.0.1:5001, http://127.0.0.1:5002, localhost:80\n\n"

    assert anonymize({"a.md": text}, names) == {
        "a.md": "jobs/gold.py: /srv/lake at postgres:5432, http://s3:9000, localhost:PORT\n"
    }


@pytest.mark.parametrize("text", [f"{Path.home()}/lake", "password=canary", f"at {socket.gethostname()}:80"])
def test_a_page_with_the_machine_name_or_a_secret_is_not_written(anonymize: Anonymize, text: str) -> None:
    with pytest.raises(SystemExit, match=r"a\.md was not written"):
        anonymize({"a.md": f"one\n{text} two\n"}, {}, ["canary"])
