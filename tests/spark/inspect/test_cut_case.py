"""A case that is cut from the lake has no personal value."""

from __future__ import annotations

import pytest

from lakehouse.errors import ConfigError
from lakehouse.inspect.cut_case import _Mask


def test_a_key_whose_personal_part_was_not_replaced_is_refused() -> None:
    mask = _Mask({"bronze.people": frozenset({"email", "cpf"}), "gold.people": frozenset({"email", "cpf"})})
    assert mask.row("bronze.people", {"id": 1, "Email": "a@b.c", "cpf": 123}) == {
        "id": 1,
        "Email": "Email 1",
        "cpf": None,
    }

    assert mask.key("gold.people", {"id": 1, "email": "a@b.c"}) == {"id": 1, "email": "Email 1"}
    for key in ({"cpf": "123"}, {"email": "A@B.C"}):  # a number, and a text that the model makes
        with pytest.raises(ConfigError, match="cannot be replaced"):
            mask.key("gold.people", key)
