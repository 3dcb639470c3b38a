"""Records and their summary, by hand."""

from __future__ import annotations

import csv
import dataclasses
import json

import pytest

from rllib_mec.errors import MecError
from rllib_mec.testbed.records import Summary, TaskRecord, csv_text, json_text, read_json


def record(task=0, total_ms=10.0, **changes):
    fields = {
        "device": "md_0",
        "task": task,
        "window": 0,
        "point": 1,
        "codec": "float32",
        "server": 0,
        "channel": 0,
        "power_w": 0.02,
        "bytes_sent": 100,
        "local_ms": 1.0,
        "transmission_ms": 2.0,
        "server_ms": 3.0,
        "waiting_ms": 0.0,
        "total_ms": total_ms,
        "energy_j": 0.5,
        "fell_back": False,
        "reason": "",
        "attempts": 1,
        "started_s": 100.0 + task,
        "finished_s": 100.5 + task,
        "result_sha256": "ab",
    }
    return TaskRecord(**{**fields, **changes})


def test_a_summary_by_hand():
    records = [record(i, total_ms=float(i + 1)) for i in range(20)]
    records[3] = dataclasses.replace(records[3], bytes_sent=0, energy_j=1.5)  # decided local
    records[4] = dataclasses.replace(records[4], fell_back=True, waiting_ms=40.0)
    summary = Summary.of(records)
    assert summary.tasks == 20
    assert summary.mean_ms == 10.5
    assert summary.p50_ms == 10.0
    assert summary.p95_ms == 19.0
    assert summary.makespan_s == 19.5
    assert summary.throughput_per_s == pytest.approx(20 / 19.5)
    assert summary.local_share == 0.1
    assert summary.fallback_share == 0.05
    assert summary.waiting_ms == 2.0
    assert summary.energy_j == pytest.approx(0.55)
    assert summary.max_abs_error is None


def test_the_largest_error_counts():
    records = [record(max_abs_error=0.0), record(1, max_abs_error=0.25), record(2)]
    assert Summary.of(records).max_abs_error == 0.25


def test_nothing_cannot_be_summarised():
    with pytest.raises(MecError, match="no records"):
        Summary.of([])


def test_json_holds_what_was_written(tmp_path):
    records = [record(0, reason='it said "no", twice'), record(1, max_abs_error=0.0)]
    (tmp_path / "tasks.json").write_text(json_text(records))
    assert read_json(tmp_path / "tasks.json") == records
    document = json.loads((tmp_path / "tasks.json").read_text())
    assert document["summary"] == Summary.of(records).to_dict()


def test_csv_has_a_row_for_each_task(tmp_path):
    (tmp_path / "tasks.csv").write_text(csv_text([record(0), record(1, reason="a, b")]))
    with (tmp_path / "tasks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["0", "1"]
    assert rows[1]["reason"] == "a, b"
    assert list(rows[0]) == [field.name for field in dataclasses.fields(TaskRecord)]


@pytest.mark.parametrize("text", ["", "[]", '{"tasks": [{"device": "a"}]}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(MecError, match="holds no task records"):
        read_json(tmp_path / "x.json")
    with pytest.raises(MecError, match="cannot read"):
        read_json(tmp_path / "missing.json")
