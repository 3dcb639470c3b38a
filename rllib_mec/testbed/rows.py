"""Files of rows that are complete after every row, whatever happens next."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rllib_mec.errors import MecError


class Layout(Protocol):
    """How rows stand in a file.

    Attributes:
        begin: What is before the first row.
        end: What is after the last; each new row takes its place.
    """

    begin: str
    end: str

    def row(self, values: Mapping[str, Any], index: int) -> str:
        """The text of a row.

        Args:
            values: Column to value.
            index: How many rows are before it.
        """
        ...


class Csv(Layout):
    """Comma-separated, with a header.

    Args:
        names: The columns.
    """

    end = ""

    def __init__(self, names: Sequence[str]):
        """Write the header."""
        self._names = list(names)
        self.begin = self._line(dict(zip(names, names, strict=True)))

    def row(self, values: Mapping[str, Any], index: int) -> str:
        """One line; see the base class."""
        return self._line(values)

    def _line(self, values: Mapping[str, Any]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._names).writerow(values)
        return text.getvalue()


class JsonTasks(Layout):
    """``{"tasks": [...]}``, one task a line."""

    begin, end = '{"tasks": [', "\n]}\n"

    def row(self, values: Mapping[str, Any], index: int) -> str:
        """One line; see the base class."""
        return (",\n" if index else "\n") + json.dumps(values)


class RowFile:
    """A file that a row is added to at a time; after each it is whole.

    A row that does not fit, on a full disk, leaves no part of itself. If the file was removed, or
    its folder, both are made anew with all the rows.

    Args:
        path: Of the file, which is overwritten.
        layout: How rows stand in it.

    Raises:
        MecError: It cannot be written.
    """

    def __init__(self, path: str | Path, layout: Layout):
        """Write a file without rows."""
        self._path, self._layout = Path(path), layout
        self._rows: list[Mapping[str, Any]] = []
        self._open()

    def _open(self) -> None:
        rows = (self._layout.row(values, i) for i, values in enumerate(self._rows))
        text = "".join([self._layout.begin, *rows, self._layout.end])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb", buffering=0)
            _write_all(self._file.fileno(), text.encode(), 0)
        except OSError as error:
            raise self._cannot(error) from None

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row.

        Args:
            values: Column to value.

        Raises:
            MecError: It cannot be written; the rows before it stay.
        """
        end = self._layout.end.encode()
        text = self._layout.row(values, len(self._rows)).encode() + end
        try:
            number = self._file.fileno()
            if os.fstat(number).st_nlink == 0:
                self._open()
                number = self._file.fileno()
            size = os.fstat(number).st_size
            try:
                _write_all(number, text, size - len(end))
            except OSError:
                with contextlib.suppress(OSError):
                    _write_all(number, end, size - len(end))
                    os.ftruncate(number, size)
                raise
        except OSError as error:
            raise self._cannot(error) from None
        self._rows.append(values)

    def _cannot(self, error: OSError) -> MecError:
        count = len(self._rows)
        return MecError(
            f"cannot write {str(self._path)!r}: {error.strerror} (it holds {count} finished rows)"
        )

    def replace(self, text: str) -> None:
        """Put another text in the file's place, all of it or none.

        Args:
            text: The new content.

        Raises:
            MecError: It cannot be written; the file stays.
        """
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_text(text)
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._cannot(error) from None

    def close(self) -> None:
        """Close it."""
        self._file.close()


class SharedRows:
    """A CSV file that several processes add rows to.

    Args:
        path: Of the file; the header is written where there is none.
        names: The columns.

    Raises:
        MecError: It cannot be written.
    """

    def __init__(self, path: str | Path, names: Sequence[str]):
        """Open it."""
        self._path, self._layout = Path(path), Csv(names)
        self._number = -1
        self._open()

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._number = os.open(self._path, flags, 0o644)
            if os.fstat(self._number).st_size == 0:
                os.write(self._number, self._layout.begin.encode())
        except OSError as error:
            raise MecError(f"cannot write {str(self._path)!r}: {error.strerror}") from None

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row, in one call of the system, so that rows of processes do not mix.

        Args:
            values: Column to value.

        Raises:
            MecError: It cannot be written.
        """
        text = self._layout.row(values, 0).encode()
        try:
            if os.fstat(self._number).st_nlink == 0:
                os.close(self._number)
                self._open()
            if os.write(self._number, text) < len(text):
                raise OSError(28, "No space left on device")
        except OSError as error:
            raise MecError(f"cannot write {str(self._path)!r}: {error.strerror}") from None


def as_row(record: Any) -> dict[str, Any]:
    """A dataclass as a row.

    Args:
        record: The dataclass.
    """
    return dataclasses.asdict(record)


def _write_all(number: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(number, view, offset)
        view, offset = view[done:], offset + done
