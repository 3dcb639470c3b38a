"""One-line errors for bad input: what was wrong, what was expected, the nearest valid choice."""

from __future__ import annotations

import contextlib
import difflib
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

_MAX_LINE, _LEFT_OUT = 400, " ... "

_NOT_THE_USERS = (
    str(Path(__file__).parent),
    "<frozen ",
    "<string>",  # as dataclasses make
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)
"""How the paths of files begin whose lines tell a user nothing."""


class MecError(ValueError):
    """Bad input from the user; its message is one line, and the command line exits with 2.

    Args:
        message: The line; a value in it that takes several, like an array's, is put on one.
    """

    def __init__(self, message: object):
        """Keep the message."""
        text = str(message)
        super().__init__(" ".join(text.split()) if "\n" in text else text)


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
    """The message of an exception on one line, without RLlib's trailing advice, or the middle.

    Args:
        error: The exception, or a text.
    """
    text = " ".join(str(error).split("To suppress all validation errors")[0].split())
    if isinstance(error, BaseException) and not isinstance(error, MecError):
        text = text or type(error).__name__
        if isinstance(error, KeyError | AttributeError | TypeError | ImportError):
            text = f"{type(error).__name__}: {text}"
    if len(text) <= _MAX_LINE:
        return text
    half = (_MAX_LINE - len(_LEFT_OUT)) // 2
    return text[:half] + _LEFT_OUT + text[-half:]  # what failed first, and why at the end


def named(error: BaseException) -> str:
    """The kind of an exception and its message, on one line; of a ``MecError`` the message alone.

    Args:
        error: The exception.
    """
    text, name = one_line(error), type(error).__name__
    return text if isinstance(error, MecError) or text.startswith(name) else f"{name}: {text}"


def place(file: str, line: int) -> str:
    """`` (file:line)``; the file's path is short where it lies in the working folder.

    Args:
        file: Its path.
        line: The line's number.
    """
    path = Path(file)
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return f" ({path}:{line})"


def users_fault(failed: str, error: BaseException, file: str | None = None) -> MecError:
    """One line for what code of the user's raised, with the place in that code.

    Args:
        failed: What the line begins with, e.g. ``"cannot import DNN 'x'"``.
        error: What it raised.
        file: Where the code stands, if that is known; it may lie among the installed packages.

    Returns:
        The error, to be raised by the caller.
    """
    frames = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__)]
    theirs = [f for f in frames if f[0] == file or not f[0].startswith(_NOT_THE_USERS)]
    return MecError(f"{failed}: {named(error)}{place(*theirs[-1]) if theirs else ''}")


@contextlib.contextmanager
def users_code(failed: str, file: str | None = None) -> Iterator[None]:
    """Where code of the user's runs: whatever it raises is one line. Ctrl-C goes through.

    Args:
        failed: As in :func:`users_fault`.
        file: Likewise.

    Raises:
        MecError: The code raised anything, ``sys.exit`` included.
    """
    try:
        yield
    except BaseException as error:
        if type(error) in (KeyboardInterrupt, GeneratorExit):
            raise
        raise users_fault(failed, error, file) from error
