"""One-line errors for bad input: what was wrong, what was expected, the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_LINE = 400


class MecError(ValueError):
    """Bad input from the user; its message is one line, and the command line exits with 2."""


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice nearest to a name, or None if none is near.

    Args:
        name: What was given; case does not count.
        choices: What would have been accepted.
        cutoff: Similarity from which on a choice is near, in [0, 1].
    """
    by_lower = {choice.lower(): choice for choice in sorted(choices)}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def unknown(kind: str, name: object, choices: Iterable[str], show: int | None = None) -> MecError:
    """An error for a name that is not among ``choices``, with the nearest one suggested.

    Args:
        kind: What the name stands for, e.g. ``"DNN"``.
        name: What was given.
        choices: What would have been accepted.
        show: List the choices only if there are at most so many; default: always.

    Returns:
        The error, to be raised by the caller.
    """
    options = sorted(choices)
    close = nearest(str(name), options, cutoff=0.5)
    hints = [f"did you mean {close!r}?"] if close else []
    if show is None or len(options) <= show:
        hints.append(f"choose from {', '.join(options)}")
    return MecError(": ".join([f"unknown {kind} {name!r}", *filter(None, [" ".join(hints)])]))


def one_line(error: object) -> str:
    """The message of an exception on one line, without RLlib's trailing advice.

    Args:
        error: The exception, or a text.
    """
    text = " ".join(str(error).split("To suppress all validation errors")[0].split())
    if isinstance(error, BaseException) and not isinstance(error, MecError):
        text = text or type(error).__name__
        if isinstance(error, KeyError | AttributeError | TypeError | ImportError):
            text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 3] + "..."
