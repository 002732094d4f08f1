"""Turns values of Python into values that JSON has, as `json_rows` does for those of Spark."""

from __future__ import annotations

import base64
import math
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any


def plain_value(value: Any) -> Any:
    """Return a value of Python as JSON has it: decimals, times, binary and NaN as text.

    >>> plain_value(Decimal("1.50")), plain_value(float("nan")), plain_value(b"a"), plain_value([date(2025, 1, 2)])
    ('1.50', 'NaN', 'YQ==', ['2025-01-02'])
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
        case Decimal():
            return f"{value:f}"
        case datetime():
            text = value.replace(tzinfo=None).isoformat()
            return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{'Z' if value.tzinfo else ''}"
        case date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(key): plain_value(each) for key, each in value.items()}
        case list() | tuple():
            return [plain_value(each) for each in value]
    return str(value)
