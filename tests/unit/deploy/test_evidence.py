"""What docs/evidence must never say: a page that does is not written."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

Nameless = Callable[..., dict[str, str]]


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> Nameless:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "deploy/evidence"))
    from pages import anonymize

    return anonymize


def test_folders_and_addresses_have_other_names(nameless: Nameless) -> None:
    names = {"127.0.0.1:5001": "postgres:5432", "/tmp/evidence-1": "/srv", "http://127.0.0.1:5002": "http://s3:9000"}
    here = Path(__file__).parents[3]
    said = f"{here}/jobs/gold.py: /tmp/evidence-1/lake at 127.0.0.1:5001, http://127.0.0.1:5002, localhost:80\n\n"

    assert nameless({"a.md": said}, names) == {
        "a.md": "jobs/gold.py: /srv/lake at postgres:5432, http://s3:9000, localhost:PORT\n"
    }


@pytest.mark.parametrize("said", [f"{Path.home()}/lake", "password=canary", f"at {socket.gethostname()}:80"])
def test_a_page_that_names_the_machine_or_a_secret_is_not_written(nameless: Nameless, said: str) -> None:
    with pytest.raises(SystemExit, match=r"a\.md was not written"):
        nameless({"a.md": f"one\n{said} two\n"}, {}, ["canary"])
