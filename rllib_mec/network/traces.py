"""Reads CSV traces: every bad line is named by file and line, with what was expected."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rllib_mec.errors import MecError, nearest

MOST_SECONDS = 1e12
"""Latest time of a trace, far beyond what makes sense; the arithmetic bears it."""


def changed_at(field: str, path: str) -> int:
    """When a trace was last changed: what a cache of it depends on besides its path.

    Args:
        field: Whose trace it is, for the error.
        path: The file.

    Raises:
        MecError: There is no such file.
    """
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise MecError(f"{field}: cannot read the trace {path!r}: {error.strerror}") from None
    except ValueError as error:  # what no path may have in it
        raise MecError(f"{field}: cannot read the trace {path!r}: {error}") from None


def check_choice(field: str, given: object, choices: Sequence[str]) -> bool:
    """Check what is the name of a law or the path of a trace; whether it is a trace.

    Args:
        field: What it was given for.
        given: What was given.
        choices: The laws' names.

    Raises:
        MecError: It is neither, or the path depends on the folder.
    """
    if given in choices:
        return False
    listed = ", ".join(choices)
    if not isinstance(given, str) or not given:
        raise MecError(f"{field} must be one of {listed} or a CSV file, not {given!r}")
    if "/" not in given and "." not in given:
        close = nearest(given, choices, cutoff=0.5)
        hint = f"did you mean {close!r}? " if close else ""
        raise MecError(
            f"unknown {field} {given!r}: {hint}choose from {listed}, or give the path of a CSV file"
        )
    if not Path(given).is_absolute():
        raise MecError(
            f"{field} must be an absolute path, as Ray's workers run in another folder, "
            f"but is {given!r}; did you mean {str(Path(given).absolute())!r}?"
        )
    return True


def rows(field: str, path: str, header: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The lines of a trace after its first: where each stands, and its cells.

    Args:
        field: Whose trace it is, for the error.
        path: The file.
        header: What its first line must be.

    Raises:
        MecError: The file is no text, or a line has other cells.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()  # spreadsheets put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        raise MecError(f"{field}: cannot read the trace {path!r}: {error}") from None
    expected = ",".join(header)
    found = 0
    for number, line in enumerate(lines or [""], start=1):
        row = _cells(f"{path}:{number}", line)
        cells = [cell.strip() for cell in row]
        if number == 1:
            if cells != list(header):
                raise MecError(
                    f"{path}:1: the first line must be {expected}, but is {','.join(row)!r}"
                )
            continue
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise MecError(f"{path}:{number}: expected {expected}, but got {','.join(row)!r}")
        found += 1
        yield f"{path}:{number}", cells
    if not found:
        raise MecError(f"{path}:{len(lines) or 1}: the trace has no lines after its first")


def _cells(where: str, line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error as error:
        raise MecError(f"{where}: no line of a CSV file: {error}") from None


def seconds(where: str, name: str, cell: str, least: float = 0.0) -> float:
    """A time of a trace, in seconds.

    Args:
        where: Of :func:`rows`.
        name: The column.
        cell: What stands there.
        least: What it must not be before.

    Raises:
        MecError: It is no such number.
    """
    try:
        time_s = float(cell)
    except ValueError:
        time_s = math.nan
    if not 0.0 <= time_s <= MOST_SECONDS:
        raise MecError(
            f"{where}: {name} must be a number of seconds from 0 to {MOST_SECONDS:g}, "
            f"but is {_short(cell)}"
        )
    if time_s < least:
        raise MecError(f"{where}: {name} {time_s:g} must not be before {least:g}")
    return time_s


def number_of(where: str, column: str, cell: str, prefix: str, count: int) -> int:
    """Which part of the network a cell names.

    Args:
        where: Of :func:`rows`.
        column: The column.
        cell: ``3``, or ``md_3`` with the prefix ``md``.
        prefix: What may stand before the number.
        count: How many there are.

    Raises:
        MecError: There is no such part.
    """
    match = re.fullmatch(rf"(?:{prefix}_)?0*(\d{{1,18}})", cell)
    if match is None or int(match[1]) >= count:
        raise MecError(f"{where}: {column} must be one of 0 to {count - 1}, but is {_short(cell)}")
    return int(match[1])


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}…")
