"""Checks of what a user gives, by pydantic, with one line to say what was wrong."""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, WrapValidator

from rllib_mec.errors import MecError, unknown

# Strict: `True` and the text "5" are no numbers.
Whole = Annotated[int, Field(strict=True)]
Count = Annotated[Whole, Field(ge=1)]
NetworkCount = Annotated[Whole, Field(ge=1, le=100_000)]
Natural = Annotated[Whole, Field(ge=0)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Switch = Annotated[bool, Field(strict=True)]
NonNegative = Annotated[Number, Field(ge=0)]

MOST_TASKS, LEAST_METRES, MOST_METRES = 10**9, 1e-3, 1e9
# Of a network, far beyond what makes sense, but no product of them leaves the arithmetic.
Tasks = Annotated[Natural, Field(le=MOST_TASKS)]
Metres = Annotated[Number, Field(ge=LEAST_METRES, le=MOST_METRES)]
Height = Annotated[Number, Field(ge=0.1, le=1e3)]
Speed = Annotated[Number, Field(ge=0.01, le=500)]  # m/s
Pause = Annotated[NonNegative, Field(le=1e6)]  # s
Quantity = Annotated[Number, Field(ge=1e-20, le=1e15)]
QuantityOrZero = Annotated[NonNegative, Field(le=1e15)]

LeftOpen = WrapValidator(lambda value, check: None if value is None else check(value))
"""Lets a field be ``None`` until its own class fills it in."""

OPEN: Any = None
"""Default of such a field; no type, since who reads it later finds it filled in."""

_WORDS = {
    "a valid integer": "a whole number",
    "a valid boolean": "true or false",
    "a valid dictionary": "a mapping",
    "a valid string": "a text",
    "a valid ": "a ",
    "greater than or equal to 0.00000000000000000001": "positive, at least 1e-20",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than 0": "positive",
    "Invalid JSON": "valid JSON",
    "an instance of Sequence": "a list",
    "'str' instances are not allowed as a Sequence value": "a list",
    "Value should have at least 1 item after validation, not 0": "a list that is not empty",
    "an object": "a JSON object like '{\"key\": 1}'",
}
"""Pydantic's words -> ours."""

_Class = TypeVar("_Class", bound=type)


def refusal(error: ValidationError, name: str | None = None) -> MecError:
    """One line for what pydantic found: the field's path, what was expected, the nearest choice.

    Args:
        error: What it found; the first fault is told.
        name: What to call the value, where it is no field.

    Returns:
        The error, to be raised by the caller.
    """
    faults = error.errors(include_url=False)
    first = faults[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, MecError):
        return own if name is None or str(own).startswith("--") else MecError(f"{name}: {own}")
    path = ".".join(map(str, first["loc"])) if name is None else name
    if first["type"] == "literal_error" and len(faults) == 1 and not path.startswith("--"):
        expected = str(first.get("ctx", {})["expected"])  # "'paper' or 'si'"
        return unknown(path, first["input"], re.findall("'(.*?)'", expected))
    # Of a union, every member says what it would have taken.
    alternatives = [fault["msg"] for fault in faults if fault["input"] is first["input"]]
    alternatives = [m.removeprefix("Input should be ").split(", unable")[0] for m in alternatives]
    expected = " or ".join(dict.fromkeys(alternatives))
    for word, ours in _WORDS.items():
        expected = expected.replace(word, ours)
    return MecError(f"{path} must be {expected}, but is {first['input']!r}")


def _plain(value: Any) -> Any:
    """A NumPy number, as a sampler draws it, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def refuse_in_one_line(cls: _Class) -> _Class:
    """Decorate a pydantic dataclass so that a bad value raises a ``MecError``.

    Args:
        cls: The dataclass, which is changed.
    """
    validate = cls.__init__

    @functools.wraps(validate)
    def initialise(self: Any, *args: Any, **keywords: Any) -> None:
        try:
            validate(self, *args, **{name: _plain(value) for name, value in keywords.items()})
        except ValidationError as error:
            raise refusal(error) from None

    cls.__init__ = initialise
    return cls


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def checked(name: str, value: Any, kind: Any, texts: bool = False) -> Any:
    """A single value, if it is of a kind.

    Args:
        name: What to call it in the error.
        value: The value.
        kind: An annotation of this module, e.g. :data:`Positive`.
        texts: Whether a text stands for what is written in it, as in a flag.

    Raises:
        MecError: It is not.
    """
    try:
        if texts and isinstance(value, str):
            return _adapter(kind).validate_strings(value)
        return _adapter(kind).validate_python(_plain(value))
    except ValidationError as error:
        raise refusal(error, name) from None


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int.

    Args:
        name: What to call it in the error.
        value: The value.
        least: The smallest that will do.

    Raises:
        MecError: It is not a whole number (``True`` is none) or below ``least``.
    """
    return checked(name, value, _whole_from(least))


@functools.cache  # as an adapter takes half a millisecond to make
def _whole_from(least: int) -> Any:
    return Annotated[Whole, Field(ge=least)]


def positive_number(name: str, value: Any) -> float:
    """``value`` as a float above 0.

    Args:
        name: What to call it in the error.
        value: The value.

    Raises:
        MecError: It is not a number above 0, as which ``True`` and the text ``"5"`` do not count.
    """
    return checked(name, value, Positive)
