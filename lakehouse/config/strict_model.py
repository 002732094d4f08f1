"""The base of every part of a configuration: frozen, no unknown keys, and everything wrong said at once.

Pydantic runs a check across fields only once all fields are right, so that a user with five mistakes would
be told of them in two or three rounds. `StrictModel` therefore lets a part look at its data as written, with
`discrepancies`, whether or not the fields pass, and puts both lists into one error. It also rewords
pydantic's messages; none of them repeats a value, because a value may be a secret.
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
"""Kind of a discrepancy that is told behind the value: ``found "cvs", expected csv, json or parquet``."""
STRUCTURE = "structure"
"""Kind of a discrepancy that says it all by itself: ``unknown key``."""

_MISSING = "missing, and required"
_MESSAGES = {
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "bool_parsing": "expected true or false",
    "string_too_short": "expected some text",
    "too_short": "expected at least one",
    "list_type": "expected a list, such as [a, b]",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
}


class Discrepancy(NamedTuple):
    """Something wrong at `loc`, seen from the model that reports it."""

    loc: Loc
    kind: str
    message: str


class StrictModel(BaseModel):
    """See the module's docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        """What only shows in several values together, or in `folder`, where the file lies.

        `data` is as written: nothing about its types is sure, and what the fields report needs no repeating.
        """
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        found: list[Discrepancy] = []
        model = None
        try:
            model = handler(data)
        except ValidationError as error:
            lines = error.errors(include_url=False)
            # A default that waits for another field is no fault of its own.
            found = [_to_discrepancy(cls, line) for line in lines if line["type"] != "default_factory_not_called"]
        if isinstance(data, Mapping):
            found += cls.discrepancies(data, (info.context or {}).get("folder"))
        if model is None or found:
            raise ValidationError.from_exception_data(cls.__name__, [_to_error_details(one) for one in found])
        return model


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """The end of a message, naming the nearest of what is known; empty if nothing is near.

    >>> did_you_mean("idcliente", ["idCliente", "flEmail"])
    '; did you mean "idCliente"?'
    """
    spelled = {name.lower(): name for name in known}
    near = get_close_matches(found.lower(), spelled, n=1)
    return f'; did you mean "{spelled[near[0]]}"?' if near else ""


def join_with_or(names: Iterable[str]) -> str:
    """``csv, json or parquet``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def validation_error(message: str, kind: str = VALUE) -> PydanticCustomError:
    """The error for a validator to raise."""
    return PydanticCustomError(kind, message)


def _to_discrepancy(model: type[BaseModel], line: ErrorDetails) -> Discrepancy:
    kind, loc, ctx, value = line["type"], line["loc"], line.get("ctx", {}), line["input"]
    match kind:
        case "value" | "structure":
            return Discrepancy(loc, kind, line["msg"])
        case "missing":
            return Discrepancy(loc, STRUCTURE, _MISSING)
        case "extra_forbidden":
            known = [field.alias or name for name, field in model.model_fields.items()]
            near = did_you_mean(str(loc[-1]), known) or f"; there are {', '.join(known)}"
            return Discrepancy(loc, STRUCTURE, f"unknown key{near}")
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
            message = _MESSAGES.get(kind) or line["msg"].replace("Input should be", "expected")
    return Discrepancy(loc, VALUE, message)


def _expected_one_of(quoted: str, found: object) -> str:
    allowed = re.findall(r"'([^']*)'", quoted)
    return f"expected {join_with_or(allowed)}{did_you_mean(str(found), allowed)}"


def _to_error_details(one: Discrepancy) -> InitErrorDetails:
    return InitErrorDetails(type=validation_error(one.message, one.kind), loc=one.loc, input=None)
