"""A command that is about one table says so if it is given a model, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.errors import ConfigError
from lakehouse.inspect import status
from lakehouse.runner.context import open_run

LOYALTY = Path(__file__).parents[3] / "conf" / "loyalty"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["silver.clientes"], "silver.clientes is a model"),
        ([], "no name"),
        (["clientes", "produtos"], "2 names: clientes, produtos"),
    ],
)
def test_a_command_about_one_table_names_what_it_was_given(names: list[str], found: str) -> None:
    with pytest.raises(ConfigError) as refused:
        status.single_table(open_run(LOYALTY, names))

    assert refused.value.found == found
    assert str(refused.value.expected).startswith("one of clientes, produtos")
