"""What was done is on disk, whatever happens next."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import shutil

import pytest
from test_records import record

from rllib_mec.errors import MecError
from rllib_mec.testbed import rows
from rllib_mec.testbed.records import read_json
from rllib_mec.testbed.rows import Csv, RowFile, SharedRows
from rllib_mec.testbed.task_files import TaskFiles


def tasks_in(path):
    with open(path, newline="") as file:
        return [row["task"] for row in csv.DictReader(file)]


@pytest.fixture
def paths(tmp_path):
    return str(tmp_path / "out" / "x.csv"), str(tmp_path / "out" / "x.json")


def test_after_every_task_both_files_are_whole(paths):
    with TaskFiles(*paths) as files:
        assert (tasks_in(paths[0]), read_json(paths[1])) == ([], [])
        for i in range(3):
            files.add(record(i, reason="a, 'b'\n"))
            assert tasks_in(paths[0]) == [str(j) for j in range(i + 1)]
            assert read_json(paths[1]) == files.records
    assert read_json(paths[1]) == files.records
    assert json.loads(open(paths[1]).read())["summary"]["tasks"] == 3


def test_an_exception_leaves_what_was_done_and_its_summary(paths):
    with contextlib.suppress(KeyboardInterrupt), TaskFiles(*paths) as files:
        files.add(record(0))
        raise KeyboardInterrupt
    assert tasks_in(paths[0]) == ["0"]
    assert json.loads(open(paths[1]).read())["summary"]["tasks"] == 1


def test_errors_that_are_known_at_the_end_are_in_both_files(paths):
    with TaskFiles(*paths) as files:
        files.add(record(0))
        files.verified([dataclasses.replace(files.records[0], max_abs_error=0.5)])
    assert read_json(paths[1])[0].max_abs_error == 0.5
    assert "0.5" in open(paths[0]).read().splitlines()[1].split(",")


def test_a_folder_that_was_removed_is_made_anew_with_all_rows(paths):
    with TaskFiles(*paths) as files:
        for i in range(4):
            if i == 2:
                shutil.rmtree(pathlib.Path(paths[0]).parent)
            files.add(record(i))
    assert tasks_in(paths[0]) == ["0", "1", "2", "3"]
    assert read_json(paths[1]) == files.records


@pytest.fixture
def full_disk(monkeypatch):
    """A disk with room for as many bytes more; written in pieces, as the kernel may."""
    room = [10**9]
    write = os.pwrite

    def limited(number, data, offset):
        grows = max(0, offset + len(data) - os.fstat(number).st_size)
        if grows and not room[0]:
            raise OSError(28, "No space left on device")
        most = len(data) if grows <= room[0] else len(data) - grows + room[0]
        done = write(number, bytes(data)[: max(most, 1)], offset)
        room[0] -= min(grows, room[0])
        return done

    monkeypatch.setattr(rows.os, "pwrite", limited)
    return room


@pytest.mark.parametrize("room", [0, 1, 50])
@pytest.mark.parametrize("which", [0, 1])
def test_a_full_disk_leaves_the_rows_that_fit_and_says_the_other(
    paths, full_disk, capsys, which, room
):
    given = [None, None]
    given[which] = paths[which]
    files = TaskFiles(*given).__enter__()
    files.add(record(0))
    files.add(record(1))
    full_disk[0] = room
    with pytest.raises(MecError, match=r"No space left on device \(it holds 2 finished rows\)"):
        files.add(record(2))
    text = open(paths[which]).read()
    if which:
        assert [task["task"] for task in json.loads(text)["tasks"]] == [0, 1]
    else:
        assert tasks_in(paths[0]) == ["0", "1"] and text.endswith("\n")
    assert capsys.readouterr().out.startswith("md_0,2,")  # the one that is in no file


def test_a_disk_that_is_really_full_is_one_line():
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full here")
    with pytest.raises(MecError, match="cannot write '/dev/full'"):
        RowFile("/dev/full", Csv(["a"]))


def test_several_processes_add_to_one_file(tmp_path):
    path = tmp_path / "rows.csv"
    first, second = (SharedRows(path, ["a", "b"]) for _ in range(2))
    first.add({"a": 1, "b": 2})
    second.add({"a": 3, "b": 4})
    path.unlink()
    first.add({"a": 5, "b": 6})
    second.add({"a": 7, "b": 8})
    assert path.read_text().split() == ["a,b", "5,6", "7,8"]


def test_a_shared_file_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(MecError, match="cannot write"):
        SharedRows(tmp_path, ["a"])
