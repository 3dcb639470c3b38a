"""Checks of single values that a user gives, with one line to say what was wrong."""

from __future__ import annotations

import math
import numbers
from typing import Any

from rllib_mec.errors import MecError


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int.

    Raises:
        MecError: It is not a whole number (``True`` is none) or below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise MecError(f"{name} must be a whole number of at least {least}, but is {value!r}")
    return int(value)


def number(name: str, value: Any) -> float:
    """``value`` as a float.

    Raises:
        MecError: It is not a number (nor are ``True`` and the text ``"5"``), infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise MecError(f"{name} must be a number, but is {value!r}")
    return float(value)


def positive_number(name: str, value: Any) -> float:
    """``value`` as a float above 0.

    Raises:
        MecError: It is not a number above 0.
    """
    result = number(name, value)
    if result <= 0:
        raise MecError(f"{name} must be positive, but is {value!r}")
    return result


def non_negative_number(name: str, value: Any) -> float:
    """``value`` as a float of at least 0.

    Raises:
        MecError: It is not a number of at least 0.
    """
    result = number(name, value)
    if result < 0:
        raise MecError(f"{name} must not be negative, but is {value!r}")
    return result
