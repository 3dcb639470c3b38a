"""A device's results on disk: each task's row as soon as it is done, the summary at the end."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Sequence

from rllib_mec.errors import MecError
from rllib_mec.testbed.records import TaskRecord, csv_text, json_text
from rllib_mec.testbed.rows import Csv, JsonTasks, RowFile

_COLUMNS = [field.name for field in dataclasses.fields(TaskRecord)]


class TaskFiles:
    """The files that tasks are written to, while a block runs.

    Args:
        csv_file: With a row for each task; None: none.
        json_file: With a summary besides; None: none.

    Attributes:
        records: All tasks that are done.
    """

    def __init__(self, csv_file: str | None = None, json_file: str | None = None):
        """Open nothing yet."""
        self.records: list[TaskRecord] = []
        self._paths = (csv_file, Csv(_COLUMNS)), (json_file, JsonTasks())
        self._csv: RowFile | None = None
        self._json: RowFile | None = None

    def __enter__(self) -> TaskFiles:
        """Write files without tasks.

        Raises:
            MecError: A file cannot be written.
        """
        self._csv, self._json = (
            RowFile(path, layout) if path else None for path, layout in self._paths
        )
        return self

    def add(self, record: TaskRecord) -> None:
        """Write a task down.

        Args:
            record: The task's.

        Raises:
            MecError: A file cannot be written; the task's row is on stdout then.
        """
        self.records.append(record)
        try:
            for file in (self._csv, self._json):
                if file is not None:
                    file.add(dataclasses.asdict(record))
        except MecError:
            line = io.StringIO()
            csv.DictWriter(line, _COLUMNS).writerow(dataclasses.asdict(record))
            sys.stdout.write(line.getvalue())
            raise

    def verified(self, records: Sequence[TaskRecord]) -> None:
        """Write all tasks anew, with what is known of them only now.

        Args:
            records: One of each task.

        Raises:
            MecError: A file cannot be written; what was in it stays.
        """
        self.records = list(records)
        if self._csv is not None:
            self._csv.replace(csv_text(self.records))

    def __exit__(self, *_: object) -> None:
        """Add the summary."""
        try:
            if self._json is not None and self.records:
                self._json.replace(json_text(self.records))
        finally:
            for file in (self._csv, self._json):
                if file is not None:
                    file.close()
