"""What the command line says: one-line errors, notes, and nearest-name hints."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

from rllib_mec.errors import MecError, one_line

PROGRAM = "rllib"


def note(message: str) -> None:
    """Print a one-line remark on stderr, so that stdout stays clean for results."""
    print(f"{PROGRAM}: note: {message}", file=sys.stderr, flush=True)


def error(message: object) -> None:
    """Print a one-line error on stderr."""
    print(f"{PROGRAM}: error: {one_line(message)}", file=sys.stderr, flush=True)


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice nearest to ``name`` (case does not count), or None if none is near."""
    by_lower = {choice.lower(): choice for choice in sorted(choices)}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def unknown_key(kind: str, name: object, choices: Iterable[str], show: int = 12) -> MecError:
    """An error for a key that is not among ``choices``.

    Unlike :func:`rllib_mec.errors.unknown` it does not list hundreds of config keys.

    Args:
        kind: What the key is, e.g. ``"config key"``.
        name: What was given.
        choices: What would have been accepted.
        show: List all choices only if there are at most this many.
    """
    options = sorted(choices)
    close = nearest(str(name), options)
    message = f"unknown {kind} {name!r}"
    hints = []
    if close:
        hints.append(f"did you mean {close!r}?")
    if len(options) <= show:
        hints.append(f"choose from {', '.join(options)}")
    return MecError(f"{message}: {' '.join(hints)}" if hints else message)
