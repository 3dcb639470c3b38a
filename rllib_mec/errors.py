"""One-line errors for bad input: what was wrong, what was expected, the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_LINE = 400


class MecError(ValueError):
    """Bad input from the user; its message is one line, and the command line exits with 2."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> MecError:
    """An error for a name that is not among ``choices``, with the nearest one suggested.

    Args:
        kind: What the name stands for, e.g. ``"DNN"``.
        name: What was given.
        choices: What would have been accepted.

    Returns:
        The error, to be raised by the caller.
    """
    options = sorted(choices)
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[close[0]]!r}? " if close else ""
    return MecError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(options)}")


def one_line(error: object) -> str:
    """The message of an exception on one line, without RLlib's trailing advice."""
    text = " ".join(str(error).split("To suppress all validation errors")[0].split())
    if isinstance(error, BaseException) and not isinstance(error, MecError):
        text = text or type(error).__name__
        if isinstance(error, KeyError | AttributeError | TypeError | ImportError):
            text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 3] + "..."
