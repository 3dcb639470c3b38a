"""What a command says beside its results: one-line notes and errors, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rllib_mec.errors import one_line

# Results stay alone on stdout. No line is broken, and without a terminal there are no colours.
_STDERR = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)
_program = "rllib"


def speak_as(program: str) -> None:
    """Begin all lines from now on with a program's name.

    Args:
        program: E.g. ``"rllib-mec"``.
    """
    global _program
    _program = program


def note(message: str) -> None:
    """Print a one-line remark.

    Args:
        message: The remark.
    """
    _STDERR.print(f"{_program}: note: {message}", style="yellow")


def progress_line() -> Callable[[str, float], None]:
    """What shows, on a terminal, how far a long piece of work is, with the time left.

    Returns:
        A function of what is being done and the share of it that is done; 1 clears the line.
    """
    began = time.monotonic()

    def report(what: str, share: float) -> None:
        """Show it.

        Args:
            what: What is being done.
            share: How much of it is done.
        """
        if not _STDERR.is_terminal:
            return
        spent = time.monotonic() - began
        left = f", {spent * (1.0 - share) / share:.0f} s left" if share > 0.0 else ""
        line = "" if share >= 1.0 else f"{_program}: {what}: {100 * share:.0f} %{left}"
        _STDERR.print(f"\r\x1b[K{line}", end="", highlight=False)

    return report


def error(message: object) -> None:
    """Print a one-line error.

    Args:
        message: An exception, or a text.
    """
    _STDERR.print(f"{_program}: error: {one_line(message)}", style="red")


def as_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str]) -> str:
    """A table as text, whose lines are as long as they need to be, also in a pipe.

    Args:
        header: Names of the columns.
        rows: Cells of each row.
        left: Columns whose cells begin on the left; numbers end on the right.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    wide = Console(width=10_000, color_system=None, highlight=False, emoji=False)
    with wide.capture() as captured:
        wide.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
