"""Defines `StrictModel`, the base of every section of a configuration: frozen, no unknown keys, all errors at once.

pydantic checks several fields together only when every single field is valid, so a user with five mistakes would see
them in two or three rounds. `StrictModel` therefore calls a section's `discrepancies` on the data as written, even if
some fields are invalid, and puts both lists into one error. It also replaces pydantic's messages. No message repeats
a value, because a value may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from typing_extensions import Self

from lakehouse.config.yaml_source import Loc

VALUE = "value"
"""Kind of a discrepancy whose message follows the value: ``found "cvs", expected csv, json or parquet``."""
STRUCTURE = "structure"
"""Kind of a discrepancy whose message is complete without the value: ``unknown key``."""

_MISSING = "missing, and required"
_MESSAGES = {
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "bool_parsing": "expected true or false",
    "string_too_short": "expected text that is not empty",
    "too_short": "expected at least one",
    "list_type": "expected a list, such as [a, b]",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
}


class Discrepancy(NamedTuple):
    """One error in the configuration.

    Attributes:
        loc: Its location, relative to the section that reports it.
        kind: VALUE or STRUCTURE.
        message: The discrepancy, without the value.
    """

    loc: Loc
    kind: str
    message: str


class StrictModel(BaseModel):
    """The base of every section; see the module's docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        """Yield the errors that concern several values together, or files beside the configuration.

        Args:
            data: The section as written. Any value may be missing or of a wrong type; the fields report that.
            folder: The folder of the configuration file, if it was read from a file.
        """
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        discrepancies: list[Discrepancy] = []
        model = None
        try:
            model = handler(data)
        except ValidationError as error:
            # A default that depends on an invalid field is not an error of its own.
            details = [d for d in error.errors(include_url=False) if d["type"] != "default_factory_not_called"]
            discrepancies = [_to_discrepancy(cls, detail) for detail in details]
        if isinstance(data, Mapping):
            discrepancies += cls.discrepancies(data, (info.context or {}).get("folder"))
        if model is None or discrepancies:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [
                    InitErrorDetails(type=validation_error(one.message, one.kind), loc=one.loc, input=None)
                    for one in discrepancies
                ],
            )
        return model


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the nearest known name, or "" if none is near.

    >>> did_you_mean("idcliente", ["idCliente", "flEmail"])
    '; did you mean "idCliente"?'

    Args:
        name: The unknown name.
        known: The names to choose from.
    """
    spelling = {one.lower(): one for one in known}
    nearest = get_close_matches(name.lower(), spelling, n=1)
    return f'; did you mean "{spelling[nearest[0]]}"?' if nearest else ""


def join_with_or(names: Iterable[str]) -> str:
    """Return names as ``csv, json or parquet``.

    Args:
        names: At least one name.
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def validation_error(message: str, kind: str = VALUE) -> PydanticCustomError:
    """Return the error for a validator to raise.

    Args:
        message: The expected form, without the value.
        kind: VALUE if the message follows the value, STRUCTURE if it is complete without it.
    """
    return PydanticCustomError(kind, message)


def _to_discrepancy(model: type[BaseModel], detail: ErrorDetails) -> Discrepancy:
    """Return a pydantic error in our words."""
    kind, loc, ctx, value = detail["type"], detail["loc"], detail.get("ctx", {}), detail["input"]
    match kind:
        case "value" | "structure":
            return Discrepancy(loc, kind, detail["msg"])
        case "missing":
            return Discrepancy(loc, STRUCTURE, _MISSING)
        case "extra_forbidden":
            known = [field.alias or name for name, field in model.model_fields.items()]
            hint = did_you_mean(str(loc[-1]), known) or f"; expected one of {', '.join(known)}"
            return Discrepancy(loc, STRUCTURE, f"unknown key{hint}")
        case "union_tag_not_found":
            return Discrepancy((*loc, ctx["discriminator"].strip("'")), STRUCTURE, _MISSING)
        case "union_tag_invalid":
            loc = (*loc, ctx["discriminator"].strip("'"))
            message = _expected_one_of(ctx["expected_tags"], ctx["tag"])
        case "literal_error":
            message = _expected_one_of(ctx["expected"], value)
        case "string_type":
            unquoted = isinstance(value, bool | int | float)
            message = "expected text; put it in quotes" if unquoted else "expected text"
        case "greater_than_equal":
            message = f"expected at least {ctx['ge']:g}"
        case "less_than_equal":
            message = f"expected at most {ctx['le']:g}"
        case _:
            message = _MESSAGES.get(kind) or detail["msg"].replace("Input should be", "expected")
    return Discrepancy(loc, VALUE, message)


def _expected_one_of(quoted: str, value: object) -> str:
    """Return a message with the allowed values, which pydantic gives as text: ``'csv', 'json' or 'parquet'``."""
    allowed = re.findall(r"'([^']*)'", quoted)
    return f"expected {join_with_or(allowed)}{did_you_mean(str(value), allowed)}"
